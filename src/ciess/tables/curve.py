"""`Curve`: sizes of rows by how many interactions they have."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ciess.errors import InputError
from ciess.tables.plan import MOST_DIM

_FLOAT64 = np.dtype(np.float64)
_KNOTS = 64
"""At most: each is the mean of as many rows as any other, but for rows of equal counts, which are one."""


@dataclass(frozen=True, eq=False)
class Curve:
    """Sizes of users, or of items, by their interactions: linear in log(1 + interactions) between knots, then constant.

    Attributes:
        logs: (m,) rising logarithms of 1 + interactions, 1 or more of them.
        levels: (m,) the size at each, 1 or more.
    """

    logs: NDArray[np.float64]
    levels: NDArray[np.float64]

    @classmethod
    def fitted(cls, counts: NDArray[np.integer], sizes: NDArray[np.integer]) -> "Curve":
        """Mean sizes of rows with similar numbers of interactions.

        Args:
            counts: (n,) interactions, n of 1 or more.
            sizes: (n,) of the rows.
        """
        logs = np.log1p(counts.astype(np.float64))
        edges = np.unique(np.quantile(logs, np.linspace(0, 1, _KNOTS + 1), method="lower"))
        group = np.searchsorted(edges, logs, side="right") - 1
        rows = np.bincount(group)
        return cls(np.bincount(group, logs) / rows, np.bincount(group, sizes) / rows)

    def sizes(self, counts: NDArray[np.integer]) -> NDArray[np.float64]:
        """(n,) sizes, 1 or more, of rows with (n,) interactions.

        Raises:
            InputError: counts that are no row of numbers of 0 or more.
        """
        counts = np.asarray(counts)
        if counts.ndim != 1 or counts.dtype.kind not in "iu" or (len(counts) and counts.min() < 0):
            raise InputError("counts are no interactions: give one whole number of 0 or more for each row")
        return np.interp(np.log1p(counts.astype(np.float64)), self.logs, self.levels)

    @property
    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """What is stored."""
        return {"logs": self.logs, "levels": self.levels}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "Curve":
        """The inverse of `arrays`.

        Raises:
            TypeError: there are other arrays.
            ValueError: they are none of a curve's.
        """
        curve = cls(**arrays)
        logs, levels = curve.logs, curve.levels
        if logs.ndim != 1 or not len(logs) or logs.shape != levels.shape or {logs.dtype, levels.dtype} != {_FLOAT64}:
            raise ValueError("knots are not pairs of numbers")
        if not (np.isfinite(logs).all() and levels.min() >= 1 and levels.max() <= MOST_DIM):
            raise ValueError("knots are not finite, or sizes are none")
        if logs[0] < 0 or np.any(np.diff(logs) <= 0):
            raise ValueError("knots do not rise")
        return curve
