"""Tables with one interaction a row: which columns are meant, and what they hold."""

import logging
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ciess.checks import check
from ciess.data import columns
from ciess.errors import InputError

_log = logging.getLogger(__name__)
_USUAL_NAMES = {
    "user": ("user", "userid", "uid", "users", "customer", "customerid", "visitorid"),
    "item": ("item", "itemid", "iid", "items", "movieid", "product", "productid", "businessid", "artistid"),
    "rating": ("rating", "ratings", "score", "stars"),
    "time": ("time", "timestamp", "date", "datetime"),
}
"""In lower case, without spaces, underscores and hyphens."""
_NOT_IN_NAMES = r"[ _\-\t\x{feff}]|:(token|float)$"
_RULE = "^:?[-=]{2,}:?$"
_BRACKETS = r"""^[\[{].*[,'"].*[\]}]$"""
_NUMBERS = rf"^\d+( *[ ,;|] *\d+)+$|{_BRACKETS}"
_IGNORED = str.maketrans("", "", " _-\t\ufeff")


@dataclass(frozen=True)
class Wanted:
    """What is asked of a table, see `Interactions.from_frame`; None is a column of a usual name."""

    user: Hashable = None
    item: Hashable = None
    rating: Hashable = None
    time: Hashable = None
    min_rating: float | None = None

    def __post_init__(self) -> None:
        check("min_rating", self.min_rating, float | None)


@dataclass(frozen=True, eq=False)
class Rows:
    """What a table holds, one interaction a row.

    Attributes:
        users: (n,) plain ids, Int64 or String.
        items: (n,) the same.
        times: (n,) numbers, or None where the table tells no times or not all of them.
        dated: whether times were dates, which are seconds; numbers may be of any unit.
    """

    users: pl.Series
    items: pl.Series
    times: NDArray[Any] | None
    dated: bool = False


def rows_of_frame(frame: Any, wanted: Wanted) -> Rows:
    """The interactions of a polars or pandas frame.

    Raises:
        InputError: as `Interactions.from_frame`.
    """
    if isinstance(frame, pl.DataFrame):
        return rows_of_table(frame.columns, lambda places: [frame.to_series(place) for place in places], wanted)
    if not (hasattr(frame, "iloc") and hasattr(frame, "columns")):
        raise InputError(f"a table cannot be of type {type(frame).__name__}: give a polars or pandas frame")
    labels = list(frame.columns)
    return rows_of_table(labels, lambda places: [columns.series_of(frame.iloc[:, place]) for place in places], wanted)


def rows_of_table(
    labels: Sequence[Hashable], take: Callable[[list[int]], list[pl.Series]], wanted: Wanted, *, untyped: bool = False
) -> Rows:
    """The interactions of a table of which only the columns that matter are looked at.

    Args:
        labels: names of all columns.
        take: gives columns by their places among the labels.
        wanted: which are meant, and the least rating.
        untyped: whether the columns are text because their file knows no types.

    Raises:
        InputError: a column that is missing or not told apart from others, or values that are missing or of no use.
    """
    hint = ""
    if untyped and not any(usual_places(labels, role) for role in _USUAL_NAMES):
        hint = ", or add a line of column names if there is none, such as user,item,rating,time"
    places = {"user": _place(labels, "user", wanted.user, hint), "item": _place(labels, "item", wanted.item, hint)}
    if places["user"] == places["item"]:
        both = labels[places["user"]]
        raise InputError(f"column '{both}' is named as that of users and of items: name that of the items, item=NAME")
    if wanted.min_rating is not None or wanted.rating is not None:
        places["rating"] = _place(labels, "rating", wanted.rating)
    if (time := _place_of_time(labels, wanted.time)) is not None:
        places["time"] = time
    distinct = sorted(set(places.values()))
    taken = dict(zip(distinct, take(distinct), strict=True))
    found = {role: taken[place] for role, place in places.items()}
    name = {role: f"column '{labels[place]}'" for role, place in places.items()}
    ids = {role: _ids(found[role], untyped) for role in ("user", "item")}
    if untyped and ids["item"].dtype == pl.String:
        _refuse_lists(found["item"], str(labels[places["item"]]))
        if ids["user"].dtype == pl.String:
            _refuse_no_data(found["user"], found["item"])
    kept = _rated_enough(found, name, wanted.min_rating)
    for role in ids:
        columns.refuse_rows(kept & columns.is_missing(found[role]), f"{name[role]} holds no id")
        is_float = found[role].dtype.is_float()
        unfit = "a float that is no exact id" if is_float else "what is neither whole number nor text"
        columns.refuse_rows(kept & ids[role].is_null(), f"{name[role]} holds {unfit}")
    users, items = (each.filter(kept) for each in ids.values())
    if "time" not in found:
        return Rows(users, items, None)
    times = columns.seconds(found["time"])
    if wanted.time is not None:
        unread = kept & times.is_null()
        columns.refuse_rows(unread, f"{name['time']} holds no number, date or ISO text such as 2024-01-31")
    times = times.filter(kept)
    return Rows(users, items, None if times.null_count() else times.to_numpy(), columns.are_dates(found["time"]))


