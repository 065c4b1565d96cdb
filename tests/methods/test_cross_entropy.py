import dataclasses

import numpy as np
import pytest
from bandit import Bandit
from known import Planted

from ciess.data import Split
from ciess.methods.cross_entropy import CrossEntropy, Policy, _features, _sizes
from ciess.methods.popularity import _HIGHEST, _LOWEST, EQUAL, Popularity
from ciess.methods.problem import Problem

PLANTED = Policy(-1.0, 0.3, 0.15, 0.35, 0.6, -0.15, -0.3)
LONG = CrossEntropy(rounds=20, plans=16, elite=8)


def wanted(problem: Problem) -> np.ndarray:
    return _sizes(_features(problem), PLANTED)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_planted_policy_is_found(split: Split, seed: int) -> None:
    problem = Planted(split, wanted)
    for budget, [best, *_] in dataclasses.replace(LONG, seed=seed).search(problem).best.items():
        gap = 1 - problem.equal_quality(budget)
        assert 1 - best.quality < 0.05 * gap


def test_equal_sizes_are_tried_first_and_no_draw_leaves_the_range() -> None:
    problem = Bandit()
    trace = Popularity(rounds=4, plans=12, elite=3).search(problem).trace
    rules = np.array([[row[name] for name in EQUAL._fields] for row in trace])
    assert len(rules) == 4 * 12 * 2
    for first in (0, 4 * 12):
        assert tuple(rules[first]) == EQUAL
    assert (rules >= _LOWEST).all()
    assert (rules <= _HIGHEST).all()


def test_it_finds_what_popularity_alone_cannot_say(split: Split) -> None:
    problem = Planted(split, wanted)
    rule = Popularity(rounds=20, plans=16, elite=8).search(problem)
    policy = LONG.search(problem)
    for budget in problem.budgets:
        assert 1 - policy.best[budget][0].quality < 0.3 * (1 - rule.best[budget][0].quality)


def test_features_are_of_one_scale_and_rows_without_a_difference_have_none(split: Split) -> None:
    problem = Planted(split, wanted)
    problem.full_model.item_table.data[:] = 1.0
    users, items = _features(problem)
    np.testing.assert_allclose(users.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(users.std(0), 1)
    np.testing.assert_allclose(items.std(0)[:2], 1)
    np.testing.assert_allclose(items[:, 2], 0, atol=1e-12)
