"""What all targets use: vectors in rising order of ids, files that are written together, optional libraries."""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ciess.errors import InputError
from ciess.files import write_together

if TYPE_CHECKING:
    from ciess.serve.model import CompressedModel


class Vectors(NamedTuple):
    """One side's ids, (n,) and rising, and their vectors, (n, width)."""

    ids: NDArray[Any]
    numbers: NDArray[np.float32]


def rising(ids: NDArray[Any], numbers: NDArray[np.float32]) -> Vectors:
    """Ids, (n,), and their vectors, (n, width), sorted by id."""
    order = np.argsort(ids, kind="stable")
    return Vectors(ids[order], numbers.take(order, axis=0))


def inner_product_vectors(model: "CompressedModel") -> tuple[Vectors, Vectors]:
    """Vectors of users and of items whose inner products are the scores.

    Raises:
        InputError: the model scores otherwise.
    """
    users, items = model.vectors()
    return rising(model.user_ids, users), rising(model.item_ids, items)


def library(name: str) -> Any:
    """A library of the extra `export`.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"{name} cannot be imported ({error}): pip install 'ciess[export]'") from error


def write_files(folder: str | Path, files: Mapping[str, Callable[[Path], object]]) -> list[Path]:
    """Write files into a folder, see `write_together`; their paths."""
    folder = Path(folder)
    write_together(folder, files)
    return [folder / name for name in files]


def write_index(path: Path, faiss: Any, index: Any) -> None:
    """An index of faiss, whose own function to write one says nothing where a disk becomes full at its end."""
    path.write_bytes(faiss.serialize_index(index).data)


def write_ids(path: Path, ids: NDArray[Any]) -> None:
    """A Parquet file with the column `id`."""
    import polars as pl

    pl.DataFrame({"id": ids}).write_parquet(path)


def write_vectors(path: Path, vectors: Vectors) -> None:
    """A Parquet file with the columns `id` and `vector`, a list of float32."""
    import polars as pl

    numbers = pl.Series(vectors.numbers).cast(pl.List(pl.Float32))
    pl.DataFrame({"id": vectors.ids, "vector": numbers}).write_parquet(path)
