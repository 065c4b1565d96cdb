"""From a full model and a plan to a small model: cut, refit, distil."""

import copy
import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import pad

from ciess.evaluation.metrics import Evaluator
from ciess.models.base import Backbone, BackboneConfig, Rotatable, Training
from ciess.progress import Progress, silent
from ciess.tables.packed import rounded
from ciess.tables.plan import SizePlan
from ciess.tables.precision import Precision
from ciess.train.fit import Fitted, fit
from ciess.train.losses import Distillation
from ciess.train.refit import refit

_LEAST_KEPT = 0.01
"""A share of the squares: what keeps less takes no larger steps."""


@dataclass(frozen=True)
class Finish:
    """How a plan is brought to its best: the recipe that every method's plans get.

    Attributes:
        refit_steps: steps of the least-squares refit before training.
        training: distillation from the full model, see `BackboneConfig.distillation`. Its learning rate suits a plan
            that loses as much as it keeps, see `finish`.
        share: of the users and items that the steps are meant for. Where rows stand alone and a step draws fewer, since
            there are many, it takes more and smaller steps, so that each row is drawn as often.
    """

    refit_steps: int = 3
    training: Training = BackboneConfig.distillation
    share: float = 0.3

    @classmethod
    def suiting(cls, config: BackboneConfig) -> "Finish":
        """What measured best for the small models of a backbone."""
        return cls(training=config.distillation)

    def lasting(self, steps: int) -> "Finish":
        """The same recipe with a given number of steps."""
        return dataclasses.replace(self, training=self.training.lasting(steps))


def finish(
    full: Backbone,
    plan: SizePlan,
    settings: Finish,
    *,
    seed: int,
    valid: Evaluator | None = None,
    steps: int | None = None,
    phase: str = "finish",
    progress: Progress = silent,
) -> tuple[Backbone, Fitted]:
    """Cut a full model, its dimensions in order, to a plan, and teach what is left to rank as the full model does.

    The more a plan loses, the farther its rows must go: the learning rate is in proportion to the root of the squares
    that cutting and rounding lose over those that stay. Where next to nothing is lost, larger steps undo more than they
    teach (docs/search.md).

    Args:
        full: stays as it is.
        plan: sizes of the result.
        settings: of the refit and of training.
        seed: of the users that training draws.
        valid: stops training and picks the best state, the one before training among them.
        steps: of training; None takes those of the recipe. What an earlier finish came to, its `Fitted.steps`, repeats
            it without validation.
        phase: what progress is told.
        progress: told every step.

    Returns:
        A backbone whose rows are zero beyond their sizes, and how training went.
    """
    # Buffers, such as a graph, never change: both share them.
    small = copy.deepcopy(full, {id(buffer): buffer for buffer in full.buffers()})
    if isinstance(full, Rotatable):
        tables = refit(full, plan, settings.refit_steps)
        with torch.no_grad():
            for table, short in zip((small.user_table, small.item_table), tables, strict=True):
                table.copy_(pad(short, (0, plan.dim - short.shape[1])))
    lesson, training = Distillation(small, full, settings.training, seed), settings.training
    if full.rows_stand_alone:
        training = training.stretched(max(1.0, settings.share / lesson.share))
    if steps is not None:
        training = training.lasting(steps)
    fitted = fit(
        small,
        lesson,
        training.paced(_distance(full, plan)) if training.steps else training,
        valid=valid,
        plan=plan,
        relative_to=full,
        seed=seed,
        phase=phase,
        progress=progress,
    )
    return small, fitted


def _distance(full: Backbone, plan: SizePlan) -> float:
    """The root of what a plan loses of the squares of the full model's tables over what it keeps, both tables alike."""
    sides = ((full.user_table, plan.user_sizes), (full.item_table, plan.item_sizes))
    lost = sum(_lost(table.detach().cpu().numpy(), sizes, plan.precision) for table, sizes in sides) / len(sides)
    return math.sqrt(lost / max(1 - lost, _LEAST_KEPT))


def _lost(table: NDArray[np.float32], sizes: NDArray[np.int32], precision: Precision) -> float:
    """The share of a table's squares that cutting and rounding it lose; none where all are zero."""
    squares = float(np.square(table).sum())
    return float(np.square(table - rounded(table, sizes, precision)).sum()) / squares if squares else 0.0
