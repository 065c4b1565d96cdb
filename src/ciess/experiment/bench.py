"""One backbone on one split: one full training, and the recipe that the plans of every method go through."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from functools import cached_property, reduce
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ciess.checks import Seed, check
from ciess.data import Interactions, Split
from ciess.errors import InputError
from ciess.evaluation.metrics import Evaluation, Evaluator, evaluate
from ciess.experiment.clock import Clock
from ciess.experiment.finished import Finished, Searched, check_plans
from ciess.experiment.recipe import Recipe
from ciess.methods import method_name
from ciess.methods.fidelity import Fidelity, suiting
from ciess.methods.problem import Method, Problem
from ciess.models import Backbone, BackboneConfig, InnerProduct, Training
from ciess.models.factors import Factors, FactorsModel
from ciess.models.row_order import check_row_order
from ciess.models.seeded import seeded
from ciess.progress import Progress, silent
from ciess.results.outcome import EQUAL
from ciess.serve.model import CompressedModel
from ciess.tables.budget import Budget
from ciess.tables.plan import SizePlan, TableShape
from ciess.tables.precision import Precision
from ciess.train.checkpoint import fitted_once, tuned_once
from ciess.train.finish import finish
from ciess.train.fit import Fitted, fit
from ciess.train.losses import BPR
from ciess.train.scratch import train_from_scratch
from ciess.train.tune import tune

SCORES_IN_A_MEASUREMENT = 100_000_000
"""The most scores that one measurement on validation ranks."""


class _Full(NamedTuple):
    """A full model: as it was trained, the model whose tables are packed, and what it has learned."""

    trained: Backbone
    packed: Backbone
    data: Interactions


class Bench:
    """Runs methods on one split, all by one recipe.

    Args:
        split: learns on train, chooses on validation, measures on test, or on validation where there is no test.
        recipe: what all methods share.
        seed: of training, of searches and of finishes.
        progress: told every step.
        kept: where the full models are kept as files, without their endings; None keeps none.
        clock: told what phase the time goes to.

    Attributes:
        fidelity: how plans are measured, unless a method has its own.
        valid: measures on validation.
        clock: as given.
        tuning: the full model's settings that were `chosen`, and the `trials` that found them, see `tune`; empty
            where nothing was tuned.

    Raises:
        InputError: a seed below 0, or outputs are to be packed that are the tables or not scored by inner products.
    """

    def __init__(
        self,
        split: Split,
        recipe: Recipe,
        seed: int,
        progress: Progress = silent,
        kept: Path | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.split, self.recipe, self.progress, self._kept = split, recipe, progress, kept
        self.seed = seed = check("seed", seed, Seed)
        self.clock = clock or Clock()
        self.valid = Evaluator(split.train.matrix, split.valid.matrix, users=_sample(split.valid, seed))
        # Made before training: what cannot be done is refused at once, not after minutes.
        self._trained = self._untrained(split.train)
        if recipe.target == "output" and self._trained.rows_stand_alone:
            name = type(recipe.config).__name__
            raise InputError(f"target output does nothing with {name}, whose rows are scored as they are: leave it out")
        untrained = self._packed(self._trained)
        self.fidelity: Fidelity = suiting(untrained)
        self._shape = TableShape(split.train.n_users, split.train.n_items, untrained.user_table.shape[1])
        self._precisions: dict[Budget, Precision] = {}
        self._finished: dict[tuple[SizePlan, bool], Finished] = {}
        self._fulls: list[_Full] = []
        self.tuning: dict[str, Any] = {}

    def tune(self) -> None:
        """Find the full model's decisive settings on validation, if the recipe says so; before anything is trained."""
        if not self.recipe.tune:
            return
        with self.clock.phase("tuning"):
            found = tuned_once(
                None if self._kept is None else self._kept.with_name(f"{self._kept.name}-tuned.json"),
                self.recipe.config,
                lambda: tune(
                    self.recipe.config, self.split, held=self.recipe.held, seed=self.seed, progress=self.progress
                ),
            )
            self.recipe = dataclasses.replace(self.recipe, config=found.config)
            self._trained = self._untrained(self.split.train)
        if found.trials:
            tuned = [name for name in found.config.tuned if name in found.trials[0]]
            chosen = {name: found.config.setting(name) for name in tuned}
            self.tuning = {"chosen": chosen, "trials": found.trials}

    def check(self, budgets: Sequence[Budget]) -> None:
        """Before anything is trained, see `check_budgets`."""
        check_budgets(budgets, self._shape, self.recipe.precision)

    def prepared(self, method: Method) -> Method:
        """A method with the bench's seed, and its fidelity unless it has one of its own.

        Raises:
            InputError: it is no dataclass, or trains plans from scratch where nothing is trained within them.
        """
        if isinstance(method, type):
            raise InputError(f"the method is the class {method.__name__}: give its settings, {method.__name__}()")
        if getattr(method, "from_scratch", False):
            if self.recipe.config.training.steps == 0:
                raise InputError(f"{method_name(method)} trains models, and there is nothing to train: use a backbone")
            if self.recipe.target == "output":
                raise InputError(f"{method_name(method)} trains tables within their sizes: pack these, the input")
        if not dataclasses.is_dataclass(method):
            raise InputError(f"{type(method).__name__} is no dataclass: make it one, its fields are its settings")
        given = {"seed": self.seed, "fidelity": getattr(method, "fidelity", None) or self.fidelity}
        known = {setting.name for setting in dataclasses.fields(method)}
        ready: Method = dataclasses.replace(method, **{name: given[name] for name in known & given.keys()})
        return ready

    def problem(self, budgets: Sequence[Budget], fidelity: Fidelity | None = None) -> Problem:
        """What a search is given; each has counts of its own."""
        return self._problem({budget: self._precision(budget) for budget in budgets}, fidelity)

    def _problem(self, precision: Mapping[Budget, Precision], fidelity: Fidelity | None = None) -> Problem:
        return Problem(
            self.full,
            self.recipe.config,
            self.split.train,
            self.valid,
            list(precision),
            fidelity or self.fidelity,
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
        before, start = (problem.trainings, problem.measurements), time.perf_counter()
        with self.clock.phase("search"), seeded(self.seed):
            found = method.search(problem)
        seconds = time.perf_counter() - start
        trainings, measurements = problem.trainings - before[0], problem.measurements - before[1]
        finished = {}
        for budget in problem.budgets:
            found_by: dict[SizePlan, str] = {}
            for candidate in found.best.get(budget, []):
                found_by.setdefault(candidate.plan, candidate.found_by or name)
            check_plans(name, list(found_by), budget)
            # Equal sizes have a line of their own: others are shown by what they found themselves.
            equal = problem.equal(budget)
            own = {plan: f"{budget} {name}" for plan in found_by if plan != equal} or {equal: f"{budget} equal sizes"}
            share, from_scratch = seconds / len(problem.budgets), getattr(method, "from_scratch", False)
            finished[budget] = [
                self._found(plan, EQUAL if plan == equal else found_by[plan], f"{phase} {number}", share, from_scratch)
                for number, (plan, phase) in enumerate(own.items(), 1)
            ]
        finishes = sum(map(len, finished.values()))
        return Searched(finished, found.trace, trainings, measurements, finishes, seconds)

    def _found(self, plan: SizePlan, found_by: str, phase: str, seconds: float, from_scratch: bool) -> Finished:
        """A plan that a search of some seconds found, finished."""
        with self.clock.phase("finishes"):
            finished = self._finish(plan, phase, from_scratch)
        return dataclasses.replace(finished, seconds=finished.seconds + seconds, found_by=found_by)

    @property
    def full(self) -> Backbone:
        """The full model, whose tables are packed: trained on train, its dimensions in order."""
        return self.full_on(1).packed

    @cached_property
    def full_finished(self) -> Finished:
        """The full model as a plan that keeps everything.

        Raises:
            InputError: it ranks no held-out item of anybody among the first 20.
        """
        with self.clock.phase("fit"):
            training, train = self.recipe.config.training, self.split.train
            fitted = self._fit(self._trained, train, training, "full model", "train", self.valid)
            if not self._trained.rows_stand_alone:
                check_row_order(self._trained, self.recipe.config, train)
            self._fulls.append(_Full(self._trained, self._packed(self._trained), train))
            whole = SizePlan.equal(self._shape, self._shape.dim)
            finished = Finished(whole, fitted, evaluate(self._fulls[0].packed, self.valid), fitted.seconds)
        if finished.quality == 0:
            raise InputError(
                "the full model ranks no user's validation items among its first 20, so there is no quality to keep: "
                "train it longer, or check that ids and factors belong together"
            )
        return finished

    @property
    def learns(self) -> bool:
        """Whether full models learn interactions; tables trained elsewhere are taken as they are."""
        return self.recipe.config.training.steps > 0 or not self._trained.rows_stand_alone

    @cached_property
    def parts(self) -> list[Interactions]:
        """What was given: train, validation, and test where there is one."""
        return [part for part in (self.split.train, self.split.valid, self.split.test) if part is not None]

    @cached_property
    def given(self) -> Interactions:
        """All that was given: what users have already."""
        return reduce(Interactions.union, self.parts)

    def full_on(self, parts: int) -> _Full:
        """The full model that has learned the first `parts` of train, validation and test."""
        _ = self.full_finished
        while len(self._fulls) < parts:
            self._fulls.append(self._grown(self._fulls[-1], self.parts[len(self._fulls)]))
        return self._fulls[parts - 1]

    def _grown(self, before: _Full, added: Interactions) -> _Full:
        """A full model trained on with more interactions."""
        data = before.data.union(added)
        if not self.learns:
            return before._replace(data=data)
        config = self.recipe.config.on_more(data, self.split.train)
        model = self._untrained(data, config)
        model.load_state_dict(before.trained.state_dict())
        last = len(self._fulls) == 2
        phase, name = ("full model, test too", "given") if last else ("full model, all data", "all")
        self._fit(model, data, config.training.resumed(self.full_finished.fitted.steps), phase, name)
        return _Full(model, self._packed(model), data)

    def full_shown(self) -> Evaluation:
        """The full model on test, or on validation where there is no test."""
        if self.split.test is None:
            return self.full_finished.valid
        with self.clock.phase("builds"):
            full = self.full_on(2)
        with self.clock.phase("test"):
            return evaluate(full.packed, Evaluator(full.data.matrix, self.split.test.matrix))

    def measured(self, chosen: Finished, about: Mapping[str, Any] | None = None) -> tuple[CompressedModel, Evaluation]:
        """The chosen plan's model that has learned train and validation, and what it comes to on test."""
        assert self.split.test is not None
        model = self.built(chosen, about)
        with self.clock.phase("test"):
            return model, model.evaluate(self.split.test)

    def built(self, chosen: Finished, about: Mapping[str, Any] | None = None, parts: int = 2) -> CompressedModel:
        """The chosen plan's model: finished anew from the full model that has learned more.

        It repeats the runs that were best on validation: what training made no better there is cut here, too. A plan
        that was trained from scratch is so again, for as many steps as were best.

        Args:
            chosen: the plan, finished on train.
            about: kept with the model.
            parts: how many of train, validation and test the model has learned. Whatever that is, all that was given
                counts as seen.
        """
        with self.clock.phase("refit" if parts > 2 else "builds"):
            return self._built(chosen, about, parts)

    def _built(self, chosen: Finished, about: Mapping[str, Any] | None, parts: int) -> CompressedModel:
        if chosen.from_scratch:
            learned = reduce(Interactions.union, self.parts[:parts])
            steps = self.recipe.config.on_more(learned, self.split.train).training.lasting(chosen.fitted.steps)
            small, _ = self._trained_anew(learned, chosen.plan, "from scratch, all data", steps)
            return CompressedModel.pack(self.recipe.config, small, chosen.plan, learned, about, self.given)
        full = self.full_on(parts)
        small, _ = finish(
            full.packed,
            chosen.plan,
            self.recipe.finishing,
            seed=self.seed,
            runs=chosen.runs,
            phase="finish, test too" if parts > 2 else "finish, all data",
            progress=self.progress,
        )
        # Rows that are scored as they are need no more of the backbone than their width.
        outputs = isinstance(small, FactorsModel) and not isinstance(self.recipe.config, Factors)
        config = Factors(dim=chosen.plan.dim) if outputs else self.recipe.config
        return CompressedModel.pack(config, small, chosen.plan, full.data, about, self.given)

    def _untrained(self, data: Interactions, config: BackboneConfig | None = None) -> Backbone:
        """A new backbone.

        Raises:
            InputError: its tables are not on the CPU.
        """
        with seeded(self.seed):
            model = (config or self.recipe.config).build(data, self.seed)
        if (where := model.user_table.device.type) != "cpu":
            raise InputError(f"the tables of {type(model).__name__} are on '{where}': build them on the CPU")
        return model

    def _packed(self, trained: Backbone) -> Backbone:
        """The model whose tables are packed: the trained one, or one whose tables are the rows that it scores."""
        if self.recipe.target == "input" or trained.rows_stand_alone:
            return trained
        if not isinstance(trained, InnerProduct):
            raise InputError("its outputs are not scored by inner products: pack the input")
        outputs = FactorsModel(*(side.numpy() for side in trained.vectors()))
        outputs.order_dimensions()
        return outputs

    def _precision(self, budget: Budget) -> Precision:
        """What is wanted, or that with which finished equal sizes are best on validation.

        They are finished, since a cut misleads: it favours many dimensions in few bits, and a finish makes up for
        dimensions rather than for bits. Floats are left out where int8 does not yet store all dimensions: 8 bits lose
        next to nothing, and more dimensions gain. Each budget's precision depends on no other budget.
        """
        if self.recipe.precision is not None:
            return self.recipe.precision
        if budget not in self._precisions:
            with self.clock.phase("precision"):
                self._precisions[budget] = self._best_precision(budget)
        return self._precisions[budget]

    def _best_precision(self, budget: Budget) -> Precision:
        finished: list[Finished] = []
        tried = [Precision.INT8, Precision.INT6, Precision.INT4, Precision.INT4_SHARED]
        for precision in tried:
            try:
                plan = self._problem({budget: precision}).equal(budget)
            except InputError:
                continue
            if precision is Precision.INT8 and plan.max_size == self._shape.dim:
                tried += [Precision.FLOAT16, Precision.FLOAT32]
            finished.append(self._finish(plan, f"{budget} {precision}"))
        return max(finished, key=lambda each: each.quality).plan.precision if finished else Precision.INT8

    def _fit(
        self,
        backbone: Backbone,
        data: Interactions,
        training: Training,
        phase: str,
        name: str,
        valid: Evaluator | None = None,
    ) -> Fitted:
        """Train a full model and put its dimensions in order, or read what an earlier run came to."""

        def train() -> Fitted:
            lesson = backbone.solver(data) or BPR(backbone, data, training, self.seed)
            with seeded(self.seed):
                fitted = fit(
                    backbone, lesson, training, valid=valid, seed=self.seed, phase=phase, progress=self.progress
                )
            backbone.order_dimensions()
            return fitted

        kept = None if self._kept is None else self._kept.with_name(f"{self._kept.name}-{name}.safetensors")
        return fitted_once(kept, backbone, train)

    def _trained_anew(
        self, data: Interactions, plan: SizePlan, phase: str, training: Training, valid: Evaluator | None = None
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
        )

    def _finish(self, plan: SizePlan, phase: str, from_scratch: bool = False) -> Finished:
        """Bring a plan to its best, once: methods that come to the same plan share what came of it."""
        key = plan, from_scratch
        if key not in self._finished and from_scratch:
            training, phase = self.recipe.config.training, f"{phase}, from scratch"
            small, anew = self._trained_anew(self.split.train, plan, phase, training, self.valid)
            self._finished[key] = Finished(plan, anew, evaluate(small, self.valid), anew.seconds, from_scratch=True)
        elif key not in self._finished:
            small, fitted = finish(
                self.full,
                plan,
                self.recipe.finishing,
                seed=self.seed,
                valid=self.valid,
                phase=phase,
                progress=self.progress,
            )
            self._finished[key] = Finished(plan, fitted, evaluate(small, self.valid), fitted.seconds)
        return self._finished[key]


def check_budgets(budgets: Sequence[Budget], shape: TableShape, precision: Precision | None) -> None:
    """Refuse budgets that tables of a shape cannot meet; a precision of None may be any.

    Raises:
        InputError: a budget that cannot be met, or is above the full tables.
    """
    for budget in budgets:
        budget.numbers(shape, precision or Precision.INT4_SHARED)


def _sample(valid: Interactions, seed: int) -> NDArray[np.int64] | None:
    """The users that choices are measured on: all, or a fixed sample where ranking all of them would take seconds."""
    users = np.flatnonzero(valid.user_counts)
    most = max(1, SCORES_IN_A_MEASUREMENT // valid.n_items)
    return None if len(users) <= most else np.sort(np.random.default_rng(seed).choice(users, most, replace=False))
