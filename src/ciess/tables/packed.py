"""`PackedTable`: rows of different sizes, stored one after the other without gaps, each number in few bits.

Rows lie in order of falling size, so rows of one size lie together, and the only index is how many there are:

    groups   [ size 32: 5 rows | size 9: 210 rows | … | size 1: 4,000 rows ]
    values   [ 5 × 32 numbers  | 210 × 9 numbers  | … | 4,000 × 1 numbers  ]
    scales   [ one a row, in a byte, or one a group; none for floats        ]

Numbers of fewer than 8 bits share bytes; a group starts with a byte of its own. Where bits fall along a row, scales are
one a dimension, in a byte, and a group holds the dimensions of one width, row after row, then those of the next width,
which start with a byte of their own. Which entity a row belongs to is the caller's to remember: a saved model lists its
ids in the order of the rows.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ciess.tables.bits import bytes_of_bits, gathered_bits, numbers_together, packed_bits, unpacked_bits
from ciess.tables.encoding import Encoding, Span
from ciess.tables.files import MappedFile, arrays_in, damaged, write_arrays
from ciess.tables.layout import SIDES, arrays_of, groups_of, header, value_counts
from ciess.tables.plan import MOST_DIM
from ciess.tables.precision import Precision, best_scales, decoded_scales, scale_codes, scale_range, whole_numbers
from ciess.tables.taper import Taper, best_column_scales, midway, read_encoding

_ROWS_AT_ONCE = 1 << 13
"""Whose numbers, of whatever size, fill whole bytes."""
NUMBERS_AT_ONCE = 1 << 22


@dataclass(frozen=True, eq=False)
class PackedTable:
    """A table whose rows keep different numbers of columns.

    Attributes:
        precision: how numbers are stored.
        dim: numbers of a full row.
        groups: (g, 2) int32: a size, and how many rows have it; sizes fall.
        values: numbers row after row; bytes where numbers share them (see `ciess.tables.bits`).
        scales: (n,) uint8 of rows (see `scale_codes`), (largest size,) uint8 of dimensions or (g,) float32 of groups;
            empty for floats.
    """

    precision: Encoding
    dim: int
    groups: NDArray[np.int32]
    values: NDArray[Any]
    scales: NDArray[Any]

    @classmethod
    def pack(
        cls,
        dense: NDArray[np.float32],
        sizes: NDArray[np.int32],
        precision: Encoding = Precision.FLOAT32,
        order: NDArray[np.int64] | None = None,
    ) -> "PackedTable":
        """Keep the first `sizes[n]` numbers of row n, rounded to the precision.

        Args:
            dense: (n, dim) rows; only blocks of them are copied, but where rows of one size share a scale.
            sizes: (n,) sizes in 1..dim, falling in the order of the packed rows.
            precision: how they are stored.
            order: (n,) the dense row of each packed one (see `falling_order`); None where they are in order.

        Raises:
            ValueError: the sizes do not fall.
        """
        if np.any(np.diff(sizes) > 0):
            raise ValueError("rows must come in order of falling size: sort them by `falling_order` first")
        groups = groups_of(sizes)
        lengths = arrays_of(groups, precision)
        none = (np.dtype(np.float32), [0])
        values, scales = (np.empty(shape, dtype) for dtype, shape in (lengths["values"], lengths.get("scales", none)))
        table = cls(precision, dense.shape[1], groups, values, scales)
        if isinstance(precision, Taper):
            scales[:] = scale_codes(best_column_scales(dense, sizes, precision, order))
        for group, count in enumerate(groups[:, 1].tolist()):
            first = int(table._first_rows[group])
            at_once = count if precision.scale_a_group else _ROWS_AT_ONCE
            for span, end in table._spans(group):
                for start in range(first, first + count, at_once):
                    rows = slice(start, min(start + at_once, first + count))
                    part = dense[rows if order is None else order[rows], span.first : span.stop]
                    if isinstance(precision, Precision) and precision.scale_a_row:
                        scales[rows] = scale_codes(best_scales(part, precision))
                    elif isinstance(precision, Precision) and precision.scale_a_group:
                        scales[group] = best_scales(part, precision)[0]
                    numbers = table._stored(table._rounded(part, rows, span), span)
                    begin, end = end, end + len(numbers)
                    values[begin:end] = numbers
        return table

    def __len__(self) -> int:
        return int(self.groups[:, 1].sum(dtype=np.int64))

    @property
    def sizes(self) -> NDArray[np.int32]:
        """(n,) the size of every row, falling."""
        return np.repeat(self.groups[:, 0], self.groups[:, 1])

    def check(self) -> None:
        """Read the numbers once, and see that they are such as `pack` stores.

        Raises:
            ValueError: a number is not finite, or a scale is none.
        """
        if not self.precision.whole:
            for start in range(0, len(self.values), NUMBERS_AT_ONCE):
                if not np.isfinite(self.values[start : start + NUMBERS_AT_ONCE]).all():
                    raise ValueError("numbers are not finite")
        elif isinstance(self.precision, Precision) and self.precision.scale_a_group:
            least, most = scale_range(self.precision)
            if not np.all((self.scales >= least) & (self.scales <= most)):
                raise ValueError("scales are none")

    def blocks(self, at_once: int) -> Iterator[slice]:
        """The rows in blocks of that many."""
        for start in range(0, len(self), at_once):
            yield slice(start, min(start + at_once, len(self)))

    def run(self, rows: slice) -> NDArray[np.float32]:
        """(b, width) rows that follow each other, as wide as the first, zeros beyond their sizes."""
        return self._scaled(self.stored_run(rows), rows)

    def rows(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """(b, dim) rows by their positions, zeros beyond their sizes."""
        return self._scaled(self.stored_rows(positions), positions)

    def stored_run(self, rows: slice) -> NDArray[np.float32]:
        """`run` without scales: of precisions that have them, whole numbers, or halves where bits fall."""
        first, last = np.searchsorted(self._first_rows, [rows.start, rows.stop - 1], side="right") - 1
        table = np.empty((rows.stop - rows.start, int(self.groups[first, 0])), dtype=np.float32)
        for group in range(int(first), int(last) + 1):
            begin, (size, count) = int(self._first_rows[group]), self.groups[group].tolist()
            inside = max(rows.start - begin, 0), min(rows.stop - begin, count)
            part = table[begin + inside[0] - rows.start : begin + inside[1] - rows.start]
            part[:, :size] = self._decoded_run(group, *inside)
            if self.precision.scale_a_dimension:
                part[:, :size] += np.float32(0.5)
            part[:, size:] = 0
        return table

    def stored_rows(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """`rows` without scales: of precisions that have them, whole numbers, or halves where bits fall."""
        table = np.zeros((len(positions), self.dim), dtype=np.float32)
        groups = self._groups_of(positions)
        for group in np.unique(groups):
            wanted = np.flatnonzero(groups == group)
            inside = positions[wanted] - self._first_rows[group]
            numbers = self._decoded_rows(int(group), inside)
            if self.precision.scale_a_dimension:
                numbers = numbers + np.float32(0.5)
            table[wanted, : int(self.groups[group, 0])] = numbers
        return table

    def scales_of(self, positions: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """(b,) the scales of rows that have some, be it one that all rows of their size share."""
        if self.precision.scale_a_row:
            return decoded_scales(self.scales[positions])
        if isinstance(positions, slice):
            positions = np.arange(positions.start, positions.stop)
        return self.scales[self._groups_of(positions)]

    def dense(self) -> NDArray[np.float32]:
        """(n, dim) float32 table, zeros where a row is shorter than dim."""
        table = np.zeros((len(self), self.dim), dtype=np.float32)
        for rows in self.blocks(_ROWS_AT_ONCE):
            numbers = self.run(rows)
            table[rows, : numbers.shape[1]] = numbers
        return table

    @cached_property
    def _first_rows(self) -> NDArray[np.int64]:
        """(g,) position of each group's first row."""
        counts = self.groups[:, 1].astype(np.int64)
        return np.cumsum(counts) - counts

    @cached_property
    def _first_values(self) -> NDArray[np.int64]:
        """(g,) place of each group's first number in `values`."""
        lengths = value_counts(self.groups, self.precision)
        return np.cumsum(lengths) - lengths

    def _groups_of(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.searchsorted(self._first_rows, positions, side="right") - 1

    def _scaled(self, numbers: NDArray[np.float32], positions: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        if self.precision.scale_a_dimension:
            scales = decoded_scales(self.scales)[: numbers.shape[1]]
            numbers[:, : len(scales)] *= scales
            return numbers
        return numbers * self.scales_of(positions)[:, None] if self.precision.whole else numbers

    def with_rows(
        self, dense: NDArray[np.float32], sizes: NDArray[np.int32]
    ) -> tuple["PackedTable", NDArray[np.int64]]:
        """The table with more rows; what is stored of the others stays bit by bit.

        Args:
            dense: (m, dim) new rows in any order.
            sizes: (m,) of these, from 1 to the largest that the table has.

        Returns:
            the table, and the order of its rows: (n + m,) an old row's position, or n + that of a new row.
        """
        if len(lacking := np.setdiff1d(sizes, self.groups[:, 0])):
            groups = np.concatenate([self.groups, [(size, 0) for size in lacking]]).astype(np.int32)
            groups = groups[np.argsort(-groups[:, 0])]
            scales = self.scales
            if self.precision.scale_a_group:
                # Of the nearest size.
                scales = scales[np.abs(groups[:, :1] - self.groups[:, 0]).argmin(1)]
            return PackedTable(self.precision, self.dim, groups, self.values, scales).with_rows(dense, sizes)
        group = np.searchsorted(-self.groups[:, 0], -sizes)
        of_group = np.concatenate([np.repeat(np.arange(len(self.groups)), self.groups[:, 1]), group])
        order = np.argsort(of_group, kind="stable")
        added = [dense[group == number, :size] for number, size in enumerate(self.groups[:, 0])]
        groups = self.groups + np.array([[0, len(rows)] for rows in added], dtype=np.int32)
        scales = self.scales
        if isinstance(self.precision, Precision) and self.precision.scale_a_row:
            codes = np.empty(len(sizes), dtype=np.uint8)
            for number, rows in enumerate(added):
                codes[group == number] = scale_codes(best_scales(rows, self.precision))
            scales = np.concatenate([scales, codes])[order]
        grown, values = PackedTable(self.precision, self.dim, groups, self.values, scales), []
        for number, rows in enumerate(added):
            start = int(grown._first_rows[number] + self.groups[number, 1])
            for span, first in self._spans(number):
                old = self._numbers(span, first, int(self.groups[number, 1]))
                new = grown._rounded(rows[:, span.first : span.stop], slice(start, start + len(rows)), span)
                values.append(self._stored(np.concatenate([old, new]), span))
        return PackedTable(self.precision, self.dim, groups, np.concatenate(values), scales), order

    def _spans(self, group: int) -> Iterator[tuple[Span, int]]:
        """Dimensions of a group that are stored alike, and where in `values` their numbers begin."""
        size, rows = self.groups[group].tolist()
        first = int(self._first_values[group])
        for span in self.precision.spans(size):
            yield span, first
            first += bytes_of_bits(rows * (span.stop - span.first), span.bits) // self.precision.dtype.itemsize

    def _rounded(self, part: NDArray[np.float32], rows: slice, span: Span) -> NDArray[Any]:
        """The numbers of some rows of one size, (n, span), as they are kept, one after the other."""
        if isinstance(self.precision, Taper):
            scales = decoded_scales(self.scales[span.first : span.stop])
            return np.floor(midway(part / scales, 2 ** (span.bits - 1))).reshape(-1)
        if not isinstance(self.precision, Precision) or not self.precision.whole:
            return part.astype(self.precision.dtype).reshape(-1)
        return whole_numbers(part, self.scales_of(rows), self.precision).reshape(-1)

    def _numbers(self, span: Span, first: int, rows: int) -> NDArray[Any]:
        """All numbers of a group's dimensions, as they are kept, one after the other."""
        count = rows * (span.stop - span.first)
        if not self.precision.shares_bytes:
            return self.values[first : first + count]
        return unpacked_bits(self.values[first : first + bytes_of_bits(count, span.bits)], count, span.bits)

    def _stored(self, numbers: NDArray[Any], span: Span) -> NDArray[Any]:
        """Numbers that follow each other as `values` holds them."""
        return packed_bits(numbers, span.bits) if self.precision.shares_bytes else numbers.astype(self.precision.dtype)

    def _decoded_run(self, group: int, start: int, stop: int) -> NDArray[Any]:
        """(stop − start, size) rows of a group that follow each other, by their numbers in it."""
        parts = []
        for span, first in self._spans(group):
            width, values = span.stop - span.first, self.values[first:]
            begin, end = start * width, stop * width
            if self.precision.shares_bytes:
                # The first number may begin within a byte.
                torn = begin % numbers_together(span.bits)
                packed = values[(begin - torn) * span.bits // 8 : bytes_of_bits(end, span.bits)]
                numbers = unpacked_bits(packed, end - begin + torn, span.bits)[torn:]
            else:
                numbers = values[begin:end]
            parts.append(numbers.reshape(stop - start, width))
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def _decoded_rows(self, group: int, inside: NDArray[np.int64]) -> NDArray[Any]:
        """(b, size) rows of a group by their numbers in it."""
        parts = []
        for span, first in self._spans(group):
            width, values = span.stop - span.first, self.values[first:]
            places = inside[:, None] * width + np.arange(width)
            shared = self.precision.shares_bytes
            parts.append(gathered_bits(values, places, span.bits) if shared else values[places])
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def rounded(dense: NDArray[np.float32], sizes: NDArray[np.int32], precision: Encoding) -> NDArray[np.float32]:
    """(n, dim) rows in any order, cut and rounded as a packed table keeps them."""
    order = falling_order(sizes)
    packed, table = PackedTable.pack(dense, sizes[order], precision, order), np.zeros_like(dense)
    for rows in packed.blocks(_ROWS_AT_ONCE):
        numbers = packed.run(rows)
        table[order[rows], : numbers.shape[1]] = numbers
    return table


def shared_scales(dense: NDArray[np.float32], sizes: NDArray[np.int32], precision: Encoding) -> NDArray[np.float32]:
    """The scales that rows, in any order, are rounded with: (n, 1) where each size has one, or (1, width)."""
    order = falling_order(sizes)
    if isinstance(precision, Taper):
        scales = best_column_scales(dense, sizes[order], precision, order)
        return np.pad(scales, (0, dense.shape[1] - len(scales)), constant_values=1)[None]
    scales = np.empty((len(sizes), 1), dtype=np.float32)
    scales[order, 0] = PackedTable.pack(dense, sizes[order], precision, order).scales_of(np.arange(len(sizes)))
    return scales


def falling_order(sizes: NDArray[np.int32]) -> NDArray[np.int64]:
    """(n,) the rows in order of falling size; rows of one size keep their order."""
    return np.argsort(-sizes, kind="stable")


def save_tables(path: Path, users: PackedTable, items: PackedTable) -> None:
    """Write both packed tables, of one precision and width, into one safetensors file."""
    arrays = {}
    for side, table in zip(SIDES, (users, items), strict=True):
        for part in arrays_of(table.groups, table.precision):
            arrays[f"{side}.{part}"] = getattr(table, part)
    write_arrays(path, arrays, header(users.precision, users.dim))


def load_tables(path: Path, file: NDArray[np.uint8] | None = None) -> tuple[PackedTable, PackedTable]:
    """Open both packed tables; numbers are read from the file when they are used.

    Args:
        path: of the file.
        file: its bytes, if it is mapped already.

    Raises:
        InputError: the file is missing, damaged, or holds something else.
    """
    arrays, about = arrays_in(path, MappedFile(path).content if file is None else file)
    try:
        precision, dim = about.split()
        stored = read_encoding(precision)
        users, items = (_checked_table(side, arrays, stored, int(dim)) for side in SIDES)
        if len(arrays) != sum(len(arrays_of(table.groups, stored)) for table in (users, items)):
            raise ValueError("there are other arrays beside the tables")
    except (ValueError, KeyError) as error:
        raise damaged(path) from error
    return users, items


def _checked_table(side: str, arrays: Mapping[str, NDArray[Any]], precision: Encoding, dim: int) -> PackedTable:
    groups, values = arrays[f"{side}.groups"], arrays[f"{side}.values"]
    if not 1 <= dim <= MOST_DIM or groups.dtype != np.int32 or groups.ndim != 2 or groups.shape[1] != 2:
        raise ValueError("there are no groups, or more dimensions than tables may have")
    sizes, rows = groups.T.astype(np.int64)
    precision.check(dim)
    if np.any(sizes < 1) or np.any(sizes > dim) or np.any(np.diff(sizes) >= 0) or np.any(rows < 1):
        raise ValueError("groups are not sizes and their rows")
    none = np.empty(0, dtype=np.float32)
    table = PackedTable(precision, dim, groups, values, arrays.get(f"{side}.scales", none))
    for part, (dtype, shape) in arrays_of(groups, precision).items():
        found = getattr(table, part)
        if found.dtype != dtype or list(found.shape) != shape:
            raise ValueError(f"{part} do not match the groups")
    return table
