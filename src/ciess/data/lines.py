"""LightGCN's text format: a line for each user, `user item item …`, whole numbers."""

import logging
import re
from pathlib import Path

import numpy as np
import polars as pl

from ciess.data.columns import whole_if_all
from ciess.data.frames import Rows
from ciess.data.text import are_tabbed, is_digits, lines_of
from ciess.errors import InputError

_log = logging.getLogger(__name__)
_NOT_PLAIN = re.compile(rb"(?<!\S)0[0-9]|[0-9]{19}")
"""Begins a number that NumPy would not give back as it is written."""
_MOST_RATING, _LEAST_TIME = 100, 10**8
_COUNTED = "has lines that begin with how many items follow: begin each with its user instead"
_FEW = 10
"""Lines that can begin so by chance."""
_MOST_COLUMNS = 4
"""Of a table without column names: user, item, rating and time."""


def are_lines(path: Path, contents: list[bytes]) -> bool:
    """Whether files of whole numbers are lines `user item item …`, and not `user item rating [time]`.

    Lines differ in length, and have a user each. Where all are as long, a table is told by tabs, by users that come
    again in one file, or by a fourth number that can only be a time. Where all have as many tabs, cells may be empty.
    A table of which a line is cut has users that come again, too, and most of its lines are as long.

    Raises:
        InputError: both may be meant, or lines begin with counts.
    """
    files = [lines_of(content) for content in contents]
    tabbed = are_tabbed(files)
    lengths = pl.concat([lines.str.count_matches(r"\t" if tabbed else r"\S+") for lines in files]) + tabbed
    width, uneven = int(lengths.max()), lengths.n_unique() > 1  # type: ignore[arg-type]
    if width <= 2:
        return True
    # A line with a user alone says nothing of the others.
    firsts = [lines.filter(lines.str.contains(r"\d\s+\d")).str.extract(r"(\d+)") for lines in files]
    lengths = lengths.filter(lengths > 1)
    again = any(first.n_unique() < len(first) for first in firsts)
    if uneven and again and _begin_with_counts(pl.concat(firsts), lengths):
        raise InputError(f"{path} {_COUNTED}")
    timed = width == _MOST_COLUMNS and not again and all(_has_times(lines) for lines in files)
    if uneven:
        alike = bool(lengths.value_counts()["count"].max() >= len(lengths) / 2)  # type: ignore[operator]
        if not (alike and (again or timed)):
            return True
    else:
        tabs = not any(lines.str.contains(r"\d +\d").any() for lines in files)
        if width <= _MOST_COLUMNS and (tabs or again or timed):
            return False
        if width > _MOST_COLUMNS and not (tabs or again):
            return True
    raise InputError(
        f"{path} may hold lines of 'user item item …' or a table of 'user item rating …' without column names: "
        "say which by the layout, lines or table"
    )


def _begin_with_counts(firsts: pl.Series, lengths: pl.Series) -> bool:
    """Whether all lines begin with how many numbers follow, as CiteULike's do, and name no user."""
    return bool((firsts.cast(pl.Int64, strict=False) == lengths - 1).all())


def _has_times(lines: pl.Series) -> bool:
    """Whether the third of four numbers can be a rating and the fourth a time, but no item, wherever there are four."""
    fields = lines.str.extract_groups(r"\d+\s+\d+\s+(\d+)\s+(\d+)").struct
    ratings, times = (fields.field(group).cast(pl.Float64) for group in ("1", "2"))
    return bool((ratings <= _MOST_RATING).all() and (times >= _LEAST_TIME).all())


def rows_of_lines(path: Path, content: bytes) -> Rows:
    """The interactions of a file of lines; a line with a user alone adds none, with a warning.

    Raises:
        InputError: something that is not a whole number of 0 or more.
    """
    lines = [line for line in (each.split() for each in content.splitlines()) if line]
    if not is_digits(content):
        _refuse_letters(path, content)
    lengths = np.array([len(line) for line in lines])
    if len(lines) >= _FEW and all(line[0] == b"%d" % (len(line) - 1) for line in lines):
        raise InputError(f"{path} {_COUNTED}")
    if (alone := int((lengths == 1).sum())) < len(lines) and alone:
        _log.warning("%s: lines that name a user and no item, and add nothing: %d", path, alone)
    if _NOT_PLAIN.search(content):
        numbers = pl.Series(content.decode().split(), dtype=pl.String)
    else:
        numbers = pl.Series(np.array(content.split(), dtype=np.int64))
    is_user = np.zeros(len(numbers), dtype=bool)
    is_user[np.concatenate([[0], lengths[:-1].cumsum()])] = True
    users = numbers.filter(pl.Series(is_user)).gather(np.repeat(np.arange(len(lengths)), lengths - 1))
    items = numbers.filter(pl.Series(~is_user))
    if numbers.dtype == pl.String:
        users, items = whole_if_all(users), whole_if_all(items)
    return Rows(users, items, None)


def _refuse_letters(path: Path, content: bytes) -> None:
    for number, line in enumerate(content.splitlines(), 1):
        for token in line.split():
            if not token.isdigit():
                shown = token.decode(errors="replace")
                raise InputError(f"{path}, line {number}: '{shown}' is not a whole number of 0 or more: fix the line")
