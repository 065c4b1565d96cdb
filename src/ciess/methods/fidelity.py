"""How faithfully a search measures a plan: from a mere cut of the full model to a training of its own."""

from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from ciess.data import Interactions
from ciess.models.base import Backbone, BackboneConfig, Training
from ciess.tables.plan import SizePlan
from ciess.train.finish import Finish, finish
from ciess.train.fit import fit
from ciess.train.losses import BPR


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
class Truncate:
    """Cut the full model; nothing is trained.

    Attributes:
        refit_steps: steps of the least-squares refit after the cut.
    """

    trains: ClassVar[bool] = False

    refit_steps: int = 0

    def model(self, full: Backbone, config: BackboneConfig, plan: SizePlan, train: Interactions, seed: int) -> Backbone:
        """See `Fidelity`."""
        return finish(full, plan, Finish(self.refit_steps).lasting(0), seed=seed)[0]


def _short() -> Finish:
    training = Training(steps=40, batch_size=1_000_000, lr=0.3, lr_decay=0.5, lr_every=10)
    return Finish(refit_steps=2, training=training, share=0.2)


@dataclass(frozen=True)
class FineTune:
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
class Scratch:
    """Train a new model with the plan's sizes, as the paper does.

    Attributes:
        steps: of training; None for all of the backbone's own recipe.
    """

    trains: ClassVar[bool] = True

    steps: int | None = None

    def model(self, full: Backbone, config: BackboneConfig, plan: SizePlan, train: Interactions, seed: int) -> Backbone:
        """See `Fidelity`."""
        small = config.build(train, seed)
        training = config.training if self.steps is None else config.training.lasting(self.steps)
        fit(small, small.solver(train, plan) or BPR(small, train, training, seed), training, plan=plan)
        return small


def suiting(backbone: Backbone) -> Truncate | FineTune:
    """The cheapest fidelity that ranks a backbone's plans well (benchmarks/fidelity.py).

    A cut does, but for graphs: there a row's neighbours make up for nearly all that it loses, once they are trained to.
    """
    return FineTune() if backbone.through_graph else Truncate()
