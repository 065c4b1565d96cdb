"""Bytes of packed tables before there are any: the arrays of a file, by the sizes of rows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ciess.tables.encoding import Encoding
from ciess.tables.files import Layout, file_bytes
from ciess.tables.plan import SizePlan, TableShape

SIDES = ("users", "items")


def groups_of(sizes: NDArray[np.int32]) -> NDArray[np.int32]:
    """(g, 2) each size in use, falling, and how many rows have it."""
    found, rows = np.unique(sizes, return_counts=True)
    return np.stack([found, rows], axis=1)[::-1].astype(np.int32)


def value_counts(groups: NDArray[np.int32], precision: Encoding) -> NDArray[np.int64]:
    """(g,) how many of the values are each group's."""
    sizes, rows = groups.T.astype(np.int64)
    counts: NDArray[np.int64] = np.zeros(len(groups), dtype=np.int64) + precision.values_of(rows, sizes)
    return counts


def stored_bytes(plan: SizePlan) -> int:
    """Bytes of the file that `save_tables` writes for tables of these sizes."""
    return _file_bytes([groups_of(sizes) for sizes in (plan.user_sizes, plan.item_sizes)], plan.precision, plan.dim)


def equal_bytes(shape: TableShape, size: int, precision: Encoding) -> int:
    """The same for tables whose rows are all of one size, however many they are."""
    sides = [np.array([[size, rows]], dtype=np.int64) for rows in (shape.n_users, shape.n_items)]
    return _file_bytes(sides, precision, shape.dim)


def _file_bytes(sides: list[NDArray[Any]], precision: Encoding, dim: int) -> int:
    """Of the users' and the items' groups, (g, 2) each."""
    layout: dict[str, tuple[np.dtype[Any], list[int]]] = {}
    for side, groups in zip(SIDES, sides, strict=True):
        layout |= _named(side, arrays_of(groups, precision))
    return file_bytes(layout, header(precision, dim))


def most_bytes(shape: TableShape, numbers: int, precision: Encoding) -> int:
    """The most bytes that tables of this shape take with that many numbers, whatever their sizes."""
    values = -(-precision.most_bits(numbers, shape.rows) // 8) // precision.dtype.itemsize
    layout: dict[str, tuple[np.dtype[Any], list[int]]] = {}
    for side, rows in zip(SIDES, (shape.n_users, shape.n_items), strict=True):
        groups = min(shape.dim, rows)
        # Nearly a byte may be lost in each span of each group; and all numbers may be one side's, which makes the
        # longest header.
        lost = groups * len(precision.spans(shape.dim))
        layout |= _named(side, _layout(rows, groups, shape.dim, values + lost, precision))
    return file_bytes(layout, header(precision, shape.dim)) - values * precision.dtype.itemsize


def arrays_of(groups: NDArray[Any], precision: Encoding) -> Layout:
    """Type and shape of each array of a table of some groups, (g, 2), by name."""
    rows, width = int(groups[:, 1].sum(dtype=np.int64)), int(groups[:, 0].max(initial=0))
    return _layout(rows, len(groups), width, int(value_counts(groups, precision).sum()), precision)


def _layout(rows: int, groups: int, width: int, values: int, precision: Encoding) -> Layout:
    """The same of so many rows in so many groups, the largest of a size."""
    arrays = {"groups": (np.dtype(np.int32), [groups, 2]), "values": (precision.dtype, [values])}
    if precision.scale_a_dimension:
        arrays["scales"] = (np.dtype(np.uint8), [width])
    elif precision.whole:
        a_row, a_group = (np.dtype(np.uint8), [rows]), (np.dtype(np.float32), [groups])
        arrays["scales"] = a_row if precision.scale_a_row else a_group
    return arrays


def _named(side: str, layout: Layout) -> Layout:
    return {f"{side}.{part}": array for part, array in layout.items()}


def header(precision: Encoding, dim: int) -> str:
    """What a file of both tables says of all arrays."""
    return f"{precision} {dim}"
