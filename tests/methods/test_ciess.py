"""CIESS under budgets: rows get the sizes that their numbers are worth."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from planted import of_two_lengths
from torch import Tensor

from ciess.data import Split
from ciess.errors import InputError
from ciess.methods.ciess.budgeted import Ciess, _BudgetSearch
from ciess.methods.ciess.noise import Noise
from ciess.methods.ciess.td3 import TD3Settings
from ciess.methods.marginal import Marginal
from ciess.methods.popularity import Popularity
from ciess.methods.problem import Candidate, Problem, SearchResult
from ciess.methods.shared.gains import Gains
from ciess.tables.plan import SizePlan

SMALL = TD3Settings(batch_size=256, hidden=32, max_grad_norm=1.0)
BARE = Ciess(episodes=1, steps=2, finish_steps=3, updates=2, td3=SMALL, start=None)


def search_of(settings: Ciess, problem: Problem, plan: SizePlan | None = None) -> _BudgetSearch:
    [budget] = problem.budgets
    begun = SearchResult({budget: [] if plan is None else [Candidate(plan, 0.0)]})
    return _BudgetSearch(settings, problem, budget, begun)


@pytest.mark.parametrize("choice", ["critic", "actor"])
def test_rows_get_the_numbers_that_they_are_made_of(choice: str, split: Split) -> None:
    problem, short = of_two_lengths(split)
    settings = dataclasses.replace(BARE, steps=6, finish_steps=10, updates=30, choice=choice)  # type: ignore[arg-type]
    [[found]] = settings.search(problem).best.values()
    sizes = found.plan.item_sizes
    assert np.median(sizes[short]) <= 3
    assert np.median(sizes[~short]) >= np.median(sizes[short]) + 2, "equal sizes have 4 each"


def test_a_plan_follows_a_full_model_whose_rows_have_changed(split: Split) -> None:
    before, short = of_two_lengths(split)
    after, now_short = of_two_lengths(split, seed=1)
    [budget] = before.budgets
    plan = before.project(np.r_[np.full(split.train.n_users, 4.0), np.where(short, 1.0, 8.0)], budget)
    settings = dataclasses.replace(BARE, episodes=3, steps=4, finish_steps=10, updates=30)
    sizes = settings.followed(plan, before, after).item_sizes.astype(int)
    assert np.median((sizes - plan.item_sizes)[short & ~now_short]) >= 2
    assert np.median((sizes - plan.item_sizes)[~short & now_short]) <= -2


def test_the_plan_of_the_lowest_loss_is_kept(split: Split) -> None:
    problem, _ = of_two_lengths(split)
    search, losses = search_of(dataclasses.replace(BARE, steps=4), problem), iter([0.5, 0.3, 0.4, 0.6])
    search.begun = search.begun._replace(loss=0.7)
    plans: list[SizePlan] = []

    def learned(plan: SizePlan, steps: int) -> float:
        plans.append(plan)
        search.student.plan = plan
        return next(losses)

    search.student.learn = learned  # type: ignore[method-assign]
    trace: list[dict[str, float | str]] = []
    assert search.run(trace) == plans[1]
    assert [row["loss"] for row in trace] == [0.5, 0.3, 0.4, 0.6]
    assert search_of(dataclasses.replace(BARE, episodes=0), problem).run([]) == problem.equal(problem.budgets[0])


@pytest.mark.parametrize("start", [Popularity(rounds=1, plans=3), Marginal(rounds=1, steps=2)])
def test_what_a_search_starts_from_is_among_its_candidates(start: Popularity | Marginal, split: Split) -> None:
    problem, _ = of_two_lengths(split)
    [[own, *_]] = start.search(problem).best.values()
    found = dataclasses.replace(BARE, start=start).search(problem)
    [candidates] = found.best.values()
    assert {each.plan: each.found_by for each in candidates}[own.plan] == type(start).__name__.lower()
    assert {row["kind"] for row in found.trace} == {type(start).__name__.lower(), "ciess"}
    assert search_of(BARE, problem, own.plan).begun.plan == own.plan


@dataclass(frozen=True)
class Switch:
    name: str
    settings: dict[str, object]


@pytest.mark.parametrize(
    "switch",
    [
        Switch("the actor's choice", {"choice": "actor"}),
        Switch("no walk", {"walk_length": 0}),
        Switch("a longer stride", {"walk_threshold": 6}),
        Switch("uniform noise", {"noise": Noise("uniform")}),
        Switch("OU noise", {"noise": Noise("ou")}),
        Switch("no noise", {"noise": Noise("none")}),
        Switch("one noise for all", {"noise": Noise(shared=True, scale=0.1)}),
        Switch("noise after the choice", {"noise": Noise(after_choice=True, scale=0.1)}),
        Switch("from a rule", {"start": Popularity(rounds=1, plans=2)}),
    ],
    ids=lambda switch: switch.name,
)
def test_switches_change_the_search_and_seeds_repeat_it(switch: Switch, split: Split) -> None:
    def losses(**settings: object) -> list[float | str]:
        search = dataclasses.replace(BARE, **settings)  # type: ignore[arg-type]
        return [row["loss"] for row in search.search(of_two_lengths(split)[0]).trace if row["kind"] == "ciess"]

    changed = losses(**switch.settings)
    assert changed == losses(**switch.settings)
    assert changed != losses()


def fixed(search: _BudgetSearch, *worths: Tensor) -> list[Gains]:
    """What a search sees: some draws say one thing, others another."""
    plan = search.student.plan
    gains = [Gains(plan, each) for each in (*worths, sum(worths) / 2)]  # type: ignore[arg-type]
    search._gains = lambda: gains  # type: ignore[method-assign]
    return gains


def test_states_come_from_some_draws_and_rewards_from_others(split: Split) -> None:
    problem, _ = of_two_lengths(split)
    search = search_of(dataclasses.replace(BARE, updates=0), problem)
    rng = torch.Generator().manual_seed(0)
    shown, paid, both = fixed(search, *(torch.rand(problem.shape.rows, 8, generator=rng) for _ in range(2)))
    search._choose()
    price, n_users = search.first_price, problem.shape.n_users
    assert price == pytest.approx(both.price(problem.numbers[problem.budgets[0]]))
    for replay, side in zip(search.replays, (slice(0, n_users), slice(n_users, None)), strict=True):
        states, actions, rewards, _ = (each[: len(replay)] for each in replay._kept)
        prices = price * (4 * states[:, -1]).exp()
        assert 0.3 < float(prices.log().std()) < 0.7
        # Which row a transition is of shows in its features.
        rows = torch.arange(problem.shape.rows)[side][torch.cdist(states[:, :5], search.features[side, :5]).argmin(1)]
        for place in range(0, len(rows), 97):
            row, own = int(rows[place]), torch.full((problem.shape.rows, 1), float(prices[place]))
            seen = shown.parts(own)[row].clamp(min=0.05).log() / 2
            torch.testing.assert_close(states[place, -5:-1], seen, atol=1e-4, rtol=1e-3)
            size = shown.sizes(actions[place].expand(problem.shape.rows, 1)).round().long()
            assert float(rewards[place]) == pytest.approx(float(paid.of(size, own)[row]), abs=1e-4)


def test_what_is_chosen_fills_the_budget_at_the_price_that_is_told(split: Split) -> None:
    problem, _ = of_two_lengths(split)
    [budget] = problem.budgets
    search = search_of(dataclasses.replace(BARE, updates=60), problem)
    plan, price = search._choose()
    assert budget.limit(problem.shape) >= 4 * plan.numbers
    assert plan.numbers >= problem.numbers[budget]
    assert search.first_price / 3 < price < search.first_price * 3


def test_critics_choose_the_size_that_they_value_most(split: Split) -> None:
    problem, _ = of_two_lengths(split)
    search = search_of(dataclasses.replace(BARE, noise=Noise("none")), problem)
    gains = Gains(search.student.plan, torch.ones(problem.shape.rows, 8))
    search.first_price = 1.0
    states = search._states(gains, torch.ones(problem.shape.rows, 1))
    noise = torch.zeros(problem.shape.rows, 1)
    for wanted, sizes in ((-1.0, gains.least), (0.5, gains.now + (gains.most - gains.now) / 2), (1.0, gains.most)):
        for agent in search.agents:
            agent.value = lambda states, actions, wanted=wanted: -(actions - wanted).abs()  # type: ignore[method-assign]
        torch.testing.assert_close(search._chosen(gains, states, noise), sizes.float())


@pytest.mark.parametrize("late", [False, True])
def test_the_noise_on_actions(late: bool, split: Split) -> None:
    """Actors begin at 0: what they visit first is their noise, or nothing where it comes after the choice."""
    problem, _ = of_two_lengths(split)
    noise = Noise(scale=0.3, after_choice=late)
    search = search_of(dataclasses.replace(BARE, noise=noise, walk_length=0, choice="actor"), problem)
    gains, search.first_price = Gains(search.student.plan, torch.ones(problem.shape.rows, 8)), 1.0
    states, drawn = search._states(gains, torch.ones(problem.shape.rows, 1)), search.noise.draw()[:, None]
    acted = search._act(states, drawn)
    assert float(acted.square().mean().sqrt()) == pytest.approx(0.3, rel=0.2)
    first = search._visited(gains, states, drawn)[:, 0]
    assert (first != gains.now).any() == (not late)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"choice": "critics"}, r"choice is 'critics'.*did you mean 'critic'"),
        ({"episodes": -1}, "episodes is -1: give a number of 0 or more"),
        ({"steps": 0}, "steps is 0: give a number of 1 or more"),
        ({"start": "popularity"}, "start is of type str"),
        ({"noise": "ou"}, "noise is of type str"),
    ],
)
def test_settings_out_of_bounds_are_refused(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(InputError, match=told):
        Ciess(**wrong)  # type: ignore[arg-type]
