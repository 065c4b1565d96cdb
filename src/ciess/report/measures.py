"""What a report says of evaluations: shares that are kept, how sure they are, and whose they are."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GROUPS = 10
"""Deciles."""
_LEAST = 0.001
"""Groups that earn less than this of the whole say nothing: their shares are left out."""


@dataclass(frozen=True)
class Share:
    """A share and an interval about it: 95 % over users, or a standard deviation over seeds."""

    value: float
    low: float
    high: float


def kept_by_group(
    part: NDArray[np.floating], whole: NDArray[np.floating], group: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(10,) share that each group keeps of its quality; NaN where there is next to none to keep.

    Args:
        part: (n,) quality of a small model, by user or by item.
        whole: (n,) the full model's.
        group: (n,) the tenth of each, 0 for the least popular, see `like_groups`.
    """
    kept, total = np.bincount(group, part, GROUPS), np.bincount(group, whole, GROUPS)
    enough = total >= _LEAST * total.sum()
    return np.where(enough, kept / np.where(enough, total, 1), np.nan)


@dataclass(frozen=True, eq=False)
class SizesByPopularity:
    """Sizes of groups of like popularity, the least popular first: (groups,) each.

    Attributes:
        popularity: the median.
        low: the tenth percentile of sizes.
        mean: of sizes.
        high: the ninetieth percentile of sizes.
    """

    popularity: NDArray[np.float64]
    low: NDArray[np.float64]
    mean: NDArray[np.float64]
    high: NDArray[np.float64]


def sizes_by_popularity(
    sizes: NDArray[np.integer], popularity: NDArray[np.integer], groups: int = 24
) -> SizesByPopularity:
    """Sizes of groups of about as many entities each; equal popularity is in one group."""
    edges = np.unique(np.quantile(popularity, np.linspace(0, 1, groups + 1)[1:-1]))
    group = np.searchsorted(edges, popularity, side="right")
    members = [sizes[group == number] for number in np.unique(group)]
    popular = [np.median(popularity[group == number]) for number in np.unique(group)]
    low, high = (np.array([np.quantile(each, part) for each in members]) for part in (0.1, 0.9))
    return SizesByPopularity(np.array(popular), low, np.array([each.mean() for each in members]), high)
