"""Readers of interaction files, chosen by name and content."""

import os
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

import polars as pl

from ciess.checks import choice, nearest
from ciess.data.catalogue import CATALOGUE, located
from ciess.data.columns import numbers, seconds, whole_if_all
from ciess.data.foreign import check_unpacked, panics_untold
from ciess.data.frames import Rows, Wanted, rows_of_table, together
from ciess.data.generated import synthetic
from ciess.data.interactions import Interactions, InteractionsLike
from ciess.data.lines import are_lines, rows_of_lines
from ciess.data.matrices import matrix_in
from ciess.data.text import are_tabbed, content_of, ending, has_names, is_digits, lines_of, may_be_lines, rows_of_text
from ciess.errors import InputError, refused
from ciess.files import check_file, given_path, reading, there

Layout = Literal["lines", "table"]
RECORD = "prepared.json"
"""By which a folder of `ciess.prepare` is known."""

_USUAL_FILES = ("ratings.dat", "u.data", "ratings.csv", "user_artists.dat")
_PARTS = ("train.txt", "valid.txt", "val.txt", "validation.txt", "test.txt")
_PARQUET = (".parquet", ".pq")
_ENDINGS = (".inter", *_PARQUET, ".npz", ".csv", ".tsv", ".txt")
_BYTES_A_ROW = 16
"""Of two ids."""
_LOGS = ("_delta_log", ".hoodie")
"""Of Delta Lake and Hudi: they tell which Parquet files beside them still count."""
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


def is_prepared(folder: Path) -> bool:
    """Whether it is a folder that `ciess.prepare` made."""
    # A pipe would be waited for, to be locked.
    if not folder.is_dir():
        return False
    with reading(folder) as place:
        return place(RECORD).is_file()


def interactions_of(data: "InteractionsLike") -> Interactions:
    """Interactions from whatever holds them: a path or name, see `read`; a frame or matrix, see `Interactions.of`.

    Raises:
        InputError: anything else, or what these refuse.
    """
    return read(data) if isinstance(data, str | os.PathLike) else Interactions.of(data)


def read(
    path: str | os.PathLike[str],
    *,
    user: str | None = None,
    item: str | None = None,
    rating: str | None = None,
    time: str | None = None,
    min_rating: float | None = None,
    layout: Layout | None = None,
) -> Interactions:
    """Read interactions from a file or a folder.

    Known are LightGCN's lines (`user item item …`), MovieLens (`ratings.dat`, `u.data`, `ratings.csv`), Last.fm of
    HetRec (`user_artists.dat`), RecBole's `.inter`, text with a line of column names (separated by commas, semicolons,
    tabs, bars or spaces), `.parquet`, and sparse matrices of `scipy.sparse.save_npz`, whose rows and columns are
    numbered. Text may be packed (`.gz`, `.zst`). In a folder, LightGCN's `train.txt`, `test.txt` and, if there is one,
    `valid.txt` (`val.txt`, `validation.txt`) are put together, and so are the parts of a Parquet table, partitioned by
    `key=value` or not; else the one file of a known kind is read.

    Ids of text files are whole numbers if all of a column are written as Python would write them, else text.

    Args:
        path: file or folder; else a name of the catalogue that was fetched (`ciess data list`), or `synthetic`, the
            embedded set.
        user: column of user ids, where it has no usual name; the other columns likewise.
        item: column of item ids.
        rating: column of ratings, needed with `min_rating` only.
        time: column of times, see `Interactions.from_frame`.
        min_rating: leave out interactions rated below this.
        layout: of text without column names: `lines` are LightGCN's, a `table` is user, item and, if there are more,
            rating and time; None tells them apart where that is possible.

    Raises:
        InputError: what is wrong with which file, and what to do.
    """
    wanted = Wanted(user, item, rating, time, min_rating)
    if layout is not None:
        choice("layout", layout, ("lines", "table"))
    path = given_path("path", path)
    known = there(path)
    if not known and str(path) == "synthetic":
        _refuse_options(path, wanted, layout)
        return synthetic().interactions
    if known and is_prepared(path):
        raise InputError(
            f"{path} is prepared, a split for search, compare and apply alone: name the data that it was made of"
        )
    files = _files(path if known else _named(str(path)))
    for file in files:
        if not check_file(file, "a file with interactions"):
            raise InputError(f"{file} is empty: name a file with interactions")
    try:
        if ending(files[0]) == ".npz":
            _refuse_options(path, wanted, layout)
            return Interactions.from_matrix(matrix_in(files[0]))
        if ending(files[0]) in _PARQUET:
            if layout is not None:
                raise InputError("a layout is of text files: leave it out")
            rows = together([rows_of_parquet(file, path, wanted) for file in files])
        else:
            rows = _rows_of_texts(files, wanted, layout)
        return Interactions.from_rows(rows)
    except InputError as error:
        raise error if str(path) in str(error) else InputError(f"{path}: {error}") from error


def _rows_of_texts(files: list[Path], wanted: Wanted, layout: Layout | None) -> Rows:
    contents = [content_of(file) for file in files]
    if len({has_names(content, wanted) for content in contents}) > 1:
        names = ", ".join(file.name for file in files)
        raise InputError(f"some of {names} have a line of column names and some have none: give all one, or none")
    lines = layout == "lines"
    if layout is None and may_be_lines(files[0], contents[0]):
        digits = all(map(is_digits, contents))
        lines = are_lines(files[0], contents) if digits else not are_tabbed(map(lines_of, contents))
    if lines:
        _refuse_options(files[0], wanted, None)
        return together([rows_of_lines(*each) for each in zip(files, contents, strict=True)])
    told = layout is not None
    return together([rows_of_text(*each, wanted, told) for each in zip(files, contents, strict=True)])


