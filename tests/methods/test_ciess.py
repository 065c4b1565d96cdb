"""CIESS on problems whose best sizes are known."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from ciess.methods.ciess import Ciess
from ciess.methods.equal import EqualSizes
from ciess.methods.problem import Measurement, Problem
from ciess.methods.td3 import TD3Settings
from ciess.tables.budget import Budget
from ciess.tables.plan import SizePlan, TableShape

SMALL = TD3Settings(discount=0.0, batch_size=512, hidden=64)


class Bandit(Problem):
    """Entities whose quality grows by one for each number up to a need that popularity decides.

    Unpopular users need 2 numbers and popular ones 10; unpopular items 1, popular ones 13. The budget has room
    for just these, so that exactly they are the best plan.
    """

    def __init__(self) -> None:
        self.shape = TableShape(n_users=60, n_items=40, dim=16)
        self.popularity = (np.repeat([5, 50], 30), np.repeat([3, 90], 20))
        self.needs = torch.from_numpy(np.repeat([2, 10, 1, 13], [30, 30, 20, 20])).float()
        self.numbers = {Budget.parse("40%"): int(self.needs.sum()), Budget.parse("80%"): 1300}
        self.progress = lambda *_: None
        self.measured: list[SizePlan] = []

    @property
    def measured_users(self) -> torch.Tensor:
        return torch.ones(60, dtype=torch.bool)

    def measure(self, plan: SizePlan) -> Measurement:
        self.measured.append(plan)
        filled = torch.minimum(torch.from_numpy(plan.sizes).float(), self.needs)
        return Measurement(plan, filled[:60], filled[60:], float(filled.sum()) / 100)

    def item_quality(self, user_quality: torch.Tensor) -> torch.Tensor:
        return torch.full((40,), float(user_quality.mean()))


@pytest.mark.parametrize("seed", [0, 1])
def test_known_best_sizes_are_found(seed: int) -> None:
    problem = Bandit()
    result = Ciess(episodes=24, updates=8, td3=SMALL, seed=seed).search(problem)
    tight, wide = problem.budgets
    best = result.best[tight][0]
    perfect = float(problem.needs.sum()) / 100
    equal = EqualSizes().search(problem).best[tight][0].quality
    assert best.quality >= 0.93 * perfect
    assert best.quality > equal + 0.8 * (perfect - equal)
    groups = np.split(best.plan.sizes, [30, 60, 80])
    assert [np.abs(g.mean() - need) < 2.5 for g, need in zip(groups, (2, 10, 1, 13), strict=True)] == [True] * 4
    assert result.best[wide][0].quality == pytest.approx(perfect)


def test_no_plan_ever_exceeds_its_budget() -> None:
    problem = Bandit()
    result = Ciess(episodes=4, updates=1, td3=SMALL).search(problem)
    allowed = set(problem.numbers.values())
    full = problem.shape.rows * problem.shape.dim
    assert {plan.numbers for plan in problem.measured} - {full} <= allowed | {600, 1300}
    for budget, candidates in result.best.items():
        assert all(candidate.plan.numbers <= problem.numbers[budget] for candidate in candidates)
        qualities = [candidate.quality for candidate in candidates]
        assert qualities == sorted(qualities, reverse=True)


def test_equal_sizes_are_always_among_the_candidates() -> None:
    problem = Bandit()
    result = Ciess(episodes=0).search(problem)
    for budget, candidates in result.best.items():
        assert [each.plan for each in candidates] == [EqualSizes().search(problem).best[budget][0].plan]


@dataclass(frozen=True)
class Switch:
    name: str
    settings: dict[str, object]


@pytest.mark.parametrize(
    "switch",
    [
        Switch("fixed price", {"price": 0.4}),
        Switch("no walk", {"walk_length": 0}),
        Switch("no peers", {"peers": 0}),
    ],
    ids=lambda switch: switch.name,
)
def test_switches_change_the_search_and_seeds_repeat_it(switch: Switch) -> None:
    def trace(**settings: object) -> list[float | str]:
        return [row["quality"] for row in Ciess(episodes=3, updates=1, td3=SMALL, **settings).search(Bandit()).trace]  # type: ignore[arg-type]

    assert trace(**switch.settings) == trace(**switch.settings)
    assert trace(**switch.settings) != trace()


def test_a_fixed_price_stays_and_a_free_one_moves() -> None:
    fixed = Ciess(episodes=2, updates=1, td3=SMALL, price=0.4).search(Bandit()).trace
    free = Ciess(episodes=2, updates=1, td3=SMALL).search(Bandit()).trace
    assert {row["price"] for row in fixed} == {0.4}
    assert len({row["price"] for row in free}) > 10
