"""Which user and which item each row of given factors belongs to."""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ciess.data import Interactions
from ciess.data.columns import Ids, plain_ids, series_of, whole_if_all
from ciess.data.id_files import ids_in
from ciess.data.ids import inverse
from ciess.errors import InputError

_log = logging.getLogger(__name__)

Rows = NDArray[np.int64]
"""(n,) the factors' row of each user or item of the interactions, −1 where there is none."""
_Table = NDArray[np.float32]
_RULE = "in rising order of ids"
_COMPARISONS = 10_000
_SHUFFLES = 20
_CLEARLY = 4.0
"""Standard errors."""


class GivenIds(NamedTuple):
    """Ids of the rows of both tables; None follows the rule: row n belongs to the n-th user or item, see `matched`."""

    users: pl.Series | None = None
    items: pl.Series | None = None


def given_ids(side: str, ids: Ids | Path, n_rows: int) -> pl.Series:
    """Ids of a table's rows, from memory or a file.

    Args:
        side: `user` or `item`, for messages and as the name of a column.
        ids: (n_rows,) of any type; or a file: .npy, a column of .csv (with its header) or .parquet, or else a text
            with one id a line.
        n_rows: of the table.

    Raises:
        InputError: a file that cannot be read, or not one id for each row.
    """
    found = whole_if_all(ids_in(ids, side).cast(pl.String)) if isinstance(ids, Path) else plain_ids(series_of(ids))
    name = str(ids) if isinstance(ids, Path) else f"{side}_ids"
    if len(found) != n_rows:
        by_name = isinstance(ids, Path) and ids.suffix.lower() in (".csv", ".tsv") and len(found) == n_rows - 1
        header = f", below a line with the name of their column, such as {side}" if by_name else ""
        raise InputError(
            f"{name} holds {len(found):,} ids for {n_rows:,} rows of {side} factors: "
            f"give one for each row, in the rows' order{header}"
        )
    if found.null_count() or found.n_unique() < n_rows:
        raise InputError(f"{name} holds an id twice, or none for a row: give each row an id of its own")
    return found


def matched(interactions: Interactions, tables: tuple[_Table, _Table], ids: GivenIds) -> Interactions:
    """The interactions over the users and items that factors have rows for, in the order of these rows.

    Where no ids are given, row n belongs to the n-th user or item of the interactions, which `ciess.read` puts in
    rising order of ids. If there are more rows than users or items, their ids must be the rows' numbers, from 0.
    Users and items without interactions stay, and can be recommended; interactions that no row belongs to are left
    out with a warning.

    Raises:
        InputError: rows and ids that do not belong together.
    """
    (users, user_ids), (items, item_ids) = (side.placed() for side in _sides(interactions, tables, ids))
    if user_ids is interactions.user_ids and item_ids is interactions.item_ids:
        return interactions
    user, item = users[interactions.users], items[interactions.items]
    kept = (user >= 0) & (item >= 0)
    if not kept.any():
        raise InputError("no interaction has a user and an item that the factors have rows for: check their ids")
    if not kept.all():
        _log.warning("%d of %d interactions left out: the factors have no rows for them", (~kept).sum(), len(kept))
    times = None if interactions.times is None else interactions.times[kept]
    return Interactions.from_pairs(user[kept], item[kept], user_ids, item_ids, times)


def rows_of_all(interactions: Interactions, tables: tuple[_Table, _Table], ids: GivenIds) -> list[Rows]:
    """The factors' rows of all users and of all items that a model is built for.

    Raises:
        InputError: one has no row, or there are others without ids that tell which they are.
    """
    return [side.complete() for side in _sides(interactions, tables, ids)]


