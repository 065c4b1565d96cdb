import numpy as np
from bandit import Bandit

from ciess.methods.mixed import MixedRandom


def test_random_sizes_fill_the_budget_and_know_no_popularity() -> None:
    problem = Bandit()
    result = MixedRandom(draws=5).search(problem)
    for budget, candidates in result.best.items():
        assert [candidate.plan.numbers for candidate in candidates] == [problem.numbers[budget]] * 5
        assert [c.quality for c in candidates] == sorted((c.quality for c in candidates), reverse=True)
    sizes = np.array([candidate.plan.sizes for candidate in result.best[problem.budgets[1]]])
    low, high = sizes[:, :30].mean(), sizes[:, 30:60].mean()
    assert abs(low - high) < 1.5, "unpopular and popular users get the same on average"
    assert len({plan.numbers for plan in problem.measured}) <= 3


def test_a_seed_repeats_the_draws() -> None:
    first, again, other = (
        next(iter(MixedRandom(seed=seed).search(Bandit()).best.values()))[0].plan for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other