def _files(path: Path) -> list[Path]:
    """The files that hold the interactions of a file or folder."""
    if not path.is_dir():
        return [path]
    if any((path / name).is_dir() for name in _LOGS) or any(path.glob("metadata/*.metadata.json")):
        raise InputError(
            f"{path} is a table of Delta Lake, Hudi or Iceberg, some of whose files may count no more: "
            "write its current state into a Parquet file"
        )
    halves = [path / name for name in _PARTS if (path / name).is_file()]
    if {half.name for half in halves} >= {"train.txt", "test.txt"}:
        return halves
    found = [path / name for name in _USUAL_FILES if (path / name).is_file()] or [
        file for file in _shown(path) if ending(file) in _ENDINGS
    ]
    # What lies below other files is not theirs.
    if all(ending(file) in _PARQUET for file in found or _shown(path)):
        found = sorted(file for file in path.rglob("*") if _is_part(file.relative_to(path)))
        if found:
            return found
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise InputError(f"{path} should hold one file of interactions, found {names}: name the file itself")
    return found


def _shown(folder: Path) -> list[Path]:
    """The files of a folder, but for those that are hidden and those to be read by people."""
    names = sorted(file.name for file in folder.iterdir() if file.is_file())
    return [folder / name for name in names if not name.startswith((".", "_")) and "readme" not in name.lower()]


def _is_part(place: Path) -> bool:
    """Whether a file is a part of a Parquet table; names that begin so are what programs write beside the parts."""
    return place.suffix.lower() in _PARQUET and not any(part.startswith((".", "_")) for part in place.parts)


def parquet_parts(path: Path) -> list[Path]:
    """The files of a Parquet table, which is a file or a folder.

    Raises:
        InputError: there are none, or others, or one that is empty.
    """
    if not there(path):
        raise InputError(f"{path} does not exist: name a Parquet file, or a folder of its parts")
    files = _files(path)
    for file in files:
        if ending(file) not in _PARQUET:
            raise InputError(f"{file} is no Parquet file: read it by ciess.read, or convert it first")
        if not check_file(file, "a file with interactions"):
            raise InputError(f"{file} is empty: leave it out")
    return files


def rows_of_parquet(file: Path, table: Path, wanted: Wanted) -> Rows:
    """The interactions of a file or of a part of a table, whose folders may name columns: `key=value`."""
    folders = (part.partition("=") for part in file.relative_to(table).parts[:-1]) if file != table else ()
    constant = {
        key: whole_if_all(pl.Series([None if value == _NO_VALUE else unquote(value)], dtype=pl.String))
        for key, equal, value in folders
        if equal
    }
    with refused(f"{file} cannot be read as Parquet", "check that it is whole"), panics_untold():
        # A name may hold what stands for other letters elsewhere.
        whole = pl.scan_parquet(file, glob=False)
        stored = whole.collect_schema().names()
        names = [*stored, *(name for name in constant if name not in stored)]

        def take(places: list[int]) -> list[pl.Series]:
            n = whole.select(pl.len()).collect().item()
            check_unpacked(file, n * _BYTES_A_ROW)
            asked = [names[place] for place in places]
            part = pl.read_parquet(file, columns=[name for name in asked if name in stored], glob=False)
            for column in part:
                if column.dtype == pl.String:
                    check_unpacked(file, int(column.str.len_bytes().sum() or 0))
                if column.name in constant:
                    _check_told(file, column, constant[column.name])
            return [part[name] if name not in constant else constant[name].new_from_index(0, n) for name in asked]

        return rows_of_table(names, take, wanted)


def _check_told(file: Path, column: pl.Series, told: pl.Series) -> None:
    """Refuse a column that holds another value than the one that its folder tells, as text, number and time.

    Raises:
        InputError: it does.
    """
    if column.dtype.is_nested():
        return
    forms = (lambda values: values.cast(pl.String, strict=False), numbers, seconds)
    # What is no number or time is null as one, and so are all others that are none.
    found = [(form(column), form(told)) for form in forms]
    if not any(
        here.eq_missing(there.new_from_index(0, len(here))).all()
        for here, there in found
        if there.null_count() == told.null_count()
    ):
        raise InputError(f"{file} holds other values in column '{column.name}' than its folder says: fix it")


def _named(name: str) -> Path:
    if name not in CATALOGUE:
        near = nearest(name, CATALOGUE)
        raise InputError(f"{name} does not exist{near}: check the path, or name a set of `ciess data list`")
    found = located(name)
    if found is None:
        raise InputError(f"{name} is not on this machine: fetch it with `ciess data fetch {name}`")
    return found


def _refuse_options(path: Path, wanted: Wanted, layout: Layout | None) -> None:
    """Refuse what does nothing where there are no columns."""
    if wanted.min_rating is not None:
        raise InputError(f"{path} holds no ratings: leave the rating threshold out")
    if wanted != Wanted():
        raise InputError(f"{path} holds no named columns: leave their names out")
    if layout is not None:
        raise InputError(f"{path} is no text file: leave the layout out")
