"""CIESS under budgets, on problems whose best sizes are known."""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from bandit import Bandit
from known import problem_of

import ciess
from ciess.data import Split
from ciess.errors import InputError
from ciess.evaluation.metrics import Evaluator
from ciess.methods.ciess.budgeted import Ciess, Peers, _BudgetSearch, credit, log_to_actions, log_to_sizes, tuned_price
from ciess.methods.ciess.noise import Noise
from ciess.methods.ciess.td3 import TD3Settings
from ciess.methods.equal import EqualSizes
from ciess.methods.fidelity import Truncate
from ciess.methods.popularity import Popularity
from ciess.methods.problem import Candidate, Measurement, Problem
from ciess.tables.budget import Budget
from ciess.tables.plan import SizePlan, TableShape

SMALL = TD3Settings(gamma=0.0, batch_size=512, hidden=64, max_grad_norm=1.0)


BARE = Ciess(steps=10, td3=SMALL, start=None)
"""Without the popularity rule: the policy has all to learn by itself."""


@pytest.mark.parametrize("seed", [0, 1])
def test_known_best_sizes_are_found(seed: int) -> None:
    problem = Bandit()
    result = dataclasses.replace(BARE, episodes=12, updates=8, seed=seed).search(problem)
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
    result = dataclasses.replace(BARE, episodes=2, updates=1, start=start).search(problem)
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
    result = dataclasses.replace(BARE, episodes=2, updates=1, start=start).search(problem)
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
        Switch("from a rule", {"start": Popularity(rounds=1)}),
    ],
    ids=lambda switch: switch.name,
)
def test_switches_change_the_search_and_seeds_repeat_it(switch: Switch) -> None:
    def trace(**settings: object) -> list[float | str]:
        search = dataclasses.replace(BARE, episodes=1, steps=4, updates=1, **settings)  # type: ignore[arg-type]
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
    found = dataclasses.replace(BARE, episodes=3, updates=2, start=rule).search(Bandit())
    for budget in ruled.best:
        assert found.best[budget][0].quality >= ruled.best[budget][0].quality
    assert any(found.best[budget][0].quality > ruled.best[budget][0].quality for budget in ruled.best)


def test_log_actions_are_sizes_by_equal_factors() -> None:
    assert log_to_sizes(torch.tensor([-1.0, 0.0, 1.0]), 64).tolist() == pytest.approx([1, 8, 64])
    assert log_to_actions(torch.tensor([1, 8, 64]), 64).tolist() == pytest.approx([-1, 0, 1])
    assert log_to_actions(torch.ones(1), 1).tolist() == [-1]
    assert log_to_sizes(torch.tensor([-1.0, 1.0]), 1).tolist() == [1, 1]


def measurement(users: list[float], items: list[float]) -> Measurement:
    plan = SizePlan.equal(TableShape(len(users), len(items), 4), 1)
    return Measurement(plan, torch.tensor(users), torch.tensor(items), float(np.nanmean(users)))


def test_credit_is_what_an_entity_gains_on_the_full_model_in_its_mean_quality() -> None:
    full = measurement([0.4, 0.6, math.nan], [0.7, 0.3])
    users, items = credit(measurement([0.5, 0.4, math.nan], [0.7, 0.2]), full)
    assert users[:2].tolist() == pytest.approx([0.2, -0.4])
    assert users[2].isnan()
    assert items.tolist() == pytest.approx([0, -0.2])


def test_a_price_rises_while_more_is_wanted_than_allowed_and_falls_while_less() -> None:
    assert tuned_price(2.0, wanted=150, allowed=100, rate=0.1) == pytest.approx(2 * 1.5**0.1)
    assert tuned_price(2.0, wanted=50, allowed=100, rate=0.1) == pytest.approx(2 * 0.5**0.1)
    assert tuned_price(2.0, wanted=9e9, allowed=1, rate=0.1) == pytest.approx(2 * math.exp(0.1)), "at most so fast"
    assert tuned_price(2.0, wanted=100, allowed=100, rate=0.1) == 2.0


def test_peers_share_the_mean_over_who_is_measured() -> None:
    """Popularity 1 and 9 make two groups; of the first nobody but one is measured, of a third nobody at all."""
    values = torch.tensor([0.2, math.nan, math.nan, 0.4, 0.8, 0.6])
    mean = Peers(np.array([1, 1, 1, 9, 9, 9]), 2).mean(values)
    assert mean.tolist() == pytest.approx([0.2, 0.2, 0.2, 0.6, 0.6, 0.6])
    assert Peers(np.array([1, 9]), 2).mean(torch.tensor([math.nan, 1.0])).isnan().tolist() == [True, False]


def search_of(settings: Ciess, problem: Problem) -> _BudgetSearch:
    return _BudgetSearch(settings, problem, problem.budgets[0], [], [])


def test_a_search_from_a_rule_first_wants_the_sizes_of_its_plan() -> None:
    problem = Bandit()
    plan = SizePlan.from_sizes(np.repeat([2, 10, 1, 13], [30, 30, 20, 20]), problem.shape)
    one = _BudgetSearch(
        Ciess(td3=TD3Settings(batch_size=64, hidden=32)), problem, problem.budgets[0], [Candidate(plan, 6.4)], []
    )
    wanted = torch.cat(one._wanted(one._first_states())).numpy()
    np.testing.assert_allclose(wanted, plan.sizes, rtol=0.15)


