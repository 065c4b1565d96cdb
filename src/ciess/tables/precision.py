"""`Precision`: how a number is stored, and the rounding that comes with it.

Whole numbers of few bits need scales. A scale a row, in one byte, follows rows of very different lengths (ALS, MF).
Rows of one size can also share one, which costs nothing and is as good where lengths are alike (LightGCN). Fewer bits
for later dimensions: see `Taper`.
"""

import math
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ciess.errors import InputError
from ciess.tables.encoding import Encoding, Span

STEPS_A_BYTE, _STEPS_SHARED = 4, 8
"""Scales lie on a logarithmic grid, so many to a doubling. A row's is kept in a byte: its step plus 128."""


class Precision(Encoding, StrEnum):
    """How the numbers of a table are stored, each dimension in the same way."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"
    """−127..127 and a scale a row."""
    INT6 = "int6"
    """−31..31 and a scale a row."""
    INT4 = "int4"
    """−7..7 and a scale a row."""
    INT4_SHARED = "int4-shared"
    """−7..7 and a scale for all rows of one size."""

    @classmethod
    def parse(cls, text: "str | Precision") -> "Precision":
        """Read a precision as people write it.

        Raises:
            InputError: there is no such precision.
        """
        try:
            return cls(text)
        except ValueError as error:
            raise InputError(f"precision '{text}' is unknown: use one of {', '.join(cls)}, tapered") from error

    @property
    def bits(self) -> int:
        """Of every number, scales apart."""
        return {"float32": 32, "float16": 16, "int8": 8, "int6": 6}.get(self.value, 4)

    @property
    def scale_a_row(self) -> bool:
        """Whether every row has a scale of its own, which takes a byte."""
        return self.whole and self is not Precision.INT4_SHARED

    @property
    def steps(self) -> int:
        """Scales in a doubling."""
        return STEPS_A_BYTE if self.scale_a_row else _STEPS_SHARED

    @property
    def largest(self) -> int:
        """The largest whole number."""
        return int(2 ** (self.bits - 1)) - 1

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """See `Encoding`."""
        kept: dict[int, type[np.generic]] = {32: np.float32, 16: np.float16, 8: np.int8}
        return np.dtype(kept.get(self.bits, np.uint8))

    def spans(self, size: int) -> list[Span]:
        """See `Encoding`."""
        return [Span(0, size, self.bits)]

    def row_bits(self, sizes: Any) -> Any:
        """See `Encoding`."""
        return sizes * self.bits

    def most_bits(self, numbers: int, rows: float) -> int:
        """See `Encoding`."""
        return numbers * self.bits

    def numbers_in(self, bits: int, rows: int) -> int:
        """See `Encoding`."""
        return bits // self.bits


def best_scales(rows: NDArray[np.float32], precision: Precision) -> NDArray[np.float32]:
    """The scales, of those that can be kept, that round rows with the least squared error.

    Rows that were rounded already are rounded to themselves.

    Args:
        rows: (n, size) numbers of rows that may share a scale.
        precision: one of whole numbers.

    Returns:
        (n,) scales, or (1,) where they share one.
    """
    rows = rows if precision.scale_a_row else rows.reshape(1, -1)
    unclipped = np.abs(rows).max(axis=1, initial=0) / precision.largest
    with np.errstate(divide="ignore"):
        clipping_nothing = np.ceil(np.log2(unclipped) * precision.steps)
    best = np.ones(len(rows), dtype=np.float32)
    least = np.full(len(rows), np.inf, dtype=np.float32)
    # Up to nearly twice, where rows that were rounded with such a scale have it again; and down to a quarter, since
    # clipping the largest numbers makes all others finer. Of many rows the largest may be far larger than most: down to
    # a third of the median, below half of which no scale of 4 bits is best for normal numbers.
    lowest = -2 * precision.steps
    if not precision.scale_a_row and (median := float(np.median(np.abs(rows)))):
        lowest = min(lowest, math.floor(np.log2(median / 3) * precision.steps - clipping_nothing[0]))
    for step in range(precision.steps - 1, lowest - 1, -1):
        scales = on_grid(clipping_nothing + step, precision.steps)
        error = np.square(whole_numbers(rows, scales, precision) * scales[:, None] - rows).sum(axis=1)
        best, least = np.where(error < least, scales, best), np.minimum(error, least)
    return best.astype(np.float32)


def on_grid(steps: NDArray[Any], a_doubling: int) -> NDArray[np.float32]:
    """The scales of some steps of the grid that has so many steps to a doubling."""
    scales: NDArray[np.float32] = np.exp2(np.clip(steps, -128, 127) / a_doubling).astype(np.float32)
    return scales


def scale_range(precision: Precision) -> tuple[float, float]:
    """The least and the greatest scale that can be kept."""
    least, most = on_grid(np.array([-128, 127]), precision.steps).tolist()
    return least, most


def scale_codes(scales: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(n,) scales of rows or dimensions to a byte each."""
    codes: NDArray[np.uint8] = (np.rint(np.log2(scales) * STEPS_A_BYTE) + 128).astype(np.uint8)
    return codes


def decoded_scales(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n,) scales of rows or dimensions from their bytes."""
    return np.take(_DECODED, codes)


def whole_numbers(rows: NDArray[np.float32], scales: NDArray[np.float32], precision: Precision) -> NDArray[np.float32]:
    """(n, size) rows over their scales, (n,) or (1,), rounded and clipped: whole, but not yet of an integer type."""
    clipped: NDArray[np.float32] = np.rint(rows / scales[:, None]).clip(-precision.largest, precision.largest)
    return clipped


_DECODED = on_grid(np.arange(-128, 128), STEPS_A_BYTE)
