"""Files of nothing but ids."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ciess.data.columns import is_missing, plain_ids, refuse_rows
from ciess.data.foreign import array_in, panics_untold
from ciess.data.frames import usual_places
from ciess.data.text import separator_of, untyped
from ciess.errors import InputError, refused
from ciess.files import check_file


def ids_in(path: Path, side: str, *, counted: bool = True) -> pl.Series:
    """Ids as a file holds them, in its order: Int64, or String by `id_text`; null where one is missing.

    Args:
        path: .npy, a column of .csv or .tsv (with its header) or .parquet, or else a text with one id a line, below a
            usual name of their column or not. Spaces around ids of a text are none of theirs.
        side: `user` or `item`, what a column of several may be called.
        counted: whether it is known how many ids there must be. If not, the column of a .csv must be called so, too:
            nothing else tells a first line of names from one that is an id.

    Raises:
        InputError: there is no such file, it cannot be read, several columns may be meant, the first line may be an id,
            or a value is none.
    """

    def of_table(each: Path) -> pl.Series:
        return _column(_table(each, side, counted), side, each, counted).str.strip_chars()

    def of_lines(each: Path) -> pl.Series:
        return _lines(each, side)

    readers: Mapping[str, Callable[[Path], Any]] = {
        ".npy": _array,
        ".csv": of_table,
        ".tsv": of_table,
        ".parquet": lambda each: _column(pl.read_parquet(each, glob=False), side, each, counted),
    }
    if not check_file(path, "a file of ids"):
        raise InputError(f"{path} is empty: name a file of ids")
    with refused(f"{path} is no file of ids", "write one id a line, or .npy, .csv, .tsv or .parquet"), panics_untold():
        found = readers.get(path.suffix.lower(), of_lines)(path)
        ids = plain_ids(found)
        refuse_rows(ids.is_null() & ~is_missing(found), f"{path} holds what is no id")
    return ids


def ids_of_lines(text: str) -> pl.Series:
    """Ids of a text, one a line, without the spaces around them and a byte order mark."""
    lines = text.removeprefix("\ufeff").rstrip("\n").split("\n")
    return pl.Series(lines, dtype=pl.String).str.strip_chars()


def _table(path: Path, side: str, counted: bool) -> pl.DataFrame:
    with path.open("rb") as file:
        separator = separator_of(file.readline())
    # One column has nothing to separate.
    table = pl.read_csv(path, infer_schema=False, separator="," if separator == " " else separator, glob=False)
    if table.width == 1 and not counted and not _named(table.columns, side):
        raise InputError(
            f"{path} begins with '{table.columns[0]}', which may be an id: write '{side}' in a line before"
        )
    return table


def _column(table: pl.DataFrame, side: str, path: Path, counted: bool) -> pl.Series:
    """The column of ids; in the order of a column `row` beside it, where each belongs to a row."""
    candidates = [0] if table.width == 1 else _named(table.columns, side)
    if len(candidates) != 1:
        raise InputError(f"{path} has columns {', '.join(table.columns)}: keep one, or call that of the ids '{side}'")
    if counted and "row" in table.columns and table.width > 1:
        rows = table["row"].cast(pl.Int64, strict=False)
        if not rows.sort().equals(pl.int_range(len(rows), eager=True), check_names=False):
            raise InputError(f"{path} has a column 'row' that is not 0 to {len(table) - 1}, each once: correct it")
        table = table[rows.arg_sort()]
    return table.to_series(candidates[0])


def _named(names: list[str], side: str) -> list[int]:
    """The places of names of columns that are usual for ids."""
    names = [untyped(name.strip()) for name in names]
    own = [place for place, name in enumerate(names) if name.lower() == "id"]
    return sorted({*usual_places(names, side), *own})


def _array(path: Path) -> pl.Series:
    table = array_in(path)
    if table.ndim != 1:
        raise ValueError(f"an array of shape {table.shape}")
    return pl.Series(np.char.decode(table) if table.dtype.kind == "S" else table)


def _lines(path: Path, side: str) -> pl.Series:
    ids = ids_of_lines(path.read_text(encoding="utf-8"))
    return ids[1:] if _named(ids[:1].to_list(), side) else ids
