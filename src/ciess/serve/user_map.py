"""`UserMap`: rows of users whom a model does not know, from the rows of their items."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ciess.serve.seen import SeenItems

Rows = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""(b,) positions to (b, dim) rows."""
_MOST_USERS = 5_000
_NUMBERS_AT_ONCE = 4_000_000
_RIDGE = 0.01
"""What is added to the variance of every column, in mean variances of the columns."""


class UserMap(NamedTuple):
    """The best linear prediction of a user's row by the mean of the rows of the user's items.

    The mean itself lies elsewhere than users' rows do, most of all where a column of the items holds biases, for which
    users have a constant. Means and rows of the model's own users tell how rows follow from means, and how far one
    item of a user is from the next: the fewer items there are, the less is made of their mean. With covariances
    S of means, W of the items of one user, and C of means with rows, a mean x of m items gives

        (x − centre) (S + e W)⁻¹ C + level,  e = 1 / m − 1 / (m of the model's users), at least 0;

    S and W are diagonal in one basis, so that all m share it.

    Attributes:
        centre: (dim,) mean of the means.
        level: (dim,) mean of the users' rows.
        into: (dim, dim) to the basis in which S is the identity and W is diagonal.
        spread: (dim,) W in it.
        back: (dim, dim) from it to rows.
        usual: mean of 1 / m over the model's users.
    """

    centre: NDArray[np.float64]
    level: NDArray[np.float64]
    into: NDArray[np.float64]
    spread: NDArray[np.float64]
    back: NDArray[np.float64]
    usual: float

    @classmethod
    def fitted(cls, users: Rows, items: Rows, dim: int, seen: SeenItems) -> "UserMap":
        """The map of a model, by some thousands of its users.

        Args:
            users: gives rows of users.
            items: gives rows of items.
            dim: of either.
            seen: what users have.
        """
        n_users = len(seen.offsets) - 1
        some = np.arange(0, n_users, max(1, n_users // _MOST_USERS))
        places, has = seen.learned_of_users(some)
        counts = np.bincount(places, minlength=len(some))
        some, counts = some[counts > 0], counts[counts > 0]
        if not len(some):
            nothing, same = np.zeros(dim), np.eye(dim)
            return cls(nothing, nothing, same, nothing, same, 1.0)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        means, rows = mean_rows(items, offsets, has, dim), users(some).astype(np.float64)
        within = sum(block.T @ block for block in _differences(items, offsets, has, means))
        centre, level = means.mean(0), rows.mean(0)
        apart = means - centre
        covariance = apart.T @ apart / len(some)
        ridge = max(_RIDGE * float(np.trace(covariance)) / dim, float(np.finfo(np.float32).tiny))
        whitening = np.linalg.inv(np.linalg.cholesky(covariance + ridge * np.eye(dim))).T
        spread, turned = np.linalg.eigh(whitening.T @ within @ whitening / max(1, len(has) - len(some)))
        into = whitening @ turned
        back = into.T @ (apart.T @ (rows - level)) / len(some)
        return cls(centre, level, into, spread.clip(min=0), back, float((1 / counts).mean()))

    def rows(self, means: NDArray[np.float64], counts: NDArray[np.integer]) -> NDArray[np.float32]:
        """(n, dim) rows of users.

        Args:
            means: (n, dim) of the rows of their items.
            counts: (n,) how many items each has, one or more.
        """
        fewer = (1 / counts - self.usual).clip(min=0)
        inside = (means - self.centre) @ self.into / (1 + fewer[:, None] * self.spread)
        return (inside @ self.back + self.level).astype(np.float32)


def mean_rows(items: Rows, offsets: NDArray[np.int64], columns: NDArray[np.int64], dim: int) -> NDArray[np.float64]:
    """(n, dim) means of the rows of users' items, in bounded memory.

    Args:
        items: gives rows of items.
        offsets: (n + 1,) where each user's begin among the columns; each has one or more.
        columns: positions of items.
        dim: of a row.
    """
    found = np.empty((len(offsets) - 1, dim))
    for block in _blocks(offsets, dim):
        first, last = offsets[block.start], offsets[block.stop]
        sums = np.add.reduceat(items(columns[first:last]), offsets[block] - first, dtype=np.float64)
        found[block] = sums / np.diff(offsets[block.start : block.stop + 1])[:, None]
    return found


def _differences(
    items: Rows, offsets: NDArray[np.int64], columns: NDArray[np.int64], means: NDArray[np.float64]
) -> Iterator[NDArray[np.float64]]:
    """(b, dim) differences of users' items from their means, some at a time."""
    for block in _blocks(offsets, means.shape[1]):
        counts = np.diff(offsets[block.start : block.stop + 1])
        theirs = items(columns[offsets[block.start] : offsets[block.stop]]).astype(np.float64)
        yield theirs - np.repeat(means[block], counts, axis=0)


def _blocks(offsets: NDArray[np.int64], dim: int) -> Iterator[slice]:
    """Users that follow each other, of so few items that their rows take bounded memory."""
    start = 0
    while start < len(offsets) - 1:
        most = offsets[start] + _NUMBERS_AT_ONCE // dim
        stop = max(start + 1, int(np.searchsorted(offsets, most, side="right")) - 1)
        yield slice(start, stop)
        start = stop
