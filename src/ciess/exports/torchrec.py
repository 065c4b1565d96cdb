"""TorchRec tables: a bucket for every size, rounded up to a multiple of 4."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ciess.exports.base import write_files
from ciess.serve.model import CompressedModel
from ciess.tables.files import Streamed, write_arrays
from ciess.tables.packed import PackedTable

_ROWS_AT_ONCE = 1 << 13
_MULTIPLE = 4
"""FBGEMM, which looks rows up for TorchRec, takes no other widths."""


class _Bucket(NamedTuple):
    """Rows of one width: `positions` in a packed table."""

    name: str
    positions: NDArray[np.int64]
    width: int
    table: PackedTable

    @property
    def weights(self) -> Streamed:
        """(rows, width) their numbers."""
        return Streamed(np.dtype(np.float32), (len(self.positions), self.width), self._blocks())

    def _blocks(self) -> Iterator[NDArray[np.float32]]:
        for start in range(0, len(self.positions), _ROWS_AT_ONCE):
            numbers = self.table.rows(self.positions[start : start + _ROWS_AT_ONCE])[:, : self.width]
            # Wider than the table itself where its width is no multiple.
            yield np.pad(numbers, ((0, 0), (0, self.width - numbers.shape[1])))


def export_torchrec(model: CompressedModel, out: str | Path) -> list[Path]:
    """Write the packed tables as buckets of rows of one width, such as `users_8` and `items_12`.

    `torchrec.json` lists the arguments of each bucket's `EmbeddingBagConfig`, its feature named as its table;
    `torchrec.safetensors` is the state of an `EmbeddingBagCollection` of them, float32. `user_rows.parquet` and
    `item_rows.parquet` say where each entity is: `id`, `table`, `row`.

    These are the tables that are packed. A backbone's graph or network is not among them: scores are inner products of
    the rows only where rows stand alone (MF, ALS, factors, and whatever was packed with `target="output"`).

    Raises:
        InputError: the folder cannot be written.
    """
    sides = [list(_buckets("users", model.users)), list(_buckets("items", model.items))]
    buckets = [bucket for side in sides for bucket in side]
    state = {f"embedding_bags.{bucket.name}.weight": bucket.weights for bucket in buckets}
    return write_files(
        out,
        {
            "torchrec.json": lambda path: path.write_text(json.dumps(list(map(_config, buckets)), indent=2) + "\n"),
            "torchrec.safetensors": lambda path: write_arrays(path, state, "torchrec"),
            "user_rows.parquet": lambda path: _write_places(path, model.user_ids, sides[0]),
            "item_rows.parquet": lambda path: _write_places(path, model.item_ids, sides[1]),
        },
    )


def _buckets(side: str, table: PackedTable) -> Iterator[_Bucket]:
    """The buckets of a table, widths rising."""
    widths = -(-table.sizes // _MULTIPLE) * _MULTIPLE
    for width in np.unique(widths).tolist():
        positions = np.flatnonzero(widths == width)
        yield _Bucket(f"{side}_{width}", positions, width, table)


def _config(bucket: _Bucket) -> dict[str, Any]:
    rows = len(bucket.positions)
    return {"name": bucket.name, "num_embeddings": rows, "embedding_dim": bucket.width, "feature_names": [bucket.name]}


def _write_places(path: Path, ids: NDArray[Any], buckets: list[_Bucket]) -> None:
    frames = [
        pl.DataFrame({"id": ids[positions], "table": [name] * len(positions), "row": np.arange(len(positions))})
        for name, positions, *_ in buckets
    ]
    pl.concat(frames).sort("id").write_parquet(path)
