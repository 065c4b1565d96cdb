"""Rows are sized by what they are like, those that were never seen, too."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from planted import of_two_lengths

from ciess.data import Split
from ciess.errors import InputError
from ciess.methods.ciess.budgeted import Ciess, _BudgetSearch
from ciess.methods.ciess.policy import Actor, Scale, described, log_to_actions, log_to_sizes
from ciess.methods.ciess.td3 import TD3Settings
from ciess.methods.problem import Problem, Sampling, SearchResult
from ciess.tables.plan import TableShape

SMALL = TD3Settings(batch_size=256, hidden=32)


def test_rows_are_described_by_interactions_and_squares_of_bands() -> None:
    rows = np.array([[1, 2, 3, 3, 0, 0], [0, 0, 0, 0, 0, 0]], dtype=np.float32)
    found = described(np.array([6, 0]), rows)
    assert found[0, :4].exp().tolist() == pytest.approx([7, 1, 4, 9])
    assert found.shape == (2, 5), "columns 1, 2, 3 and 4, and the last two"
    assert found.isfinite().all()


def test_features_are_scaled_by_most_rows() -> None:
    features = torch.cat([torch.linspace(-1, 1, 101), torch.tensor([-87.0])])[:, None]
    found = Scale.of(features).scaled(features)
    assert float(found[50]) == pytest.approx(0, abs=0.02)
    assert float(found[84]) == pytest.approx(0.5, abs=0.02)
    assert float(found[-1]) == -1.5


def rows_of(count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int32]]:
    """Rows of 2 or of 9 dimensions, and so many sizes."""
    rng = np.random.default_rng(seed)
    needs = rng.choice([2, 9], count)
    rows = rng.standard_normal((count, 16)) * (np.arange(16) < needs[:, None])
    return rng.integers(1, 50, count), (rows + 1e-3).astype(np.float32), needs.astype(np.int32)


def test_rows_that_were_never_seen_get_the_sizes_of_rows_like_them() -> None:
    counts, rows, needs = rows_of(400, 0)
    policy = Actor.imitating(counts, rows, needs, SMALL, 0)
    new_counts, new_rows, new_needs = rows_of(200, 1)
    sizes = policy.sizes(new_counts, new_rows)
    assert np.abs(np.log(sizes) - np.log(new_needs)).mean() < 0.25
    assert sizes.min() >= 1
    assert sizes.max() <= 16
    np.testing.assert_allclose(policy.sizes(new_counts[:3], new_rows[:3]), sizes[:3], rtol=1e-5)


def test_rows_of_another_width_are_refused() -> None:
    counts, rows, needs = rows_of(50, 0)
    policy = Actor.imitating(counts, rows, needs, SMALL, 0)
    with pytest.raises(InputError, match=r"rows are \(50, 8\) and counts \(50,\): give \(50, 16\) rows"):
        policy.sizes(counts, rows[:, :8])
    with pytest.raises(InputError, match=r"give \(9, 16\) rows"):
        policy.sizes(counts[:9], rows)


def test_log_actions_are_sizes_by_equal_factors() -> None:
    assert log_to_sizes(torch.tensor([-1.0, 0.0, 1.0]), 64).tolist() == pytest.approx([1, 8, 64])
    assert log_to_actions(torch.tensor([1, 8, 64]), 64).tolist() == pytest.approx([-1, 0, 1])
    assert log_to_actions(torch.ones(1), 1).tolist() == [-1]
    assert log_to_sizes(torch.tensor([-1.0, 1.0]), 1).tolist() == [1, 1]


def test_a_search_learns_to_size_other_rows(split: Split) -> None:
    """Items of two dimensions and of eight, learned from half of these: the others come from the same tables.

    So little training may fail with one seed, about one of six: the median of three counts.
    """
    problem, _ = of_two_lengths(split)
    [budget] = problem.budgets
    settings = [Ciess(start=None, steps=3, finish_steps=10, updates=20, td3=SMALL, seed=seed) for seed in range(3)]
    policies = [each.learned(problem, each.search(problem).best[budget][0].plan) for each in settings]
    assert all(isinstance(side, Actor) for policy in policies for side in (policy.users, policy.items))
    rng = np.random.default_rng(5)
    rows = rng.standard_normal((200, 8)).astype(np.float32)
    rows[:100, 2:] *= 0.02
    rows /= np.sqrt(np.square(rows).sum(1, keepdims=True)) / 2.5
    found = [policy.items.sizes(np.full(200, 10), rows) for policy in policies]
    assert np.median([np.median(sizes[:100]) / np.median(sizes[100:]) for sizes in found]) < 0.75
    assert policies[0].users.sizes(np.array([3]), rows[:1]).shape == (1,)


def test_rows_that_stand_for_many_weigh_as_many(split: Split) -> None:
    """With users that stand for twenty each, their numbers cost twenty prices, and the budget is that of all."""
    problem, _ = of_two_lengths(split)
    [budget] = problem.budgets
    quick = Ciess(start=None, episodes=1, steps=1, finish_steps=2, updates=1, td3=SMALL)
    n_users, n_items, dim = problem.shape
    stands_for = np.repeat([20.0, 1.0], [n_users, n_items])
    found = Problem(
        problem.full_model,
        problem.config,
        problem.train,
        problem._valid,
        [budget],
        problem.fidelity,
        sampled=Sampling(TableShape(20 * n_users, n_items, dim), stands_for),
    )
    search = _BudgetSearch(quick, found, budget, SearchResult({budget: []}))
    for gains in search._gains():
        assert gains.cost(gains.now) == pytest.approx(search.student.plan.sizes @ stands_for)
    plan, _ = search._choose()
    assert plan.sizes @ stands_for <= found.numbers[budget]