def test_the_users_part_of_a_budget_strays_about_that_of_the_best_plan() -> None:
    """Of 640 dimensions 240 are the users': log-odds of log(3 / 5)."""
    problem = Bandit()
    plan = SizePlan.from_sizes(np.repeat([4, 10], [60, 40]), problem.shape)
    one = _BudgetSearch(Ciess(episodes=0), problem, problem.budgets[0], [Candidate(plan, 6.4)], [])
    filled = [one._filled([torch.ones(60), torch.ones(40)]) for _ in range(200)]
    odds = [math.log(each.user_sizes.sum() / each.item_sizes.sum()) for each in filled]
    assert np.mean(odds) == pytest.approx(math.log(3 / 5), abs=0.04)
    assert np.std(odds) == pytest.approx(0.15, rel=0.2)


@pytest.mark.parametrize("reward", ["credit", "ratio", "raw"])
def test_a_step_stores_rewards_less_the_price_of_sizes(reward: str) -> None:
    problem = Bandit()
    settings = dataclasses.replace(BARE, episodes=1, steps=1, reward=reward, price=0.4, peers=0)  # type: ignore[arg-type]
    one = search_of(settings, problem)
    one.episode(0)
    kept, sizes = one.sides[0].replay._kept, torch.from_numpy(problem.measured[1].user_sizes).float()
    had, needs = torch.minimum(sizes, problem.needs[:60]), problem.needs[:60]
    gains = {"credit": (had - needs) / problem.full.quality, "ratio": had / needs, "raw": had}
    torch.testing.assert_close(kept.rewards, gains[reward] - 0.4 * sizes / 16)
    torch.testing.assert_close(kept.actions, 2 * sizes.log() / math.log(16) - 1)
    assert torch.equal(kept.states[:, 1:], torch.tensor([[1.0, 0.0]]).expand(60, 2)), "full sizes, quality unknown"
    torch.testing.assert_close(kept.next_states[:, 2], 2 * had / needs - 1)


def test_prices_follow_what_the_actors_want() -> None:
    """At mid-range 400 dimensions are wanted in all, of 640 that the first budget has and of 1,300 of the second."""
    problem = Bandit()
    one = search_of(dataclasses.replace(BARE, updates=0), problem)
    one._learn(one._first_states(), problem.full, one._first_states())
    assert one.prices == pytest.approx([(400 / 640) ** 0.1] * 2, rel=0.01)


def test_users_that_are_not_measured_count_for_nothing(split: Split) -> None:
    """A third of the users is measured: states and rewards are of these, not of zeros for the others."""
    problem = problem_of(ciess.MF(dim=8), split)
    some = Evaluator(split.train.matrix, split.valid.matrix, users=np.arange(50))
    part = Problem(problem.full_model, problem.config, split.train, some, list(problem.budgets), Truncate())
    one = search_of(dataclasses.replace(BARE, peers=1, episodes=1, steps=1), part)
    measured = part.measure(part.equal(part.budgets[0]))
    assert int(measured.user_quality.isnan().sum()) == 150 - len(some.users)
    ratio = (measured.user_quality / part.full.user_quality.clamp(min=1e-5)).clamp(max=1)
    users, items = one._states(measured)
    assert users[:, 2].tolist() == pytest.approx([2 * float(ratio.nanmean()) - 1] * 150, abs=1e-5)
    expected = [
        measured.user_quality[[user for user in split.train.matrix[:, [item]].nonzero()[0] if user < 50]].nanmean()
        for item in range(3)
    ]
    torch.testing.assert_close(part.item_quality(measured.user_quality)[:3], torch.stack(expected))
    assert items[:, 2].isfinite().all()
    one.episode(0)
    assert len(one.sides[0].replay) == len(some.users)


def test_the_noise_on_actions_and_what_a_critic_chooses() -> None:
    one = search_of(dataclasses.replace(BARE, noise=Noise(scale=0.3), walk_length=0), Bandit())
    first = one._first_states()
    strayed = torch.cat([torch.cat([log_to_actions(s, 16) for s in one._explore(first)]) for _ in range(40)])
    assert float(strayed.square().mean().sqrt()) == pytest.approx(0.3, rel=0.1)
    walking = search_of(dataclasses.replace(BARE, noise=Noise("none")), Bandit())
    walking._learn(first, walking.problem.full, first)
    for side in walking.sides:
        side.agent.value = lambda states, actions: -actions  # type: ignore[method-assign]
    assert torch.cat(walking._explore(first)).median() < 4, "a critic that likes small sizes leads below mid-range"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"reward": "ratoi"}, r"reward is 'ratoi'.*did you mean 'ratio'"),
        ({"episodes": -1}, "episodes is -1: give a number of 0 or more"),
        ({"steps": 0}, "steps is 0: give a number of 1 or more"),
        ({"fidelity": "scratch"}, "fidelity is of type str"),
        ({"start": "popularity"}, "start is of type str"),
        ({"noise": "ou"}, "noise is of type str"),
    ],
)
def test_settings_out_of_bounds_are_refused(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(InputError, match=told):
        Ciess(**wrong)  # type: ignore[arg-type]
