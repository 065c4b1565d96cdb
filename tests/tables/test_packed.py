import contextlib
import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import load_file, save_file

from ciess.errors import InputError
from ciess.tables.encoding import Encoding
from ciess.tables.layout import most_bytes, stored_bytes
from ciess.tables.packed import PackedTable, falling_order, load_tables, rounded, save_tables
from ciess.tables.plan import SizePlan
from ciess.tables.precision import (
    Precision,
    best_scales,
    decoded_scales,
    scale_codes,
)
from ciess.tables.taper import Taper

SIZES = arrays(np.int32, st.integers(0, 30), elements=st.integers(1, 12))
TAPERS = st.lists(st.integers(1, 8), min_size=12, max_size=12).map(lambda bits: Taper(tuple(sorted(bits)[::-1])))
PRECISIONS = st.sampled_from(list(Precision)) | TAPERS


def random_rows(rows: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((rows, 12)) * np.exp(rng.standard_normal((rows, 1)))).astype(np.float32)


def packed(sizes: np.ndarray, seed: int, precision: Encoding) -> tuple[PackedTable, np.ndarray]:
    sizes = -np.sort(-sizes)
    dense = random_rows(len(sizes), seed)
    return PackedTable.pack(dense, sizes, precision), dense * (np.arange(12) < sizes[:, None])


@given(SIZES, st.integers(0, 99))
def test_floats_are_kept_and_nothing_more(sizes: np.ndarray, seed: int) -> None:
    table, masked = packed(sizes, seed, Precision.FLOAT32)
    assert table.values.size == sizes.sum()
    np.testing.assert_array_equal(table.dense(), masked)
    np.testing.assert_array_equal(table.sizes, -np.sort(-sizes))
    assert len(table) == len(sizes)


@given(SIZES, st.integers(0, 99), st.sampled_from(list(Precision)))
def test_rounding_errs_by_less_than_a_scale_where_nothing_is_clipped(
    sizes: np.ndarray, seed: int, precision: Precision
) -> None:
    table, masked = packed(sizes, seed, precision)
    found = table.dense()
    assert ((found == 0) | (masked != 0)).all()
    if not precision.whole:
        np.testing.assert_allclose(found, masked, rtol=2**-10, atol=1e-7)
        return
    for rows in table.blocks(1000):
        error, sought = np.abs(found[rows] - masked[rows]), np.abs(masked[rows])
        largest = sought.max(axis=1 if precision.scale_a_row else None, keepdims=True)
        # Half a scale, which is less than twice what would clip nothing; larger numbers may be clipped.
        assert (error <= largest / precision.largest + 1e-6)[sought <= 0.3 * largest].all()


@given(SIZES, st.integers(0, 99), PRECISIONS)
def test_rows_and_blocks_are_parts_of_the_dense_table(sizes: np.ndarray, seed: int, precision: Encoding) -> None:
    table, _ = packed(sizes, seed, precision)
    dense = table.dense()
    if len(sizes):
        positions = np.random.default_rng(seed).integers(0, len(sizes), 50)
        np.testing.assert_array_equal(table.rows(positions), dense[positions])
        start, stop = sorted(positions[:2])
        run = table.run(slice(start, stop + 1))
        np.testing.assert_array_equal(run, dense[start : stop + 1, : run.shape[1]])
        assert not dense[start : stop + 1, run.shape[1] :].any()
    assert [row for rows in table.blocks(7) for row in range(rows.start, rows.stop)] == list(range(len(table)))


@pytest.mark.parametrize("precision", [*Precision, Taper((7, 5, 3, 2, 2, 1) + (1,) * 6)], ids=str)
def test_a_run_may_begin_within_a_byte(precision: Encoding) -> None:
    table, _ = packed(np.repeat([5, 3], [9, 8]).astype(np.int32), 0, precision)
    dense = table.dense()
    for start in range(16):
        run = table.run(slice(start, 17))
        np.testing.assert_array_equal(run, dense[start:, : run.shape[1]])


def test_a_table_is_decoded_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = np.repeat([12, 5], [31, 40]).astype(np.int32)
    table, _ = packed(sizes, 0, Precision.INT4)
    whole = table.dense()
    monkeypatch.setattr("ciess.tables.packed._ROWS_AT_ONCE", 7)
    np.testing.assert_array_equal(table.dense(), whole)


@pytest.mark.parametrize("precision", [precision for precision in Precision if precision.whole])
def test_scales_that_fit_exactly_are_found(precision: Precision) -> None:
    rows = np.array([[7, -3, 1], [7, 0, -2]], dtype=np.float32) * 2.0**-5
    scales = best_scales(rows, precision)
    assert len(scales) == (2 if precision.scale_a_row else 1)
    # 7 is 127 × (7/127); the nearest scale on the grid may be finer.
    assert (scales <= 2.0**-5).all()
    if precision.bits == 4:
        np.testing.assert_array_equal(scales, 2.0**-5)


