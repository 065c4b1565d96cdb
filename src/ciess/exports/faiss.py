"""A faiss index of the items, searched by inner products."""

from pathlib import Path
from typing import Any

import numpy as np

from ciess.exports.base import (
    Vectors,
    inner_product_vectors,
    library,
    write_files,
    write_ids,
    write_index,
    write_vectors,
)
from ciess.serve.model import CompressedModel


def export_faiss(model: CompressedModel, out: str | Path) -> list[Path]:
    """Write `items.faiss`, an exact index of item vectors, and `user_vectors.parquet`, the vectors to search it with.

    Where the ids of items are whole numbers from 0 on, a search answers with ids. Else it answers with rows of
    `item_ids.parquet`, column `id`. `user_vectors.parquet` has the columns `id` and `vector`.

    Raises:
        InputError: the model does not score by inner products, faiss is not installed, or the folder cannot be written.
    """
    faiss = library("faiss")
    users, items = inner_product_vectors(model)
    index = _index(faiss, items)
    files = {
        "user_vectors.parquet": lambda path: write_vectors(path, users),
        "items.faiss": lambda path: write_index(path, faiss, index),
    }
    if not _ids_fit(items):
        files["item_ids.parquet"] = lambda path: write_ids(path, items.ids)
    return write_files(out, files, stale=("item_ids.parquet",))


def _index(faiss: Any, items: Vectors) -> Any:
    index = faiss.IndexFlatIP(items.width)
    named = faiss.IndexIDMap(index) if _ids_fit(items) else None
    for block, numbers in items.blocks():
        if named is None:
            index.add(numbers)
        else:
            named.add_with_ids(numbers, items.ids[block].astype(np.int64))
    return named or index


def _ids_fit(items: Vectors) -> bool:
    """Whether faiss can keep the ids: it answers −1 where it finds nothing."""
    return items.ids.dtype.kind in "iu" and bool(items.ids[0] >= 0)
