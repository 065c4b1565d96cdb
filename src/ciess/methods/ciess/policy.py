"""A policy that sizes rows by what they are like: those that a search had, and others."""

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ciess.errors import InputError
from ciess.methods.ciess.td3 import TD3, TD3Settings


class Scale(NamedTuple):
    """Median and spread of features over some rows, by which others of the same kind are scaled, too: (m,) each.

    Rows of zeros, of which nothing was learned, have logarithms far from all others: they do not move these.
    """

    median: Tensor
    spread: Tensor

    @classmethod
    def of(cls, features: Tensor) -> "Scale":
        """Of (n, m) features."""
        low, median, high = features.quantile(torch.tensor([0.16, 0.5, 0.84]), dim=0)
        return cls(median, (high - low).clamp(min=1e-6))

    def scaled(self, features: Tensor) -> Tensor:
        """(n, m) about 0, most within ± 0.5, all within ± 1.5."""
        return ((features - self.median) / self.spread).clamp(-1.5, 1.5)


def described(counts: NDArray[np.int64], rows: NDArray[np.float32]) -> Tensor:
    """(n, m) logarithms of what rows are like: how many interactions, and the mean squares of bands of columns.

    Args:
        counts: (n,) interactions.
        rows: (n, dim) of the full model, their dimensions in order; bands double in width.
    """
    squares, dim = torch.from_numpy(np.square(rows, dtype=np.float32)), rows.shape[1]
    edges = [0, *(2**power for power in range(dim.bit_length()) if 2**power < dim), dim]
    bands = [squares[:, start:end].mean(1) for start, end in pairwise(edges)]
    features = torch.stack([torch.from_numpy(counts).float() + 1, *bands], dim=1)
    return features.clamp(min=torch.finfo(features.dtype).tiny).log()


class SidePolicy:
    """Sizes users, or items, by what their rows are like.

    Args:
        counts: (n,) interactions of the rows to learn from.
        rows: (n, dim) of the full model.
        sizes: (n,) what a search gave them.
        settings: of the actor.
        seed: of the actor.
    """

    def __init__(
        self,
        counts: NDArray[np.int64],
        rows: NDArray[np.float32],
        sizes: NDArray[np.int32],
        settings: TD3Settings,
        seed: int,
    ) -> None:
        features = described(counts, rows)
        self._dim, self._scale = rows.shape[1], Scale.of(features)
        self._agent = TD3(features.shape[1], settings, seed)
        self._agent.imitate(self._scale.scaled(features), log_to_actions(torch.from_numpy(sizes), self._dim))

    def sizes(self, counts: NDArray[np.int64], rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n,) sizes in [1, dim] that rows deserve, seen before or not: one forward pass.

        Args:
            counts: (n,) interactions.
            rows: (n, dim) of the full model.

        Raises:
            InputError: rows of another width than those that it learned from, or not as many as counts.
        """
        if rows.shape != (len(counts), self._dim):
            raise InputError(f"rows are {rows.shape} and counts {counts.shape}: give ({len(counts)}, {self._dim}) rows")
        actions = self._agent.act(self._scale.scaled(described(counts, rows)))
        return log_to_sizes(actions, self._dim).double().numpy()


class SizePolicy(NamedTuple):
    """What a search has learned: sizes of users and of items by what their rows are like."""

    users: SidePolicy
    items: SidePolicy


def log_to_sizes(actions: Tensor, dim: int) -> Tensor:
    """Actions in [−1, 1] to sizes in [1, dim], each step by the same factor."""
    return dim ** ((actions + 1) / 2)


def log_to_actions(sizes: Tensor, dim: int) -> Tensor:
    """The inverse; a single possible size is −1."""
    return 2 * sizes.float().log() / math.log(max(dim, 2)) - 1
