"""What all targets use: vectors in rising order of ids, files that are written together, optional libraries."""

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ciess.errors import InputError
from ciess.files import given_path, write_together
from ciess.serve.model import CompressedModel

_ROWS_AT_ONCE = 1 << 13


class Vectors(NamedTuple):
    """One side's ids, and their vectors, which are decoded block by block.

    Attributes:
        ids: (n,) and rising.
        width: of a vector.
        order: (n,) the place of each in the model.
        rows: gives the vectors of (b,) places, (b, width).
    """

    ids: NDArray[Any]
    width: int
    order: NDArray[np.int64]
    rows: Callable[[NDArray[np.int64]], NDArray[np.float32]]

    def blocks(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Some thousands of vectors after each other, and where they are."""
        yield from self.at(np.arange(len(self.ids)))

    def at(self, places: NDArray[np.int64]) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """The same of (n,) places among the ids."""
        for start in range(0, len(places), _ROWS_AT_ONCE):
            block = slice(start, start + _ROWS_AT_ONCE)
            yield block, self.rows(self.order[places[block]])

    @property
    def numbers(self) -> NDArray[np.float32]:
        """(n, width) all vectors."""
        return self.rows(self.order)


def rising(ids: NDArray[Any], width: int, rows: Callable[[NDArray[np.int64]], NDArray[np.float32]]) -> Vectors:
    """Ids, (n,), and their vectors, by place, sorted by id."""
    order = np.argsort(ids, kind="stable")
    return Vectors(ids[order], width, order, rows)


def inner_product_vectors(model: CompressedModel) -> tuple[Vectors, Vectors]:
    """Vectors of users and of items whose inner products are the scores.

    Raises:
        InputError: the model scores otherwise.
    """
    width, (users, items) = model.rows_of_vectors()
    return rising(model.user_ids, width, users), rising(model.item_ids, width, items)


def library(name: str) -> Any:
    """A library of the extra `export`.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"{name} cannot be imported ({error}): pip install 'ciess[export]'") from error


def write_files(
    folder: str | Path, files: Mapping[str, Callable[[Path], object]], stale: Iterable[str] = ()
) -> list[Path]:
    """Write files into a folder, see `write_together`; their paths."""
    folder = given_path("folder", folder)
    write_together(folder, files, stale)
    return [folder / name for name in files]


def write_index(path: Path, faiss: Any, index: Any) -> None:
    """An index of faiss, whose own function to write one says nothing where a disk becomes full at its end."""
    path.write_bytes(faiss.serialize_index(index).data)


def write_ids(path: Path, ids: NDArray[Any]) -> None:
    """A Parquet file with the column `id`."""
    pl.DataFrame({"id": ids}).write_parquet(path)


def write_vectors(path: Path, vectors: Vectors) -> None:
    """A Parquet file with the columns `id` and `vector`, a list of float32."""
    write_blocks(
        path,
        (
            pl.DataFrame({"id": vectors.ids[block], "vector": pl.Series(numbers).cast(pl.List(pl.Float32))})
            for block, numbers in vectors.blocks()
        ),
    )


def write_blocks(path: Path, frames: Iterator[pl.DataFrame]) -> None:
    """A Parquet file of frames with the same columns, one or more, that are made one after the other."""
    from polars.io.plugins import register_io_source

    first = next(frames)

    def source(*_: Any) -> Iterator[pl.DataFrame]:
        yield first
        yield from frames

    register_io_source(source, schema=first.schema).sink_parquet(path)
