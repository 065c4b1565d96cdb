import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import ttest_1samp, ttest_rel

from ciess.evaluation.significance import differences_tested, holm, over_seeds, paired_test, spelled_p

NAN = np.nan


@given(arrays(np.float32, st.integers(2, 40), elements=st.floats(-1, 1, width=32)))
def test_it_is_scipys_paired_t_test_with_its_interval(differences: np.ndarray) -> None:
    if np.ptp(differences) < 1e-3:
        differences = differences + np.linspace(0, 1, len(differences))
    found, expected = paired_test(differences), ttest_1samp(differences.astype(np.float64), 0.0)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9, abs=0)
    low, high = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.gain == pytest.approx(differences.mean(dtype=np.float64))


def test_tails_are_exact_however_small() -> None:
    """Twelve methods and four budgets make 264 pairs: a floor under p-values would leave nothing significant."""
    rng = np.random.default_rng(0)
    mine, theirs = 0.3 + rng.normal(0, 0.01, 2000), 0.2 + rng.normal(0, 0.01, 2000)
    found = paired_test(mine - theirs)
    assert found.p_value == pytest.approx(ttest_rel(mine, theirs).pvalue, rel=1e-6, abs=0)
    assert found.p_value < 1e-100
    assert all(each.verdict == 1 for each in differences_tested((pair, mine - theirs) for pair in range(264)).values())


def test_by_hand() -> None:
    """Of 1, 2, 3: mean 2, error 1 / √3, t = 2 √3 on 2 degrees: p = 1 − t / √(t² + 2) = 1 − √(12 / 14)."""
    found = paired_test(np.array([1.0, 2.0, NAN, 3.0]))
    assert found.p_value == pytest.approx(1 - (12 / 14) ** 0.5)
    assert found.high - found.gain == pytest.approx(4.302653 / 3**0.5, rel=1e-6)
    assert (found.better, found.same, found.worse) == (3, 0, 0), "those who were not measured do not count"
    assert found.verdict == 0


@pytest.mark.parametrize(
    ("differences", "p_value", "interval"),
    [
        ([0.0, 0.0, 0.0], 1, (0, 0)),
        ([0.0, NAN], 1, (-1, 1)),
        ([0.3], 1, (-1, 1)),
        ([NAN, NAN], 1, (-1, 1)),
        ([], 1, (-1, 1)),
        ([0.25, 0.25], 0, (0.25, 0.25)),
    ],
)
def test_where_nothing_varies_there_is_an_answer_without_warnings(
    differences: list[float], p_value: float, interval: tuple[float, float]
) -> None:
    found = paired_test(np.array(differences, dtype=np.float32))
    assert (found.p_value, found.low, found.high) == (p_value, *interval)


@given(arrays(np.float64, st.integers(2, 20), elements=st.floats(-1, 1)))
def test_the_other_way_round_it_is_the_same(differences: np.ndarray) -> None:
    one, other = paired_test(differences), paired_test(-differences)
    assert (one.p_value, one.better, one.verdict) == (other.p_value, other.worse, -other.verdict)


def test_seeds_are_no_more_users() -> None:
    """The same users in three seeds are as many users as in one: p does not fall by repeating them."""
    rng = np.random.default_rng(3)
    one = rng.normal(0.02, 0.1, 50)
    assert paired_test(over_seeds([one, one, one])) == paired_test(one)
    np.testing.assert_allclose(
        over_seeds([np.array([1.0, NAN, NAN]), np.array([2.0, 5.0, NAN], dtype=np.float32)]), [1.5, 5.0, NAN]
    )


def test_several_are_corrected_together_and_read_one_by_one() -> None:
    rng = np.random.default_rng(1)
    gains = {name: rng.normal(mean, 0.1, 400) for name, mean in (("luck", 0.0), ("more", 0.02), ("less", -0.05))}
    alone = {name: paired_test(each).p_value for name, each in gains.items()}
    found = differences_tested(gains.items())
    assert [*found] == [*gains]
    assert found["less"].p_value == 3 * alone["less"]
    assert found["more"].p_value == 2 * alone["more"]
    assert found["luck"].p_value == alone["luck"]
    assert [each.verdict for each in found.values()] == [0, 1, -1]
    with_itself = differences_tested([*gains.items(), ("itself", np.zeros(400))])
    assert {name: each.p_value for name, each in with_itself.items()} == {
        **{name: each.p_value for name, each in found.items()},
        "itself": 1,
    }, "a model is not tested against itself"
    assert differences_tested(()) == {}


def test_holm_by_hand() -> None:
    """Sorted: .005 × 4, .01 × 3, .03 × 2, and .04 × 1, which may not fall below the one before it."""
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.array([0.6, 0.8])), [1, 1])


def test_small_p_values_are_not_told_as_zero() -> None:
    assert [spelled_p(each) for each in (1.0, 0.04567, 0.0001, 3.4e-12, 0.0)] == [
        "1.0000",
        "0.0457",
        "0.0001",
        "3e-12",
        "< 1e-300",
    ]
