"""Exports and packing hold blocks of rows, and no whole table in float32."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ciess.data.ids import RowIds
from ciess.exports import export
from ciess.serve.model import CompressedModel
from ciess.serve.seen import SeenItems
from ciess.tables.packed import PackedTable, falling_order
from ciess.tables.precision import Precision

ROWS, DIM = 60_000, 64
DENSE = ROWS * DIM * 4


def peak_of(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def large_model() -> CompressedModel:
    rng = np.random.default_rng(0)
    sizes = -np.sort(-rng.integers(1, DIM + 1, ROWS)).astype(np.int32)
    users = PackedTable.pack(rng.standard_normal((ROWS, DIM), dtype=np.float32), sizes, Precision.INT4)
    items = PackedTable.pack(np.ones((2, DIM), dtype=np.float32), np.full(2, DIM, dtype=np.int32), Precision.INT4)
    seen = SeenItems.of(np.zeros(ROWS + 1, dtype=np.int64), np.empty(0, dtype=np.int64), 2)
    ids = RowIds.of(rng.permutation(ROWS))
    return CompressedModel(users, items, ids, RowIds.of(np.arange(2)), seen, {"name": "mf"}, True, learns=False)


@pytest.mark.parametrize("target", ["arrays", "torchrec"])
def test_an_export_decodes_block_by_block(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"ciess.exports.{'base' if target == 'arrays' else target}._ROWS_AT_ONCE", 1000)
    model = large_model()
    assert peak_of(lambda: export(model, target, tmp_path)) < DENSE / 2
    if target == "arrays":
        order = np.argsort(model.user_ids)
        np.testing.assert_array_equal(np.load(tmp_path / "user_factors.npy"), model.users.dense()[order])


@pytest.mark.parametrize("precision", ["int4", "float16"])
def test_packing_copies_blocks_of_the_table(precision: str) -> None:
    rng = np.random.default_rng(0)
    dense, sizes = rng.standard_normal((ROWS, DIM), dtype=np.float32), rng.integers(1, DIM + 1, ROWS).astype(np.int32)
    order, wanted = falling_order(sizes), Precision(precision)
    assert peak_of(lambda: PackedTable.pack(dense, sizes[order], wanted, order)) < DENSE / 2
    packed = PackedTable.pack(dense, sizes[order], wanted, order)
    at_once = PackedTable.pack(dense[order], sizes[order], wanted)
    np.testing.assert_array_equal(packed.values, at_once.values)
    np.testing.assert_array_equal(packed.scales, at_once.scales)
