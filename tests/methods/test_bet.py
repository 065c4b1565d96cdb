from collections.abc import Callable

import numpy as np
import pytest
import torch
from known import Planted, problem_of
from scipy import stats

from ciess.data import Split
from ciess.methods import bet
from ciess.methods.bet import BET, draw
from ciess.methods.problem import Problem
from ciess.methods.shared.fitness import FitnessPredictor
from ciess.models.mf import MF
from ciess.tables.layout import stored_bytes
from ciess.tables.plan import SizePlan


@pytest.fixture
def problem(split: Split) -> Problem:
    return problem_of(MF(dim=16), split, ("40%", "25%"))


@pytest.mark.parametrize("distribution", bet.DISTRIBUTIONS, ids=lambda each: each.__name__)
def test_plans_of_every_distribution_fill_the_budget_and_follow_popularity(
    problem: Problem, distribution: Callable[[int, np.random.Generator], np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bet, "DISTRIBUTIONS", (distribution,))
    rng = np.random.default_rng(0)
    for _ in range(8):
        for budget in problem.budgets:
            plan = draw(problem, budget, rng)
            room = budget.limit(plan.shape) - stored_bytes(plan)
            assert 0 <= room < 64, "no more than the index may need"
            for popularity, sizes in zip(problem.popularity, (plan.user_sizes, plan.item_sizes), strict=True):
                ranked = sizes[np.argsort(-popularity, kind="stable")]
                assert (np.diff(ranked) <= 0).all()


REFERENCES: dict[str, Callable[[np.random.Generator], stats.rv_continuous]] = {
    "_power_law": lambda rng: stats.powerlaw(1 - rng.random()),
    "_truncated_exponential": lambda rng: (lambda rate: stats.truncexpon(rate, scale=1 / rate))(5 * (1 - rng.random())),
    "_truncated_normal": lambda rng: (
        lambda mean, sd: stats.truncnorm(-mean / sd, (1 - mean) / sd, loc=mean, scale=sd)
    )(rng.random(), 1 - rng.random()),
    "_log_normal": lambda rng: stats.lognorm(0.5 * (1 - rng.random())),
}


@pytest.mark.parametrize("distribution", bet.DISTRIBUTIONS, ids=lambda each: each.__name__)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_numbers_are_distributed_as_they_should_be(
    distribution: Callable[[int, np.random.Generator], np.ndarray], seed: int
) -> None:
    drawn = distribution(4000, np.random.default_rng(seed))
    expected = REFERENCES[distribution.__name__](np.random.default_rng(seed))
    assert stats.kstest(drawn, expected.cdf).pvalue > 1e-3


def test_the_shares_of_the_sides_are_all_over_the_range(problem: Problem) -> None:
    rng = np.random.default_rng(0)
    plans = [draw(problem, problem.budgets[0], rng) for _ in range(40)]
    shares = [plan.user_sizes.sum() / plan.numbers for plan in plans]
    assert min(shares) < 0.3
    assert max(shares) > 0.8


def fitness(plan: SizePlan) -> float:
    """Best with a third for users, and large sizes for few."""
    share = plan.user_sizes.sum() / plan.numbers
    return -((share - 1 / 3) ** 2) + 0.1 * float(np.log(plan.item_sizes).std())


def test_the_predictor_learns_a_known_fitness(problem: Problem) -> None:
    rng = np.random.default_rng(0)
    plans = [draw(problem, problem.budgets[0], rng) for _ in range(120)]
    predictor = FitnessPredictor(problem.popularity, 16)
    predictor.learn(plans[:80], [fitness(plan) for plan in plans[:80]])
    predicted = predictor.predict(plans[80:])
    assert stats.spearmanr(predicted, [fitness(plan) for plan in plans[80:]]).statistic > 0.85


def test_a_prediction_does_not_depend_on_what_else_is_predicted(problem: Problem) -> None:
    rng = np.random.default_rng(0)
    plans = [draw(problem, problem.budgets[0], rng) for _ in range(10)]
    predictor = FitnessPredictor(problem.popularity, 16)
    alone = torch.cat([predictor.predict([plan]) for plan in plans])
    torch.testing.assert_close(predictor.predict(plans), alone)


def test_a_prediction_depends_on_who_has_which_size(problem: Problem) -> None:
    plan = draw(problem, problem.budgets[1], np.random.default_rng(1))
    turned = SizePlan(plan.user_sizes, plan.item_sizes[np.argsort(np.argsort(-plan.item_sizes))[::-1]], plan.dim)
    predictor = FitnessPredictor(problem.popularity, 16)
    assert predictor.predict([plan]) != predictor.predict([turned])


def test_the_predictor_finds_better_plans_than_the_sampler_alone(split: Split) -> None:
    problem = Planted(split, lambda problem: np.concatenate([np.ones(150), 3 * problem.popularity[1] ** 0.5]))
    [budget] = problem.budgets
    found = [
        [BET(rounds=4, predicted=predicted, seed=seed).search(problem).best[budget][0].quality for seed in range(2)]
        for predicted in (True, False)
    ]
    assert np.mean(found[0]) > np.mean(found[1])
    assert np.mean(found[0]) > problem.equal_quality(budget)


def test_as_many_are_measured_and_returned_as_asked(problem: Problem) -> None:
    result = BET(rounds=3, candidates=12, greedy=2, random=2, nearest=1, finalists=4).search(problem)
    assert [row["round"] for row in result.trace] == [0] * 5 + [1] * 5 + [2] * 5 + [0] * 5 + [1] * 5 + [2] * 5
    for budget, candidates in result.best.items():
        qualities = sorted((row["quality"] for row in result.trace if row["budget"] == str(budget)), reverse=True)
        assert [each.quality for each in candidates] == qualities[:4]
