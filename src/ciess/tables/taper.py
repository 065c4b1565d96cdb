"""`Taper`: fewer bits the later a dimension comes, the same for all rows, and a scale for each dimension.

The first dimensions say most, so they deserve more bits: of two variances, one four times the other, the larger is
worth one bit more (reverse water-filling: Cover and Thomas, Elements of Information Theory, Sec. 10.3.3). No row has a
scale: the first dimensions, of many levels, tell long rows from short ones. Levels lie on both sides of zero, at odd
halves of the scale, so that even a single bit is a sign.
"""

import re
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ciess.errors import InputError
from ciess.tables.encoding import Encoding, Span
from ciess.tables.plan import MOST_DIM
from ciess.tables.precision import STEPS_A_BYTE, Precision, on_grid

TAPERED = "tapered"
"""How people ask for a taper: its bits are found from the full model and the budget."""
MOST_BITS, _LAST_BITS = 8, 3
_WRITTEN = re.compile(rf"{TAPERED}:([1-8](?:x[1-9]\d{{0,4}})?(?:,[1-8](?:x[1-9]\d{{0,4}})?)*)")


@dataclass(frozen=True)
class Taper(Encoding):
    """Bits of each dimension of a full row, falling; a row of size d takes those of its first d.

    Written as bits and how many dimensions have them: `tapered:5,3x3,2x6,1x118`.

    Attributes:
        profile: (dim,) bits, 1 to 8.

    Raises:
        InputError: bits that are out of range or rise.
    """

    profile: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.profile or not all(1 <= each <= MOST_BITS for each in self.profile):
            raise InputError(f"a taper has from 1 to {MOST_BITS} bits for each dimension")
        if any(after > before for before, after in zip(self.profile, self.profile[1:], strict=False)):
            raise InputError("the bits of a taper rise: let them fall")

    @classmethod
    def read(cls, text: str) -> "Taper":
        """From how it is written.

        Raises:
            InputError: it is no taper.
        """
        written = _WRITTEN.fullmatch(text)
        if written is None:
            raise InputError(f"'{text}' tells no bits of dimensions: write them like '{TAPERED}:5,3x3,2x6'")
        parts = [part.partition("x") for part in written[1].split(",")]
        counts = [int(times or 1) for _, _, times in parts]
        if sum(counts) > MOST_DIM:
            raise InputError(f"a taper has bits for {sum(counts):,} dimensions: tables have at most {MOST_DIM:,}")
        return cls(tuple(int(bits) for (bits, _, _), count in zip(parts, counts, strict=True) for _ in range(count)))

    @classmethod
    def suiting(cls, strengths: NDArray[np.floating], fits: Callable[["Taper", int], bool]) -> "Taper":
        """The taper whose bits go with the strengths of dimensions and fill a budget with rows of one size.

        The last dimension of such rows has three bits, and others one more for each doubling of strength, so that
        longer rows go on with fewer; full rows have as many bits more as there is room for. Of fewer dimensions in more
        bits and more in fewer this measured best (docs/search.md).

        Args:
            strengths: (dim,) what each dimension adds to scores: the product of both tables' root mean squares.
            fits: whether rows of a size fit.
        """
        tiny = np.finfo(np.float64).tiny
        doublings = np.log2(np.minimum.accumulate(np.maximum(np.asarray(strengths, dtype=np.float64), tiny)))
        dim = len(doublings)
        fewer = [(1, last) for last in range(1, _LAST_BITS)]
        more = [(dim, last) for last in range(_LAST_BITS + 1, MOST_BITS + 1)]
        tried = [*fewer, *((size, _LAST_BITS) for size in range(1, dim + 1)), *more]

        def taper(size: int, last: int) -> Taper:
            bits = np.rint(doublings - doublings[size - 1]) + last
            return cls(tuple(bits.clip(1, MOST_BITS).astype(int).tolist()))

        # Each takes more than the one before.
        fitting = bisect_left(tried, True, key=lambda each: not fits(taper(*each), each[0]))
        return taper(*tried[fitting - 1]) if fitting else cls((1,) * dim)

    def __str__(self) -> str:
        return f"{TAPERED}:" + ",".join(
            f"{bits}x{stop - first}" if stop - first > 1 else f"{bits}" for first, stop, bits in self.spans(len(self))
        )

    def __len__(self) -> int:
        return len(self.profile)

    @property
    def bits(self) -> int:
        """See `Encoding`."""
        return self.profile[-1]

    @property
    def scale_a_row(self) -> bool:
        """See `Encoding`."""
        return False

    @property
    def scale_a_dimension(self) -> bool:
        """See `Encoding`."""
        return True

    def check(self, dim: int) -> None:
        """See `Encoding`."""
        if len(self) != dim:
            raise InputError(f"{self} has bits for {len(self)} dimensions, and rows have {dim}: give bits for each")

    def spans(self, size: int) -> list[Span]:
        """See `Encoding`."""
        found, first = list[Span](), 0
        for bits, each in groupby(self.profile[:size]):
            stop = first + len(list(each))
            found.append(Span(first, stop, bits))
            first = stop
        return found

    @cached_property
    def _sums(self) -> NDArray[np.int64]:
        """(dim + 1,) bits of a row of each size."""
        return np.concatenate([[0], np.cumsum(self.profile)]).astype(np.int64)

    def row_bits(self, sizes: Any) -> Any:
        """See `Encoding`."""
        return self._sums[sizes]

    def most_bits(self, numbers: int, rows: float) -> int:
        """See `Encoding`. The bits of a row grow ever more slowly, so rows of one size take most."""
        return int(np.ceil(rows * np.interp(numbers / rows, np.arange(len(self) + 1), self._sums)))

    def numbers_in(self, bits: int, rows: int) -> int:
        """See `Encoding`."""
        return int(rows * np.interp(bits / rows, self._sums, np.arange(len(self) + 1)))

    def halves(self, size: int) -> NDArray[np.float32]:
        """(size,) half of how many levels each dimension has."""
        halves: NDArray[np.float32] = np.exp2(np.array(self.profile[:size]) - 1).astype(np.float32)
        return halves


