from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import save_file

from ciess.errors import InputError
from ciess.tables.packed import PackedTable, falling_order, index_bytes, load_tables, save_tables, stored_bytes
from ciess.tables.plan import SizePlan

SIZES = arrays(np.int32, st.integers(1, 30), elements=st.integers(1, 12))


def packed(sizes: np.ndarray, seed: int) -> tuple[PackedTable, np.ndarray]:
    sizes = -np.sort(-sizes)
    dense = np.random.default_rng(seed).standard_normal((len(sizes), 12)).astype(np.float32)
    return PackedTable.pack(dense, sizes), dense * (np.arange(12) < sizes[:, None])


@given(SIZES, st.integers(0, 99))
def test_packing_keeps_every_number_and_no_more(sizes: np.ndarray, seed: int) -> None:
    table, masked = packed(sizes, seed)
    assert table.values.size == sizes.sum()
    np.testing.assert_array_equal(table.dense(), masked)
    np.testing.assert_array_equal(table.sizes, -np.sort(-sizes))
    assert len(table) == len(sizes)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SIZES, SIZES)
def test_files_are_as_large_as_foretold_and_come_back(tmp_path: Path, users: np.ndarray, items: np.ndarray) -> None:
    tables, path = (packed(users, 0)[0], packed(items, 1)[0]), tmp_path / "tables.safetensors"
    save_tables(path, *tables)
    plan = SizePlan(users, items, dim=12)
    assert path.stat().st_size == stored_bytes(plan) <= index_bytes(plan.shape) + 4 * plan.numbers
    for before, after in zip(tables, load_tables(path), strict=True):
        np.testing.assert_array_equal(before.values, after.values)
        np.testing.assert_array_equal(before.rows_of_size, after.rows_of_size)


def test_rows_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="falling size"):
        PackedTable.pack(np.ones((2, 3), np.float32), np.array([1, 2]))


def test_falling_order_keeps_the_order_of_equals() -> None:
    assert falling_order(np.array([1, 3, 1, 3, 2])).tolist() == [1, 3, 4, 0, 2]


@pytest.mark.parametrize("damage", ["cut", "foreign", "counts", "missing"])
def test_damaged_files_are_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "tables.safetensors"
    table, _ = packed(np.array([3, 2]), 0)
    save_tables(path, table, table)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-4])
    elif damage == "foreign":
        save_file({"weights": np.ones(3)}, path)
    elif damage == "counts":
        save_tables(path, table, PackedTable(table.values, table.rows_of_size + 1))
    else:
        path.unlink()
    with pytest.raises(InputError, match=r"tables\.safetensors"):
        load_tables(path)
