"""From a full model and a plan to a small model: cut, refit, distil."""

import copy
from dataclasses import dataclass, field

import torch
from torch.nn.functional import pad

from ciess.backbones.base import Backbone, Rotatable, Training
from ciess.evaluation import Evaluator
from ciess.losses import Distillation
from ciess.progress import Progress, silent
from ciess.refit import refit
from ciess.tables.plan import SizePlan
from ciess.training import Fitted, fit


@dataclass(frozen=True)
class Finish:
    """How a plan is brought to its best: the recipe that every method's plans get.

    Attributes:
        refit_steps: steps of the least-squares refit before training.
        training: distillation from the full model; its batch size counts users.
    """

    refit_steps: int = 3
    training: Training = field(
        default_factory=lambda: Training(
            steps=200, batch_size=1024, lr=0.1, lr_every=5, l2=1e-4, eval_every=25, patience=3
        )
    )


def finish(
    full: Backbone,
    plan: SizePlan,
    settings: Finish,
    *,
    seed: int,
    valid: Evaluator | None = None,
    phase: str = "finish",
    progress: Progress = silent,
) -> tuple[Backbone, Fitted]:
    """Cut a full model, its dimensions in order, to a plan, and teach what is left to rank as the full model does.

    Args:
        full: stays as it is.
        plan: sizes of the result.
        settings: of the refit and of training.
        seed: of the users that training draws.
        valid: stops training and picks the best state, the one before training among them.
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
    loss = Distillation(small, full, settings.training, seed)
    fitted = fit(small, loss, settings.training, valid=valid, plan=plan, seed=seed, phase=phase, progress=progress)
    return small, fitted
