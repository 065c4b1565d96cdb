"""Rows for users and items that come after training, from the rows of what they have to do with."""

import logging
import math
from bisect import bisect_right
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ciess.checks import AboveZero, NotNegative, article, check
from ciess.data.ids import RowIds
from ciess.errors import InputError
from ciess.serve.seen import SeenItems
from ciess.serve.user_map import Rows, UserMap, mean_rows
from ciess.tables.budget import Budget, largest_scale
from ciess.tables.curve import Curve
from ciess.tables.layout import stored_bytes
from ciess.tables.packed import PackedTable
from ciess.tables.plan import SizePlan

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from ciess.data import Interactions
    from ciess.serve.packed_model import PackedModel

_log = logging.getLogger(__name__)
_NUMBERS_AT_ONCE, _ROWS_AT_ONCE = 4_000_000, 4096
_HALVINGS = 40
SIDES = ("user", "item")


class Weights(NamedTuple):
    """Of alternating least squares: how much more an interaction weighs, and the weight of the squared norms."""

    alpha: float
    regularisation: float


def weights_of(model: "PackedModel") -> Weights | None:
    """With which rows are solved for; None where the model's rows were trained otherwise.

    Raises:
        InputError: settings that are none of ALS.
    """
    if model.settings["name"] != "als":
        return None
    # A stranger's settings may be anything.
    alpha = check("alpha", model.settings.get("alpha"), NotNegative)
    regularisation = check("regularisation", model.settings.get("regularisation"), AboveZero)
    return Weights(float(alpha), float(regularisation) * _a_row(model.seen, model.users, model.items))


def _a_row(seen: SeenItems, users: PackedTable, items: PackedTable) -> float:
    """Interactions a row, in which ALS' regularisation is told: the geometric mean over the sides."""
    return float(seen.n_learned / (len(users) * len(items)) ** 0.5)


def gramian(table: PackedTable) -> NDArray[np.float32]:
    """(dim, dim) sum of all rows' outer products, in bounded memory."""
    total = np.zeros((table.dim, table.dim), dtype=np.float32)
    for block in table.blocks(_ROWS_AT_ONCE):
        rows = table.run(block)
        total[: rows.shape[1], : rows.shape[1]] += rows.T @ rows
    return total


