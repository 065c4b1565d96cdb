"""`Precision`: how a number is stored, and the rounding that comes with it.

Whole numbers of few bits need scales. A scale a row, in one byte, follows rows of very different lengths (ALS, MF).
Rows of one size can also share one, which costs nothing and is as good where lengths are alike (LightGCN).
"""

from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ciess.errors import InputError
from ciess.tables.bits import bytes_of_bits

_STEPS_A_ROW, _STEPS_SHARED = 4, 8
"""Scales lie on a logarithmic grid, so many to a doubling. A row's is kept in a byte: its step plus 128."""


class Precision(StrEnum):
    """How the numbers of a table are stored."""

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
            raise InputError(f"precision '{text}' is unknown: use one of {', '.join(cls)}") from error

    @property
    def bits(self) -> int:
        """Of a number, scales apart."""
        return {"float32": 32, "float16": 16, "int8": 8, "int6": 6}.get(self.value, 4)

    @property
    def whole(self) -> bool:
        """Whether numbers are whole ones times a scale."""
        return self.bits <= 8

    @property
    def scale_a_row(self) -> bool:
        """Whether every row has a scale of its own, which takes a byte."""
        return self.whole and self is not Precision.INT4_SHARED

    @property
    def steps(self) -> int:
        """Scales in a doubling."""
        return _STEPS_A_ROW if self.scale_a_row else _STEPS_SHARED

    @property
    def largest(self) -> int:
        """The largest whole number."""
        return int(2 ** (self.bits - 1)) - 1

    @property
    def shares_bytes(self) -> bool:
        """Whether numbers share bytes."""
        return self.bits < 8

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """What numbers are kept as; those that share bytes as bytes."""
        kept: dict[int, type[np.generic]] = {32: np.float32, 16: np.float16, 8: np.int8}
        return np.dtype(kept.get(self.bits, np.uint8))

    def bytes_of(self, numbers: int) -> int:
        """Bytes of that many numbers, one after the other."""
        return int(bytes_of_bits(numbers, self.bits))

    def values_of(self, numbers: Any) -> Any:
        """How many of `dtype` hold so many numbers, an integer or an array of them, one after the other."""
        return bytes_of_bits(numbers, self.bits) // self.dtype.itemsize


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
    # clipping the largest numbers makes all others finer.
    for step in range(precision.steps - 1, -2 * precision.steps - 1, -1):
        scales = _on_grid(clipping_nothing + step, precision)
        error = np.square(whole_numbers(rows, scales, precision) * scales[:, None] - rows).sum(axis=1)
        best, least = np.where(error < least, scales, best), np.minimum(error, least)
    return best.astype(np.float32)


def _on_grid(steps: NDArray[Any], precision: Precision) -> NDArray[np.float32]:
    scales: NDArray[np.float32] = np.exp2(np.clip(steps, -128, 127) / precision.steps).astype(np.float32)
    return scales


def scale_range(precision: Precision) -> tuple[float, float]:
    """The least and the greatest scale that can be kept."""
    least, most = _on_grid(np.array([-128, 127]), precision).tolist()
    return least, most


def scale_codes(scales: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(n,) row scales to a byte each."""
    codes: NDArray[np.uint8] = (np.rint(np.log2(scales) * _STEPS_A_ROW) + 128).astype(np.uint8)
    return codes


def decoded_scales(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n,) row scales from their bytes."""
    return np.take(_DECODED, codes)


def whole_numbers(rows: NDArray[np.float32], scales: NDArray[np.float32], precision: Precision) -> NDArray[np.float32]:
    """(n, size) rows over their scales, (n,) or (1,), rounded and clipped: whole, but not yet of an integer type."""
    clipped: NDArray[np.float32] = np.rint(rows / scales[:, None]).clip(-precision.largest, precision.largest)
    return clipped


_DECODED = _on_grid(np.arange(-128, 128), Precision.INT8)
