"""Parquet files of vectors with ids, as vector databases and query engines read them."""

from pathlib import Path

from ciess.exports.base import inner_product_vectors, write_files, write_vectors
from ciess.serve.model import CompressedModel


def export_parquet(model: CompressedModel, out: str | Path) -> list[Path]:
    """Write `user_vectors.parquet` and `item_vectors.parquet`, rows in rising order of ids.

    Columns are `id` and `vector`, a list of float32 as long in every row. A score is the inner product of a user's and
    an item's vector, not their cosine.

    Raises:
        InputError: the model does not score by inner products, or the folder cannot be written.
    """
    users, items = inner_product_vectors(model)
    return write_files(
        out,
        {
            "user_vectors.parquet": lambda path: write_vectors(path, users),
            "item_vectors.parquet": lambda path: write_vectors(path, items),
        },
    )