def caution(interactions: Interactions, tables: tuple[_Table, _Table], ids: GivenIds) -> str:
    """What to tell if the rows seem to be in another order than the ids; empty if they do not.

    Each of up to 10,000 interactions is compared with another item of equal popularity in the mean: which one does
    the user's row score higher? The share of comparisons that the user's own item wins is 50% for shuffled rows.

    Args:
        interactions: as they were given, before `matched`.
        tables: factors of users and items.
        ids: as for `matched`.

    Raises:
        InputError: rows without given ids explain the interactions clearly better in another order than by the rule.
    """
    sides = [side.orders() for side in _sides(interactions, tables, ids)]
    trial = _Trial(interactions, tables)
    names = [(user, item) for user in sides[0] for item in sides[1]]
    wins = {(user, item): trial.wins(sides[0][user], sides[1][item]) for user, item in names}
    by_rule, *_ = names
    chance, spread = trial.shuffled(sides[0][by_rule[0]], sides[1][by_rule[1]])
    best = max(names, key=lambda name: wins[name].mean())
    shares = {name: float(each.mean()) for name, each in wins.items()}
    if (
        best != by_rule
        and trial.standard_errors(wins[best] - wins[by_rule]) > _CLEARLY
        and shares[best] > chance + _CLEARLY * spread
    ):
        other = [side for side in (0, 1) if best[side] != by_rule[side]]
        told = [f"{('users', 'items')[side]} are {best[side]}" for side in other]
        options = [("user_ids", "item_ids")[side] for side in other]
        raise InputError(
            f"the factors explain the interactions better if rows of {' and those of '.join(told)}: "
            f"{shares[best]:.0%} instead of {shares[by_rule]:.0%} of comparisons are won, where shuffled rows win "
            f"{chance:.0%}: give the ids in the order of the rows ({' and '.join(options)})"
        )
    if shares[by_rule] > chance + _CLEARLY * spread:
        return ""
    return (
        "the factors explain these interactions no better than shuffled rows would "
        f"({shares[by_rule]:.0%} of comparisons are won, {chance:.0%} by shuffled rows): rows and ids probably do not "
        "belong together, so give the right ids in the order of the rows (user_ids and item_ids)"
    )


