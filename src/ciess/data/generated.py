"""An embedded data set whose structure makes sizes matter, with a known ground truth."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ciess.checks import AboveZero, Positive, Seed, check
from ciess.data.interactions import Interactions

_BLOCK = 2048


@dataclass(frozen=True, eq=False)
class Synthetic:
    """Interactions and what made them.

    Attributes:
        interactions: ids are `u0…` and `i0…`.
        user_dims: (n_users,) how many entries of each user's vector are not zero.
        item_dims: (n_items,) the same of the items.
        user_factors: (n_users, dim) vectors.
        item_factors: (n_items, dim) vectors.
    """

    interactions: Interactions
    user_dims: NDArray[np.int32]
    item_dims: NDArray[np.int32]
    user_factors: NDArray[np.float32]
    item_factors: NDArray[np.float32]


def synthetic(users: int = 1000, items: int = 600, mean_count: int = 60, dim: int = 16, seed: int = 0) -> Synthetic:
    """Draw users, items and their interactions.

    Popularity of items and activity of users follow power laws. Every user and item has an intrinsic dimension,
    larger the more popular it is; its vector is zero beyond, and early dimensions weigh more. A user's items are
    drawn without replacement with probability ∝ popularity · exp(inner product).

    Args:
        users: how many users.
        items: how many items.
        mean_count: mean interactions of a user, at most a quarter of the items.
        dim: the largest intrinsic dimension.
        seed: of everything.

    Raises:
        InputError: a number that is none of its kind.
    """
    users, items, dim = (check(*each, Positive) for each in (("users", users), ("items", items), ("dim", dim)))
    check("mean_count", mean_count, AboveZero)
    check("seed", seed, Seed)
    rng = np.random.default_rng(seed)
    activity = _power_law(users, 0.5, rng)
    popularity = _power_law(items, 0.7, rng)
    weights = np.arange(1, dim + 1) ** -0.4
    sides = []
    for shares in (activity, popularity):
        rank = shares.argsort().argsort() / len(shares)
        dims = np.clip(np.round(dim * (0.2 + 0.8 * rank) * rng.uniform(0.6, 1.4, len(shares))), 1, dim).astype(np.int32)
        kept = np.arange(dim) < dims[:, None]
        sides.append((dims, (rng.standard_normal((len(shares), dim)) * weights * kept).astype(np.float32)))
    (user_dims, user_factors), (item_dims, item_factors) = sides
    counts = np.clip(np.round(activity * users * mean_count), 8, items // 2).astype(np.int64)
    rows, columns = [], []
    for start in range(0, users, _BLOCK):
        block = slice(start, start + _BLOCK)
        scores = user_factors[block] @ item_factors.T + np.log(popularity)
        # The largest of scores plus Gumbel noise are draws without replacement from their softmax.
        order = np.argsort(-(scores + rng.gumbel(size=scores.shape)), axis=1)
        drawn = np.arange(items) < counts[block, None]
        rows.append(np.nonzero(drawn)[0] + start)
        columns.append(order[drawn])
    user_ids, item_ids = (pl.Series([f"{side}{n}" for n in range(size)]) for side, size in (("u", users), ("i", items)))
    interactions = Interactions.from_pairs(np.concatenate(rows), np.concatenate(columns), user_ids, item_ids)
    return Synthetic(interactions, user_dims, item_dims, user_factors, item_factors)


def _power_law(n: int, exponent: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """(n,) shares that sum to 1, ∝ rank^−exponent, in random order."""
    shares = np.arange(1, n + 1) ** -exponent
    return rng.permutation(shares / shares.sum())
