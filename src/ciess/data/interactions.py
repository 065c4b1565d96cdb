"""`Interactions`: implicit feedback of users with items, and the ids of both sides."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array, sparray, spmatrix

from ciess.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

Ids = Sequence[Any] | NDArray[Any] | pl.Series
"""Ids of users or items, of any one type."""

_USUAL_NAMES = {
    "user": ("user", "user_id", "userid", "uid", "users", "customer", "customer_id", "visitorid"),
    "item": (
        "item",
        "item_id",
        "itemid",
        "iid",
        "items",
        "movieid",
        "movie_id",
        "product_id",
        "product",
        "business_id",
        "artistid",
    ),
    "rating": ("rating", "ratings", "score", "stars"),
    "time": ("time", "timestamp", "date", "datetime"),
}


@dataclass(frozen=True, eq=False, repr=False)
class Interactions:
    """Which user interacted with which item, each pair once. Checked when made.

    Attributes:
        matrix: (n_users, n_items) CSR with ones, columns of a row in rising order, int32 indices where they fit.
        user_ids: (n_users,) unique ids of any type.
        item_ids: (n_items,) unique ids of any type.
        times: (n,) int64 time of each interaction in the matrix' order, or None.
        first_seen: (n_users,) and (n_items,) rows in order of their first appearance in the data; None where unknown.

    Raises:
        InputError: empty, or ids that are missing, repeated or too few.
    """

    matrix: csr_array
    user_ids: pl.Series
    item_ids: pl.Series
    times: NDArray[np.int64] | None = None
    first_seen: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None

    def __post_init__(self) -> None:
        if self.matrix.nnz == 0:
            raise InputError("there are no interactions: check the file, the rating threshold and the k-core")
        for side, ids, n in zip(("user", "item"), (self.user_ids, self.item_ids), self.matrix.shape, strict=True):
            if len(ids) != n:
                raise InputError(f"{len(ids):,} {side} ids for {n:,} {side}s: give one id for each")
            if ids.null_count() or ids.n_unique() < n:
                raise InputError(f"{side} ids are missing or repeated: give each {side} one id of its own")
        if self.times is not None and len(self.times) != self.matrix.nnz:
            raise InputError(f"{len(self.times):,} times for {self.matrix.nnz:,} interactions: give one for each")

    @classmethod
    def of(cls, data: "Interactions | pl.DataFrame | pd.DataFrame | sparray | spmatrix") -> "Interactions":
        """From whatever holds interactions: a frame, see `from_frame`, or a sparse matrix, see `from_matrix`.

        Raises:
            InputError: anything else, or what these refuse.
        """
        if isinstance(data, Interactions):
            return data
        if isinstance(data, sparray | spmatrix):
            return cls.from_matrix(data)
        if isinstance(data, pl.DataFrame) or type(data).__module__.partition(".")[0] == "pandas":
            return cls.from_frame(data)
        raise InputError(
            f"interactions cannot be of type {type(data).__name__}: give Interactions, such as ciess.read gives, "
            "a polars or pandas frame, or a scipy sparse matrix"
        )

    @classmethod
    def from_pairs(
        cls,
        users: ArrayLike,
        items: ArrayLike,
        user_ids: pl.Series,
        item_ids: pl.Series,
        times: NDArray[np.int64] | None = None,
    ) -> "Interactions":
        """From row numbers of users and items, (n,) each; a pair that comes twice counts once, with its latest time."""
        users, items = np.asarray(users), np.asarray(items)
        order = np.lexsort((items, users) if times is None else (times, items, users))
        users, items = users[order], items[order]
        last = np.ones(len(users), dtype=bool)
        last[:-1] = (users[1:] != users[:-1]) | (items[1:] != items[:-1])
        users, items = users[last], items[last]
        small = len(users) < 2**31 and len(item_ids) < 2**31
        index = np.int32 if small else np.int64
        offsets = np.zeros(len(user_ids) + 1, dtype=index)
        offsets[1:] = np.bincount(users, minlength=len(user_ids)).cumsum()
        ones = np.ones(len(items), dtype=np.float32)
        matrix = csr_array((ones, items.astype(index), offsets), shape=(len(user_ids), len(item_ids)))
        return cls(matrix, user_ids, item_ids, None if times is None else times[order][last])

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        *,
        user: str | None = None,
        item: str | None = None,
        rating: str | None = None,
        time: str | None = None,
        min_rating: float | None = None,
    ) -> "Interactions":
        """From a polars or pandas frame with one interaction a row.

        Args:
            frame: the table.
            user: column of user ids; None looks for a usual name, as for the other columns.
            item: column of item ids.
            rating: column of ratings, none below 0.
            time: column of times: numbers, dates, or text such as 2024-01-31 or 2024-01-31 12:00:00.
            min_rating: leave out rows rated below this.

        Raises:
            InputError: a column that is missing, or values that are missing, not numbers or below 0.
        """
        # Polars' own way from pandas would need pyarrow.
        table = frame if isinstance(frame, pl.DataFrame) else pl.DataFrame({c: frame[c].to_numpy() for c in frame})
        names = {
            role: _column(table, role, named)
            for role, named in (("user", user), ("item", item), ("rating", rating), ("time", time))
        }
        if min_rating is not None and names["rating"] is None:
            raise InputError(f"there is no rating column for a least rating among {table.columns}: name it")
        for role in ("user", "item"):
            _refuse_rows(_missing(table[names[role]]), f"column '{names[role]}' holds no id")
        if names["rating"] is not None:
            ratings = _numbers(table[names["rating"]])
            _refuse_rows(_missing(ratings) | (ratings < 0), f"column '{names['rating']}' holds no rating of 0 or more")
            if min_rating is not None:
                table = table.filter(ratings >= min_rating)
        if table.is_empty():
            raise InputError("there are no interactions: check the data and the rating threshold")
        times = None
        if names["time"] is not None:
            seconds = _seconds(table[names["time"]])
            _refuse_rows(seconds.is_null(), f"column '{names['time']}' holds no time")
            times = seconds.cast(pl.Int64).to_numpy()
        (users, user_ids), (items, item_ids) = (_encode(table[names[role]]) for role in ("user", "item"))
        found = cls.from_pairs(users, items, user_ids, item_ids, times)
        return replace(found, first_seen=(_first_seen(users, len(user_ids)), _first_seen(items, len(item_ids))))

    @classmethod
    def from_matrix(
        cls, matrix: sparray | spmatrix, user_ids: Ids | None = None, item_ids: Ids | None = None
    ) -> "Interactions":
        """From a scipy sparse matrix (n_users, n_items); zeros are no interactions. Ids count from 0 unless given.

        Raises:
            InputError: values that are not numbers or below 0.
        """
        coordinates = matrix.tocoo()
        data = np.asarray(coordinates.data, dtype=np.float64)
        if np.isnan(data).any() or (data < 0).any():
            raise InputError("the matrix holds values that are negative or not numbers: interactions are above 0")
        kept = data > 0
        users, items = coordinates.row[kept], coordinates.col[kept]
        ids = [
            pl.Series(np.arange(n) if given is None else given)
            for n, given in zip(matrix.shape, (user_ids, item_ids), strict=True)
        ]
        if any(len(each) != n for each, n in zip(ids, matrix.shape, strict=True)):
            raise InputError(
                f"the matrix is {matrix.shape[0]:,} × {matrix.shape[1]:,}: give an id for each row and column"
            )
        return cls.from_pairs(users, items, ids[0], ids[1])

    @property
    def n_users(self) -> int:
        """How many users."""
        return int(self.matrix.shape[0])

    @property
    def n_items(self) -> int:
        """How many items."""
        return int(self.matrix.shape[1])

    def __repr__(self) -> str:
        return f"Interactions({self.n_users:,} users, {self.n_items:,} items, {len(self):,} interactions)"

    def __len__(self) -> int:
        return int(self.matrix.nnz)

    @property
    def users(self) -> NDArray[np.int32]:
        """(n,) the row of each interaction's user, rising."""
        return np.repeat(np.arange(self.n_users, dtype=np.int32), self.user_counts)

    @property
    def items(self) -> NDArray[np.int32]:
        """(n,) the column of each interaction's item."""
        return np.asarray(self.matrix.indices)

    @property
    def user_counts(self) -> NDArray[np.int64]:
        """(n_users,) interactions of each user."""
        counts: NDArray[np.int64] = np.diff(self.matrix.indptr).astype(np.int64)
        return counts

    @property
    def item_counts(self) -> NDArray[np.int64]:
        """(n_items,) interactions with each item."""
        return np.bincount(self.items, minlength=self.n_items).astype(np.int64)

    def user_rows(self, ids: Ids) -> NDArray[np.int64]:
        """(b,) the row of each user id, −1 where it is unknown."""
        return _rows_of(self.user_ids, ids)

    def item_rows(self, ids: Ids) -> NDArray[np.int64]:
        """(b,) the column of each item id, −1 where it is unknown."""
        return _rows_of(self.item_ids, ids)

    def take(self, which: NDArray[np.bool_] | NDArray[np.integer]) -> "Interactions":
        """Only these interactions, over the same users and items."""
        times = None if self.times is None else self.times[which]
        return self.from_pairs(self.users[which], self.items[which], self.user_ids, self.item_ids, times)

    def union(self, other: "Interactions") -> "Interactions":
        """The interactions of both, over the same users and items; times only where both have them."""
        times = None
        if self.times is not None and other.times is not None:
            times = np.concatenate([self.times, other.times])
        users, items = (np.concatenate([getattr(self, side), getattr(other, side)]) for side in ("users", "items"))
        return self.from_pairs(users, items, self.user_ids, self.item_ids, times)

    def k_core(self, k: int) -> "Interactions":
        """Only users and items with at least k interactions among themselves.

        Raises:
            InputError: nothing is left.
        """
        users, items = self.users, self.items
        kept = np.ones(len(users), dtype=bool)
        while True:
            degrees = [
                np.bincount(rows[kept], minlength=n) for rows, n in ((users, self.n_users), (items, self.n_items))
            ]
            short = kept & ((degrees[0][users] < k) | (degrees[1][items] < k))
            if not short.any():
                break
            kept &= ~short
        if not kept.any():
            raise InputError(f"no user and item have {k} interactions with each other: lower the k-core")
        rows, columns = (np.flatnonzero(degree) for degree in degrees)
        times = None if self.times is None else self.times[kept]
        return self.from_pairs(
            np.searchsorted(rows, users[kept]),
            np.searchsorted(columns, items[kept]),
            self.user_ids[rows],
            self.item_ids[columns],
            times,
        )


