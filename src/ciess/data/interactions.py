"""`Interactions`: implicit feedback of users with items, and the ids of both sides."""

import os
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array, sparray, spmatrix

from ciess.checks import Positive, check
from ciess.data.columns import Ids, encode, is_of_pandas, plain_ids, rows_of, series_of
from ciess.data.frames import Rows, Wanted, rows_of_frame
from ciess.data.matrices import as_csr
from ciess.data.pairs import Times, canonical, checked_times, merged
from ciess.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

InteractionsLike: TypeAlias = "Interactions | pl.DataFrame | pd.DataFrame | sparray | spmatrix | str | os.PathLike[str]"


@dataclass(frozen=True, eq=False, repr=False)
class Interactions:
    """Which user interacted with which item, each pair once. Checked when made.

    Attributes:
        matrix: (n_users, n_items) CSR with ones, columns of a row in rising order, int32 indices where they fit. Any
            other matrix is brought into this form: values above 0 are interactions, zeros are none.
        user_ids: (n_users,) ids, each once: Int64, or String where one is no whole number.
        item_ids: (n_items,) the same of the items.
        times: (n,) time of each interaction in the matrix' order, int64, or float64 where one is no whole number; None
            where they are not known. Those of dates are seconds since 1970.
        first_seen: (n_users,) and (n_items,) rows in order of their first appearance in the data; None where unknown.

    Raises:
        InputError: no interactions, values that are negative or not numbers, or ids that are missing, repeated or of a
            type that is none of ids.
    """

    matrix: csr_array
    user_ids: pl.Series
    item_ids: pl.Series
    times: Times | None = None
    first_seen: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.matrix, sparray | spmatrix):
            raise InputError(f"the matrix is of type {type(self.matrix).__name__}: give a scipy sparse matrix")
        matrix, times = canonical(self.matrix, self.times)
        if matrix.nnz == 0:
            raise InputError("there are no interactions: check the file, the rating threshold and the k-core")
        object.__setattr__(self, "matrix", matrix)
        object.__setattr__(self, "times", times)
        for side, n in zip(("user", "item"), matrix.shape, strict=True):
            ids = plain_ids(series_of(getattr(self, f"{side}_ids")))
            if len(ids) != n:
                raise InputError(f"{len(ids):,} {side} ids for {n:,} {side}s: give one id for each")
            if ids.null_count() or ids.n_unique() < n:
                raise InputError(
                    f"{side} ids are missing or repeated, or neither whole numbers nor text: give each {side} one id"
                )
            object.__setattr__(self, f"{side}_ids", ids)

    @classmethod
    def unchecked(cls, matrix: csr_array, user_ids: pl.Series, item_ids: pl.Series) -> "Interactions":
        """Of a matrix and ids that are known to be as the attributes say.

        The check starts threads of polars, for which a process that was forked from one that had them waits for ever.
        """
        made = object.__new__(cls)
        for name, value in (("matrix", matrix), ("user_ids", user_ids), ("item_ids", item_ids)):
            object.__setattr__(made, name, value)
        return made

    @classmethod
    def of(cls, data: "InteractionsLike") -> "Interactions":
        """From what holds interactions in memory: a frame, see `from_frame`, or a sparse matrix, see `from_matrix`.

        Raises:
            InputError: anything else, or what these refuse.
        """
        if isinstance(data, Interactions):
            return data
        if isinstance(data, sparray | spmatrix):
            return cls.from_matrix(data)
        if isinstance(data, pl.DataFrame) or is_of_pandas(data):
            return cls.from_frame(data)
        if isinstance(data, str | os.PathLike):
            raise InputError(f"'{data}' is a path: read it by ciess.read")
        raise InputError(
            f"interactions cannot be of type {type(data).__name__}: give Interactions, "
            "a polars or pandas frame, or a scipy sparse matrix"
        )

    @classmethod
    def from_pairs(
        cls, users: ArrayLike, items: ArrayLike, user_ids: pl.Series, item_ids: pl.Series, times: Times | None = None
    ) -> "Interactions":
        """From row numbers of users and items, (n,) each; a pair that comes twice counts once, with its earliest time.

        Raises:
            InputError: rows that are no rows of the ids, times that are no numbers, or not one for each interaction.
        """
        shape = len(user_ids), len(item_ids)
        users, items = _checked_rows(users, shape[0]), _checked_rows(items, shape[1])
        if len(users) != len(items):
            raise InputError(f"{len(users):,} users for {len(items):,} items: give one of each an interaction")
        matrix, times = merged(users, items, shape, checked_times(times, len(users)))
        return cls(matrix, user_ids, item_ids, times)

    @classmethod
    def from_rows(cls, rows: Rows) -> "Interactions":
        """From the ids of a table's rows; rows of users and items are in order of rising id.

        Raises:
            InputError: there are none.
        """
        if not len(rows.users):
            raise InputError("there are no interactions: check the data and the rating threshold")
        (users, user_ids), (items, item_ids) = encode(rows.users), encode(rows.items)
        found = cls.from_pairs(users, items, user_ids, item_ids, rows.times)
        return replace(found, first_seen=(_first_seen(users, len(user_ids)), _first_seen(items, len(item_ids))))

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        *,
        user: Hashable = None,
        item: Hashable = None,
        rating: Hashable = None,
        time: Hashable = None,
        min_rating: float | None = None,
    ) -> "Interactions":
        """From a polars or pandas frame with one interaction a row. Columns that are not needed are not looked at.

        Args:
            frame: the table.
            user: column of user ids: integers, text, or floats that are whole numbers; decimals, UUIDs, dates and other
                floats become text. None looks for a usual name, as for the other columns.
            item: column of item ids.
            rating: column of ratings, needed with `min_rating` only.
            time: column of times: numbers, dates, or text such as 2024-01-31 or 2024-01-31 12:00:00. A column that is
                found by its name and is not all times counts as none; one that you name is refused.
            min_rating: leave out rows rated below this.

        Raises:
            InputError: a column that is missing, or one of several that may be meant; values that are missing or no
                ids, ratings or times.
        """
        return cls.from_rows(rows_of_frame(frame, Wanted(user, item, rating, time, min_rating)))

    @classmethod
    def from_matrix(
        cls, matrix: sparray | spmatrix, user_ids: Ids | None = None, item_ids: Ids | None = None
    ) -> "Interactions":
        """From a scipy sparse matrix (n_users, n_items); zeros are no interactions. Ids count from 0 unless given.

        Raises:
            InputError: values that are not numbers or below 0, or ids that are not one for each row and column.
        """
        csr = as_csr(matrix)
        users, items = (
            pl.Series(np.arange(n)) if given is None else series_of(given)
            for n, given in zip(csr.shape, (user_ids, item_ids), strict=True)
        )
        return cls(csr, users, items)

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
        return rows_of(self.user_ids, ids)

    def item_rows(self, ids: Ids) -> NDArray[np.int64]:
        """(b,) the column of each item id, −1 where it is unknown."""
        return rows_of(self.item_ids, ids)

    def take(self, which: NDArray[np.bool_] | NDArray[np.integer]) -> "Interactions":
        """Only these interactions, over the same users and items."""
        times = None if self.times is None else self.times[which]
        return self.from_pairs(self.users[which], self.items[which], self.user_ids, self.item_ids, times)

    def union(self, other: "Interactions") -> "Interactions":
        """The interactions of both, over the same users and items; times only where both have them.

        Raises:
            InputError: they are over other users or items.
        """
        if not (self.user_ids.equals(other.user_ids) and self.item_ids.equals(other.item_ids)):
            raise InputError("interactions over other users or items cannot be joined: bring them over the same first")
        times = None
        if self.times is not None and other.times is not None:
            times = np.concatenate([self.times, other.times])
        users, items = (np.concatenate([getattr(self, side), getattr(other, side)]) for side in ("users", "items"))
        return self.from_pairs(users, items, self.user_ids, self.item_ids, times)

    def over(self, user_ids: pl.Series, item_ids: pl.Series) -> "Interactions":
        """The interactions of these users with these items, over these ids.

        Raises:
            InputError: there are none.
        """
        rows = rows_of(user_ids, self.user_ids), rows_of(item_ids, self.item_ids)
        users, items = rows[0][self.users], rows[1][self.items]
        known = (users >= 0) & (items >= 0)
        if not known.any():
            raise InputError("no interaction has a user and an item of those that are known: check the ids")
        times = None if self.times is None else self.times[known]
        found = self.from_pairs(users[known], items[known], user_ids, item_ids, times)
        if self.first_seen is None:
            return found
        seen = [each[order][each[order] >= 0] for each, order in zip(rows, self.first_seen, strict=True)]
        # Users and items that were not there come after all others.
        first = [np.append(s, np.setdiff1d(np.arange(n), s)) for s, n in zip(seen, found.matrix.shape, strict=True)]
        return replace(found, first_seen=(first[0], first[1]))

    def k_core(self, k: int) -> "Interactions":
        """Only users and items with at least k interactions among themselves.

        Raises:
            InputError: nothing is left, or k is below 1.
        """
        check("k", k, Positive)
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


def pair_keys(interactions: Interactions) -> NDArray[np.int64]:
    """(n,) a number for each pair of a user and an item, rising."""
    return interactions.users.astype(np.int64) * interactions.n_items + interactions.items


def _checked_rows(rows: ArrayLike, n: int) -> NDArray[np.integer]:
    found = np.asarray(rows)
    if found.ndim != 1 or (len(found) and found.dtype.kind not in "iu"):
        given = f"{found.dtype} of shape {found.shape}"
        raise InputError(f"rows of users or items are {given}: give a list of whole numbers")
    if len(found) and not (found.min() >= 0 and found.max() < n):
        raise InputError(f"rows of users or items reach from {found.min()} to {found.max()}: give 0 to {n - 1}")
    return found if found.dtype.kind == "i" else found.astype(np.int64)


def _first_seen(rows: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """(n,) the rows 0 to n − 1, each of which comes up, in order of their first appearance."""
    first = np.empty(n, dtype=np.int64)
    first[rows[::-1]] = np.arange(len(rows))[::-1]
    return np.argsort(first)
