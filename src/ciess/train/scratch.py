"""Training of a new model within a size plan."""

import math
from functools import partial

from ciess.data import Interactions
from ciess.evaluation.metrics import Evaluator
from ciess.models.base import Backbone, BackboneConfig, Training
from ciess.progress import Progress, silent
from ciess.tables.plan import SizePlan
from ciess.train.checkpoint import NOTHING, Kept
from ciess.train.fit import Fitted, fit, fitted_once
from ciess.train.losses import BPR


def train_from_scratch(
    config: BackboneConfig,
    train: Interactions,
    plan: SizePlan,
    training: Training | None = None,
    *,
    epochs: int | None = None,
    seed: int,
    valid: Evaluator | None = None,
    phase: str = "train",
    progress: Progress = silent,
    kept: Kept = NOTHING,
) -> tuple[Backbone, Fitted]:
    """Train a new backbone whose rows are zero beyond their sizes all along.

    Args:
        config: builds it.
        train: what it learns.
        plan: the sizes.
        training: the recipe; None for the backbone's own.
        epochs: passes over the interactions, instead of the recipe's steps. A solver's step is a pass.
        seed: of the first weights and of triplets.
        valid: stops training and picks the best state.
        phase: what progress is told.
        progress: told every step.
        kept: keeps the training.

    Returns:
        The backbone, and how training went.
    """
    backbone, training = config.build(train, seed), training or config.training
    solver = backbone.solver(train, plan)
    if epochs is not None:
        triplets = training.triplets(train.n_users + train.n_items)
        training = training.lasting(epochs if solver else math.ceil(epochs * len(train) / triplets))
    lesson = solver or BPR(backbone, train, training, seed)
    trained = partial(
        fit,
        backbone,
        lesson,
        training,
        valid=valid,
        plan=plan,
        seed=seed,
        phase=phase,
        progress=progress,
        kept=kept.within("steps"),
    )
    return backbone, fitted_once(kept, backbone, trained)
