"""From a full model and a plan to a small model: cut, refit, fine-tune."""

import copy
from dataclasses import dataclass, field

import torch
from torch.nn.functional import pad

from ciess.backbones.base import Backbone, InnerProduct, Training
from ciess.data import Interactions
from ciess.evaluation import Evaluator
from ciess.progress import Progress, silent
from ciess.refit import refit
from ciess.tables.order import importance_rotation
from ciess.tables.plan import SizePlan
from ciess.training import Fitted, fit


@dataclass(frozen=True)
class Finish:
    """How a plan is brought to its best: the recipe that every method's plans get.

    Attributes:
        refit_steps: steps of the least-squares refit before training.
        training: fine-tuning; its l2 and batch size are the backbone's.
    """

    refit_steps: int = 3
    training: Training = field(
        default_factory=lambda: Training(steps=200, lr=5e-3, lr_every=50, eval_every=25, patience=2)
    )


@torch.no_grad()
def order_dimensions(backbone: Backbone) -> None:
    """Rotate a trained backbone in place, so that cutting rows short loses least. Its scores stay the same."""
    if isinstance(backbone, InnerProduct):
        rotation = importance_rotation(backbone.vectors().users)
        for table in (backbone.user_table, backbone.item_table):
            table.copy_(table @ rotation)


def finish(
    full: Backbone,
    plan: SizePlan,
    train: Interactions,
    settings: Finish,
    *,
    seed: int,
    valid: Evaluator | None = None,
    phase: str = "finish",
    progress: Progress = silent,
) -> tuple[Backbone, Fitted]:
    """Cut a full model, its dimensions in order, to a plan and fine-tune what is left.

    Args:
        full: stays as it is.
        plan: sizes of the result.
        train: what is fine-tuned on.
        settings: of the refit and of training.
        seed: of the triplets.
        valid: stops training and picks the best state, the one before training among them.
        phase: what progress is told.
        progress: told every step.

    Returns:
        A backbone whose rows are zero beyond their sizes, and how training went.
    """
    # Buffers, such as a graph, never change: both share them.
    small = copy.deepcopy(full, {id(buffer): buffer for buffer in full.buffers()})
    if isinstance(full, InnerProduct):
        tables = refit(full, plan, settings.refit_steps)
        with torch.no_grad():
            for table, short in zip((small.user_table, small.item_table), tables, strict=True):
                table.copy_(pad(short, (0, plan.dim - short.shape[1])))
    fitted = fit(small, train, settings.training, seed=seed, valid=valid, plan=plan, phase=phase, progress=progress)
    return small, fitted
