import pytest
import reproduce


@pytest.mark.parametrize(
    ("chances", "said"),
    [
        # Normal deviates of 1.28 each: together 1.28 · √2 = 1.81 for two, and 2.22 for three, where 1.96 is wanted.
        ([0.1, 0.1], "no different"),
        ([0.1, 0.1, 0.1], "better"),
        ([0.9, 0.9, 0.9], "worse"),
        ([1e-9, 1 - 1e-9], "no different"),
        ([0.0, 1.0, 0.01], "no different"),
        ([0.0, 0.5], "better"),
    ],
)
def test_tests_of_several_seeds_say_one_thing(chances: list[float], said: str) -> None:
    assert reproduce.together(chances) == said


def test_a_significant_loss_is_no_gain() -> None:
    worse, equal = {"p_against_equal": 0.01, "kept": 0.9}, {"kept": 0.95}
    assert reproduce.chance(worse, equal) == pytest.approx(0.995)
    assert reproduce.chance({**worse, "kept": 0.97}, equal) == pytest.approx(0.005)
