import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ciess.errors import InputError
from ciess.tables.budget import Budget, planned, project
from ciess.tables.layout import equal_bytes, stored_bytes
from ciess.tables.plan import SizePlan, TableShape
from ciess.tables.precision import Precision

SHAPE = TableShape(n_users=600, n_items=400, dim=32)


@pytest.mark.parametrize(
    ("text", "limit", "folder"),
    [
        ("5%", 6_400, "budget-5"),
        ("2.5%", 3_200, "budget-2.5"),
        ("100%", 128_000, "budget-100"),
        ("12kB", 12_000, "budget-12kB"),
        ("12KiB", 12_288, "budget-12KiB"),
        ("6.4dims", 25_600, "budget-6.4dims"),
        (".5MB", 500_000, "budget-0.5MB"),
        ("32kb", 32_000, "budget-32kB"),
        ("32 KIB", 32_768, "budget-32KiB"),
        ("6.4 Dims", 25_600, "budget-6.4dims"),
        ("1234567b", 1_234_567, "budget-1234567B"),
    ],
)
def test_budgets_as_people_write_them(text: str, limit: int, folder: str) -> None:
    budget = Budget.parse(text)
    assert budget.limit(SHAPE) == limit
    assert budget.folder == folder
    assert Budget.parse(str(budget)) == budget


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("abc", "not a budget"),
        ("0%", "above zero"),
        ("200%", "at most '100%'"),
        ("-5%", "not a budget"),
        ("5%,10%", "not a budget"),
        ("5", "no unit: write '5%'"),
        ("0.05", "no unit: write '5%'"),
        (0.05, "no unit: write '5%'"),
        (".5", "no unit: write '50%'"),
        (32, "no unit: write '32%'"),
        (None, "not a budget"),
        ("5TB", "unknown unit: use one of %, dims, B, kB"),
    ],
)
def test_what_is_no_budget_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Budget.parse(text)


def test_a_budget_above_the_full_tables_names_the_most() -> None:
    # As stored they take a header and an index beside their 128,000 bytes.
    most = equal_bytes(SHAPE, SHAPE.dim, Precision.FLOAT32)
    assert stored_bytes(SizePlan.equal(SHAPE, SHAPE.dim)) == most
    assert Budget.parse(f"{most}B").numbers(SHAPE) > 0.99 * SHAPE.rows * SHAPE.dim
    with pytest.raises(InputError, match=rf"more than the {most:,} of the full tables: use at most '{most}B'"):
        Budget.parse(f"{most + 1}B").numbers(SHAPE)
    with pytest.raises(InputError, match="use at most '100%'"):
        Budget.parse("1MB").numbers(SHAPE, Precision.INT8)


def test_the_least_budget_is_named_in_bytes_where_it_is_above_the_full_tables() -> None:
    tiny = TableShape(20, 10, 1)
    with pytest.raises(InputError) as refused:
        Budget.parse("100%").numbers(tiny)
    [least] = re.findall(r"at least '(\d+B)'", str(refused.value))
    assert Budget.parse(least).numbers(tiny) == 30


@pytest.mark.parametrize("precision", Precision)
def test_the_index_is_paid_whatever_the_sizes(precision: Precision) -> None:
    budget = Budget.parse("10%")
    numbers = budget.numbers(SHAPE, precision)
    # As many different sizes as there can be take the largest index.
    desired = np.random.default_rng(0).permutation(np.geomspace(1, 1e3, SHAPE.rows))
    plan = SizePlan.from_sizes(project(desired, numbers, SHAPE.dim), SHAPE, precision)
    assert len(np.unique(plan.item_sizes)) > 15
    assert stored_bytes(plan) <= budget.limit(SHAPE)


def test_a_budget_below_one_number_a_row_names_the_least() -> None:
    with pytest.raises(InputError, match=r"use at least '3\.4%'"):
        Budget.parse("3%").numbers(SHAPE)
    assert Budget.parse("3.4%").numbers(SHAPE) == SHAPE.rows
    assert Budget.parse("1%").numbers(SHAPE, Precision.INT4_SHARED) >= SHAPE.rows


