"""CIESS on problems whose best sizes are known."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest
import torch

import ciess
from ciess.data import Split
from ciess.evaluation.metrics import Evaluator
from ciess.methods.ciess.budgeted import Ciess
from ciess.methods.ciess.noise import Noise
from ciess.methods.ciess.td3 import TD3Settings
from ciess.methods.equal import EqualSizes
from ciess.methods.fidelity import Fidelity, Truncate
from ciess.methods.popularity import Popularity
from ciess.methods.problem import Measurement, Problem
from ciess.tables.budget import Budget
from ciess.tables.plan import SizePlan, TableShape
from ciess.tables.precision import Precision

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
        self.precision = dict.fromkeys(self.numbers, Precision.FLOAT32)
        self.progress = lambda *_: None
        self.measured: list[SizePlan] = []

    def filled(self, plan_of: Callable[[int], SizePlan], budget: Budget) -> SizePlan:
        return plan_of(self.numbers[budget])

    @property
    def measured_users(self) -> torch.Tensor:
        return torch.ones(60, dtype=torch.bool)

    @cached_property
    def full(self) -> Measurement:
        return self.measure(SizePlan.equal(self.shape, self.shape.dim))

    def measure(self, plan: SizePlan, fidelity: Fidelity | None = None) -> Measurement:
        self.measured.append(plan)
        filled = torch.minimum(torch.from_numpy(plan.sizes).float(), self.needs)
        return Measurement(plan, filled[:60], filled[60:], float(filled.sum()) / 100)

    def item_quality(self, user_quality: torch.Tensor) -> torch.Tensor:
        return torch.full((40,), float(user_quality.mean()))


BARE = Ciess(steps=10, td3=SMALL, start=None)
"""Without the popularity rule: the policy has all to learn by itself."""


@pytest.mark.parametrize("seed", [0, 1])
def test_known_best_sizes_are_found(seed: int) -> None:
    problem = Bandit()
    result = dataclasses.replace(BARE, episodes=24, updates=8, seed=seed).search(problem)
    tight, wide = problem.budgets
    best = result.best[tight][0]
    perfect = float(problem.needs.sum()) / 100
    equal = EqualSizes().search(problem).best[tight][0].quality
    assert best.quality >= 0.93 * perfect
    assert best.quality > equal + 0.8 * (perfect - equal)
    groups = np.split(best.plan.sizes, [30, 60, 80])
    assert [np.abs(g.mean() - need) < 2.5 for g, need in zip(groups, (2, 10, 1, 13), strict=True)] == [True] * 4
    assert result.best[wide][0].quality == pytest.approx(perfect)


@pytest.mark.parametrize("start", [None, Popularity()], ids=["bare", "from a rule"])
def test_no_plan_ever_exceeds_its_budget(start: Popularity | None) -> None:
    problem = Bandit()
    result = dataclasses.replace(BARE, episodes=4, updates=1, start=start).search(problem)
    allowed = set(problem.numbers.values())
    full = problem.shape.rows * problem.shape.dim
    assert {plan.numbers for plan in problem.measured} - {full} <= allowed | {600, 1300}
    for budget, candidates in result.best.items():
        assert all(candidate.plan.numbers <= problem.numbers[budget] for candidate in candidates)
        qualities = [candidate.quality for candidate in candidates]
        assert qualities == sorted(qualities, reverse=True)


@pytest.mark.parametrize("start", [None, Popularity(rounds=1)], ids=["bare", "from a rule"])
def test_the_best_plan_that_was_measured_is_the_first_candidate(start: Popularity | None, split: Split) -> None:
    """With budgets in bytes too, whose plans keep more numbers than are sure to fit."""
    config = ciess.MF(dim=16)
    valid = Evaluator(split.train.matrix, split.valid.matrix)
    budgets = [Budget.parse("60%"), Budget.parse("30%")]
    problem = Problem(config.build(split.train), config, split.train, valid, budgets, Truncate())
    result = dataclasses.replace(BARE, episodes=4, updates=1, start=start).search(problem)
    for budget in budgets:
        measured = [float(row["quality"]) for row in result.trace if row["budget"] == str(budget)]
        assert result.best[budget][0].quality == max(*measured, problem.measure(problem.equal(budget)).quality)


def test_equal_sizes_are_always_among_the_candidates() -> None:
    problem = Bandit()
    result = Ciess(episodes=0, start=None).search(problem)
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
        Switch("uniform noise", {"noise": Noise("uniform")}),
        Switch("OU noise", {"noise": Noise("ou")}),
        Switch("no noise", {"noise": Noise("none")}),
        Switch("one noise for all", {"noise": Noise(shared=True)}),
        Switch("noise after the choice", {"noise": Noise(after_choice=True)}),
        Switch("linear sizes", {"log_sizes": False}),
        Switch("ratio", {"reward": "ratio"}),
        Switch("raw", {"reward": "raw"}),
        Switch("soft budgets", {"fill": False}),
        Switch("from a rule", {"start": Popularity(rounds=1)}),
    ],
    ids=lambda switch: switch.name,
)
def test_switches_change_the_search_and_seeds_repeat_it(switch: Switch) -> None:
    def trace(**settings: object) -> list[float | str]:
        search = dataclasses.replace(BARE, episodes=3, updates=1, **settings)  # type: ignore[arg-type]
        return [row["quality"] for row in search.search(Bandit()).trace]

    assert trace(**switch.settings) == trace(**switch.settings)
    assert trace(**switch.settings) != trace()


def test_a_fixed_price_stays_and_a_free_one_moves() -> None:
    fixed = dataclasses.replace(BARE, episodes=2, updates=1, price=0.4).search(Bandit()).trace
    free = dataclasses.replace(BARE, episodes=2, updates=1).search(Bandit()).trace
    assert {row["user_price"] for row in fixed} == {0.4}
    assert len({row["user_price"] for row in free}) > 10


def test_the_rule_alone_finds_what_popularity_decides() -> None:
    problem = Bandit()
    tight = problem.budgets[0]
    found, equal = (method.search(problem).best[tight][0].quality for method in (Popularity(rounds=6), EqualSizes()))
    assert found > equal + 0.6 * (float(problem.needs.sum()) / 100 - equal)


def test_a_search_from_a_rule_is_never_worse_than_the_rule() -> None:
    rule = Popularity(rounds=1)
    ruled = rule.search(Bandit())
    found = dataclasses.replace(BARE, episodes=6, updates=2, start=rule).search(Bandit())
    for budget in ruled.best:
        assert found.best[budget][0].quality >= ruled.best[budget][0].quality
    assert any(found.best[budget][0].quality > ruled.best[budget][0].quality for budget in ruled.best)


@pytest.mark.parametrize("preset", [Ciess.paper(dim=16), Ciess.program(dim=16)], ids=["paper", "program"])
def test_presets_give_plans_that_fit(preset: Ciess) -> None:
    problem = Bandit()
    quick = dataclasses.replace(preset, episodes=2, td3=dataclasses.replace(preset.td3, batch_size=256, hidden=32))
    for budget, candidates in quick.search(problem).best.items():
        assert all(candidate.plan.numbers <= problem.numbers[budget] for candidate in candidates)
    soft = {plan.numbers for plan in problem.measured} - {problem.numbers[budget] for budget in problem.budgets}
    assert len(soft) > 10, "plans are measured as the policy wants them"
