"""Interactions written in the formats that `read` knows."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from ciess.data.columns import is_missing
from ciess.data.interactions import Interactions, InteractionsLike
from ciess.data.readers import interactions_of
from ciess.data.text import NO_TEXT
from ciess.errors import InputError
from ciess.files import check_folder, given_path, write_whole


def convert(interactions: "InteractionsLike", path: str | Path) -> Path:
    """Write interactions as `.parquet` or `.csv` (columns user, item and, where known, time) or as LightGCN's lines.

    LightGCN's lines (`.txt`) hold whole numbers: ids where they are such, else rows, with the ids they stand for in
    `NAME.users.csv` and `NAME.items.csv` beside `NAME.txt`. They hold no times.

    Ids are written as they are, so that they can be read again: a spreadsheet takes those in a .csv that begin with
    =, +, - or @ for formulas, unless it is told that the column is text.

    Args:
        interactions: what to write, as `ciess.search` takes it.
        path: whose ending says how.

    Raises:
        InputError: an unknown ending, ids that a .csv cannot hold, or a path that cannot be written.
    """
    path = given_path("path", path)
    check_converted(path)
    interactions = interactions_of(interactions)
    ending = path.suffix.lower()
    if ending == ".csv":
        for ids in (interactions.user_ids, interactions.item_ids):
            _check_text(ids)
    if ending == ".txt":
        for side, ids in (("users", interactions.user_ids), ("items", interactions.item_ids)):
            beside = path.with_suffix(f".{side}.csv")
            if not _whole(ids):
                rows = pl.DataFrame({"row": np.arange(len(ids)), "id": ids})
                write_whole(beside, rows.write_csv)
            elif path.is_file() and _is_of_rows(beside):
                # Of what this path held before: its ids are not those of the new lines.
                beside.unlink()
    write_whole(path, lambda to: _WAYS[ending](interactions, to))
    return path


def check_converted(path: Path, source: Path | None = None) -> None:
    """Refuse a path that `convert` cannot write, before anything is read.

    Args:
        path: where to.
        source: what is read, which must not be overwritten.

    Raises:
        InputError: an unknown ending, the source itself, or a path that cannot be written.
    """
    if path.suffix.lower() not in _WAYS:
        raise InputError(f"{path} has no known ending: use one of {', '.join(_WAYS)}")
    if path.is_dir():
        raise InputError(f"{path} is a folder: name a file")
    check_folder(path.parent)
    if source is not None and path.exists() and source.exists() and path.samefile(source):
        raise InputError(f"{path} is the file that is read: choose another name")
    if source is not None and source.is_dir() and source.resolve() in path.resolve().parents:
        raise InputError(f"{path} is within {source}, whose files are read: choose another folder")


def _check_text(ids: pl.Series) -> None:
    """Refuse ids that are others, or none, when they are read as text."""
    texts = ids.cast(pl.String)
    changed = is_missing(texts) | (texts.str.strip_chars() != texts) | texts.str.contains(f"[{NO_TEXT}]")
    # What might be a row within quotes is refused by who reads it.
    changed |= texts.str.contains(r"(?s)\n.*,")
    if changed.any():
        first = texts.filter(changed)[0]
        raise InputError(f"id {first!r} would not be the same when it is read from a .csv: write a .parquet")


def _frame(data: Interactions) -> pl.DataFrame:
    columns = {"user": data.user_ids[data.users], "item": data.item_ids[data.items]}
    return pl.DataFrame(columns if data.times is None else {**columns, "time": pl.Series(data.times)})


def _write_lines(data: Interactions, path: Path) -> None:
    users, items = (ids.to_numpy() if _whole(ids) else np.arange(len(ids)) for ids in (data.user_ids, data.item_ids))
    texts = items[data.items].astype(str)
    ends = np.cumsum(data.user_counts)[:-1]
    with path.open("w") as file:
        for user, own in zip(users.tolist(), np.split(texts, ends), strict=True):
            if len(own):
                file.write(f"{user} {' '.join(own)}\n")


def _is_of_rows(path: Path) -> bool:
    """Whether a file is what `convert` writes beside lines of rows."""
    try:
        with path.open(encoding="utf-8") as file:
            return file.readline().strip() == "row,id"
    except (OSError, UnicodeDecodeError):
        return False


def _whole(ids: pl.Series) -> bool:
    return bool(ids.dtype.is_integer() and ids.min() >= 0)  # type: ignore[operator]


_WAYS: dict[str, Callable[[Interactions, Path], None]] = {
    ".parquet": lambda data, to: _frame(data).write_parquet(to),
    ".csv": lambda data, to: _frame(data).write_csv(to),
    ".txt": _write_lines,
}