@pytest.mark.parametrize("rows", [333, 500, 777, 1000])
def test_the_least_budget_that_is_named_is_enough(rows: int) -> None:
    shape = TableShape(rows, 71, 32)
    with pytest.raises(InputError) as refused:
        Budget.parse("1B").numbers(shape)
    [least] = re.findall(r"at least '([\d.]+)%'", str(refused.value))
    assert Budget.parse(f"{least}%").numbers(shape) >= shape.rows
    with pytest.raises(InputError, match="use at least"):
        Budget.parse(f"{float(least) - 0.01:.2f}%").numbers(shape)


@given(
    desired=st.lists(st.floats(0.01, 1000), min_size=1, max_size=40),
    share=st.floats(0, 1),
    dim=st.integers(1, 64),
)
def test_projection_fills_the_budget_exactly(desired: list[float], share: float, dim: int) -> None:
    rows = len(desired)
    numbers = rows + int(share * rows * (dim - 1))
    sizes = project(desired, numbers, dim)
    assert sizes.sum() == numbers
    assert sizes.min() >= 1
    assert sizes.max() <= dim
    # More is never given to who desired less by a whole number.
    order = np.argsort(desired)
    assert (np.diff(sizes[order]) >= -1).all()


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 0.0, -1.0])
def test_desired_sizes_that_are_none_are_refused(wrong: float) -> None:
    with pytest.raises(InputError, match=r"desired size 2 \(from 0\) is .*: sizes must be finite and above 0"):
        project([1.0, 5.0, wrong, 10.0], numbers=24, dim=16)


def test_projection_scales_by_hand() -> None:
    assert project([1, 2, 4], numbers=14, dim=8).tolist() == [2, 4, 8]
    assert project([1, 2, 4], numbers=15, dim=8).tolist() == [2, 5, 8]
    assert project([1, 1, 1], numbers=5, dim=8).tolist() == [2, 2, 1]
    # Just below a scale of 2 the sizes are 1, 1 and 2: the one that is left goes to who is nearest to one more.
    assert project([1, 1, 1.25], numbers=5, dim=8).tolist() == [2, 1, 2]
    assert project([1, 100, 1], numbers=12, dim=8).tolist() == [2, 8, 2]


@pytest.mark.parametrize("least", [1e-20, 1e-40, 1e-310])
def test_desired_sizes_may_be_as_far_apart_as_numbers_can_be(least: float) -> None:
    assert project([least, 1, 2, 4], numbers=12, dim=8).tolist() == [1, 1, 3, 7]


@given(
    st.lists(st.tuples(st.floats(0.01, 100), st.floats(1, 30)), min_size=1, max_size=40),
    st.floats(0, 1),
    st.integers(1, 64),
)
def test_rows_of_a_sample_fill_the_budget_but_for_less_than_one_row(
    rows: list[tuple[float, float]], share: float, dim: int
) -> None:
    desired, stands_for = np.array(rows).T
    numbers = int(np.ceil(stands_for.sum()) + share * stands_for.sum() * (dim - 1))
    sizes = project(desired, numbers, dim, stands_for)
    assert sizes.min() >= 1
    assert sizes.max() <= dim
    assert sizes @ stands_for <= numbers
    assert sizes.min() == dim or numbers - sizes @ stands_for < stands_for.max()


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["5%", "10%", "37%", "99%", "100%", "20kB"]),
    st.sampled_from(list(Precision)),
)
def test_a_projected_plan_fills_its_budget_and_never_exceeds_it(seed: int, text: str, precision: Precision) -> None:
    rng = np.random.default_rng(seed)
    budget = Budget.parse(text)
    plan = planned(rng.integers(1, 33, SHAPE.rows), SHAPE, budget, precision)
    assert stored_bytes(plan) <= budget.limit(SHAPE)
    # What is left is less than one more size in the index takes.
    assert plan.max_size == SHAPE.dim == plan.sizes.min() or stored_bytes(plan) >= budget.limit(SHAPE) - 24


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.sampled_from([Precision.INT8, Precision.INT4]))
def test_filling_stops_at_the_byte(seed: int, precision: Precision) -> None:
    """Limits byte by byte: among them is one that a plan would exceed by a single byte."""
    sizes = np.random.default_rng(seed).integers(1, 33, SHAPE.rows)
    for limit in range(9_000, 9_004):
        assert stored_bytes(planned(sizes, SHAPE, Budget.parse(f"{limit}B"), precision)) <= limit
