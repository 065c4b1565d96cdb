"""`Encoding`: how the numbers of a table are stored, and how many bits rows take for it."""

from abc import abstractmethod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ciess.tables.bits import bytes_of_bits


class Span(NamedTuple):
    """Dimensions that follow each other and are stored in as many bits each.

    Attributes:
        first: the first dimension.
        stop: the one after the last.
        bits: of a number.
    """

    first: int
    stop: int
    bits: int


class Encoding:
    """How the numbers of a table are stored: a `Precision` for all dimensions, or a `Taper`."""

    @property
    @abstractmethod
    def bits(self) -> int:
        """The fewest bits of a number, scales apart."""

    @property
    def whole(self) -> bool:
        """Whether numbers are whole ones times a scale."""
        return self.bits <= 8

    @property
    @abstractmethod
    def scale_a_row(self) -> bool:
        """Whether every row has a scale of its own, which takes a byte."""

    @property
    def scale_a_group(self) -> bool:
        """Whether rows of one size share a scale."""
        return self.whole and not self.scale_a_row and not self.scale_a_dimension

    @property
    def scale_a_dimension(self) -> bool:
        """Whether every dimension has a scale, which takes a byte and all rows share."""
        return False

    @property
    def shares_bytes(self) -> bool:
        """Whether numbers share bytes."""
        return self.dtype == np.uint8

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """What numbers are kept as; those that share bytes as bytes."""
        return np.dtype(np.uint8)

    def check(self, dim: int) -> None:
        """See whether rows of `dim` dimensions can be stored so.

        Raises:
            InputError: they cannot.
        """

    @abstractmethod
    def spans(self, size: int) -> list[Span]:
        """The first `size` dimensions."""

    def values_of(self, rows: Any, size: Any) -> Any:
        """How many of `dtype` hold so many rows of a size; integers or arrays of them."""
        counts = 0
        for first, stop, bits in self.spans(int(np.max(size, initial=0))):
            counts = counts + bytes_of_bits(rows * np.clip(size - first, 0, stop - first), bits)
        return counts // self.dtype.itemsize

    @abstractmethod
    def row_bits(self, sizes: Any) -> Any:
        """Bits of rows' numbers, by their sizes; integers or arrays of them."""

    @abstractmethod
    def most_bits(self, numbers: int, rows: float) -> int:
        """The most bits that so many numbers take, however they are spread over rows."""

    @abstractmethod
    def numbers_in(self, bits: int, rows: int) -> int:
        """How many numbers surely fit into so many bits, however they are spread over rows."""

    def costs(self, sizes: NDArray[np.int64]) -> NDArray[np.float64]:
        """What rows of some sizes cost, in numbers of the fewest bits."""
        costs: NDArray[np.float64] = self.row_bits(sizes) / self.bits
        return costs
