"""Factor arrays, as implicit and LightFM have them and `Factors` reads them."""

from pathlib import Path

import numpy as np

from ciess.exports.base import Vectors, inner_product_vectors, write_files, write_ids
from ciess.serve.model import CompressedModel


def export_arrays(model: CompressedModel, out: str | Path) -> list[Path]:
    """Write `user_factors.npy` and `item_factors.npy`, and the ids of their rows.

    A row for each user and item, float32, whose inner products are the scores. Rows come in rising order of ids, as in
    `user_ids.parquet` and `item_ids.parquet`, column `id`.

    Raises:
        InputError: the model does not score by inner products, or the folder cannot be written.
    """
    users, items = inner_product_vectors(model)
    return write_files(
        out,
        {
            "user_factors.npy": lambda path: _write_array(path, users),
            "item_factors.npy": lambda path: _write_array(path, items),
            "user_ids.parquet": lambda path: write_ids(path, users.ids),
            "item_ids.parquet": lambda path: write_ids(path, items.ids),
        },
    )


def _write_array(path: Path, vectors: Vectors) -> None:
    about = {"descr": "<f4", "fortran_order": False, "shape": (len(vectors.ids), vectors.width)}
    # `numpy.save` says nothing where a disk becomes full at the end.
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, about)
        for _, numbers in vectors.blocks():
            file.write(np.ascontiguousarray(numbers, dtype="<f4").data)
