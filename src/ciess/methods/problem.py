"""`Problem`: what a search may see and do. Never test data."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ciess.backbones.base import Backbone
from ciess.data import Interactions
from ciess.evaluation import Evaluator
from ciess.progress import Progress, silent
from ciess.tables.budget import Budget, project
from ciess.tables.plan import SizePlan, TableShape, prefix_mask


@dataclass(frozen=True, eq=False)
class Measurement:
    """What a plan is worth on validation.

    Attributes:
        plan: the sizes measured.
        user_quality: (n_users,) mean of Recall@k and NDCG@k over k = 5, 10, 20; 0 for users not measured.
        item_credit: (n_items,) the part of the users' quality that hits of this item earned; both sum to the same.
        quality: mean user quality over the measured users.
    """

    plan: SizePlan
    user_quality: Tensor
    item_credit: Tensor
    quality: float


@dataclass(frozen=True, eq=False)
class Candidate:
    """A plan that a search found for a budget, and its mean quality on validation."""

    plan: SizePlan
    quality: float


@dataclass(eq=False)
class SearchResult:
    """What a search found.

    Attributes:
        best: for each budget, candidates that fit it, the best first.
        trace: everything measured, in order: episode, step, budget, quality and so on, one row each.
    """

    best: dict[Budget, list[Candidate]]
    trace: list[dict[str, float | str]] = field(default_factory=list)


class Problem:
    """A trained full-size backbone to be cut, budgets to hold, and validation data to measure on.

    Args:
        backbone: trained on `train`, its dimensions in order of importance.
        train: what the backbone learned.
        valid: measures on validation.
        budgets: what plans are searched for.
        progress: told of every step of a search.

    Attributes:
        shape: of the full tables.
        numbers: for each budget, how many numbers its plans may keep.
        popularity: train interactions of each user, (n_users,), and of each item, (n_items,).
    """

    def __init__(
        self,
        backbone: Backbone,
        train: Interactions,
        valid: Evaluator,
        budgets: Sequence[Budget],
        progress: Progress = silent,
    ) -> None:
        self._backbone, self._train, self._valid = backbone, train, valid
        self.shape = TableShape(train.n_users, train.n_items, backbone.user_table.shape[1])
        self.numbers = {budget: budget.numbers(self.shape) for budget in budgets}
        self.progress = progress
        self.popularity = (train.user_counts, train.item_counts)

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """What plans are searched for."""
        return tuple(self.numbers)

    @cached_property
    def full(self) -> Measurement:
        """The full-size model: the peak quality of every user and item."""
        return self.measure(SizePlan.equal(self.shape, self.shape.dim))

    @cached_property
    def measured_users(self) -> Tensor:
        """(n_users,) whether a user has validation items and is measured."""
        measured = torch.zeros(self.shape.n_users, dtype=torch.bool)
        measured[self._valid.users] = True
        return measured

    def project(self, desired: Tensor | NDArray[np.float64], budget: Budget) -> SizePlan:
        """Scale desired sizes, (n_users + n_items,), to a plan that fills the budget and never exceeds it."""
        return SizePlan.from_sizes(project(np.asarray(desired), self.numbers[budget], self.shape.dim), self.shape)

    @torch.no_grad()
    def measure(self, plan: SizePlan) -> Measurement:
        """Cut the full model to the plan and rank (the `truncate` fidelity: nothing is trained)."""
        # Only where columns are apart can the vectors be made of the first ones alone.
        width = plan.max_size if self._backbone.separable else plan.dim
        tables = [
            table[:, :width] * prefix_mask(sizes, width, table.device)
            for table, sizes in (
                (self._backbone.user_table, plan.user_sizes),
                (self._backbone.item_table, plan.item_sizes),
            )
        ]
        vectors = self._backbone.vectors(*tables)
        found = self._valid(lambda users: self._backbone.score_all(vectors, users))
        user_quality = torch.zeros(self.shape.n_users)
        user_quality[found.users.cpu()] = found.quality.cpu()
        return Measurement(plan, user_quality, found.item_credit.cpu(), float(found.quality.mean()))

    def item_quality(self, user_quality: Tensor) -> Tensor:
        """(n_items,) mean quality of the measured users who have an item in train; 0 where there are none."""
        users = self.measured_users.float().numpy()
        total = self._train.matrix.T @ (user_quality.numpy() * users)
        count = self._train.matrix.T @ users
        return torch.from_numpy(total / np.maximum(count, 1)).float()
