"""`Student`: a small model that learns on while its plan changes, for searches that judge plans by the loss against the
full model."""

from typing import NamedTuple

import numpy as np
import torch

from ciess.methods.problem import Problem
from ciess.methods.shared.worth import Slopes, draws, slopes
from ciess.models.base import Backbone
from ciess.tables.plan import SizePlan
from ciess.train.finish import Finish, distil, finish
from ciess.train.losses import Distillation

_FRESH = 4
"""Draws that the loss of every plan is measured on, the same for all and other than any that is learned from."""


class Begun(NamedTuple):
    """A plan, its small model after a short finish, and the teacher's loss of that on fresh draws."""

    loss: float
    plan: SizePlan
    small: Backbone


class Student:
    """A small model and its plan, which change from round to round.

    Args:
        problem: its full model is what the small one learns from, the teacher, and stays as it is.
        name: of the method that uses it; its rounds are kept under it.
        seed: of all draws.

    Attributes:
        plan: of the small model; there is none before `begin`.
        small: the small model.
    """

    plan: SizePlan
    small: Backbone

    def __init__(self, problem: Problem, name: str, seed: int) -> None:
        self._full, self._shape, self._seed = problem.full_model, problem.shape[:2], seed
        self._recipe = Finish.suiting(problem.config)
        # Not seeded as training is, whose first draw would else be one of the fresh ones.
        own = int(np.random.SeedSequence([seed, 0]).generate_state(1)[0])
        self._generator = torch.Generator().manual_seed(own)
        loss = self._distillation(self._full)
        self._fresh = draws(loss, self._shape, -(-_FRESH // loss.parts), self._generator)[:_FRESH]
        self._rounds, self._kept = 0, problem.kept.within(name, seed)

    def tried(self, plan: SizePlan, steps: int) -> Begun:
        """A plan's small model after so many steps of a finish."""
        kept = self._kept.within("tried", plan.digest, steps)
        small, _ = finish(self._full, plan, self._recipe.shortened(steps), seed=self._seed, kept=kept)
        return Begun(self._loss_of(small), plan, small)

    def begin(self, begun: Begun) -> None:
        """Go on from a plan that was tried."""
        self.plan, self.small = begun.plan, begun.small
        self._loss = self._distillation(self.small)

    def slopes(self, looks: int) -> Slopes:
        """Of the teacher's loss in both tables, from so many looks at each row for either gradient."""
        first, second = (draws(self._loss, self._shape, looks, self._generator) for _ in range(2))
        return slopes(self.small, self._full, self.plan, self._loss, (first, second))

    def learn(self, plan: SizePlan, steps: int) -> float:
        """Take over a plan and learn on within it; the loss after that, on fresh draws."""
        before, self.plan = self.plan, plan
        _grow(self.small, self._full, before, plan)
        self._rounds += 1
        recipe, kept = self._recipe.shortened(steps), self._kept.within("round", self._rounds)
        distil(self.small, self._full, plan, recipe, seed=self._seed + self._rounds, kept=kept)
        return self._loss_of(self.small)

    def _distillation(self, small: Backbone) -> Distillation:
        return Distillation(small, self._full, self._recipe.training, self._seed)

    def _loss_of(self, small: Backbone) -> float:
        loss, vectors = self._distillation(small), small.vectors()
        return float(np.mean([loss.on(vectors, draw.users, draw.items) for draw in self._fresh]))


@torch.no_grad()
def _grow(small: Backbone, full: Backbone, before: SizePlan, after: SizePlan) -> None:
    """Give numbers that are new the full model's values."""
    for table, source, old, new in (
        (small.user_table, full.user_table, before.user_sizes, after.user_sizes),
        (small.item_table, full.item_table, before.item_sizes, after.item_sizes),
    ):
        columns = torch.arange(table.shape[1])
        start, end = (torch.from_numpy(sizes.astype(np.int64))[:, None] for sizes in (old, new))
        table.copy_(torch.where((columns >= start) & (columns < end), source, table))
