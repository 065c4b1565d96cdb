"""Final training of a size plan: truncate the full model, least-squares refit, then distillation."""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import pad

from ciess.checks import AboveZero, Checked, Count
from ciess.evaluation.metrics import Evaluator
from ciess.models.base import Backbone, BackboneConfig, Rotatable, Training
from ciess.progress import Progress, silent
from ciess.tables.encoding import Encoding
from ciess.tables.packed import rounded
from ciess.tables.plan import SizePlan
from ciess.train.checkpoint import NOTHING, Kept
from ciess.train.fit import Diverged, Fitted, fit, fitted_once
from ciess.train.held_tables import sees_rounding
from ciess.train.losses import Distillation
from ciess.train.refit import refit

PEAK_RATES = (1.0, 10**-0.5, 0.1)
"""Learning rates at which runs of distillation start, as shares of the recipe's."""
_DRAWS = 4
"""That tell how close a model is."""
_LEAST_KEPT = 0.01
"""A share of the squares: what keeps less takes no larger steps."""


class Run(NamedTuple):
    """One run of distillation: its peak learning rate as a share of the recipe's, and the steps that were kept."""

    rate: float
    steps: int


@dataclass(frozen=True)
class Finishing:
    """How a finish went.

    Attributes:
        runs: one after the other, each from the best state of the one before.
        quality: mean quality on validation of the state that was kept; None without validation.
        seconds: wall time.
        converged: whether it ended because validation had levelled off at a rate that had fallen; else it was still
            gaining when the last run ended, or was not measured.
    """

    runs: tuple[Run, ...]
    quality: float | None
    seconds: float
    converged: bool

    @property
    def steps(self) -> int:
        """Steps until the state that was kept; 0 where no run improved on the truncated model."""
        return sum(run.steps for run in self.runs)


@dataclass(frozen=True)
class Finish(Checked):
    """Final training of a size plan: truncate, least-squares refit, then distillation; the same for all methods.

    Attributes:
        refit_steps: steps of the least-squares refit before training.
        training: distillation from the full model, see `BackboneConfig.distillation`. Its learning rate suits a plan
            that loses as much as it keeps, see `finish`.
        share: of the users and items that the steps are meant for. Where rows stand alone and a step draws fewer, since
            there are many, it takes more and smaller steps, so that each row is drawn as often.
    """

    refit_steps: Count = 3
    training: Training = BackboneConfig.distillation
    share: AboveZero = 0.2

    @classmethod
    def suiting(cls, config: BackboneConfig) -> "Finish":
        """What measured best for the small models of a backbone."""
        return cls(training=config.distillation)

    def lasting(self, steps: int) -> "Finish":
        """The same recipe with a given number of steps."""
        return dataclasses.replace(self, training=self.training.lasting(steps))

    def shortened(self, steps: int) -> "Finish":
        """The same recipe in so many steps, over which the rate falls as far."""
        return dataclasses.replace(self, training=self.training.shortened(steps))


def finish(
    full: Backbone,
    plan: SizePlan,
    settings: Finish,
    *,
    seed: int,
    valid: Evaluator | None = None,
    runs: Sequence[Run] | None = None,
    phase: str = "finish",
    progress: Progress = silent,
    kept: Kept = NOTHING,
) -> tuple[Backbone, Finishing]:
    """Truncate a full model, its dimensions in order, to a size plan, and train what is left to rank as the full one.

    The more a plan loses, the farther its rows must go: the learning rate is in proportion to the root of the squares
    that cutting and rounding lose over those that stay. Where that is too fast, validation falls below the truncated
    model or levels off while the rate is high. So with `valid` there are up to three runs, each from the best state so
    far and at a lower peak rate (`PEAK_RATES`): a next one where this one gained nothing or more than half a percent,
    or was best before half of its steps.

    Args:
        full: stays as it is.
        plan: sizes of the result.
        settings: of the refit and of training.
        seed: of the users that training draws.
        valid: measures the runs; the best state of all is kept, the one before training among them.
        runs: without `valid`, the runs to repeat, as an earlier finish of the plan took them; None takes one whole run.
        phase: what progress is told.
        progress: told every step.
        kept: keeps each run.

    Returns:
        A backbone whose rows are zero beyond their sizes, and how training went.
    """
    start = time.perf_counter()
    small = full.copied()
    if isinstance(full, Rotatable):
        tables = refit(full, plan, settings.refit_steps)
        with torch.no_grad():
            for table, short in zip((small.user_table, small.item_table), tables, strict=True):
                table.copy_(pad(short, (0, plan.dim - short.shape[1])))
    # Until it is rounded in the end, a model that nothing is cut from is the full one.
    learns = plan.sizes.min() < plan.dim or sees_rounding(plan.precision)
    training = _suited(settings if learns else settings.lasting(0), full, plan)

    def one(number: int, run: Run) -> Fitted:
        return _run(
            small,
            full,
            plan,
            settings,
            training.paced(run.rate).lasting(run.steps),
            # Each run draws for itself: repeated, it comes to the same, whatever was drawn beyond an earlier best.
            draws=seed + number,
            seed=seed,
            valid=valid,
            phase=phase,
            progress=progress,
            kept=kept.within("run", number),
        )

    if valid is not None:
        return small, in_runs(training.steps, one, start)
    repeated = tuple(runs or [Run(1.0, training.steps)])
    for number, run in enumerate(repeated):
        one(number, run)
    return small, Finishing(repeated, None, time.perf_counter() - start, converged=False)