def read_encoding(text: str) -> Encoding:
    """A precision or a taper, from how it is written.

    Raises:
        InputError: it is neither.
    """
    return Taper.read(text) if str(text).startswith(TAPERED) else Precision.parse(text)


def best_column_scales(
    rows: NDArray[np.float32], sizes: NDArray[np.int32], taper: Taper, order: NDArray[np.int64] | None = None
) -> NDArray[np.float32]:
    """(largest size,) the scale of each dimension that rounds its numbers with the least squared error.

    Numbers that were rounded already are rounded to themselves.

    Args:
        rows: (n, dim or fewer) rows.
        sizes: (n,) their sizes, in order of falling size.
        taper: the bits.
        order: (n,) the row of each of these sizes; None where rows are in their order.
    """
    width = int(sizes.max(initial=0))
    scales = np.ones(width, dtype=np.float32)
    for place in range(width):
        held = np.count_nonzero(sizes > place)
        column = np.ascontiguousarray(rows[slice(held) if order is None else order[:held], place])
        scales[place] = _best_scale(column, taper.profile[place])
    return scales


def _best_scale(column: NDArray[np.float32], bits: int) -> float:
    square, half = float(np.square(column, dtype=np.float64).mean()), 2 ** (bits - 1)
    best, least = 1.0, np.inf
    if not square:
        return best
    # Rounded numbers are from ½ to half − ½ scales large, so the scale that they were rounded with is among these.
    usual, steps = STEPS_A_BYTE * np.log2(square) / 2, STEPS_A_BYTE
    for step in range(-steps * bits, steps + 1):
        scale = float(on_grid(np.rint(usual) + step, STEPS_A_BYTE))
        error = float(np.square(midway(column / scale, half) * scale - column).sum())
        if error < least:
            best, least = scale, error
    return best


def midway(numbers: NDArray[np.float32], halves: Any) -> NDArray[np.float32]:
    """Numbers in scales to the nearest levels: ±½, ±1½, …, half of so many levels on either side."""
    return np.clip(np.floor(numbers) + np.float32(0.5), 0.5 - halves, halves - 0.5)
