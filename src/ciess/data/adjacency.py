"""LightGCN's text format: a line for each user, `user item item …`, whole numbers."""

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ciess.data.interactions import Interactions
from ciess.errors import InputError

_DIGITS_AND_SPACES = b"0123456789 \t\r\n"


def is_adjacency(content: bytes) -> bool:
    """Whether there is nothing but whole numbers and spaces."""
    return not content.translate(None, _DIGITS_AND_SPACES)


def read_adjacency(*paths: Path) -> Interactions:
    """Read one file, or put several together.

    Raises:
        InputError: a line without an item, or something that is not a whole number of 0 or more.
    """
    users, items = (np.concatenate(parts) for parts in zip(*(_pairs(path) for path in paths), strict=True))
    (user_ids, rows), (item_ids, columns) = (np.unique(ids, return_inverse=True) for ids in (users, items))
    return Interactions.from_pairs(rows, columns, pl.Series(user_ids), pl.Series(item_ids))


def _pairs(path: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids of the user and the item of each interaction."""
    content = path.read_bytes()
    lines = content.splitlines()
    filled = [number for number, line in enumerate(lines, 1) if line and not line.isspace()]
    if not filled:
        raise InputError(f"{path} is empty: name a file with interactions")
    if not is_adjacency(content):
        for number in filled:
            for token in lines[number - 1].split():
                if not token.isdigit():
                    shown = token.decode(errors="replace")
                    raise InputError(
                        f"{path}, line {number}: '{shown}' is not a whole number of 0 or more: mend the line"
                    )
    lengths = np.array([len(lines[number - 1].split()) for number in filled])
    if lengths.min() < 2:
        raise InputError(
            f"{path}, line {filled[int(lengths.argmin())]}: a user without items: add its items or leave the line out"
        )
    numbers = np.array(content.split(), dtype=np.int64)
    starts = np.concatenate([[0], lengths[:-1].cumsum()])
    is_item = np.ones(len(numbers), dtype=bool)
    is_item[starts] = False
    return np.repeat(numbers[starts], lengths - 1), numbers[is_item]