def _column(table: pl.DataFrame, role: str, named: str | None) -> Any:
    if named is not None:
        if named not in table.columns:
            raise InputError(f"there is no column '{named}' among {', '.join(table.columns)}: name one of them")
        return named
    usual = [column for column in table.columns if column.lower() in _USUAL_NAMES[role]]
    if not usual and role in ("user", "item"):
        raise InputError(
            f"no column of {role}s is known among {', '.join(table.columns)}: name it, "
            f"as {role}='NAME' in Python, or --columns {role}=NAME"
        )
    return usual[0] if usual else None


def _refuse_rows(bad: pl.Series, what: str) -> None:
    if bad.any():
        raise InputError(f"{what} in row {int(bad.arg_max() or 0) + 1}: mend or leave out such rows")


def _missing(column: pl.Series) -> pl.Series:
    return column.is_null() | column.is_nan() if column.dtype.is_float() else column.is_null()


def _numbers(column: pl.Series) -> pl.Series:
    return column.cast(pl.Float64, strict=False)


def _seconds(column: pl.Series) -> pl.Series:
    """Times as numbers, null where there is none."""
    if column.dtype == pl.String and _numbers(column).is_null().all():
        # Text that is no date either stays what it is.
        with contextlib.suppress(pl.exceptions.ComputeError):
            column = column.str.to_datetime(strict=False)
    return column.dt.epoch("s") if column.dtype.is_temporal() else _numbers(column)


def _encode(column: pl.Series) -> tuple[NDArray[np.int64], pl.Series]:
    """Row numbers, and the ids they stand for in rising order, whatever the order of the data."""
    ids = column.unique().sort()
    return _rows_of(ids, column), ids


def _first_seen(rows: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """(n,) the rows 0 to n − 1, each of which comes up, in order of their first appearance."""
    first = np.empty(n, dtype=np.int64)
    first[rows[::-1]] = np.arange(len(rows))[::-1]
    return np.argsort(first)


def _rows_of(ids: pl.Series, wanted: Ids) -> NDArray[np.int64]:
    known = pl.DataFrame({"id": ids, "row": np.arange(len(ids), dtype=np.int64)})
    asked = pl.Series("id", wanted, strict=False).cast(ids.dtype, strict=False)
    found = asked.to_frame().join(known, on="id", how="left", maintain_order="left")
    return found["row"].fill_null(-1).to_numpy()
