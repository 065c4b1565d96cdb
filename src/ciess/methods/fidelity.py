"""Fidelities: how the model that measures a plan is made, from a cut of the full model to training from scratch."""

from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from ciess.checks import Checked, Count, Positive
from ciess.data import Interactions
from ciess.models.base import Backbone, BackboneConfig, Training
from ciess.tables.plan import SizePlan
from ciess.train.finish import Finish, finish
from ciess.train.scratch import train_from_scratch
from ciess.train.truncate import truncated


class Fidelity(Protocol):
    """Makes the small model that a plan is measured by."""

    trains: ClassVar[bool]
    """Whether each plan gets a whole training of its own, and is counted as one."""

    def model(self, full: Backbone, config: BackboneConfig, plan: SizePlan, train: Interactions, seed: int) -> Backbone:
        """A model with the plan's sizes.

        Args:
            full: trained on `train`, its dimensions in order; stays as it is.
            config: what built it.
            plan: the sizes.
            train: what may be learned.
            seed: of everything random.
        """


@dataclass(frozen=True)
class Truncate(Checked):
    """Cut the full model; nothing is trained.

    Attributes:
        refit_steps: steps of the least-squares refit after the cut.
    """

    trains: ClassVar[bool] = False

    refit_steps: Count = 0

    def model(self, full: Backbone, config: BackboneConfig, plan: SizePlan, train: Interactions, seed: int) -> Backbone:
        """See `Fidelity`."""
        return truncated(full, plan, self.refit_steps)


def _short() -> Finish:
    training = Training(steps=40, batch_size=1_000_000, lr=0.3, lr_decay=0.5, lr_every=10)
    return Finish(refit_steps=2, training=training)


@dataclass(frozen=True)
class FineTune(Checked):
    """Cut the full model, refit, and distil for a few steps.

    Enough to rank plans as a full finish does, where a mere cut misleads: with a graph backbone, a row makes up
    for what its neighbours lose only once it is trained.

    Attributes:
        recipe: as a plan is finished, only shorter.
    """

    trains: ClassVar[bool] = False

    recipe: Finish = field(default_factory=_short)

    def model(self, full: Backbone, config: BackboneConfig, plan: SizePlan, train: Interactions, seed: int) -> Backbone:
        """See `Fidelity`."""
        return finish(full, plan, self.recipe, seed=seed)[0]


@dataclass(frozen=True)
class Scratch(Checked):
    """Train a new model with the plan's sizes, as the paper does.

    Attributes:
        training: the recipe; None for the backbone's own.
        epochs: passes over the interactions, instead of the recipe's steps.
    """

    trains: ClassVar[bool] = True

    training: Training | None = None
    epochs: Positive | None = None

    def model(self, full: Backbone, config: BackboneConfig, plan: SizePlan, train: Interactions, seed: int) -> Backbone:
        """See `Fidelity`."""
        return train_from_scratch(config, train, plan, self.training, epochs=self.epochs, seed=seed)[0]


def suiting(backbone: Backbone) -> Truncate | FineTune:
    """The cheapest fidelity that ranks a backbone's plans well (benchmarks/fidelity.py).

    A cut does, but for graphs: there a row's neighbours make up for nearly all that it loses, once they are trained to.
    """
    return FineTune() if backbone.through_graph else Truncate()
