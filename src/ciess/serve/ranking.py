"""Scores and the best items for users, straight from packed rows: NumPy alone, in bounded memory."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ciess.serve.seen import SeenItems
from ciess.tables.packed import PackedTable

_USERS_AT_ONCE = 1024
_ITEMS_AT_ONCE = 1024
_ENTRIES_AT_ONCE = 1 << 22
_USERS_IN_A_PRODUCT = 32
"""Of every matrix product, the last ones filled up: rounding can depend on the shape of a product, and so a user's
ranking does not depend on who else is ranked."""


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
    order: NDArray[np.int64],
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
    ranks = np.full(len(order), -1)
    if allowed is not None:
        order = order[allowed[order]]
    ranks[order] = np.arange(len(order))
    best = np.full((len(rows), k), -1)
    size = max(1, _ENTRIES_AT_ONCE // max(1, len(order)))
    for start in range(0, len(rows), size):
        block = rows[start : start + size]
        left = np.ones((len(block), len(order)), dtype=bool)
        if seen is not None:
            known = np.flatnonzero(block >= 0)
            places, columns = seen.of_users(block[known])
            taken = ranks[columns] >= 0
            left[known[places[taken]], ranks[columns[taken]]] = False
        numbers = np.cumsum(left, axis=1)
        places, columns = np.nonzero(left & (numbers <= k))
        best[start + places, numbers[places, columns] - 1] = order[columns]
    return best


def packed_scores(
    users: PackedTable, items: PackedTable, rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> NDArray[np.float32]:
    """(b, m) inner products of users, (b,) rows, and items, (m,) rows."""
    vectors = users.rows(rows)
    scores = np.empty((len(rows), len(columns)), dtype=np.float32)
    for start in range(0, len(columns), _ITEMS_AT_ONCE):
        block = slice(start, start + _ITEMS_AT_ONCE)
        scores[:, block] = vectors @ items.rows(columns[block]).T
    return scores


def _scores(
    users: PackedTable,
    items: PackedTable,
    rows: NDArray[np.int64],
    seen: SeenItems | None,
    allowed: NDArray[np.bool_] | None,
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """For each block of items: the row of the first, and (b, block) scores, −∞ for what is left out."""
    products = -(-len(rows) // _USERS_IN_A_PRODUCT)
    vectors = np.zeros((products * _USERS_IN_A_PRODUCT, users.dim), dtype=np.float32)
    vectors[: len(rows)] = users.rows(rows)
    stacked = vectors.reshape(products, _USERS_IN_A_PRODUCT, users.dim)
    if seen is not None:
        places, columns = seen.of_users(rows)
        by_item = np.argsort(columns, kind="stable")
        places, columns = places[by_item], columns[by_item]
    for block, numbers in items.blocks():
        scores = (stacked[:, :, : numbers.shape[1]] @ numbers.T).reshape(len(vectors), len(numbers))[: len(rows)]
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
