"""Pairs of a user and an item as a sparse matrix: in rising order, each once, with the times that belong to them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array, sparray, spmatrix

from ciess.data.matrices import as_csr, check_values
from ciess.errors import InputError

Times = NDArray[np.int64] | NDArray[np.float64]


def canonical(given: sparray | spmatrix, times: Times | None) -> tuple[csr_array, Times | None]:
    """A matrix in the form that `Interactions` promises, and its times, which come in the order of its values.

    Raises:
        InputError: as for `as_csr` and `_of_csr`, or times that are no numbers, or not one for each value.
    """
    if times is None or given.format == "csr":
        return _of_csr(as_csr(given), checked_times(times, given.nnz))
    _of_csr(as_csr(given), None)
    placed = coo_array(given)
    kept, found = placed.data > 0, checked_times(times, placed.nnz)
    assert found is not None
    return merged(placed.row[kept], placed.col[kept], placed.shape, found[kept])


def checked_times(times: Any, n: int) -> Times | None:
    """(n,) finite numbers, or None.

    Raises:
        InputError: anything else.
    """
    if times is None:
        return None
    found = np.asarray(times)
    if found.ndim == 1 and len(found) != n:
        raise InputError(f"{len(found):,} times for {n:,} interactions: give one for each")
    if found.ndim != 1 or found.dtype.kind not in "iuf" or not np.isfinite(found).all():
        raise InputError("times are not all finite numbers: give seconds since 1970, or no times")
    return found


def _of_csr(matrix: csr_array, times: Times | None) -> tuple[csr_array, Times | None]:
    """A matrix in the form that `Interactions` promises, and the times in its order.

    Raises:
        InputError: values that are no counts, or indices beyond the matrix.
    """
    check_values(matrix.data)
    index = _index_type(matrix.nnz, matrix.shape)
    as_promised = matrix.data.dtype == np.float32 and matrix.indices.dtype == matrix.indptr.dtype == index
    if as_promised and matrix.has_canonical_format and (matrix.data == 1).all():
        return matrix, times
    kept = matrix.data > 0
    users = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    return merged(users[kept], matrix.indices[kept], matrix.shape, None if times is None else times[kept])


def merged(
    users: NDArray[Any], items: NDArray[Any], shape: tuple[int, int], times: Times | None
) -> tuple[csr_array, Times | None]:
    """A matrix of ones at pairs of rows, and the earliest time of each pair in its order.

    Args:
        users: (n,) rows from 0.
        items: (n,) columns from 0.
        shape: of the matrix.
        times: (n,) of the pairs, or None.
    """
    first = _differ(users, items)
    if not _rise(users, items):
        order = _order(users, items, shape)
        users, items = users[order], items[order]
        times = None if times is None else times[order]
        first = _differ(users, items)
    if not first.all():
        users, items = users[first], items[first]
        times = None if times is None else np.minimum.reduceat(times, np.flatnonzero(first))
    index = _index_type(len(users), shape)
    offsets = np.zeros(shape[0] + 1, dtype=index)
    offsets[1:] = np.bincount(users, minlength=shape[0]).cumsum()
    ones = np.ones(len(items), dtype=np.float32)
    matrix = csr_array((ones, items.astype(index), offsets), shape=shape)
    return matrix, times


def _differ(users: NDArray[Any], items: NDArray[Any]) -> NDArray[np.bool_]:
    """(n,) whether each pair is another than the one before."""
    differ = np.ones(len(users), dtype=bool)
    differ[1:] = (users[1:] != users[:-1]) | (items[1:] != items[:-1])
    return differ


def _rise(users: NDArray[Any], items: NDArray[Any]) -> bool:
    """Whether no pair is before the one in front of it, as in what is taken from a matrix."""
    return not ((users[1:] < users[:-1]) | ((users[1:] == users[:-1]) & (items[1:] < items[:-1]))).any()


def _order(users: NDArray[Any], items: NDArray[Any], shape: tuple[int, int]) -> NDArray[np.integer]:
    """(n,) the places of pairs in rising order. SciPy does in linear time what takes a sort several times as long."""
    n = len(users)
    by_user = coo_array((np.ones(n, dtype=np.int8), (users, np.arange(n))), shape=(shape[0], n)).tocsr()
    return sorted_rows(by_user.indptr, items[by_user.indices], by_user.indices, shape[1])


def sorted_rows(offsets: NDArray[np.integer], keys: NDArray[Any], values: NDArray[Any], limit: int) -> NDArray[Any]:
    """(n,) values, those of each row in rising order of its keys, which are from 0 to `limit` − 1; ties in any order.

    Args:
        offsets: (rows + 1,) where each row begins.
        keys: (n,) whole numbers.
        values: (n,) what comes with them.
        limit: of the keys.
    """
    index = np.int32 if max(len(keys), limit) < 2**31 else np.int64
    rows = csr_array((values, keys.astype(index), offsets.astype(index)), shape=(len(offsets) - 1, limit), copy=True)
    rows.sort_indices()
    return np.asarray(rows.data)


def _index_type(n: int, shape: tuple[int, int]) -> type[np.signedinteger]:
    return np.int32 if n < 2**31 and shape[1] < 2**31 else np.int64
