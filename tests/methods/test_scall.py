import copy
import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from known import Planted, problem_of

from ciess.data import Interactions, Split
from ciess.evaluation.metrics import Evaluator
from ciess.methods.fidelity import Truncate
from ciess.methods.problem import Problem
from ciess.methods.scall import SCALL, Choice, expected_draws
from ciess.methods.shared.sac import SACSettings
from ciess.models.mf import MF
from ciess.tables.budget import Budget
from ciess.tables.layout import stored_bytes
from ciess.tables.plan import SizePlan

SAC = SACSettings(gamma=0.0, lr=3e-3, temperature=0.3, batch_size=32, hidden=32)
QUICK = SCALL(steps=25, updates=20, groups=8, sac=SAC)


@pytest.fixture(scope="module")
def problem(split: Split) -> Problem:
    return problem_of(MF(dim=16), split, ("40%", "25%"))


def test_expected_draws_are_those_of_order_statistics() -> None:
    """Of n uniform draws the k-th is expected at k / (n + 1), its square at k (k + 1) / ((n + 1) (n + 2))."""
    np.testing.assert_allclose(expected_draws(3, 1.0), [1 / 4, 2 / 4, 3 / 4])
    np.testing.assert_allclose(expected_draws(3, 2.0), [2 / 20, 6 / 20, 12 / 20])
    drawn = np.sort(np.random.default_rng(0).random((100_000, 4)) ** 0.5, axis=1).mean(0)
    np.testing.assert_allclose(expected_draws(4, 0.5), drawn, atol=2e-3)
    many = expected_draws(10**6, 4.0)
    assert (np.diff(many) >= 0).all()
    assert (many[0], many[-1]) == (1e-6, pytest.approx(1, abs=1e-5))


def test_actions_are_a_share_and_two_powers() -> None:
    assert Choice.of(torch.tensor([-1.0, -1.0, 1.0])) == (0, 0.25, 4)
    assert Choice.of(torch.tensor([0.5, 0.0, 0.5])) == (0.75, 1, 2)


def test_sizes_are_the_draws_in_order_of_popularity(tiny: Interactions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Users have 2, 1 and 3 interactions, items 2, 2, 1 and 1: of equals, the earlier gets more."""
    config, budget = MF(dim=8), Budget.parse("100%")
    problem = Problem(config.build(tiny), config, tiny, Evaluator(tiny.matrix, tiny.matrix), [], Truncate())
    problem.precision, problem.numbers = {budget: SizePlan.equal(problem.shape, 1).precision}, {budget: 20}
    monkeypatch.setattr(problem, "filled", lambda plan_of, budget: plan_of(problem.numbers[budget]))
    plan = Choice(user_share=0.5, user_power=2.0, item_power=1.0).plan(problem, budget)
    assert plan.user_sizes.tolist() == [3, 1, 6], "of 10, as 0.3, 0.1 and 0.6"
    assert plan.item_sizes.tolist() == [4, 3, 2, 1], "of 10, as 0.8, 0.6, 0.4 and 0.2"
    plan = Choice(user_share=0.2, user_power=2.0, item_power=0.0).plan(problem, budget)
    assert plan.user_sizes.tolist() == [1, 1, 2]
    assert plan.item_sizes.tolist() == [4, 4, 4, 4]


@settings(max_examples=30)
@given(action=st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3))
def test_every_choice_fills_the_budget(problem: Problem, action: list[float]) -> None:
    for budget in problem.budgets:
        plan = Choice.of(torch.tensor(action)).plan(problem, budget)
        assert 0 <= budget.limit(plan.shape) - stored_bytes(plan) < 64, "no more than the index may need"
        assert 1 <= plan.sizes.min() <= plan.max_size <= 16
        for popularity, sizes in zip(problem.popularity, (plan.user_sizes, plan.item_sizes), strict=True):
            assert (np.diff(sizes[np.argsort(-popularity, kind="stable")]) <= 0).all()


@pytest.fixture
def planted(split: Split) -> Callable[[], Planted]:
    """A problem whose best plan is a choice in the midst of the range; the full model's quality is 1."""
    best = Choice(user_share=0.3, user_power=0.5, item_power=2.0)

    def made() -> Planted:
        found = Planted(split, lambda problem: best.plan(problem, problem.budgets[0]).sizes.astype(np.float64))
        found.full = dataclasses.replace(found.full, quality=1.0)
        return found

    return made


def test_the_agent_finds_a_known_optimum_and_goes_on_from_it(planted: Callable[[], Planted]) -> None:
    first, found = planted(), QUICK.search(planted())
    [best, *others] = found.best[first.budgets[0]]
    assert len(others) == 2
    assert first.equal_quality(first.budgets[0]) < 0.2
    assert best.quality > 0.9
    # The middle of what was learned, not only the best draw.
    assert found.trace[-1]["quality"] > 0.8
    second, once = planted(), dataclasses.replace(QUICK, steps=1)
    before = copy.deepcopy(found.carried)
    second.carried = found.carried
    assert once.search(second).trace[0]["quality"] > 0.8 > once.search(planted()).trace[0]["quality"]  # type: ignore[operator]
    assert before is not None
    assert found.carried is not None
    assert all(torch.equal(each, before.tensors[name]) for name, each in found.carried.tensors.items())


def test_a_plan_follows_popularity_with_the_same_sizes(problem: Problem) -> None:
    after = problem_of(problem.config, Split(problem.train, problem.valid_positives))
    after.popularity = (problem.popularity[0][::-1].copy(), problem.popularity[1])
    [budget, _] = problem.budgets
    plan = Choice(0.4, 1.0, 2.0).plan(problem, budget)
    followed = SCALL().followed(plan, problem, after)
    assert stored_bytes(followed) == stored_bytes(plan)
    assert (np.sort(followed.user_sizes) == np.sort(plan.user_sizes)).all()
    assert (np.diff(followed.user_sizes[np.argsort(-after.popularity[0], kind="stable")]) <= 0).all()
    assert (followed.item_sizes == plan.item_sizes).all()
