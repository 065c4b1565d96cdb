"""Sizes of rows by how many interactions they have."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ciess.errors import InputError
from ciess.tables.curve import Curve


def test_a_curve_goes_through_mean_sizes_of_equal_counts() -> None:
    curve = Curve.fitted(np.array([0, 3, 3, 15]), np.array([1, 2, 4, 9]))
    assert curve.sizes(np.array([0, 3, 15])).tolist() == pytest.approx([1, 3, 9])
    # log(1 + 7) lies in the middle between log(1 + 3) and log(1 + 15).
    assert curve.sizes(np.array([7])).tolist() == pytest.approx([6])
    assert curve.sizes(np.array([10**6])).tolist() == pytest.approx([9]), "constant beyond what it was fitted to"


def test_a_rule_is_found_again() -> None:
    counts = np.random.default_rng(0).zipf(1.5, 5_000).clip(max=3_000)
    curve = Curve.fitted(counts, 1.5 * counts**0.4)
    assert np.abs(np.log(curve.sizes(np.arange(1, 3_000)) / (1.5 * np.arange(1, 3_000) ** 0.4))).max() < 0.05


@given(
    arrays(np.int64, st.integers(1, 300), elements=st.integers(0, 50)),
    st.integers(0, 9),
)
def test_a_curve_keeps_the_mean_and_what_is_stored(counts: np.ndarray, seed: int) -> None:
    sizes = np.random.default_rng(seed).integers(1, 129, len(counts))
    curve = Curve.from_arrays(Curve.fitted(counts, sizes).arrays)
    found = curve.sizes(counts)
    assert sizes.min() <= found.min() + 1e-9
    assert found.max() <= sizes.max() + 1e-9
    if len(np.unique(counts)) <= 20 and len(counts) < 60:
        assert found.mean() == pytest.approx(sizes.mean())


@pytest.mark.parametrize("counts", [[-1], [0.5], [[1, 2]], ["1"]])
def test_what_counts_nothing_is_refused(counts: list[object]) -> None:
    with pytest.raises(InputError, match="give one whole number of 0 or more for each row"):
        Curve(np.zeros(1), np.ones(1)).sizes(np.array(counts))