def together(parts: Sequence[Rows]) -> Rows:
    """All rows of several tables; times only where all have them, see `have_times`."""
    # Nothing is known of the types of none.
    parts = [part for part in parts if len(part.users)] or parts[:1]
    users, items = (
        pl.concat(columns.one_type([getattr(part, side) for part in parts]), rechunk=True)
        for side in ("users", "items")
    )
    times = [part.times for part in parts if part.times is not None]
    if not have_times(parts):
        return Rows(users, items, None)
    return Rows(users, items, np.concatenate(times), parts[0].dated)


def have_times(parts: Iterable[Rows]) -> bool:
    """Whether all tables have times, either dates or numbers; a warning where they have both."""
    kinds = {None if part.times is None else part.dated for part in parts}
    if kinds == {True, False}:
        _log.warning("times are dates in some files and numbers in others: they are left out")
    return len(kinds) == 1 and None not in kinds


def _ids(column: pl.Series, untyped: bool) -> pl.Series:
    if not untyped:
        return columns.plain_ids(column)
    present = column.filter(~columns.is_missing(column))
    return column.cast(pl.Int64, strict=False) if columns.whole_if_all(present).dtype == pl.Int64 else column


def _refuse_no_data(users: pl.Series, items: pl.Series) -> None:
    """Refuse names of columns and rules among the rows of a text, as of files that were put one behind the other.

    Raises:
        InputError: a row of both.
    """
    # Few are called as columns are, and of those alone it is asked what they have.
    named = _are_names(users, "user")
    if named.any():
        columns.refuse_rows(named & _are_names(items, "item"), "names of columns, or a rule, stand among the data")


def _are_names(column: pl.Series, role: str) -> pl.Series:
    bare = column.str.to_lowercase().str.replace_all(_NOT_IN_NAMES, "")
    return (bare.is_in(_USUAL_NAMES[role]) | column.str.contains(_RULE)).fill_null(False)


def _refuse_lists(items: pl.Series, name: str) -> None:
    """Refuse texts that hold lists of items: in brackets, or numbers under a name for several.

    Raises:
        InputError: most do.
    """
    lists = items.filter(items.str.contains(_NUMBERS if name.lower().endswith("s") else _BRACKETS).fill_null(False))
    if len(lists) > len(items) / 2:
        raise InputError(f"column '{name}' holds lists such as '{lists[0]}': write one interaction a line")


def _rated_enough(found: dict[str, pl.Series], name: dict[str, str], least: float | None) -> pl.Series:
    if least is None:
        return pl.Series([True], dtype=pl.Boolean).new_from_index(0, len(found["user"]))
    if found["rating"].dtype == pl.Boolean:
        raise InputError(
            f"{name['rating']} holds true and false, no ratings: keep the rows you mean, without a threshold"
        )
    ratings = columns.numbers(found["rating"])
    columns.refuse_rows(ratings.is_null(), f"{name['rating']} holds no rating")
    # A float32 of 4.1 is a little less than 4.1.
    return ratings >= (float(np.float32(least)) if found["rating"].dtype == pl.Float32 else least)


def _place(labels: Sequence[Hashable], role: str, named: Hashable, hint: str = "") -> int:
    """Where a column is that must be there; the hint is what else may be done where it is not known."""
    if named is not None:
        return _place_named(labels, named)
    usual = usual_places(labels, role)
    known = ", ".join(map(str, labels))
    if len({labels[place] for place in usual}) > 1:
        several = " and ".join(f"'{labels[place]}'" for place in usual)
        raise InputError(f"columns {several} may all be the {role}s': name the one that is, {role}=NAME")
    if usual:
        return _place_named(labels, labels[usual[0]])
    if role == "rating":
        raise InputError(f"a rating threshold needs a rating column; found {known}: name it, rating=NAME")
    raise InputError(f"no column of {role}s is known among {known}: name it, {role}=NAME{hint}")


def _place_of_time(labels: Sequence[Hashable], named: Hashable) -> int | None:
    """Where the times are; nothing is guessed where several columns may hold them."""
    if named is not None:
        return _place_named(labels, named)
    usual = usual_places(labels, "time")
    return usual[0] if len(usual) == 1 else None


def _place_named(labels: Sequence[Hashable], named: Hashable) -> int:
    places = [place for place, label in enumerate(labels) if label == named]
    if not places:
        raise InputError(f"there is no column '{named}' among {', '.join(map(str, labels))}: name one of them")
    if len(places) > 1:
        raise InputError(f"{len(places)} columns are called '{named}': rename all but one")
    return places[0]


def usual_places(labels: Sequence[Hashable], role: str) -> list[int]:
    """The places of columns that have a usual name of a role: `user`, `item`, `rating` or `time`."""
    return [
        place
        for place, label in enumerate(labels)
        if isinstance(label, str) and label.lower().translate(_IGNORED) in _USUAL_NAMES[role]
    ]
