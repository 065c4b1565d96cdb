"""What other sizes would gain a small model's rows, by what their numbers are worth and by a price.

A price is that of a number of the fewest bits; numbers of more bits cost as many times more.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from ciess.tables.plan import SizePlan

_REACH = 1.5
"""Rows grow and shrink by this factor at most, or by one number: farther away, slopes say little."""
_MOST = 8.0
"""Prices that a number counts for at most: a few would else outweigh all others."""
_CHEAPEST = 1e-9
"""Of what the dearest number is worth."""
_HALVINGS = 20


class Gains:
    """What each row would gain by other sizes: what its numbers are worth less what they cost, over its size now.

    Args:
        plan: sizes now.
        columns: (rows, width) worth of numbers, see `worth.columns`.
        stands_for: (rows,) how many rows each stands for, whose numbers cost as many prices.

    Attributes:
        now: (rows,) sizes.
        least: (rows,) the least sizes within reach.
        most: (rows,) the largest.
    """

    def __init__(self, plan: SizePlan, columns: Tensor, stands_for: NDArray[np.float64] | None = None) -> None:
        self.now = torch.from_numpy(plan.sizes.astype(np.int64))
        self._stands_for = torch.from_numpy(np.ones(len(self.now)) if stands_for is None else stands_for)
        self._worth = columns / self._stands_for.float()[:, None]
        self.least = torch.minimum((self.now / _REACH).floor().long(), self.now - 1).clamp(min=1)
        self.most = (self.now * _REACH).ceil().long().clamp(max=columns.shape[1])
        self._costs = torch.from_numpy(plan.precision.costs(np.arange(columns.shape[1] + 1)))

    def of(self, sizes: Tensor, price: float | Tensor) -> Tensor:
        """(rows, m) gains of sizes within reach, (rows, m), at a price, or at (rows, 1) prices."""
        sums = self._sums(price)
        return (sums.gather(1, sizes) - sums.gather(1, self.now[:, None])) / self.now[:, None]

    def parts(self, price: float | Tensor) -> Tensor:
        """(rows, 4) what numbers are worth over what they cost, 1 where there are none.

        Of the last numbers within reach, the farther half first, and of the next.
        """
        edges = [self.least, (self.least + self.now) // 2, self.now, (self.now + self.most + 1) // 2, self.most]
        at = torch.stack(edges, dim=1)
        worth, costs = self._prices(price).gather(1, at).diff(dim=1), self._costs[at].diff(dim=1).float()
        return torch.where(costs > 0, worth / costs, 1.0)

    def actions(self, sizes: Tensor) -> Tensor:
        """(rows, m) sizes as actions: −1 is the least within reach, 0 the size now, 1 the largest."""
        steps = sizes - self.now[:, None]
        return steps / self._room(steps)

    def sizes(self, actions: Tensor) -> Tensor:
        """(rows, m) the inverse: real numbers within reach."""
        return self.within(self.now[:, None] + actions * self._room(actions))

    def within(self, sizes: Tensor) -> Tensor:
        """(rows, m) sizes, brought within reach."""
        return torch.minimum(torch.maximum(sizes, self.least[:, None]), self.most[:, None])

    def _room(self, steps: Tensor) -> Tensor:
        """(rows, m) how far a step of this sign can go, at least 1."""
        up, down = self.most - self.now, self.now - self.least
        return torch.where(steps > 0, up[:, None], down[:, None]).clamp(min=1)

    def best(self, price: float) -> Tensor:
        """(rows,) the size within reach that gains most."""
        sums = self._sums(price)
        sizes = torch.arange(sums.shape[1])
        beyond = (sizes < self.least[:, None]) | (sizes > self.most[:, None])
        return sums.masked_fill(beyond, -torch.inf).argmax(1)

    def price(self, allowed: float) -> float:
        """At which rows' best sizes cost as much as allowed."""
        most = max(float(self._worth.max()), torch.finfo(self._worth.dtype).tiny)
        return filling_price(lambda price: self.cost(self.best(price)), allowed, most * _CHEAPEST, most)

    def cost(self, sizes: Tensor) -> float:
        """What (rows,) sizes cost all rows that these stand for, in numbers of the fewest bits."""
        return float(self._costs[sizes.round().long()] @ self._stands_for)

    def _sums(self, price: float | Tensor) -> Tensor:
        """(rows, width + 1) what all numbers of each size are worth, less what they cost, in prices."""
        return self._prices(price) - self._costs.float()

    def _prices(self, price: float | Tensor) -> Tensor:
        """(rows, width + 1) what all numbers of each size are worth, in prices."""
        return pad((self._worth / price).clamp(-1, _MOST).cumsum(1), (1, 0))


def filling_price(wanted: Callable[[float], float], allowed: float, least: float, most: float) -> float:
    """The price, in `least` to `most`, at which as many numbers are wanted as allowed; fewer are at higher prices."""
    low, high = math.log(least), math.log(most)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if wanted(math.exp(middle)) > allowed else (low, middle)
    return math.exp((low + high) / 2)
