"""Files of nothing but ids."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ciess.data.foreign import array_in, panics_untold
from ciess.errors import InputError, refused
from ciess.files import check_file


def ids_in(path: Path, side: str) -> pl.Series:
    """Ids as a file holds them, in its order.

    Args:
        path: .npy, a column of .csv (with its header) or .parquet, or else a text with one id a line.
        side: `user` or `item`, what a column of several may be called.

    Raises:
        InputError: there is no such file, it cannot be read, or several columns may be meant.
    """
    readers: Mapping[str, Callable[[Path], Any]] = {
        ".npy": _array,
        ".csv": lambda each: pl.read_csv(each, infer_schema=False),
        ".parquet": pl.read_parquet,
    }
    if not check_file(path, "a file of ids"):
        raise InputError(f"{path} is empty: name a file of ids")
    with refused(f"{path} is no file of ids", "write one id a line, or .npy, .csv or .parquet"), panics_untold():
        found = readers.get(path.suffix.lower(), _lines)(path)
    return _column(found, side, path) if isinstance(found, pl.DataFrame) else found


def _column(table: pl.DataFrame, side: str, path: Path) -> pl.Series:
    usual = [name for name in table.columns if re.sub("[ _-]", "", name.lower()) in (side, f"{side}id", "id")]
    candidates = table.columns if table.width == 1 else usual
    if len(candidates) != 1:
        raise InputError(f"{path} has columns {', '.join(table.columns)}: keep one, or call that of the ids '{side}'")
    return table[candidates[0]]


def _array(path: Path) -> pl.Series:
    table = array_in(path)
    if table.ndim != 1:
        raise ValueError(f"an array of shape {table.shape}")
    return pl.Series(np.char.decode(table) if table.dtype.kind == "S" else table)


def _lines(path: Path) -> pl.Series:
    return pl.Series(path.read_text(encoding="utf-8-sig").rstrip("\n").split("\n"), dtype=pl.String)