class _Trial:
    """A sample of interactions, each beside another item: drawn from all interactions, so that popularity cancels."""

    def __init__(self, interactions: Interactions, tables: tuple[_Table, _Table]) -> None:
        self._tables, self._rng = tables, np.random.default_rng(0)
        drawn = np.arange(len(interactions))
        if len(drawn) > _COMPARISONS:
            drawn = self._rng.choice(drawn, _COMPARISONS, replace=False)
        drawn = np.repeat(drawn, max(1, _COMPARISONS // len(drawn)))
        self._users, self._items = interactions.users[drawn], interactions.items[drawn]
        self._others = interactions.items[self._rng.integers(len(interactions), size=len(drawn))]
        self._shape = interactions.matrix.shape

    def wins(self, users: Rows, items: Rows) -> NDArray[np.float64]:
        """(n,) 1 where the user's own item is scored higher, ½ where both are equal or a row is missing."""
        user, own, other = users[self._users], items[self._items], items[self._others]
        by = self._tables[0][user]
        margin = np.einsum("nd,nd->n", by, self._tables[1][own] - self._tables[1][other])
        known = (user >= 0) & (own >= 0) & (other >= 0)
        return np.where(known, (np.sign(margin) + 1) / 2, 0.5)

    def shuffled(self, users: Rows, items: Rows) -> tuple[float, float]:
        """Mean of the share won by rows of which one side is shuffled, and the larger side's standard deviation."""
        shares = np.array(
            [
                (
                    self.wins(self._rng.permutation(len(self._tables[0]))[users], items).mean(),
                    self.wins(users, self._rng.permutation(len(self._tables[1]))[items]).mean(),
                )
                for _ in range(_SHUFFLES)
            ]
        )
        return float(shares.mean()), float(shares.std(axis=0).max())

    def standard_errors(self, differences: NDArray[np.float64]) -> float:
        """How many standard errors a mean difference is above 0; users are the independent ones."""
        counts = np.bincount(self._users)
        sums = np.bincount(self._users, differences)[counts > 0]
        centred = sums - differences.mean() * counts[counts > 0]
        error = np.sqrt((centred**2).sum())
        return float(sums.sum() / error) if error > 0 else np.inf


class _Side(NamedTuple):
    """The users, or the items, of interactions, and the table whose rows they may have.

    `known`: their ids; `find`: the place of ids among these, −1 for others; `n_rows`: of the table; `given`: ids of its
    rows, if they are; `seen`: places in order of their first appearance, if that is known.
    """

    name: str
    known: pl.Series
    find: Callable[[Ids], Rows]
    n_rows: int
    given: pl.Series | None
    seen: Rows | None

    def placed(self) -> tuple[Rows, pl.Series]:
        """The row of each user or item, and the ids of all rows."""
        name, known, n_rows = self.name, self.known, self.n_rows
        if self.given is not None:
            places = self.find(self.given)
            unmoved = len(places) == len(known) and bool((places == np.arange(n_rows)).all())
            return inverse(places, len(known)), known if unmoved else self.given
        if len(known) == n_rows:
            return np.arange(n_rows), known
        numbers = _numbers(known)
        if numbers is None or numbers.min() < 0 or numbers.max() >= n_rows:
            raise InputError(
                f"there are {n_rows:,} rows of {name} factors for {len(known):,} {name}s, whose ids are not all "
                f"numbers in 0..{n_rows - 1}: give the ids in the order of the rows ({name}_ids)"
            )
        return numbers, pl.Series(np.arange(n_rows))

    def complete(self) -> Rows:
        """The row of each user or item, none of which lacks one."""
        name, known, n_rows = self.name, self.known, self.n_rows
        if self.given is None and len(known) != n_rows:
            raise InputError(
                f"there are {n_rows:,} rows of {name} factors for {len(known):,} {name}s: "
                f"give one for each {name} of the interactions, ids in rising order, or the rows' ids"
            )
        rows, _ = self.placed()
        if (rows < 0).any():
            missing = known[int((rows < 0).argmax())]
            raise InputError(f"there are no factors for {name} {missing!r}: leave its interactions out, or give a row")
        return rows

    def orders(self) -> dict[str, Rows]:
        """Orders that rows may be in, by what to call them: the one that counts first, then usual ones."""
        by_rule, _ = self.placed()
        if self.given is not None:
            return {"as given": by_rule}
        known, n, numbers = self.known, len(self.known), _numbers(self.known)
        orders: dict[str, Rows] = {_RULE: by_rule}
        if self.seen is not None:
            orders["in order of first appearance"] = inverse(self.seen, n)
        if numbers is None:
            orders["in natural order of ids (a2 before a10)"] = _natural_ranks(known)
        else:
            orders["in order of ids as text (10 before 2)"] = inverse(known.cast(pl.String).arg_sort().to_numpy(), n)
            if known.dtype == pl.String:
                orders["in order of ids as numbers (2 before 10)"] = inverse(numbers.argsort(), n)
        if self.n_rows == n + 1:
            moved = {name: rows + 1 for name, rows in [*orders.items(), (_RULE, np.arange(n))] if rows is not by_rule}
            orders |= {f"{name} after one row of padding": rows for name, rows in moved.items()}
        if numbers is not None and numbers.min() >= 1 and numbers.max() <= self.n_rows:
            orders["numbered by ids that start at 1"] = numbers - 1
        return {name: rows for name, rows in orders.items() if name == _RULE or not np.array_equal(rows, by_rule)}


def _sides(interactions: Interactions, tables: tuple[_Table, _Table], ids: GivenIds) -> tuple[_Side, _Side]:
    seen = interactions.first_seen or (None, None)
    return (
        _Side("user", interactions.user_ids, interactions.user_rows, len(tables[0]), ids.users, seen[0]),
        _Side("item", interactions.item_ids, interactions.item_rows, len(tables[1]), ids.items, seen[1]),
    )


def _natural_ranks(ids: pl.Series) -> Rows:
    """(n,) the rank of each text if its digits are read as numbers."""

    def key(text: str) -> list[tuple[bool, int, str]]:
        return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", text)]

    keys = [key(text) for text in ids.cast(pl.String)]
    return inverse(np.array(sorted(range(len(keys)), key=keys.__getitem__)), len(keys))


def _numbers(ids: pl.Series) -> Rows | None:
    """Ids as whole numbers, if all are."""
    whole = whole_if_all(ids.cast(pl.String))
    return whole.to_numpy() if whole.dtype == pl.Int64 else None
