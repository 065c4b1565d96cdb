import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ciess.errors import InputError
from ciess.tables.budget import Budget
from ciess.tables.layout import equal_bytes, stored_bytes
from ciess.tables.packed import PackedTable, rounded
from ciess.tables.plan import SizePlan, TableShape
from ciess.tables.taper import Taper, best_column_scales

FALLING = st.lists(st.integers(1, 8), min_size=1, max_size=20).map(lambda bits: tuple(sorted(bits)[::-1]))


@given(FALLING)
def test_a_taper_is_read_as_it_is_written(bits: tuple[int, ...]) -> None:
    assert Taper.read(str(Taper(bits))) == Taper(bits)


@pytest.mark.parametrize(
    "text",
    ["tapered", "tapered:", "tapered:9", "tapered:2,3", "tapered:3x0", "int4", "tapered:1x40000,1x40000"],
)
def test_what_is_no_taper_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="taper"):
        Taper.read(text)


def test_a_taper_has_bits_for_each_dimension() -> None:
    with pytest.raises(InputError, match="bits for 2 dimensions, and rows have 3"):
        SizePlan(np.ones(4), np.ones(3), 3, Taper((2, 1)))
    for bits in ((), (9,), (1, 2), (2, 0)):
        with pytest.raises(InputError, match="taper"):
            Taper(bits)


def test_bytes_by_hand() -> None:
    # Two rows of three dimensions: 2, 1 and 1 bits; then one row of one dimension.
    taper, dense = Taper((2, 1, 1)), np.array([[3, -1, 1], [-3, 1, -1], [1, 9, 9]], dtype=np.float32)
    table = PackedTable.pack(dense, np.array([3, 3, 1], dtype=np.int32), taper)
    # Codes 3, 0; then 0 1, 1 0; then 2. Scales of 2: ±1, ±3 are their halves.
    assert table.values.tolist() == [0b0011, 0b0110, 0b10]
    assert table.scales.tolist() == [132, 132, 132]
    np.testing.assert_array_equal(table.dense(), dense * [[1, 1, 1], [1, 1, 1], [1, 0, 0]])


@given(FALLING, st.integers(0, 99), st.integers(-40, 40))
def test_levels_on_any_scales_are_found_again(bits: tuple[int, ...], seed: int, step: int) -> None:
    rng, halves = np.random.default_rng(seed), Taper(bits).halves(len(bits))
    scales = np.exp2((rng.integers(-20, 20, len(bits)) + step) / 4).astype(np.float32)
    levels = np.floor(rng.uniform(-halves, halves, (9, len(bits)))) + 0.5
    sizes = np.sort(rng.integers(1, len(bits) + 1, 9))[::-1].astype(np.int32)
    rows = (levels * scales * (np.arange(len(bits)) < sizes[:, None])).astype(np.float32)
    np.testing.assert_array_equal(rounded(rows, sizes, Taper(bits)), rows)


def test_scales_of_normal_numbers_are_those_of_the_best_uniform_steps() -> None:
    numbers = np.random.default_rng(0).standard_normal((20_000, 4), dtype=np.float32)
    scales = best_column_scales(numbers, np.full(20_000, 4, dtype=np.int32), Taper((4, 3, 2, 1)))
    # Max, Quantizing for Minimum Distortion, 1960, Table II; scales are at most an eighth of a doubling off.
    np.testing.assert_allclose(np.log2(scales), np.log2([0.3352, 0.5860, 0.9957, 1.596]), atol=0.13)


def test_bits_go_with_strengths() -> None:
    # Of three dimensions that fit the last has three bits, the first, four times as strong, five, a weak fourth one.
    found = Taper.suiting(np.array([8.0, 4.0, 2.0, 0.1]), lambda taper, size: taper.row_bits(size) <= 12)
    assert found == Taper((5, 4, 3, 1))
    full = Taper.suiting(np.array([2.0, 1.0]), lambda taper, size: taper.row_bits(size) <= 12)
    assert full == Taper((6, 5))
    one = Taper.suiting(np.array([2.0, 1.0]), lambda taper, size: taper.row_bits(size) <= 2)
    assert one == Taper((2, 1))
    assert Taper.suiting(np.array([2.0, 4.0, 2.0]), lambda taper, size: taper.row_bits(size) <= 12) == Taper((4, 4, 4))
    assert Taper.suiting(np.array([0.0, 0.0]), lambda taper, size: taper.row_bits(size) <= 1) == Taper((1, 1))


@given(st.floats(1.5, 40), FALLING, st.integers(0, 2**32 - 1))
def test_budgets_hold_whatever_the_sizes(share: float, bits: tuple[int, ...], seed: int) -> None:
    shape, taper = TableShape(300, 200, len(bits)), Taper(bits)
    budget = Budget.parse(f"{share}%")
    if budget.limit(shape) < equal_bytes(shape, 1, taper) or budget.limit(shape) > equal_bytes(shape, shape.dim, taper):
        return
    rng, numbers = np.random.default_rng(seed), budget.numbers(shape, taper)

    def drawn(count: int) -> SizePlan:
        sizes = np.ones(shape.rows, dtype=np.int32)
        room = np.repeat(np.arange(shape.rows), shape.dim - 1)
        np.add.at(sizes, rng.permutation(room)[: count - shape.rows], 1)
        return SizePlan.from_sizes(sizes, shape, taper)

    if numbers > shape.rows:
        assert stored_bytes(drawn(numbers)) <= budget.limit(shape)
    filled = budget.filled(lambda count: SizePlan.equal(shape, count // shape.rows, taper), numbers)
    assert stored_bytes(filled) <= budget.limit(shape)
    size = filled.max_size
    assert size == shape.dim or equal_bytes(shape, size + 1, taper) > budget.limit(shape)
