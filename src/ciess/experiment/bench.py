"""One backbone on one split: one full training, and the recipe that the plans of every method go through."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ciess.data import Interactions, Split
from ciess.data.split import check_seed
from ciess.errors import InputError
from ciess.evaluation.metrics import Evaluation, Evaluator, evaluate
from ciess.methods import method_name
from ciess.methods.fidelity import Fidelity, suiting
from ciess.methods.problem import Method, Problem
from ciess.models import Backbone, BackboneConfig, InnerProduct, Training, backbone_named, backbone_settings
from ciess.models.factors import Factors, FactorsModel
from ciess.models.row_order import check_row_order
from ciess.progress import Progress, silent
from ciess.serve.model import CompressedModel
from ciess.settings import described
from ciess.tables.budget import Budget
from ciess.tables.packed import stored_bytes
from ciess.tables.plan import SizePlan, TableShape
from ciess.tables.precision import Precision
from ciess.train.checkpoint import fitted_once
from ciess.train.finish import Finish, finish
from ciess.train.fit import Fitted, fit
from ciess.train.losses import BPR
from ciess.train.scratch import train_from_scratch

Target = Literal["input", "output"]

SCORES_IN_A_MEASUREMENT = 100_000_000
"""The most scores that one measurement on validation ranks."""


@dataclass(frozen=True)
class Recipe:
    """What all methods share.

    Attributes:
        config: settings of the backbone.
        finishing: how plans are brought to their best.
        precision: how numbers are stored; None takes for each budget what is best for equal sizes.
        target: what is packed: `input`, the tables that are learned, or `output`, the rows that are scored.
    """

    config: BackboneConfig
    finishing: Finish = field(default_factory=Finish)
    precision: Precision | None = Precision.FLOAT32
    target: Target = "input"

    @classmethod
    def of(
        cls, backbone: str | BackboneConfig, finishing: Finish | None, precision: str | Precision, target: Target
    ) -> "Recipe":
        """From what people write.

        Raises:
            InputError: an unknown backbone or precision.
        """
        config = backbone_named(backbone) if isinstance(backbone, str) else backbone
        stored = None if precision == "auto" else Precision.parse(precision)
        return cls(config, finishing or Finish.suiting(config), stored, target)

    def described(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return {
            "backbone": backbone_settings(self.config),
            "finishing": described(self.finishing),
            "precision": self.precision or "auto",
            "target": self.target,
        }


@dataclass(frozen=True, eq=False)
class Finished:
    """A plan brought to its best on train.

    Attributes:
        plan: its sizes.
        fitted: how training went.
        valid: what it came to on validation.
        seconds: of the search and of training.
        from_scratch: whether it was trained anew rather than distilled.
        model: only where full models are not trained, and so cannot learn validation too.
    """

    plan: SizePlan
    fitted: Fitted
    valid: Evaluation
    seconds: float
    from_scratch: bool = False
    model: Backbone | None = None

    @property
    def quality(self) -> float:
        """Mean quality on validation."""
        return float(self.valid.quality.mean())


@dataclass(frozen=True, eq=False)
class Searched:
    """What came of one method's search.

    Attributes:
        best: for each budget the plan that was best on validation when finished.
        trace: everything measured.
        trainings: models that the search trained, by itself or to measure a plan.
        measurements: plans that it measured.
        finishes: plans that were brought to their best.
        seconds: of the search alone.
    """

    best: dict[Budget, Finished]
    trace: list[dict[str, float | str]]
    trainings: int
    measurements: int
    finishes: int
    seconds: float


class Bench:
    """Runs methods on one split, all by one recipe.

    Args:
        split: learns on train, chooses on validation, measures on test, or on validation where there is no test.
        recipe: what all methods share.
        seed: of training, of searches and of finishes.
        progress: told every step.
        kept: where the full models are kept as files, without their endings; None keeps none.

    Attributes:
        fidelity: how plans are measured, unless a method has its own.
        valid: measures on validation.

    Raises:
        InputError: a seed below 0, or outputs are to be packed that are not scored by inner products.
    """

    def __init__(
        self, split: Split, recipe: Recipe, seed: int, progress: Progress = silent, kept: Path | None = None
    ) -> None:
        check_seed(seed)
        self.split, self.recipe, self.seed, self.progress, self._kept = split, recipe, seed, progress, kept
        self.valid = Evaluator(split.train.matrix, split.valid.matrix, users=_sample(split.valid, seed))
        # Made before training: what cannot be done is refused at once, not after minutes.
        self._trained = recipe.config.build(split.train, seed)
        untrained = self._packed(self._trained)
        self.fidelity: Fidelity = suiting(untrained)
        self._shape = TableShape(split.train.n_users, split.train.n_items, untrained.user_table.shape[1])
        self._precisions: dict[Budget, Precision] = {}
        self._finished: dict[tuple[SizePlan, bool], Finished] = {}

    def check(self, budgets: Sequence[Budget]) -> None:
        """Before anything is trained.

        Raises:
            InputError: a budget that cannot be met.
        """
        for budget in budgets:
            budget.numbers(self._shape, self.recipe.precision or Precision.INT4_SHARED)

    def prepared(self, method: Method) -> Method:
        """A method with the bench's seed, and its fidelity unless it has one of its own.

        Raises:
            InputError: it is no dataclass, or trains plans from scratch where nothing is trained within them.
        """
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
        found = method.search(problem)
        seconds = time.perf_counter() - start
        trainings, measurements = problem.trainings - before[0], problem.measurements - before[1]
        best, finishes = {}, 0
        for budget in problem.budgets:
            plans = list(dict.fromkeys(each.plan for each in found.best.get(budget, [])))
            _check_plans(name, plans, budget)
            # Equal sizes have a line of their own: others are shown by what they found themselves.
            own = {plan: f"{budget} {name} {number}" for number, plan in enumerate(plans, 1)}
            if own.pop(problem.equal(budget), None) and not own:
                own = {problem.equal(budget): f"{budget} equal sizes"}
            from_scratch = getattr(method, "from_scratch", False)
            finished = [self._finish(plan, phase, from_scratch) for plan, phase in own.items()]
            finishes += len(finished)
            # Of equally good ones the first.
            won = max(finished, key=lambda each: each.quality)
            best[budget] = dataclasses.replace(won, seconds=won.seconds + seconds / len(problem.budgets))
        return Searched(best, found.trace, trainings, measurements, finishes, seconds)

    @cached_property
    def full(self) -> Backbone:
        """The full model, whose tables are packed: trained on train, its dimensions in order."""
        return self._packed_trained[0]

    @cached_property
    def full_finished(self) -> Finished:
        """The full model as a plan that keeps everything."""
        full, fitted = self._packed_trained
        whole = SizePlan.equal(self._shape, self._shape.dim)
        return Finished(whole, fitted, evaluate(full, self.valid), fitted.seconds)

    @cached_property
    def _packed_trained(self) -> tuple[Backbone, Fitted]:
        fitted = self._fit(
            self._trained, self.split.train, self.recipe.config.training, "full model", "train", self.valid
        )
        if not self._trained.rows_stand_alone:
            check_row_order(self._trained, self.recipe.config, self.split.train)
        return self._packed(self._trained), fitted

    @cached_property
    def all_data(self) -> Interactions:
        """Train and validation together."""
        return self.split.train_valid()

    @cached_property
    def full_on_all(self) -> Backbone:
        """The full model that learned validation too."""
        steps = self.full_finished.fitted.steps
        model = self.recipe.config.build(self.all_data, self.seed)
        model.load_state_dict(self._trained.state_dict())
        training = self.recipe.config.training.resumed(steps)
        self._fit(model, self.all_data, training, "full model, all data", "all")
        return self._packed(model)

    def full_shown(self) -> Evaluation:
        """The full model on test, or on validation where there is no test."""
        if self.split.test is None:
            return self.full_finished.valid
        return evaluate(self.full_on_all, Evaluator(self.all_data.matrix, self.split.test.matrix))

    def built(self, chosen: Finished, about: Mapping[str, Any] | None = None) -> CompressedModel:
        """The chosen plan on all data: finished anew from the full model that trained on.

        What training made no better on validation is cut from the full model, here too. A plan that was trained from
        scratch is so again, for as many steps as were best on validation.
        """
        full, small = self.full_on_all, chosen.model
        if chosen.from_scratch:
            training = self.recipe.config.training.lasting(chosen.fitted.steps)
            small, _ = self._trained_anew(self.all_data, chosen.plan, "from scratch, all data", training)
        elif small is None:
            settings = self.recipe.finishing if chosen.fitted.steps else self.recipe.finishing.lasting(0)
            small, _ = finish(
                full, chosen.plan, settings, seed=self.seed, phase="finish, all data", progress=self.progress
            )
        # Rows that are scored as they are need no more of the backbone than their width.
        outputs = isinstance(small, FactorsModel) and not isinstance(self.recipe.config, Factors)
        config = Factors(dim=chosen.plan.dim) if outputs else self.recipe.config
        return CompressedModel.pack(config, small, chosen.plan, self.all_data, about)

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
        """What is wanted, or that with which the rankings of finished equal sizes come closest to the full model's.

        They are finished, since a cut misleads: it favours many numbers in few bits, and a finish makes up for numbers
        rather than for bits. How many of the first 20 items are the same tells far smaller differences apart than
        quality does. Floats are left out where int8 does not yet store all numbers: 8 bits lose next to nothing, and
        more numbers gain.
        """
        if self.recipe.precision is not None:
            return self.recipe.precision
        if budget not in self._precisions:
            closest = -1.0, Precision.INT8
            tried = [Precision.INT8, Precision.INT6, Precision.INT4, Precision.INT4_SHARED]
            for precision in tried:
                try:
                    plan = self._problem({budget: precision}).equal(budget)
                except InputError:
                    continue
                if precision is Precision.INT8 and plan.max_size == self._shape.dim:
                    tried += [Precision.FLOAT16, Precision.FLOAT32]
                overlap = self._finish(plan, f"{budget} {precision}").valid.overlap(self.full_finished.valid)
                closest = max(closest, (overlap, precision), key=lambda found: found[0])
            self._precisions[budget] = closest[1]
        return self._precisions[budget]

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
            fitted = fit(backbone, lesson, training, valid=valid, seed=self.seed, phase=phase, progress=self.progress)
            backbone.order_dimensions()
            return fitted

        kept = None if self._kept is None else self._kept.with_name(f"{self._kept.name}-{name}.safetensors")
        return fitted_once(kept, backbone, train)

    def _trained_anew(
        self, data: Interactions, plan: SizePlan, phase: str, training: Training, valid: Evaluator | None = None
    ) -> tuple[Backbone, Fitted]:
        return train_from_scratch(
            self.recipe.config,
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
            small, fitted = self._trained_anew(self.split.train, plan, phase, training, self.valid)
            self._finished[key] = Finished(plan, fitted, evaluate(small, self.valid), fitted.seconds, from_scratch)
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
            model = None if self.recipe.config.training.steps else small
            self._finished[key] = Finished(plan, fitted, evaluate(small, self.valid), fitted.seconds, model=model)
        return self._finished[key]


def _check_plans(name: str, plans: list[SizePlan], budget: Budget) -> None:
    if not plans:
        raise InputError(f"{name} gives no plan for {budget}: a search gives one or more for every budget")
    for plan in plans:
        if (stored := stored_bytes(plan)) > budget.limit(plan.shape):
            raise InputError(
                f"{name} gives a plan of {stored:,} bytes for {budget}, which is {budget.limit(plan.shape):,}: "
                "let problem.project fill the budget"
            )


def _sample(valid: Interactions, seed: int) -> NDArray[np.int64] | None:
    """The users that choices are measured on: all, or a fixed sample where ranking all of them would take seconds."""
    users = np.flatnonzero(valid.user_counts)
    most = max(1, SCORES_IN_A_MEASUREMENT // valid.n_items)
    return None if len(users) <= most else np.sort(np.random.default_rng(seed).choice(users, most, replace=False))
