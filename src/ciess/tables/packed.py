"""`PackedTable`: rows of different sizes, stored one after the other without gaps.

Rows lie in order of falling size, so the only index is how many rows have each size:

    values        [ row 0: d numbers | row 1: d | … | row r: d−1 | … | last row: 1 ]
    rows_of_size  [ rows of size 1, rows of size 2, …, rows of size dim ]

Where a row starts follows from the counts. Which entity a row belongs to is the caller's to remember: a saved
model lists its ids in the order of the rows.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from ciess.errors import InputError
from ciess.tables.plan import FLOAT32_BYTES, SizePlan, TableShape

SIDES = ("users", "items")


@dataclass(frozen=True, eq=False)
class PackedTable:
    """A table whose rows keep different numbers of columns.

    Attributes:
        values: (sum of sizes,) float32, row after row, rows in order of falling size.
        rows_of_size: (dim,) int32, `rows_of_size[s − 1]` rows have size s.
    """

    values: NDArray[np.float32]
    rows_of_size: NDArray[np.int32]

    @classmethod
    def pack(cls, dense: NDArray[np.float32], sizes: NDArray[np.int32]) -> "PackedTable":
        """Keep the first `sizes[n]` numbers of row n.

        Args:
            dense: (n, dim) rows in order of falling size (see `falling_order`).
            sizes: (n,) sizes in 1..dim, falling.

        Raises:
            ValueError: the sizes do not fall.
        """
        if np.any(np.diff(sizes) > 0):
            raise ValueError("rows must come in order of falling size: sort them by `falling_order` first")
        dim = dense.shape[1]
        kept = np.arange(dim) < sizes[:, None]
        rows_of_size = np.bincount(sizes, minlength=dim + 1)[1:].astype(np.int32)
        return cls(np.ascontiguousarray(dense[kept], dtype=np.float32), rows_of_size)

    @property
    def dim(self) -> int:
        """Numbers of a full row."""
        return len(self.rows_of_size)

    @property
    def sizes(self) -> NDArray[np.int32]:
        """(n,) the size of every row, falling."""
        return np.repeat(np.arange(self.dim, 0, -1, dtype=np.int32), self.rows_of_size[::-1])

    def __len__(self) -> int:
        return int(self.rows_of_size.sum(dtype=np.int64))

    def blocks(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """The rows of each size in use: their positions and their (rows, size) numbers, a view."""
        row = start = 0
        for size in range(self.dim, 0, -1):
            rows = int(self.rows_of_size[size - 1])
            if rows:
                end = start + rows * size
                yield slice(row, row + rows), self.values[start:end].reshape(rows, size)
                row, start = row + rows, end

    def dense(self) -> NDArray[np.float32]:
        """(n, dim) float32 table, zeros where a row is shorter than dim."""
        table = np.zeros((len(self), self.dim), dtype=np.float32)
        for rows, numbers in self.blocks():
            table[rows, : numbers.shape[1]] = numbers
        return table


def falling_order(sizes: NDArray[np.int32]) -> NDArray[np.int64]:
    """(n,) the rows in order of falling size; rows of one size keep their order."""
    return np.argsort(-sizes, kind="stable")


def stored_bytes(plan: SizePlan) -> int:
    """Bytes of the file that `save_tables` writes for tables of these sizes."""
    users, items = (int(sizes.sum(dtype=np.int64)) for sizes in (plan.user_sizes, plan.item_sizes))
    return _file_bytes(users, items, plan.dim)


def index_bytes(shape: TableShape) -> int:
    """Bytes on disk beside the numbers, header and counts of rows: never less than any plan of this shape takes."""
    users, items = shape.n_users * shape.dim, shape.n_items * shape.dim
    return _file_bytes(users, items, shape.dim) - FLOAT32_BYTES * (users + items)


def _file_bytes(user_numbers: int, item_numbers: int, dim: int) -> int:
    """The size of a safetensors file: 8 bytes, a JSON header filled up to a multiple of 8, the arrays."""
    header, end = {}, 0
    # Arrays lie in order of type, then of name.
    for part, dtype, lengths in (("values", "F32", (user_numbers, item_numbers)), ("rows_of_size", "I32", (dim, dim))):
        for side, length in sorted(zip(SIDES, lengths, strict=True)):
            start, end = end, end + 4 * length
            header[f"{side}.{part}"] = {"dtype": dtype, "shape": [length], "data_offsets": [start, end]}
    return 8 + -(-len(json.dumps(header, separators=(",", ":"))) // 8) * 8 + end


def save_tables(path: Path, users: PackedTable, items: PackedTable) -> None:
    """Write both packed tables into one safetensors file."""
    tables = zip(SIDES, (users, items), strict=True)
    path.write_bytes(
        save({f"{side}.{part}": getattr(t, part) for side, t in tables for part in ("values", "rows_of_size")})
    )


def load_tables(path: Path) -> tuple[PackedTable, PackedTable]:
    """Read both packed tables.

    Raises:
        InputError: the file is missing, damaged, or holds something else.
    """
    try:
        arrays = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} cannot be read as packed tables ({error}): save the model again") from error
    users, items = (_checked_table(path, side, arrays) for side in SIDES)
    return users, items


def _checked_table(path: Path, side: str, arrays: dict[str, NDArray[Any]]) -> PackedTable:
    values, counts = arrays.get(f"{side}.values"), arrays.get(f"{side}.rows_of_size")
    if values is None or counts is None or values.dtype != np.float32 or counts.dtype != np.int32:
        raise InputError(f"{path} holds no packed {side}: it is not a file that ciess saved")
    if counts.ndim != 1 or np.any(counts < 0) or counts @ np.arange(1, len(counts) + 1) != values.size:
        raise InputError(f"{path} is damaged: the sizes of its {side} do not match its numbers")
    return PackedTable(values, counts)