def solved(
    rows_of: Rows,
    offsets: NDArray[Any],
    columns: NDArray[Any],
    sizes: NDArray[np.int32],
    weights: Weights,
    products: NDArray[np.float32],
) -> NDArray[np.float32]:
    """(n, dim) rows, zero beyond their sizes, that are best for the other side's rows that they have to do with.

    Least squares, as ALS solves for a row (Hu et al., ICDM 2008, equation 4).

    Args:
        rows_of: gives rows of the other side.
        offsets: (n + 1,) where each entity's begin among the columns.
        columns: positions of rows of the other side.
        sizes: (n,) dimensions to keep.
        weights: of least squares.
        products: (dim, dim) the other side's `gramian`.
    """
    dim = len(products)
    found = np.zeros((len(sizes), dim), dtype=np.float32)
    counts = np.diff(offsets)
    order = np.argsort(-counts, kind="stable")
    start = 0
    while start < len(order):
        longest = int(counts[order[start]])
        block = order[start : start + max(1, _NUMBERS_AT_ONCE // (dim * max(longest, dim)))]
        # Of similar counts, so that little is filled up.
        block = block[2 * counts[block] >= longest]
        place = np.arange(longest)
        inside = place < counts[block, None]
        at = np.where(inside, offsets[block, None] + place, 0)
        theirs = rows_of(columns[at].reshape(-1)).reshape(*at.shape, dim) * inside[:, :, None]
        kept = (np.arange(dim) < sizes[block, None]).astype(np.float32)
        found[block] = _solved(theirs, kept, products, weights)
        start += len(block)
    return found


def _solved(
    theirs: NDArray[np.float32], kept: NDArray[np.float32], products: NDArray[np.float32], weights: Weights
) -> NDArray[np.float32]:
    """(b, dim) rows by a system of their size each: (b, m, dim) rows of the other side, (b, dim) what is kept."""
    diagonal = np.arange(products.shape[0])
    systems = products + weights.alpha * (theirs.transpose(0, 2, 1) @ theirs)
    systems[:, diagonal, diagonal] += weights.regularisation
    # Beyond a row's size stands the identity against zeros: those numbers come out as zero.
    systems *= kept[:, :, None] * kept[:, None, :]
    systems[:, diagonal, diagonal] += 1 - kept
    wanted = (1 + weights.alpha) * theirs.sum(1) * kept
    try:
        solved: NDArray[np.float32] = np.linalg.solve(systems, wanted[:, :, None])[:, :, 0]
    except np.linalg.LinAlgError as error:
        raise InputError("ALS cannot be solved with so little regularisation: train it with more") from error
    return solved


def grown(model: "PackedModel", interactions: "Interactions", side: int, budget: str | Budget | None) -> dict[str, Any]:
    """What changes in a model that gets rows for the users, or items, of interactions that it does not know.

    Args:
        model: whose rows are scored as they are; it stays as it is.
        interactions: of new users with items that the model knows; or of new items with such users.
        side: 0 for users, 1 for items.
        budget: of both tables as stored; None: no larger a share of the full tables than they take.

    Returns:
        fields of the model by their names.

    Raises:
        InputError: no such interaction, or new rows that do not fit.
    """
    tables, indices = [model.users, model.items], [model.user_index, model.item_index]
    new, ids = _new_entries(interactions, indices, side)
    sizes = _sizes(model, np.diff(new.indptr), side, budget)
    rows = _rows(model, new, sizes, side)
    with np.errstate(over="ignore"):
        stored = rows if model.users.precision.whole else rows.astype(model.users.precision.dtype)
    if not np.isfinite(stored).all():
        raise InputError(f"new rows hold numbers beyond the range of {model.users.precision}: search anew")
    tables[side], order = tables[side].with_rows(rows, sizes)
    indices[side] = RowIds.of(_joined(indices[side].take(np.arange(len(indices[side]))), ids)[order])
    added, weights = model.about.get("added", {}), weights_of(model)
    name, seen, settings = f"{SIDES[side]}s", _seen(model, new, side, order), model.settings
    if weights is not None:
        # The same weight of the norms, in interactions a row as they are now.
        settings = {**settings, "regularisation": weights.regularisation / _a_row(seen, *tables)}
    return {
        "users": tables[0],
        "items": tables[1],
        "user_index": indices[0],
        "item_index": indices[1],
        "seen": seen,
        "settings": settings,
        "about": {**model.about, "added": {**added, name: added.get(name, 0) + len(ids)}},
        "source": None,
    }


def _rows(model: "PackedModel", new: "csr_array", sizes: NDArray[np.int32], side: int) -> NDArray[np.float32]:
    """(n, dim) rows of new users, or items, zero beyond their sizes."""
    if side:
        weights = weights_of(model)
        assert weights is not None
        return solved(model.users.rows, new.indptr, new.indices, sizes, weights, gramian(model.users))
    items, dim = model.items.rows, model.items.dim
    means = mean_rows(items, new.indptr.astype(np.int64), new.indices, dim)
    fitted = UserMap.fitted(model.users.rows, items, dim, model.seen)
    return fitted.rows(means, np.diff(new.indptr)) * (np.arange(dim) < sizes[:, None])


def _new_entries(interactions: "Interactions", indices: list[RowIds], side: int) -> "tuple[csr_array, NDArray[Any]]":
    """(n_new, n_other) what new entities have to do with rows of the other side, and their ids."""
    from scipy.sparse import csr_array

    ids = [interactions.user_ids.to_numpy(), interactions.item_ids.to_numpy()]
    entries = [interactions.users, interactions.items]
    known, columns = indices[side].rows(ids[side]) >= 0, indices[1 - side].rows(ids[1 - side])
    used = ~known[entries[side]] & (columns[entries[1 - side]] >= 0)
    names = SIDES[side], SIDES[1 - side]
    if not used.any():
        raise InputError(
            f"no interaction is of a new {names[0]} with {article(names[1])} that the model knows: check their ids"
        )
    if left_out := int((~used).sum()):
        _log.warning(
            "%d of %d interactions left out: their %ss have rows already, or their %ss have none",
            left_out,
            len(used),
            *names,
        )
    which, place = np.unique(entries[side][used], return_inverse=True)
    pairs = place, columns[entries[1 - side][used]]
    matrix = csr_array((np.ones(len(place), dtype=np.float32), pairs), shape=(len(which), len(indices[1 - side])))
    matrix.sort_indices()
    return matrix, ids[side][which]


def _sizes(
    model: "PackedModel", counts: NDArray[np.integer], side: int, budget: str | Budget | None
) -> NDArray[np.int32]:
    """(n,) sizes of new rows by their interactions, as the model's own rows of such interactions have, if they fit.

    Only sizes that the table has already, so that its index does not grow; where none fits, the largest that does.
    """
    table = (model.users, model.items)[side]
    learned = model.interactions
    own = (learned.user_counts, learned.item_counts)[side]
    wanted = Curve.fitted(own, table.sizes).sizes(counts)
    plan, there = model.plan, table.groups[::-1, 0].astype(np.int64)
    edges = (there[1:] + there[:-1]) / 2

    def sized(scale: float) -> NDArray[np.int32]:
        return there[np.searchsorted(edges, scale * wanted)].astype(np.int32)

    def with_new(sizes: NDArray[np.int32]) -> SizePlan:
        sides = [plan.user_sizes, plan.item_sizes]
        sides[side] = np.concatenate([sides[side], sizes])
        return SizePlan(sides[0], sides[1], plan.dim, plan.precision)

    smallest = with_new(sized(0))
    shape = smallest.shape
    if budget is None:
        limit = stored_bytes(plan) * shape.full_bytes // plan.shape.full_bytes
    else:
        limit = Budget.parse(budget).limit(shape)
    if stored_bytes(smallest) > limit:

        def all_of(size: int) -> NDArray[np.int32]:
            return np.full(len(counts), size, dtype=np.int32)

        if size := bisect_right(range(1, int(there[0])), limit, key=lambda size: stored_bytes(with_new(all_of(size)))):
            return all_of(size)
        least = min(stored_bytes(smallest), stored_bytes(with_new(all_of(1))))
        raise InputError(
            f"new rows do not fit ({len(counts):,}) into {limit:,} bytes: "
            f"give a budget of '{Budget.enough(shape, least, math.ceil)}' or more, or search anew"
        )
    if stored_bytes(with_new(sized(1))) <= limit:
        return sized(1)
    return sized(largest_scale(lambda scale: stored_bytes(with_new(sized(scale))) <= limit, 1.0, _HALVINGS))


def _seen(model: "PackedModel", new: "csr_array", side: int, order: NDArray[np.int64]) -> SeenItems:
    """What users have, rows and columns in the order of the new tables; what is new was learned."""
    from scipy.sparse import csr_array, hstack, vstack

    seen, shape = model.seen, (len(model.users), len(model.items))
    # What was not learned is 2.
    marks = np.ones(len(seen.items), dtype=np.int8) if seen.learned is None else (2 - seen.learned).astype(np.int8)
    old = csr_array((marks, seen.items.astype(np.int64), seen.offsets.astype(np.int64)), shape=shape)
    new = new.astype(np.int8)
    joined = vstack([old, new], format="csr")[order] if side == 0 else hstack([old, new.T], format="csr")[:, order]
    joined.sort_indices()
    learned = None if seen.learned is None else joined.data == 1
    return SeenItems.of(joined.indptr, joined.indices, joined.shape[1], learned)


def _joined(old: NDArray[Any], new: NDArray[Any]) -> NDArray[Any]:
    """Ids of both; whole numbers if all are."""
    return np.concatenate([old, new]) if old.dtype.kind == new.dtype.kind == "i" else np.array([*old, *new, None])[:-1]
