"""Interactions written in the formats that `read` knows."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from ciess.data.interactions import Interactions
from ciess.errors import InputError
from ciess.files import write_whole


def convert(interactions: Interactions, path: str | Path) -> Path:
    """Write interactions as `.parquet` or `.csv` (columns user, item and, where known, time) or as LightGCN's lines.

    LightGCN's lines (`.txt`) hold whole numbers: ids where they are such, else rows, with the ids they stand for in
    `NAME.users.csv` and `NAME.items.csv` beside `NAME.txt`. They hold no times.

    Args:
        interactions: what to write.
        path: whose ending says how.

    Raises:
        InputError: an unknown ending, or a path that cannot be written.
    """
    path = Path(path)
    ways: dict[str, Callable[[Interactions, Path], None]] = {
        ".parquet": lambda data, to: _frame(data).write_parquet(to),
        ".csv": lambda data, to: _frame(data).write_csv(to),
        ".txt": _write_lines,
    }
    ending = path.suffix.lower()
    if ending not in ways:
        raise InputError(f"{path} has no known ending: use one of {', '.join(ways)}")
    if ending == ".txt":
        for side, ids in (("users", interactions.user_ids), ("items", interactions.item_ids)):
            if not _whole(ids):
                rows = pl.DataFrame({"row": np.arange(len(ids)), "id": ids})
                write_whole(path.with_suffix(f".{side}.csv"), rows.write_csv)
    write_whole(path, lambda to: ways[ending](interactions, to))
    return path


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


def _whole(ids: pl.Series) -> bool:
    return bool(ids.dtype.is_integer() and ids.min() >= 0)  # type: ignore[operator]
