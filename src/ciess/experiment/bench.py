"""`Bench`: the plans of all methods, found, finished and built by one recipe."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch

from ciess.checks import Seed, check
from ciess.data import Interactions, Split
from ciess.errors import InputError
from ciess.evaluation.metrics import Evaluation, Evaluator, evaluate
from ciess.experiment.clock import Clock
from ciess.experiment.finished import Finished, Searched, Sought, best_of, check_candidates, check_plans
from ciess.experiment.full import FullModels
from ciess.experiment.keys import canonical, digest
from ciess.experiment.recipe import Recipe, WantedPrecision
from ciess.experiment.room import check_room
from ciess.experiment.users import measured_users, sampled, tested_part
from ciess.methods import method_name
from ciess.methods.fidelity import Fidelity, suiting
from ciess.methods.policy import Applied
from ciess.methods.problem import Following, Method, Problem, SearchResult
from ciess.methods.sample import Sampled, drawn
from ciess.models import Backbone, Training
from ciess.models.factors import Factors, FactorsModel
from ciess.models.seeded import seeded
from ciess.progress import Progress, silent
from ciess.results.outcome import EQUAL
from ciess.serve.model import CompressedModel
from ciess.tables.budget import Budget
from ciess.tables.encoding import Encoding
from ciess.tables.layout import equal_bytes
from ciess.tables.plan import SizePlan, TableShape
from ciess.tables.precision import Precision
from ciess.tables.taper import TAPERED, Taper
from ciess.train.checkpoint import NOTHING, Kept, State
from ciess.train.finish import finish, learned_on
from ciess.train.fit import Fitted
from ciess.train.scratch import train_from_scratch


class Bench:
    """Runs methods on one split, all by one recipe.

    Args:
        split: learns on train, chooses on validation, measures on test, or on validation where there is no test.
        recipe: what all methods share.
        seed: of training, of searches and of finishes.
        progress: told every step.
        full: keeps the full models.
        clock: told what phase the time goes to.
        kept: keeps what else is done, and how far the rest is: searches, finishes, models that are built.
        force: whether to try even what would not fit into the memory that is available.

    Attributes:
        fidelity: how plans are measured, unless a method has its own.
        valid: measures on validation.
        test: what the table is measured on: where there are many users, the interactions of a sample of them.
        clock: as given.
        full_models: the full model, which learns more and more.

    Raises:
        InputError: a seed below 0, or outputs are to be packed that are the tables or not scored by inner products.
    """

    def __init__(
        self,
        split: Split,
        recipe: Recipe,
        seed: int,
        progress: Progress = silent,
        full: Kept = NOTHING,
        clock: Clock | None = None,
        kept: Kept = NOTHING,
        force: bool = False,
    ) -> None:
        self.split, self.recipe, self.progress, self._kept, self._force = split, recipe, progress, kept, force
        self.seed = seed = check("seed", seed, Seed)
        # Tables alone may be more than there is.
        self._check_room(None)
        self.clock = clock or Clock()
        users = sampled(split.valid, measured_users(split.valid.n_items), seed)
        self.valid = Evaluator(split.train.matrix, split.valid.matrix, users=users)
        self.test = None if split.test is None else tested_part(split.test, recipe.test_users, seed)
        self.full_models = FullModels(split, recipe, self.valid, self.test, seed, progress, full, self.clock)
        self.fidelity: Fidelity = suiting(self.full_models.untrained)
        self._precisions: dict[Budget, Encoding] = {}
        self._finished: dict[tuple[SizePlan, bool], Finished] = {}

    def tune(self) -> None:
        """Find the full model's decisive settings on validation, if the recipe says so; before anything is trained."""
        if self.recipe.tune:
            self.full_models.tune()
            self.recipe = dataclasses.replace(self.recipe, config=self.full_models.config)

    def check(self, budgets: Sequence[Budget]) -> None:
        """Before anything is trained, see `check_budgets` and `check_room`."""
        check_budgets(budgets, self.full_models.shape, self.recipe.precision)
        # Now it is known whether there is a graph.
        self._check_room(self.full_models.untrained)

    def _check_room(self, model: Backbone | None) -> None:
        if self._force:
            return
        config, train = self.recipe.config, self.split.train
        fixed = isinstance(config, Factors)
        dim = config.tables[0].shape[1] if isinstance(config, Factors) else config.dim
        check_room(TableShape(train.n_users, train.n_items, dim), sum(map(len, self.split.parts)), model, fixed)

    def prepared(self, method: Method) -> Method:
        """A method with the bench's seed, and its fidelity unless it has one of its own.

        Raises:
            InputError: it is no dataclass, trains plans from scratch where nothing is trained within them, or searches
                a sample that cannot be searched, or is a policy of rows of another width.
        """
        if isinstance(method, type):
            raise InputError(f"the method is the class {method.__name__}: give its settings, {method.__name__}()")
        if getattr(method, "from_scratch", False):
            if self.recipe.config.training.steps == 0:
                raise InputError(f"{method_name(method)} trains models, and there is nothing to train: use a backbone")
            if self.recipe.target == "output":
                raise InputError(f"{method_name(method)} trains tables within their sizes: pack these, the input")
        if isinstance(method, Sampled):
            drawn(self.full_models.untrained, self.split.train, self.split.valid, method.share, self.seed)
        if isinstance(method, Applied):
            method.policy.check_dim(self.full_models.shape.dim)
        if not dataclasses.is_dataclass(method):
            raise InputError(f"{type(method).__name__} is no dataclass: make it one, its fields are its settings")
        given = {"seed": self.seed, "fidelity": getattr(method, "fidelity", None) or self.fidelity}
        known = {setting.name for setting in dataclasses.fields(method)}
        ready: Method = dataclasses.replace(method, **{name: given[name] for name in known & given.keys()})
        return ready

    def problem(self, budgets: Sequence[Budget], parts: int = 1) -> Problem:
        """What a search is given; each has counts of its own. The full model has learned train, or more parts."""
        return self._problem({budget: self._precision(budget) for budget in budgets}, parts)

    def _problem(self, precision: Mapping[Budget, Encoding], parts: int = 1) -> Problem:
        full = self.full_models.on(parts)
        return Problem(
            full.packed,
            self.recipe.config,
            full.data,
            self.valid,
            list(precision),
            self.fidelity,
            self.seed,
            self.progress,
            precision,
        )

    def run(self, name: str, method: Method, problem: Problem) -> Searched:
        """Search, finish the candidates, and keep the best on validation for each budget.

        Args:
            name: of the method, for progress.
            method: a prepared one.
            problem: with the budgets.

        Raises:
            InputError: the method gives no plan for a budget, or one that exceeds it.
        """
        with self.clock.phase("search"), seeded(self.seed):
            found, trainings, measurements, seconds = self._sought(method, problem)
        finished = {}
        for budget in problem.budgets:
            found_by: dict[SizePlan, str] = {}
            for candidate in found.best.get(budget, []):
                found_by.setdefault(candidate.plan, candidate.found_by or name)
            check_plans(name, list(found_by), budget, problem.shape)
            # Equal sizes have a line of their own: others are shown by what they found themselves.
            equal = problem.equal(budget)
            own = {plan: f"{budget} {name}" for plan in found_by if plan != equal} or {equal: f"{budget} equal sizes"}
            share, from_scratch = seconds / len(problem.budgets), getattr(method, "from_scratch", False)
            finished[budget] = [
                self._found(plan, EQUAL if plan == equal else found_by[plan], f"{phase} {number}", share, from_scratch)
                for number, (plan, phase) in enumerate(own.items(), 1)
            ]
            if isinstance(method, Following) and not from_scratch:
                # Only of what it found itself can a method tell how that follows.
                finished[budget] = [
                    dataclasses.replace(each, follows=method) if each.found_by == name else each
                    for each in finished[budget]
                ]
        finishes = sum(map(len, finished.values()))
        return Searched(finished, found.trace, trainings, measurements, finishes, seconds, found.carried)

    def _sought(self, method: Method, problem: Problem) -> Sought:
        """What a method finds."""
        kinds = [[str(budget), str(each)] for budget, each in problem.precision.items()]
        # Its tensors come in another order from where they were kept.
        carried = problem.carried and [problem.carried.told, sorted(problem.carried.tensors.items())]
        kept = self._kept_of([method, problem.fidelity, carried], "search", digest(kinds))
        problem.kept = kept.within("part")

        def made() -> Sought:
            before, start = (problem.trainings, problem.measurements), time.perf_counter()
            found = method.search(problem)
            check("what search returns", found, SearchResult)
            check("carried", found.carried, State | None)
            check_candidates(method_name(method), found)
            effort = problem.trainings - before[0], problem.measurements - before[1]
            return Sought(found, *effort, time.perf_counter() - start)

        return made() if kept is NOTHING else Sought.of(kept.once(lambda: made().state()), problem)

    def _kept_of(self, method: object, *names: str) -> Kept:
        """Keeps what a method does, known by its settings."""
        try:
            return self._kept.within(*names, digest(canonical(method, "method")))
        except InputError:
            # Its settings are such that nothing tells whether what was kept is theirs.
            return NOTHING

    def _found(self, plan: SizePlan, found_by: str, phase: str, seconds: float, from_scratch: bool) -> Finished:
        """A plan that a search of some seconds found, finished."""
        with self.clock.phase("finishes"), seeded(self.seed):
            finished = self._finish(plan, phase, from_scratch)
        return dataclasses.replace(finished, seconds=finished.seconds + seconds, found_by=found_by)

    def followed(self, chosen: Finished, budget: Budget) -> Finished:
        """A plan as it is once the full model has learned validation too, see `Following`.

        Its runs and what it came to on validation stay those of the plan before. Where the full model learns nothing,
        as given tables do not, the plan that follows is finished, too, and the better of both on validation is taken.

        Raises:
            InputError: the method gives a plan that exceeds the budget.
        """
        method = chosen.follows
        if method is None:
            return chosen
        with self.clock.phase("builds"), seeded(self.seed):
            before, after = (self._problem({budget: chosen.plan.precision}, parts=parts) for parts in (1, 2))
            kept = self._kept_of(method, "followed", str(budget), chosen.plan.digest)
            after.kept = kept.within("part")

            def made() -> State:
                return State({}, {"sizes": torch.from_numpy(method.followed(chosen.plan, before, after).sizes)})

            sizes = kept.once(made).tensors["sizes"].numpy()
            plan = SizePlan.from_sizes(sizes, chosen.plan.shape, chosen.plan.precision)
        check_plans(chosen.found_by, [plan], budget, chosen.plan.shape)
        if self.full_models.learn:
            return dataclasses.replace(chosen, plan=plan)
        return best_of([chosen, self._found(plan, chosen.found_by, f"{budget} follows", chosen.seconds, False)])

    @cached_property
    def _given(self) -> Interactions:
        """All that was given: what users have already."""
        return self.split.first(3)

    def measured(self, chosen: Finished, about: Mapping[str, Any] | None = None) -> tuple[CompressedModel, Evaluation]:
        """The chosen plan's model that has learned train and validation, and what it comes to on test."""
        assert self.test is not None
        model = self.built(chosen, about)
        with self.clock.phase("test"):
            return model, model.evaluate(self.test)

    def built(self, chosen: Finished, about: Mapping[str, Any] | None = None, parts: int = 2) -> CompressedModel:
        """The chosen plan's model: finished anew from the full model that has learned more.

        It repeats the runs that were best on validation, and learns on from there, see `learned_on`, if the full model
        has learned more. A plan that was trained from scratch is so again, for as many steps as were best.

        Args:
            chosen: the plan, finished on train.
            about: kept with the model.
            parts: how many of train, validation and test the model has learned. Whatever that is, all that was given
                counts as seen.
        """
        with self.clock.phase("refit" if parts > 2 else "builds"), seeded(self.seed):
            return self._built(chosen, about, parts)

    def _built(self, chosen: Finished, about: Mapping[str, Any] | None, parts: int) -> CompressedModel:
        if chosen.from_scratch:
            learned = self.split.first(parts)
            config = self.recipe.config.on_more(learned, self.split.train)
            steps = config.training.lasting(chosen.fitted.steps)
            kept = self._kept.within("scratch", parts, chosen.plan.digest)
            small, _ = self._trained_anew(learned, chosen.plan, "from scratch, all data", steps, kept=kept)
            return CompressedModel.pack(config, small, chosen.plan, learned, about, self._given)
        full, finishing = self.full_models.on(parts), self.recipe.finishing
        phase, kept = "finish, test too" if parts > 2 else "finish, all data", self._kept.within("built", parts)
        told = {"seed": self.seed, "phase": phase, "progress": self.progress}
        kept = kept.within(chosen.plan.digest)
        small, _ = finish(full.packed, chosen.plan, finishing, runs=chosen.runs, kept=kept, **told)
        if parts > 1 and self.full_models.learn and finishing.training.steps:
            small = learned_on(small, full.packed, chosen.plan, finishing, kept=kept.within("on"), **told)
        # Rows that are scored as they are need no more of the backbone than their width.
        outputs = isinstance(small, FactorsModel) and not isinstance(self.recipe.config, Factors)
        config = self.recipe.config.on_more(full.data, self.split.train)
        config = Factors(dim=chosen.plan.dim) if outputs else config
        return CompressedModel.pack(config, small, chosen.plan, full.data, about, self._given)

    def _precision(self, budget: Budget) -> Encoding:
        """What is wanted, or that with which finished equal sizes are best on validation.

        They are finished, since a cut misleads: it favours many dimensions in few bits, and a finish makes up for
        dimensions rather than for bits. Floats are left out where int8 does not yet store all dimensions: 8 bits lose
        next to nothing, and more dimensions gain. Each budget's precision depends on no other budget.
        """
        if isinstance(self.recipe.precision, Precision):
            return self.recipe.precision
        if budget not in self._precisions:
            with self.clock.phase("precision"), seeded(self.seed):
                tapered = self.recipe.precision == TAPERED
                self._precisions[budget] = self._taper(budget) if tapered else self._best_precision(budget)
        return self._precisions[budget]

    def _taper(self, budget: Budget) -> Taper:
        """The bits that go with the strengths of dimensions in the full model."""
        full, shape = self.full_models.on(1).packed, self.full_models.shape
        sides = full.vectors() if full.separable else (full.user_table, full.item_table)
        users, items = (side.detach().square().mean(0).sqrt().numpy() for side in sides)
        return Taper.suiting(users * items, lambda taper, size: equal_bytes(shape, size, taper) <= budget.limit(shape))

    def _best_precision(self, budget: Budget) -> Encoding:
        finished: list[Finished] = []
        tried = [Precision.INT8, Precision.INT6, Precision.INT4, Precision.INT4_SHARED, self._taper(budget)]
        for precision in tried:
            try:
                plan = self._problem({budget: precision}).equal(budget)
            except InputError:
                continue
            if precision is Precision.INT8 and plan.max_size == self.full_models.shape.dim:
                tried += [Precision.FLOAT16, Precision.FLOAT32]
            finished.append(self._finish(plan, f"{budget} {precision}"))
        return best_of(finished).plan.precision if finished else Precision.INT8

    def _trained_anew(
        self,
        data: Interactions,
        plan: SizePlan,
        phase: str,
        training: Training,
        valid: Evaluator | None = None,
        kept: Kept = NOTHING,
    ) -> tuple[Backbone, Fitted]:
        return train_from_scratch(
            self.recipe.config.on_more(data, self.split.train),
            data,
            plan,
            training,
            seed=self.seed,
            valid=valid,
            phase=phase,
            progress=self.progress,
            kept=kept,
        )

    def _finish(self, plan: SizePlan, phase: str, from_scratch: bool = False) -> Finished:
        """Bring a plan to its best, once: methods that come to the same plan share what came of it."""
        key = plan, from_scratch
        if key not in self._finished:
            kept = self._kept.within("anew" if from_scratch else "finish", plan.digest)
            make = self._anew if from_scratch else self._distilled
            state = kept.once(lambda: make(plan, phase, kept).state())
            self._finished[key] = Finished.of(plan, state)
        return self._finished[key]

    def _anew(self, plan: SizePlan, phase: str, kept: Kept) -> Finished:
        """A plan trained from scratch."""
        training, phase = self.recipe.config.training, f"{phase}, from scratch"
        small, fitted = self._trained_anew(self.split.train, plan, phase, training, self.valid, kept.within("model"))
        return Finished(plan, fitted, evaluate(small, self.valid), fitted.seconds, from_scratch=True)

    def _distilled(self, plan: SizePlan, phase: str, kept: Kept) -> Finished:
        """A plan finished from the full model."""
        small, fitted = finish(
            self.full_models.on(1).packed,
            plan,
            self.recipe.finishing,
            seed=self.seed,
            valid=self.valid,
            phase=phase,
            progress=self.progress,
            kept=kept,
        )
        return Finished(plan, fitted, evaluate(small, self.valid), fitted.seconds)


def check_budgets(budgets: Sequence[Budget], shape: TableShape, precision: WantedPrecision) -> None:
    """Refuse budgets that tables of a shape cannot meet; a precision that is still to be found may be any.

    Raises:
        InputError: a budget that cannot be met, or is above the full tables.
    """
    for budget in budgets:
        budget.numbers(shape, precision if isinstance(precision, Precision) else Precision.INT4_SHARED)
