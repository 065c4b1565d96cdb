import numpy as np
import pytest

from ciess.errors import InputError
from ciess.tables.mask import prefix_mask
from ciess.tables.plan import SizePlan, TableShape
from ciess.tables.precision import Precision

SHAPE = TableShape(n_users=2, n_items=3, dim=4)


def test_mask_keeps_the_first_numbers() -> None:
    mask = prefix_mask(np.array([1, 3]), 4)
    assert mask.tolist() == [[1, 0, 0, 0], [1, 1, 1, 0]]


def test_counts_by_hand() -> None:
    plan = SizePlan(np.array([4, 2]), np.array([1, 1, 2]), dim=4)
    assert (plan.numbers, plan.max_size, plan.shape) == (10, 4, SHAPE)
    assert SizePlan(np.array([1, 2]), np.array([1, 1, 3]), dim=4).max_size == 3
    assert plan.sparsity == 0.5
    assert SHAPE.full_bytes == 80


def test_equality_and_hash_go_by_sizes() -> None:
    one, same = SizePlan.equal(SHAPE, 2), SizePlan.from_sizes([2] * 5, SHAPE)
    other = SizePlan.from_sizes([2, 2, 2, 2, 1], SHAPE)
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert len({one, same, other}) == 2
    assert one != SizePlan.equal(SHAPE, 2, Precision.INT8)


@pytest.mark.parametrize(
    ("size", "message"), [(0, r"1\.\.4, not 0\.\.0"), (5, r"1\.\.4, not 5\.\.5"), (1.5, "whole numbers")]
)
def test_impossible_sizes_are_refused(size: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        SizePlan.equal(SHAPE, size)  # type: ignore[arg-type]


@pytest.mark.parametrize("rows", [4, 6])
def test_sizes_of_more_or_fewer_rows_than_there_are_make_no_plan(rows: int) -> None:
    with pytest.raises(InputError, match=rf"sizes are of shape \({rows},\): give \(5,\)"):
        SizePlan.from_sizes(np.ones(rows), TableShape(3, 2, 8))
