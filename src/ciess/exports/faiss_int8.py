"""faiss indexes of a byte for each number, one for each width of rows: as small as the model's rows are short."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ciess.exports.base import Vectors, inner_product_vectors, library, write_files, write_index
from ciess.serve.model import CompressedModel


class _Bucket(NamedTuple):
    """Rows of about one length: their places among the ids, and an index of them."""

    name: str
    places: NDArray[np.int64]
    index: Any


def export_faiss_int8(model: CompressedModel, out: str | Path) -> list[Path]:
    """Write indexes such as `users_8.faiss` and `items_16.faiss`, whose rows have that many numbers, in 8 bits each.

    A row lies in the narrowest index that holds it, of 1, 2, 4, 8, … numbers; those left out are 0. Each number is
    rounded to one of 256 values between its column's lowest and highest. `faiss_users.parquet` and
    `faiss_items.parquet` say where each entity is: `id`, `index`, `row`. Users' rows are read by `reconstruct`, and
    their first numbers search the items' indexes, by inner products.

    Raises:
        InputError: the model does not score by inner products, faiss is not installed, or the folder cannot be written.
    """
    faiss = library("faiss")
    users, items = inner_product_vectors(model)
    files = {}
    for side, vectors in (("users", users), ("items", items)):
        buckets = list(_buckets(faiss, side, vectors))
        for bucket in buckets:
            files[f"{bucket.name}.faiss"] = lambda path, index=bucket.index: write_index(path, faiss, index)
        files[f"faiss_{side}.parquet"] = lambda path, own=(vectors.ids, buckets): _write_places(path, *own)
    return write_files(out, files)


def _buckets(faiss: Any, side: str, vectors: Vectors) -> Iterator[_Bucket]:
    dim = vectors.width
    # The last number that is not 0; rows without any have one number, too.
    lasts = [((numbers != 0) * np.arange(1, dim + 1)).max(1) for _, numbers in vectors.blocks()]
    sizes = np.maximum(1, np.concatenate(lasts))
    widths = np.minimum(dim, 2 ** np.ceil(np.log2(sizes)).astype(np.int64))
    for width in np.unique(widths).tolist():
        places = np.flatnonzero(widths == width)
        index = faiss.IndexScalarQuantizer(width, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
        # Nothing is learned but the least and the greatest number of each column.
        index.train(_bounds(vectors, places, width))
        for _, rows in vectors.at(places):
            index.add(np.ascontiguousarray(rows[:, :width]))
        yield _Bucket(f"{side}_{width}", places, index)


def _bounds(vectors: Vectors, places: NDArray[np.int64], width: int) -> NDArray[np.float32]:
    """(2, width) the least and the greatest of the first numbers of some rows, column by column."""
    parts = [(rows.min(0), rows.max(0)) for _, rows in vectors.at(places)]
    least, most = (np.stack(side) for side in zip(*parts, strict=True))
    return np.stack([least.min(0), most.max(0)])[:, :width].copy()


def _write_places(path: Path, ids: NDArray[Any], buckets: list[_Bucket]) -> None:
    frames = [
        pl.DataFrame({"id": ids[places], "index": [name] * len(places), "row": np.arange(len(places))})
        for name, places, _ in buckets
    ]
    pl.concat(frames).write_parquet(path)
