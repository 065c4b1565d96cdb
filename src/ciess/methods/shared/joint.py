"""A model that learns while a search decides what is left of its tables."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Literal

from torch import Tensor, nn

from ciess.data.sampling import TripletSampler
from ciess.methods.problem import Problem
from ciess.methods.shared.pruning import root_mean_square
from ciess.models.base import USUAL_SCALE
from ciess.models.mf import MF
from ciess.train.checkpoint import Attributes, Part
from ciess.train.fit import Descent
from ciess.train.losses import BPR, bpr_loss

Start = Literal["new", "full"]
"""Where tables start: new and random, as papers do, or the full model's."""


class Learner:
    """Learns by BPR from tables that a search changes on their way into the model.

    What gradients do not train (ALS, tables from elsewhere, packed outputs) starts from the full model's tables,
    whatever `start` says, and learns by matrix factorisation's recipe.

    Args:
        problem: its full model stays as it is; the learner counts as a training.
        start: where tables start.
        seed: of new tables and of triplets.
        steps: of training; None for all of the recipe's.

    Attributes:
        backbone: represents and scores.
        training: the recipe.
        tables: the users' and the items', (n, dim); they and the backbone's network learn.
    """

    def __init__(self, problem: Problem, start: Start, seed: int, steps: int | None = None) -> None:
        self._problem, self._seed = problem, seed
        new = problem.config.build(problem.train, seed)
        alike = type(new) is type(problem.full_model) and new.solver(problem.train) is None
        descends = alike and problem.config.training.steps > 0
        training = problem.config.training if descends else MF().training
        self.training = training if steps is None else training.lasting(steps)
        self.backbone = new if descends and start == "new" else problem.full_model.copied()
        self.tables = (self.backbone.user_table, self.backbone.item_table)
        self._bpr = BPR(self.backbone, problem.train, self.training, seed)
        self._rates = {table: root_mean_square(table) / USUAL_SCALE for table in self.tables}
        self.join(self.backbone.network.values())
        problem.trainings += 1

    def steps(self, parts: Mapping[str, Part], done: Callable[[], bool] = lambda: False) -> Iterator[int]:
        """The steps of training that are left, see `Kept.steps`, when all that learns is known.

        Args:
            parts: what the search changes beside what has joined the learner.
            done: whether to end before the last step.
        """
        own: dict[str, Part] = {f"learned {at}": each for at, each in enumerate(self._rates)}
        own |= {"adam": self._descent.adam, "draws": self._bpr.generator, "model": Attributes(self.backbone)}
        return self._problem.kept.within("joint").steps(self.training.steps, {**own, **parts}, done)

    @cached_property
    def unseen(self) -> TripletSampler:
        """Triplets of validation."""
        # Other users than at the same step of train.
        return TripletSampler(self._problem.valid_positives, seed=self._seed + 1, known=self._problem.train)

    def loss(self, users: Tensor, items: Tensor) -> Tensor:
        """What tables, (n, dim), as the search leaves them, lose on triplets of train."""
        self.backbone.train()
        return self._bpr(self.backbone.represent(users, items), users, items)

    def valid_loss(self, users: Tensor, items: Tensor) -> Tensor:
        """The same on triplets of validation, without weight decay."""
        self.backbone.eval()
        triplets = self.unseen.sample(self.training.triplets(self._problem.shape.rows))
        return bpr_loss(self.backbone, self.backbone.represent(users, items), users, items, triplets, l2=0.0)

    def join(self, parameters: Iterable[nn.Parameter], rate: float = 1.0) -> None:
        """Let more parameters learn with the tables, at so many times the recipe's rate; before the first step."""
        self._rates |= dict.fromkeys(parameters, rate)

    @cached_property
    def _descent(self) -> Descent:
        return Descent(list(self._rates), list(self._rates.values()), self.training)

    def learn(self, step: int, loss: Tensor) -> None:
        """Take a step, counted from 1, down the loss."""
        self._descent(step, loss)