def in_runs(steps: int, one: Callable[[int, Run], Fitted], start: float) -> Finishing:
    """Take runs of distillation that are measured on validation, until one levels off without having gained.

    Args:
        steps: the most that a run may take.
        one: takes a run, told its number, from the best state so far, and goes back to the best.
        start: when the finish began, by `time.perf_counter`.
    """
    done = list[Run]()
    for number, rate in enumerate(PEAK_RATES):
        fitted = one(number, Run(rate, steps))
        done.append(Run(rate, fitted.steps))
        level = 2 * fitted.steps >= steps and not fitted.gaining
        if level and not fitted.gained:
            break
    return Finishing(tuple(done), fitted.quality, time.perf_counter() - start, level or fitted.steps == 0)


def learned_on(
    finished: Backbone,
    full: Backbone,
    plan: SizePlan,
    settings: Finish,
    *,
    seed: int,
    phase: str = "finish",
    progress: Progress = silent,
    kept: Kept = NOTHING,
) -> Backbone:
    """A finished model, after one more run at the lowest rate if that brings it closer to the full one.

    For full models that have learned more than the one from which the runs were found. The more a model has learned,
    the more is gained by being close to it, and validation, which found the runs, cannot tell (docs/search.md). How
    close models are tells the loss of distillation on fresh draws.

    Args:
        finished: stays as it is.
        full: the teacher.
        plan: sizes of the result.
        settings: of training.
        seed: of the runs that the model was finished by.
        phase: what progress is told.
        progress: told every step.
        kept: keeps the run.
    """
    small = finished.copied()
    training, draws = _suited(settings, full, plan).paced(PEAK_RATES[-1]), seed + len(PEAK_RATES)
    try:
        _run(small, full, plan, settings, training, draws=draws, seed=seed, phase=phase, progress=progress, kept=kept)
    except Diverged:
        # There is no validation to go back by.
        return finished
    return min(finished, small, key=lambda each: _loss(each, full, settings.training, draws + 1))


def _run(
    small: Backbone,
    full: Backbone,
    plan: SizePlan,
    settings: Finish,
    training: Training,
    *,
    draws: int,
    seed: int,
    valid: Evaluator | None = None,
    phase: str = "finish",
    progress: Progress = silent,
    kept: Kept = NOTHING,
) -> Fitted:
    """One run of distillation, in place."""
    distilled = partial(
        fit,
        small,
        Distillation(small, full, settings.training, draws),
        training,
        valid=valid,
        plan=plan,
        relative_to=full,
        seed=seed,
        phase=phase,
        progress=progress,
        kept=kept.within("steps"),
    )
    return fitted_once(kept, small, distilled)


@torch.no_grad()
def _loss(small: Backbone, full: Backbone, training: Training, seed: int) -> float:
    """The loss of distillation on draws that are the same for all models."""
    loss, vectors = Distillation(small, full, training, seed), small.vectors()
    return float(np.mean([loss.measured(vectors) for _ in range(_DRAWS)]))


def distil(
    small: Backbone, full: Backbone, plan: SizePlan, settings: Finish, *, seed: int, kept: Kept = NOTHING
) -> None:
    """Train a small model, in place, on within a plan, which may differ from what it had: distillation alone.

    Args:
        small: from an earlier `finish` or `distil`.
        full: the teacher.
        plan: sizes to hold from now on.
        settings: its refit is left out.
        seed: of what training draws.
        kept: keeps what it comes to.
    """
    _run(small, full, plan, settings, _suited(settings, full, plan), draws=seed, seed=seed, kept=kept)


def _suited(settings: Finish, full: Backbone, plan: SizePlan) -> Training:
    """The recipe's training, stretched to the number of rows and paced by what the plan loses."""
    training = settings.training
    if not training.steps:
        return training
    if full.rows_stand_alone:
        training = training.stretched(max(1.0, settings.share / Distillation(full, full, training, seed=0).share))
    return training.paced(_distance(full, plan))


def _distance(full: Backbone, plan: SizePlan) -> float:
    """The root of what a plan loses of the squares of the full model's tables over what it keeps, both tables alike."""
    sides = ((full.user_table, plan.user_sizes), (full.item_table, plan.item_sizes))
    lost = sum(_lost(table.detach().numpy(), sizes, plan.precision) for table, sizes in sides) / len(sides)
    return lost_to_kept(lost)


def lost_to_kept(lost: float) -> float:
    """The root of what is lost over what is kept, by the share of the squares that is lost."""
    return math.sqrt(lost / max(1 - lost, _LEAST_KEPT))


def _lost(table: NDArray[np.float32], sizes: NDArray[np.int32], precision: Encoding) -> float:
    """The share of a table's squares that cutting and rounding it lose; none where all are zero."""
    squares = float(np.square(table).sum())
    return float(np.square(table - rounded(table, sizes, precision)).sum()) / squares if squares else 0.0
