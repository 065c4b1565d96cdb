"""Whether a difference is more than chance: one paired t-test over users, and Holm's correction, for everything."""

import dataclasses
import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

SIGNIFICANT = 0.05
"""A corrected p-value below it counts as significant."""

Floats = NDArray[np.floating]
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Difference:
    """The mean gain in quality of one model over another one, over the same users, and what it says of other users.

    Attributes:
        gain: over the measured users.
        low: lower end of its 95 % interval, not corrected.
        high: upper end.
        p_value: two-sided, of the hypothesis that the gain is 0; corrected where it comes from `differences_tested`.
        better: users whose difference is above 0.
        same: users whose difference is 0.
        worse: users whose difference is below 0.
    """

    gain: float
    low: float
    high: float
    p_value: float
    better: int
    same: int
    worse: int

    def __float__(self) -> float:
        return self.gain

    @property
    def users(self) -> int:
        """How many were measured."""
        return self.better + self.same + self.worse

    @property
    def verdict(self) -> int:
        """1 where the first model is significantly better, −1 where it is significantly worse, else 0."""
        return int(np.sign(self.gain)) if self.p_value < SIGNIFICANT else 0


def paired_test(differences: Floats) -> Difference:
    """Student's paired t-test, as `scipy.stats.ttest_1samp`, and the interval that belongs to it.

    Where all differences are 0, and with fewer than two users, nothing is known against the hypothesis: p is 1. A
    single user's interval is all that a difference of two qualities can be, −1 to 1.

    Args:
        differences: (n_users,) each user's, its mean over seeds where there are several, see `over_seeds`; NaN where a
            user was not measured.
    """
    known = differences[~np.isnan(differences)].astype(np.float64)
    n, mean = len(known), float(known.mean()) if len(known) else 0.0
    low, high, p_value = -1.0, 1.0, 1.0
    if n > 1:
        # By hand, since scipy's function warns of the differences of models that are alike.
        error = float(known.std(ddof=1)) / math.sqrt(n)
        half = float(stdtrit(n - 1, 0.975)) * error
        low, high = mean - half, mean + half
        if error > 0:
            p_value = 2 * float(stdtr(n - 1, -abs(mean) / error))
        elif mean != 0:
            p_value = 0.0
    counts = (int((known > 0).sum()), int((known == 0).sum()), int((known < 0).sum()))
    return Difference(mean, low, high, p_value, *counts)


def over_seeds(values: Iterable[Floats]) -> NDArray[np.float64]:
    """(n_users,) mean over the seeds in which a user was measured, NaN where in none.

    Seeds share their users, so they are no independent samples of users: a test is made of these means.

    Args:
        values: of each seed, (n_users,), NaN where a user was not measured; one or more.
    """
    total, measured = np.zeros(1), np.zeros(1, dtype=np.int64)
    for each in values:
        there = ~np.isnan(each)
        total = total + np.where(there, each, 0)
        measured = measured + there
    means: NDArray[np.float64] = np.divide(total, measured, out=np.full(len(total), np.nan), where=measured > 0)
    return means


def differences_tested(pairs: Iterable[tuple[K, Floats]]) -> dict[K, Difference]:
    """Test several differences, corrected for being several after Holm.

    Where nobody's quality differs, as of a model with itself, nothing is asked: that counts as none of them.

    Args:
        pairs: a key and differences as `paired_test` takes them. They are read one by one, so that no more than one
            needs to be in memory.
    """
    found = {key: paired_test(differences) for key, differences in pairs}
    asked = {key: each for key, each in found.items() if each.same < each.users}
    corrected = holm(np.array([each.p_value for each in asked.values()]))
    return found | {
        key: dataclasses.replace(each, p_value=float(p_value))
        for (key, each), p_value in zip(asked.items(), corrected, strict=True)
    }


def holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(m,) p-values corrected for being m (Holm, 1979): the smallest counts m times, the next m − 1 times, …"""
    order = np.argsort(p_values, kind="stable")
    counted = p_values[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(counted))
    return corrected


def spelled_p(p_value: float) -> str:
    """A p-value in four decimals, or in its power of ten where these say nothing."""
    if p_value >= 0.0001:
        return f"{p_value:.4f}"
    return f"{p_value:.0e}" if p_value > 0 else "< 1e-300"
