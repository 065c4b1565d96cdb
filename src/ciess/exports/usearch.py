"""A USearch index of the items in a byte for each number, searched by inner products."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ciess.exports.base import Vectors, inner_product_vectors, library, write_blocks, write_files, write_ids
from ciess.serve.model import CompressedModel

_MOST = 127
"""Of an int8."""


def export_usearch(model: CompressedModel, out: str | Path) -> list[Path]:
    """Write `items.usearch`, an index of int8 vectors, and `usearch_users.parquet`, the int8 vectors to search it with.

    Keys are rows of `item_ids.parquet`, column `id`. `usearch_users.parquet` has the columns `id`, `vector`, a list of
    int8, and `scale`: a score is scale · (1 − distance). Each column of the items is rounded by a scale of its own, by
    which users' numbers are multiplied, and these by a scale for each user.

    Raises:
        InputError: the model does not score by inner products, usearch is not installed, or the folder cannot be
            written.
    """
    usearch = library("usearch.index")
    users, items = inner_product_vectors(model)
    largest = np.stack([np.abs(numbers).max(0) for _, numbers in items.blocks()])
    columns = _scales(largest, axis=0)
    index = usearch.Index(ndim=items.width, metric="ip", dtype="i8")
    for block, numbers in items.blocks():
        index.add(np.arange(len(items.ids))[block], _rounded(numbers, columns))
    return write_files(
        out,
        {
            "items.usearch": lambda path: path.write_bytes(index.save()),
            # Columns that no item has add nothing to a score: they must not coarsen what does.
            "usearch_users.parquet": lambda path: _write_users(path, users, columns * (largest.max(0) > 0)),
            "item_ids.parquet": lambda path: write_ids(path, items.ids),
        },
    )


def _write_users(path: Path, users: Vectors, columns: NDArray[np.float32]) -> None:
    def frames() -> Iterator[pl.DataFrame]:
        for block, vectors in users.blocks():
            numbers = vectors * columns
            scales = _scales(numbers, axis=1)
            whole = pl.Series(_rounded(numbers, scales)).cast(pl.List(pl.Int8))
            yield pl.DataFrame({"id": users.ids[block], "vector": whole, "scale": scales[:, 0]})

    write_blocks(path, frames())


def _scales(numbers: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """What an int8 stands for so that the largest of each row or column fits; 1 where there are only zeros."""
    largest = np.abs(numbers).max(axis, keepdims=True)
    return np.where(largest > 0, largest / _MOST, 1).astype(np.float32)


def _rounded(numbers: NDArray[np.float32], scales: NDArray[np.float32]) -> NDArray[np.int8]:
    whole: NDArray[np.int8] = np.rint(numbers / scales).clip(-_MOST, _MOST).astype(np.int8)
    return whole