@pytest.mark.parametrize("outlier", [0.0, 30.0, 100.0, 1e4])
def test_a_shared_scale_is_the_best_of_the_grid_whatever_the_largest_number(outlier: float) -> None:
    rows = np.random.default_rng(0).normal(size=(2000, 8)).astype(np.float32)
    rows[0, 0] += outlier

    def error(scale: float) -> float:
        return float(np.square((rows / scale).round().clip(-7, 7) * scale - rows, dtype=np.float64).sum())

    [found] = best_scales(rows, Precision.INT4_SHARED)
    assert error(found) == pytest.approx(min(error(2.0 ** (step / 8)) for step in range(-80, 120)), rel=1e-4)


@given(SIZES, st.integers(0, 99), PRECISIONS)
def test_what_is_rounded_stays(sizes: np.ndarray, seed: int, precision: Encoding) -> None:
    once = rounded(random_rows(len(sizes), seed), sizes, precision)
    np.testing.assert_array_equal(rounded(once, sizes, precision), once)


@given(
    arrays(np.int8, (20, 12), elements=st.integers(-127, 127)),
    st.integers(-60, 60),
    st.sampled_from([precision for precision in Precision if precision.whole]),
)
def test_whole_numbers_on_any_scale_of_the_grid_are_found_again(
    numbers: np.ndarray, step: int, precision: Precision
) -> None:
    rows = (numbers.clip(-precision.largest, precision.largest) * np.exp2(np.float32(step / 4))).astype(np.float32)
    np.testing.assert_array_equal(rounded(rows, np.full(20, 12, dtype=np.int32), precision), rows)


def test_row_scales_come_back_from_a_byte() -> None:
    scales = np.exp2(np.arange(-128, 128) / 4).astype(np.float32)
    np.testing.assert_array_equal(decoded_scales(scale_codes(scales)), scales)


def test_rows_far_from_one_keep_their_shape() -> None:
    rows = random_rows(5, 0) * np.array([[1e-8], [1e-4], [1], [1e4], [1e8]], dtype=np.float32)
    kept = rounded(rows, np.full(5, 12, dtype=np.int32), Precision.INT8)
    assert (np.abs(kept - rows).max(axis=1) < np.abs(rows).max(axis=1) / 50).all()


def test_rounding_keeps_the_order_of_rows() -> None:
    sizes, dense = np.array([1, 3, 2], dtype=np.int32), random_rows(3, 0)
    kept = dense * (np.arange(12) < sizes[:, None])
    np.testing.assert_array_equal(rounded(dense, sizes, Precision.FLOAT32), kept)
    np.testing.assert_allclose(rounded(dense, sizes, Precision.INT8), kept, atol=np.abs(dense).max() / 100)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SIZES, SIZES, PRECISIONS)
def test_files_are_as_large_as_foretold_and_come_back(
    tmp_path: Path, users: np.ndarray, items: np.ndarray, precision: Encoding
) -> None:
    tables, path = (packed(users, 0, precision)[0], packed(items, 1, precision)[0]), tmp_path / "tables.safetensors"
    save_tables(path, *tables)
    if len(users) and len(items):
        plan = SizePlan(users, items, 12, precision)
        assert path.stat().st_size == stored_bytes(plan) <= most_bytes(plan.shape, plan.numbers, precision)
    for before, after in zip(tables, load_tables(path), strict=True):
        for part in ("groups", "values", "scales"):
            np.testing.assert_array_equal(getattr(before, part), getattr(after, part))
        assert (after.precision, after.dim) == (precision, 12)
    assert set(load_file(path)) >= {"users.groups", "items.values"}


def test_rows_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="falling size"):
        PackedTable.pack(np.ones((2, 3), np.float32), np.array([1, 2]))


def test_falling_order_keeps_the_order_of_equals() -> None:
    assert falling_order(np.array([1, 3, 1, 3, 2])).tolist() == [1, 3, 4, 0, 2]


@pytest.mark.parametrize("damage", ["cut", "longer", "foreign", "text", "empty", "sizes", "counts", "missing"])
def test_damaged_files_are_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "tables.safetensors"
    table, _ = packed(np.array([3, 2]), 0, Precision.INT8)
    save_tables(path, table, table)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-4])
    elif damage == "longer":
        path.write_bytes(path.read_bytes() + b"1234")
    elif damage == "foreign":
        save_file({"weights": np.ones(3)}, path)
    elif damage == "text":
        path.write_text("users and items, but not packed")
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage in ("sizes", "counts"):
        more = np.array([[0, 0], [1, 0] if damage == "sizes" else [0, 1]], np.int32)
        save_tables(path, table, dataclasses.replace(table, groups=table.groups + more))
    else:
        path.unlink()
    with pytest.raises(InputError, match=r"tables\.safetensors"):
        load_tables(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.integers(0, 400), st.integers(1, 255))
def test_a_damaged_header_never_ends_in_another_error(tmp_path: Path, place: int, flip: int) -> None:
    path = tmp_path / "tables.safetensors"
    table, _ = packed(np.array([3, 2]), 0, Precision.INT4)
    save_tables(path, table, table)
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= flip
    path.write_bytes(content)
    with contextlib.suppress(InputError):
        load_tables(path)
