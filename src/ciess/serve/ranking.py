"""Scores and the best items for users, straight from packed rows: NumPy alone, in bounded memory."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ciess.serve.seen import SeenItems
from ciess.tables.packed import PackedTable
from ciess.tables.precision import Precision

_USERS_AT_ONCE = 1024
_ITEMS_AT_ONCE = 2048
_SCORES_AT_ONCE, _NUMBERS_AT_ONCE = 1 << 20, 1 << 19
"""Of a block: few users are scored for more items at once, as long as these stay in the processor's cache."""
_ENTRIES_AT_ONCE = 1 << 22
_EXACT = 2**24
"""Whole numbers below are exact in float32, and so are their sums in any order."""


class _Rows(NamedTuple):
    """Some rows of a table: (b, width) numbers, and (b,) scales that are still to be multiplied with, if any.

    Numbers are whole where products of them are exact. Others are of double precision, and their products are rounded
    to float32 in the end: how a sum of floats is rounded depends on where its row stands in a product, and so a score
    would depend on who else is ranked, and equal items would not tie.
    """

    numbers: NDArray[np.float32] | NDArray[np.float64]
    scales: NDArray[np.float32] | None


def top_items(
    users: PackedTable,
    items: PackedTable,
    rows: NDArray[np.int64],
    k: int,
    seen: SeenItems | None = None,
    allowed: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The k items of the largest inner products for each user, falling; of equal ones the earlier item comes first.

    Memory does not grow with the tables: blocks of items are decoded one by one.

    Args:
        users: packed user table.
        items: packed item table.
        rows: (b,) rows of users.
        k: how many items, 1 to all.
        seen: items to leave out, each user's own.
        allowed: (n_items,) which items may be recommended; None allows all.

    Returns:
        (b, k) rows of items, −1 where none is left, and their scores, −∞ there.
    """
    best = np.full((len(rows), k), -1, dtype=np.int64)
    best_scores = np.full((len(rows), k), -np.inf, dtype=np.float32)
    for start in range(0, len(rows), _USERS_AT_ONCE):
        block = slice(start, start + _USERS_AT_ONCE)
        for first, scores in _scores(users, items, rows[block], seen, allowed):
            _merge(best[block], best_scores[block], scores, first)
    return best, best_scores


def popular_items(
    order: NDArray[np.integer],
    rows: NDArray[np.int64],
    k: int,
    seen: SeenItems | None = None,
    allowed: NDArray[np.bool_] | None = None,
) -> NDArray[np.int64]:
    """The first k items of one order for each user.

    Args:
        order: (n_items,) rows of all items, the most popular first.
        rows: (b,) rows of users, −1 for those that have none.
        k: how many items, 1 to all.
        seen: items to leave out, each user's own.
        allowed: (n_items,) which items may be recommended; None allows all.

    Returns:
        (b, k) rows of items, −1 where none is left.
    """
    best = np.full((len(rows), k), -1)
    have = np.zeros(len(rows), dtype=np.int64)
    known = np.flatnonzero(rows >= 0) if seen is not None else np.empty(0, dtype=np.int64)
    if seen is not None:
        have[known] = seen.offsets[rows[known] + 1] - seen.offsets[rows[known]]
    # Nobody gets further down the order than past what they have.
    order = _first(order, k + int(have.max(initial=0)), allowed)
    by_row = np.argsort(order)
    size = max(1, _ENTRIES_AT_ONCE // max(1, len(order)))
    for start in range(0, len(rows), size):
        block = slice(start, start + size)
        left = np.ones((len(rows[block]), len(order)), dtype=bool)
        if seen is not None and len(order):
            own = known[slice(*np.searchsorted(known, [start, start + size]))]
            places, columns = seen.of_users(rows[own])
            ranks = by_row[np.minimum(np.searchsorted(order, columns, sorter=by_row), len(order) - 1)]
            taken = order[ranks] == columns
            left[own[places[taken]] - start, ranks[taken]] = False
        numbers = np.cumsum(left, axis=1)
        places, columns = np.nonzero(left & (numbers <= k))
        best[start + places, numbers[places, columns] - 1] = order[columns]
    return best


def _first(order: NDArray[np.integer], wanted: int, allowed: NDArray[np.bool_] | None) -> NDArray[np.integer]:
    """The first of an order that are allowed, as many as wanted if there are so many."""
    if allowed is None:
        return order[:wanted]
    found, size = [order[:0]], wanted
    while wanted > 0 and len(order):
        part, order = order[:size], order[size:]
        found.append(part[allowed[part]][:wanted])
        wanted, size = wanted - len(found[-1]), 2 * size
    return np.concatenate(found)


def packed_scores(
    users: PackedTable, items: PackedTable, rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> NDArray[np.float32]:
    """(b, m) inner products of users, (b,) rows, and items, (m,) rows."""
    exact = _are_exact(users, items)
    vectors = _rows(users, rows, exact)
    scores = np.empty((len(rows), len(columns)), dtype=np.float32)
    for start in range(0, len(columns), _ITEMS_AT_ONCE):
        block = slice(start, start + _ITEMS_AT_ONCE)
        scores[:, block] = _products(vectors, _rows(items, columns[block], exact))
    return scores


def _are_exact(*tables: PackedTable) -> bool:
    """Whether inner products of rows as they are stored are exact: whole numbers on both sides, and small ones."""
    return all(
        isinstance(each.precision, Precision) and each.precision.whole and each.dim * each.precision.largest**2 < _EXACT
        for each in tables
    )


def _rows(table: PackedTable, rows: NDArray[np.int64], as_stored: bool) -> _Rows:
    if as_stored:
        return _Rows(table.stored_rows(rows), table.scales_of(rows))
    return _Rows(table.rows(rows).astype(np.float64), None)


def _run(table: PackedTable, rows: slice, as_stored: bool) -> _Rows:
    """As `_rows`, for rows that follow each other."""
    if as_stored:
        return _Rows(table.stored_run(rows), table.scales_of(rows))
    return _Rows(table.run(rows).astype(np.float64), None)


def _products(users: _Rows, items: _Rows) -> NDArray[np.float32]:
    """(b, m) inner products; those of whole numbers are multiplied with the scales at the end."""
    products = users.numbers[:, : items.numbers.shape[1]] @ items.numbers.T
    scores: NDArray[np.float32] = products.astype(np.float32, copy=False)
    if users.scales is not None and items.scales is not None:
        scores *= users.scales[:, None]
        scores *= items.scales
    return scores


def _scores(
    users: PackedTable,
    items: PackedTable,
    rows: NDArray[np.int64],
    seen: SeenItems | None,
    allowed: NDArray[np.bool_] | None,
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """For each block of items: the row of the first, and (b, block) scores, −∞ for what is left out."""
    exact = _are_exact(users, items)
    vectors, at_once = _rows(users, rows, exact), _ITEMS_AT_ONCE
    if exact:
        at_once = max(at_once, min(_SCORES_AT_ONCE // max(1, len(rows)), _NUMBERS_AT_ONCE // items.dim))
    if seen is not None:
        places, columns = seen.of_users(rows)
        by_item = np.argsort(columns, kind="stable")
        places, columns = places[by_item], columns[by_item]
    for block in items.blocks(at_once):
        scores = _products(vectors, _run(items, block, exact))
        if seen is not None:
            begin, end = np.searchsorted(columns, [block.start, block.stop])
            scores[places[begin:end], columns[begin:end] - block.start] = -np.inf
        if allowed is not None:
            scores[:, ~allowed[block]] = -np.inf
        yield block.start, scores


def _merge(items: NDArray[np.int64], best: NDArray[np.float32], scores: NDArray[np.float32], first: int) -> None:
    """Put the (b, block) scores of items from `first` on among the best so far, (b, k), in place."""
    k = best.shape[1]
    # What equals the worst of the best comes later than it, and so does not count.
    touched = np.flatnonzero(scores.max(axis=1) > best[:, -1])
    if not len(touched):
        return
    if len(touched) < len(scores):
        scores = scores[touched]
    least = best[touched, -1:]
    better = scores > least
    if np.isneginf(least).any() and scores.shape[1] > k:
        # A first block: all would be better, and few are needed. Ties with the k-th are kept, the sort decides.
        better &= scores >= np.partition(scores, -k, axis=1)[:, -k, None]
    # Far faster than nonzero on two axes.
    rows, columns = np.divmod(np.flatnonzero(better), scores.shape[1])
    counts = np.bincount(rows, minlength=len(touched))
    places = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    merged = np.full((len(touched), k + counts.max()), -np.inf, dtype=np.float32)
    named = np.full(merged.shape, -1)
    merged[:, :k], named[:, :k] = best[touched], items[touched]
    merged[rows, k + places], named[rows, k + places] = scores[rows, columns], first + columns
    # Earlier items stand earlier, and a stable sort leaves them so.
    order = np.argsort(-merged, axis=1, kind="stable")[:, :k]
    best[touched], items[touched] = (np.take_along_axis(part, order, axis=1) for part in (merged, named))
