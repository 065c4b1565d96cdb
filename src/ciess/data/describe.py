"""What interactions look like: how many, how dense, how unequal, and what sizes could gain."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ciess.data.interactions import InteractionsLike
from ciess.data.readers import interactions_of


@dataclass(frozen=True)
class SideSummary:
    """How interactions spread over the users, or over the items.

    Attributes:
        count: how many users or items.
        mean: interactions of each.
        median: the same.
        most: of the one with most.
        gini: 0 where all have equally many, near 1 where few have all.
        top_1: share of all interactions that the 1 % with most have, one at least.
        top_10: the same for 10 %.
    """

    count: int
    mean: float
    median: float
    most: int
    gini: float
    top_1: float
    top_10: float


@dataclass(frozen=True)
class Description:
    """A summary of interactions.

    Attributes:
        users: how interactions spread over users.
        items: how they spread over items.
        interactions: how many.
        density: share of all pairs of a user and an item.
        hint: what sizes could gain, in words.
    """

    users: SideSummary
    items: SideSummary
    interactions: int
    density: float
    hint: str


def describe(interactions: "InteractionsLike") -> Description:
    """Count interactions, as `ciess.search` takes them, and compare with the sets on which sizes were measured."""
    interactions = interactions_of(interactions)
    users, items = (_side(counts) for counts in (interactions.user_counts, interactions.item_counts))
    density = len(interactions) / (users.count * items.count)
    return Description(users, items, len(interactions), density, _hint(items))


def gini(amounts: NDArray[np.integer]) -> float:
    """The Gini coefficient: the mean difference of all pairs over twice the mean; 0 where there is nothing.

    It is 0 where all have as much, and 1 − 1/n where one has all.

    Args:
        amounts: (n,) what each has, 0 or more.
    """
    n, total = len(amounts), int(amounts.sum())
    ranks = np.arange(1, n + 1, dtype=np.int64)
    return float((2 * ranks - n - 1) @ np.sort(amounts)) / (n * total) if total else 0.0


def like_groups(values: NDArray[np.integer], groups: int) -> NDArray[np.int64]:
    """(n,) the group of each value: in rising order, cut into groups of about as many; of equals the earlier first."""
    group = np.empty(len(values), dtype=np.int64)
    group[np.argsort(values, kind="stable")] = np.arange(len(values)) * groups // len(values)
    return group


def _side(counts: NDArray[np.int64]) -> SideSummary:
    falling = np.sort(counts)[::-1]
    top_1, top_10 = (falling[: max(1, round(len(falling) * share))].sum() / falling.sum() for share in (0.01, 0.1))
    return SideSummary(
        len(counts),
        float(counts.mean()),
        float(np.median(counts)),
        int(falling[0]),
        gini(counts),
        float(top_1),
        float(top_10),
    )


_MEASURED = {"MovieLens-1M": 0.59, "Gowalla": 0.43}
"""Sets with results in the README, and the Gini coefficients of their items."""


def _hint(items: SideSummary) -> str:
    """Only what was measured."""
    nearest = min(_MEASURED, key=lambda name: abs(_MEASURED[name] - items.gini))
    return (
        "Sizes gain where budgets are small. Measured, Recall@20 of searched over equal sizes: 2% or less at 20% of "
        "the bytes; at 5%, 17% with LightGCN and 6% with ALS on MovieLens-1M (Gini of its items 0.59), 18% and 6% on "
        f"Gowalla (0.43). Your items' {items.gini:.2f} is nearest to {nearest}'s. Two sets make no rule: "
        "`ciess search` always shows equal sizes beside."
    )
