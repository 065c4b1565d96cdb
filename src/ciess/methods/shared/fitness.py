"""What a plan is worth, learned from plans that were measured: a network over sets of entities of one size.

BET's fitness predictor (Qu et al., WSDM 2024), after Zaheer et al., Deep Sets, NeurIPS 2017.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ciess.models.seeded import seeded
from ciess.tables.plan import SizePlan
from ciess.train.adam import Adam

_ENTITY, _SET = 16, 64
_STEPS, _RATE = 100, 2e-3
"""Of Adam, each time that it learns."""


class FitnessPredictor:
    """Predicts the quality of plans for the same users and items.

    An entity's popularity becomes 16 numbers; the mean over all entities of one size, and the size, become 64; the mean
    over entities of these, users' and items' added, becomes the prediction. Users and items have networks of their own.

    Departures from the paper: means instead of sums, so that tables of any number of rows look alike; popularity and
    size on logarithmic scales, since most of both are small; learned against standardised quality.

    Args:
        popularity: interactions of each user, (n_users,), and of each item, (n_items,).
        dim: the largest size.
        seed: of the networks' weights.
    """

    def __init__(self, popularity: Sequence[NDArray[np.int64]], dim: int, seed: int = 0) -> None:
        self._sides = [_Side.of(each, dim) for each in popularity]
        with seeded(seed):
            self._entities = nn.ModuleList(_network(1, _ENTITY, _ENTITY) for _ in self._sides)
            self._sets = nn.ModuleList(_network(_ENTITY + 1, _SET, _SET) for _ in self._sides)
            self._decoder = _network(_SET, _SET, 1)
        learned = nn.ModuleList([self._entities, self._sets, self._decoder])
        self._adam, self._mean, self._deviation = Adam(learned.parameters()), 0.0, 1.0

    def learn(self, plans: Sequence[SizePlan], quality: Sequence[float]) -> None:
        """Descend the mean squared error on all plans that were measured so far."""
        wanted = torch.tensor(quality)
        self._mean, self._deviation = float(wanted.mean()), max(float(wanted.std(correction=0)), 1e-6)
        grouped = self._grouped(plans)
        for _ in range(_STEPS):
            self._adam.zero_grad()
            loss = (self._standard(grouped) - (wanted - self._mean) / self._deviation).square().mean()
            loss.backward()
            self._adam.step(_RATE)

    @torch.no_grad()
    def predict(self, plans: Sequence[SizePlan]) -> Tensor:
        """(n,) predicted quality."""
        return self._mean + self._deviation * self._standard(self._grouped(plans))

    def _grouped(self, plans: Sequence[SizePlan]) -> list["_Sets"]:
        users, items = self._sides
        return [
            users.sets(np.stack([plan.user_sizes for plan in plans])),
            items.sets(np.stack([plan.item_sizes for plan in plans])),
        ]

    def _standard(self, grouped: list["_Sets"]) -> Tensor:
        """(plans,) predictions in standard deviations from the mean."""
        pooled = []
        for side, sets, entity, each in zip(self._sides, grouped, self._entities, self._sets, strict=True):
            means = sets.members @ entity(side.popularity[:, None])
            pooled.append(sets.plans @ each(torch.cat([means, sets.sizes[:, None]], dim=1)))
        predicted: Tensor = self._decoder(pooled[0] + pooled[1]).squeeze(1)
        return predicted


class _Sets(NamedTuple):
    """The sets of one side of some plans: for each plan and size, the entities of that size.

    `members`: (sets, popularities) share of each set's entities that are so popular; `sizes`: (sets,) in 0..1;
    `plans`: (plans, sets) share of each plan's entities that are in the set.
    """

    members: Tensor
    sizes: Tensor
    plans: Tensor


class _Side(NamedTuple):
    """Users or items: popularities that occur, in 0..1; which of these each entity has; sizes, in 0..1."""

    popularity: Tensor
    kind: NDArray[np.int64]
    sizes: Tensor

    @classmethod
    def of(cls, popularity: NDArray[np.int64], dim: int) -> "_Side":
        different, kind = np.unique(popularity, return_inverse=True)
        logarithm = np.log1p(different)
        scaled = torch.from_numpy(logarithm / max(logarithm.max(), 1e-6)).float()
        return cls(scaled, kind, torch.arange(1, dim + 1).log() / np.log(max(dim, 2)))

    def sets(self, sizes: NDArray[np.int32]) -> _Sets:
        """Group the entities of plans, (plans, n) sizes."""
        plans, n = sizes.shape
        dim, kinds = len(self.sizes), len(self.popularity)
        keys, of_entity = np.unique(np.arange(plans)[:, None] * dim + (sizes - 1), return_inverse=True)
        cells = (of_entity.reshape(plans, n) * kinds + self.kind).reshape(-1)
        counts = torch.from_numpy(np.bincount(cells, minlength=len(keys) * kinds).reshape(len(keys), kinds)).float()
        in_set = counts.sum(1)
        of_plan = torch.zeros(plans, len(keys))
        of_plan[torch.from_numpy(keys // dim), torch.arange(len(keys))] = in_set / n
        return _Sets(counts / in_set[:, None], self.sizes[torch.from_numpy(keys % dim)], of_plan)


def _network(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
