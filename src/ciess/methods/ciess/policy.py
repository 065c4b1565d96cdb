"""An actor that sizes rows by what they are like: those that a search had, and others."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from ciess.errors import InputError
from ciess.methods.ciess.td3 import TD3Settings, action, mlp
from ciess.models.seeded import seeded
from ciess.train.adam import Adam

_MOST_HIDDEN = 2**14
_STEPS, _RATE = 300, 3e-3
"""Of Adam, when an actor learns to size rows as a search did."""


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


def described(counts: NDArray[np.integer], rows: NDArray[np.float32]) -> Tensor:
    """(n, m) logarithms of what rows are like: how many interactions, and the mean squares of bands of columns.

    Args:
        counts: (n,) interactions.
        rows: (n, dim) of the full model, their dimensions in order; bands double in width.
    """
    squares = torch.from_numpy(np.square(rows, dtype=np.float32))
    bands = [squares[:, start:end].mean(1) for start, end in pairwise(_edges(rows.shape[1]))]
    features = torch.stack([torch.from_numpy(counts).float() + 1, *bands], dim=1)
    return features.clamp(min=torch.finfo(features.dtype).tiny).log()


def _edges(dim: int) -> list[int]:
    """Where bands of columns begin, and where the last one ends."""
    return [0, *(2**power for power in range(dim.bit_length()) if 2**power < dim), dim]


@dataclass(frozen=True, eq=False)
class Actor:
    """Sizes users, or items, by what their rows are like.

    Attributes:
        network: from scaled features to one number, whose hyperbolic tangent is the action.
        scale: of the features.
        dim: dimensions of a full row.
    """

    network: nn.Module
    scale: Scale
    dim: int

    @classmethod
    def imitating(
        cls,
        counts: NDArray[np.int64],
        rows: NDArray[np.float32],
        sizes: NDArray[np.int32],
        settings: TD3Settings,
        seed: int,
    ) -> "Actor":
        """One that sizes rows as a search did.

        Args:
            counts: (n,) interactions of the rows to learn from.
            rows: (n, dim) of the full model.
            sizes: (n,) what the search gave them.
            settings: its hidden width and batch size.
            seed: of the actor.
        """
        features, dim = described(counts, rows), rows.shape[1]
        scale, actions = Scale.of(features), log_to_actions(torch.from_numpy(sizes), dim)
        return cls(_fitted(scale.scaled(features), actions, settings, seed), scale, dim)

    @torch.no_grad()
    def sizes(self, counts: NDArray[np.integer], rows: NDArray[np.float32] | None) -> NDArray[np.float64]:
        """(n,) sizes in [1, dim] that rows deserve, seen before or not: one forward pass.

        Args:
            counts: (n,) interactions.
            rows: (n, dim) of the full model.

        Raises:
            InputError: no rows, rows of another width than those that it learned from, or not as many as counts.
        """
        if rows is None:
            raise InputError("this policy sizes rows by what the full model makes of them: give its tables, too")
        if rows.shape != (len(counts), self.dim):
            raise InputError(f"rows are {rows.shape} and counts {counts.shape}: give ({len(counts)}, {self.dim}) rows")
        actions = action(self.network, self.scale.scaled(described(counts, rows)))
        return log_to_sizes(actions, self.dim).double().numpy()

    @property
    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """What is stored."""
        kept = {"median": self.scale.median, "spread": self.scale.spread, **self.network.state_dict()}
        return {name: each.numpy() for name, each in kept.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], dim: int) -> "Actor":
        """The inverse of `arrays`.

        Raises:
            KeyError: an array is missing.
            ValueError: arrays that are none of an actor's.
        """
        hidden, inputs = arrays["0.weight"].shape
        if inputs != len(_edges(dim)) or not 1 <= hidden <= _MOST_HIDDEN:
            raise ValueError("the network does not match the features")
        network = mlp(inputs, hidden)
        wanted = {name: tuple(each.shape) for name, each in network.state_dict().items()}
        if wanted | {"median": (inputs,), "spread": (inputs,)} != {n: each.shape for n, each in arrays.items()}:
            raise ValueError("there are other arrays than an actor's")
        if not all(each.dtype == np.float32 and np.isfinite(each).all() for each in arrays.values()):
            raise ValueError("weights are not finite")
        if not (arrays["spread"] > 0).all():
            raise ValueError("a spread is not above 0")
        tensors = {name: torch.from_numpy(each.copy()) for name, each in arrays.items()}
        scale = Scale(tensors.pop("median"), tensors.pop("spread"))
        network.load_state_dict(tensors)
        return cls(network, scale, dim)


def log_to_sizes(actions: Tensor, dim: int) -> Tensor:
    """Actions in [−1, 1] to sizes in [1, dim], each step by the same factor."""
    return dim ** ((actions + 1) / 2)


def log_to_actions(sizes: Tensor, dim: int) -> Tensor:
    """The inverse; a single possible size is −1."""
    return 2 * sizes.float().log() / math.log(max(dim, 2)) - 1


def _fitted(states: Tensor, actions: Tensor, settings: TD3Settings, seed: int) -> nn.Module:
    """An actor's network, fitted to (n,) actions in (n, m) states."""
    with seeded(seed):
        network = mlp(states.shape[1], settings.hidden)
    adam, generator = Adam(network.parameters()), torch.Generator().manual_seed(seed)
    for _ in range(_STEPS):
        at = torch.randint(len(actions), (settings.batch_size,), generator=generator)
        adam.zero_grad()
        mse_loss(action(network, states[at]), actions[at]).backward()
        adam.step(_RATE)
    return network
