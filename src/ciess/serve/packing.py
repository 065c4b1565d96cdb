"""From a trained backbone to the parts of a compressed model, rows in order of falling size."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ciess.errors import InputError
from ciess.serve.seen import SeenItems
from ciess.tables.encoding import Encoding
from ciess.tables.packed import PackedTable

if TYPE_CHECKING:
    import torch

    from ciess.data import Interactions


_ROWS_AT_ONCE = 1 << 13


def packed_table(
    table: "torch.Tensor", order: NDArray[np.int64], sizes: NDArray[np.int32], precision: Encoding
) -> PackedTable:
    """Pack the rows of a table, (n, dim), in an order of falling sizes.

    Raises:
        InputError: it would hold numbers that are not finite.
    """
    dense = table.detach().numpy()
    if not all(
        np.isfinite(dense[start : start + _ROWS_AT_ONCE]).all() for start in range(0, len(dense), _ROWS_AT_ONCE)
    ):
        raise InputError("the tables hold numbers that are not finite: the model has diverged, lower its learning rate")
    with np.errstate(over="ignore"):
        packed = PackedTable.pack(dense, sizes[order], precision, order)
    if not precision.whole and not np.isfinite(packed.values).all():
        raise InputError(f"the tables hold numbers beyond the range of {precision}: use another precision")
    return packed


def packed_seen(
    learned: "Interactions", given: "Interactions | None", by_user: NDArray[np.int64], by_item: NDArray[np.int64]
) -> SeenItems:
    """What users have, and what of it was learned, rows and columns in the order of the packed tables."""
    has = learned if given is None else given
    seen = has.matrix[by_user][:, by_item]
    seen.sort_indices()
    was_learned = None
    if len(has) > len(learned):
        rows, columns = seen.nonzero()
        was_learned = np.asarray(learned.matrix[by_user[rows], by_item[columns]]).reshape(-1) > 0
    return SeenItems.of(seen.indptr, seen.indices, has.n_items, was_learned)
