import numpy as np
import pytest
from scipy.stats import bootstrap as scipy_bootstrap

from ciess.evaluation.significance import bootstrap, holm

RNG = np.random.default_rng(7)
GAINS = RNG.normal([0.0, 0.02, -0.05], 0.1, (400, 3))


def test_intervals_are_those_of_scipy() -> None:
    found = bootstrap(GAINS)
    for column in range(3):
        expected = scipy_bootstrap(
            (GAINS[:, column],), np.mean, method="percentile", batch=500, random_state=column
        ).confidence_interval
        # Both are random: a percentile of 9,999 draws strays by a few hundredths of the standard error, .005.
        assert found.low[column] == pytest.approx(expected.low, abs=5e-4)
        assert found.high[column] == pytest.approx(expected.high, abs=5e-4)
    np.testing.assert_allclose(found.mean, GAINS.mean(0))


def test_p_values_tell_luck_from_gains_and_do_not_depend_on_the_sign() -> None:
    found, turned = bootstrap(GAINS), bootstrap(-GAINS)
    np.testing.assert_allclose(found.p_value, turned.p_value)
    # The z-test's, which a bootstrap of 400 users comes close to.
    assert found.p_value[1] == pytest.approx(_two_sided(GAINS[:, 1]), abs=0.005)
    assert found.p_value[2] == 2 / 10_000, "the least that 9,999 resamples can tell"
    assert bootstrap(np.zeros((50, 1))).p_value[0] == 1


def _two_sided(values: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> float:
    from scipy.stats import norm

    return float(2 * norm.sf(abs(values.mean()) / values.std() * len(values) ** 0.5))


def test_users_who_were_not_measured_do_not_count() -> None:
    some = GAINS.copy()
    some[::2, 1] = np.nan
    found, alone = bootstrap(some), bootstrap(GAINS[1::2])
    assert found.mean[1] == pytest.approx(alone.mean[1])
    assert found.low[1] == pytest.approx(alone.low[1], abs=1e-3)
    np.testing.assert_allclose(found.low[[0, 2]], bootstrap(GAINS).low[[0, 2]])


def test_draws_do_not_depend_on_how_many_are_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bootstrap(GAINS, resamples=99)
    monkeypatch.setattr("ciess.evaluation.significance._DRAWS_AT_ONCE", 1_000)
    np.testing.assert_allclose(bootstrap(GAINS, resamples=99).low, whole.low)


def test_holm_by_hand() -> None:
    """Sorted: .005 × 4, .01 × 3, .03 × 2, and .04 × 1, which may not fall below the one before it."""
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.array([0.6, 0.5])), [1, 1])
