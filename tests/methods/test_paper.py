"""The paper's equations, by hand, and its loop on a problem that is known."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from bandit import Bandit
from known import problem_of
from torch import Tensor

import ciess
from ciess.data import Interactions, Split
from ciess.errors import InputError
from ciess.methods.ciess.noise import Noise
from ciess.methods.ciess.paper import (
    CiessPaper,
    Side,
    _Run,
    best_visited,
    evaluated,
    min_max,
    paid_reward,
    quality_ratio,
    to_actions,
    to_sizes,
)
from ciess.methods.ciess.program import published_training
from ciess.methods.ciess.td3 import TD3, TD3Settings
from ciess.models import BackboneConfig, Training
from ciess.tables.plan import SizePlan

SMALL = TD3Settings(batch_size=64, hidden=16)
QUICK = CiessPaper(episodes=1, steps=2, td3=SMALL)


class Likes(TD3):
    """Its critic likes the action that is the state's first number."""

    def __init__(self) -> None:
        super().__init__(3, SMALL, seed=0)

    def value(self, states: Tensor, actions: Tensor) -> Tensor:
        return -(actions - states[:, 0]).abs()


def test_actions_are_sizes_on_a_linear_scale() -> None:
    actions = torch.tensor([-1.0, 0.0, 0.5, 1.0])
    assert to_sizes(actions, 128).tolist() == [1, 64.5, 96.25, 128]
    torch.testing.assert_close(to_actions(to_sizes(actions, 128), 128), actions)
    assert to_actions(torch.ones(1), 1).tolist() == [-1]
    assert to_sizes(torch.tensor([-1.0, 1.0]), 1).tolist() == [1, 1]


def test_a_state_is_popularity_size_and_quality_scaled() -> None:
    """Eq. 6: popularity 2, 4, 10 is −1, −0.5, 1; a quality of 0.75 is 0.5, an unknown one 0."""
    side = Side(np.array([2, 4, 10]), TD3(3, SMALL, 0), 1)
    seen = side.states(torch.tensor([-1.0, 0.0, 1.0]), torch.tensor([0.75, 0.0, torch.nan]))
    assert seen.tolist() == [[-1, -1, 0.5], [-0.5, 0, -1], [1, 1, 0]]
    assert min_max(np.array([3, 3])).tolist() == [0, 0]


def test_the_quality_ratio_is_at_most_one_and_its_peak_never_zero() -> None:
    """Eq. 7."""
    now, peak = torch.tensor([0.1, 0.3, 0.0, 0.2, torch.nan]), torch.tensor([0.4, 0.2, 0.0, 0.0, 0.1])
    assert quality_ratio(now, peak)[:4].tolist() == pytest.approx([0.25, 1, 0, 1])
    assert quality_ratio(now, peak)[4].isnan()


def test_an_items_quality_is_the_mean_over_its_measured_users(tiny: Interactions) -> None:
    """Eq. 9: i0 is u0's and u2's, i1 u0's and u1's, i2 and i3 u2's alone; u2 is not measured."""
    valid = Interactions.from_pairs(np.array([0, 1]), np.array([2, 0]), tiny.user_ids, tiny.item_ids)
    problem = problem_of(ciess.MF(dim=4), Split(tiny, valid, None), [])
    found = problem.item_quality(torch.tensor([0.6, 0.2, torch.nan]))
    assert found[:2].tolist() == pytest.approx([0.6, 0.4])
    assert found[2:].isnan().all(), "of these nothing is known"
    assert problem.full.user_quality.isnan().tolist() == [False, False, True], "u2 has nothing held out"


def test_the_reward_pays_for_the_squared_share_of_dimensions() -> None:
    """Eq. 10: 0.5 − 0.4 · (64 / 128)² = 0.4; the program pays for 63 of 128."""
    quality, sizes = torch.tensor([0.5]), torch.tensor([64.0])
    assert paid_reward(quality, sizes, 128, price=0.4).item() == pytest.approx(0.4)
    assert paid_reward(quality, sizes, 128, price=0.4, free=1).item() == pytest.approx(0.5 - 0.4 * (63 / 128) ** 2)


def test_the_critic_chooses_the_best_of_the_visited_sizes() -> None:
    """Eq. 14: the critic likes the action that is the state's first number, 0 and 1."""
    states = torch.tensor([[0.0, 0, 0], [1.0, 0, 0]])
    visited = torch.tensor([[2, 9, 15, 8], [3, 1, 4, 9]])
    assert best_visited(Likes(), states, visited, to_actions(visited, 17)).tolist() == [9, 9]


def run(settings: CiessPaper, problem: Bandit | None = None) -> _Run:
    return _Run(settings, problem or Bandit())


def test_a_step_stores_each_entitys_transition() -> None:
    """Alg. 1, lines 4 to 12: users need 2 and 10 of 16 dimensions, which are their peaks; items have their mean."""
    problem, needs = Bandit(), torch.tensor([2.0, 10.0]).repeat_interleave(30)
    one = run(dataclasses.replace(QUICK, steps=1), problem)
    one.episode(0)
    plan = problem.measured[-1]
    had = torch.minimum(torch.from_numpy(plan.user_sizes).float(), needs)
    told = zip(one.sides, (plan.user_sizes, plan.item_sizes), (had / needs, (had.mean() / 6).expand(40)), strict=True)
    for side, sizes, ratio in told:
        n, kept = len(sizes), side.replay._kept
        popularity = torch.tensor([-1.0, 1.0]).repeat_interleave(n // 2)
        action = torch.from_numpy((sizes - 1) / 15 * 2 - 1).float()
        torch.testing.assert_close(kept.states, torch.stack([popularity, torch.ones(n), torch.ones(n)], 1))
        torch.testing.assert_close(kept.actions, action)
        torch.testing.assert_close(kept.rewards, ratio - 0.4 * torch.from_numpy((sizes / 16) ** 2).float())
        torch.testing.assert_close(kept.next_states, torch.stack([popularity, action, 2 * ratio - 1], 1))
        assert side.agent._updates == 1


def test_the_program_rewards_raw_quality_and_starts_with_an_unknown_one() -> None:
    problem = Bandit()
    program = dataclasses.replace(ciess.Ciess.program(price=0.02), episodes=1, steps=1, td3=SMALL)
    one = run(program, problem)
    one.episode(0)
    sizes = torch.from_numpy(problem.measured[-1].user_sizes).float()
    kept = one.sides[0].replay._kept
    torch.testing.assert_close(
        kept.rewards, torch.minimum(sizes, problem.needs[:60]) - 0.02 * ((sizes - 1) / 16).square()
    )
    assert kept.states[:, 2].tolist() == [0] * 60


def first_states(of: _Run) -> list[Tensor]:
    return [side.states(torch.ones(n), torch.ones(n)) for side, n in zip(of.sides, (60, 40), strict=True)]


@pytest.mark.parametrize("dim", [32, 128, 256])
def test_noise_is_in_sizes_whatever_the_dim(dim: int) -> None:
    """The actor starts at mid-range: without a walk, sizes are as far from there as noise and rounding put them."""
    one = run(dataclasses.replace(QUICK, walk_length=0, noise=Noise(scale=3.0)), Bandit(dim))
    sizes = torch.cat([torch.cat(one._choose(first_states(one))) for _ in range(40)])
    middle = (dim + 1) / 2
    assert float((sizes - middle).square().mean().sqrt()) == pytest.approx(3, rel=0.1)
    assert one.sides[0].agent._noise_unit == pytest.approx(2 / (dim - 1)), "the targets' noise, too"


def test_noise_comes_before_the_choice_in_the_paper_and_after_it_in_the_program() -> None:
    chosen = {}
    for late in (False, True):
        one = run(dataclasses.replace(QUICK, noise=Noise("uniform", 7, shared=True, after_choice=late)))
        for side in one.sides:
            # Likes mid-range, 8.5, best.
            side.agent.value = lambda states, actions: -actions.abs()  # type: ignore[method-assign]
        drawn = [torch.cat(one._choose(first_states(one))) for _ in range(8)]
        chosen[late] = torch.stack([abs(each.median() - 8.5) for each in drawn])
        assert all(len(each.unique()) <= 2 for each in drawn) == late, "one draw moves all alike"
    assert chosen[True].mean() > chosen[False].mean() + 1, "what the critic chose strays no more"


def test_plans_over_a_budget_are_no_finalists_and_the_best_by_mean_ratio_are() -> None:
    problem = Bandit()
    one = run(dataclasses.replace(QUICK, finalists=2), problem)
    tight, wide = problem.budgets

    def seen(size: int, quality: float) -> None:
        one._keep(problem.measure(SizePlan.equal(problem.shape, size)), quality)

    seen(16, 1.0)
    assert [each.plan.max_size for each in one.finalists(wide)] == [13], "none fits: the smallest, scaled"
    for size, quality in ((12, 0.9), (6, 0.3), (2, 0.5), (3, 0.4)):
        seen(size, quality)
    assert [each.plan.max_size for each in one.finalists(tight)] == [2, 3]
    assert [each.plan.max_size for each in one.finalists(wide)] == [12, 2]
    assert one.finalists(tight)[0].quality == problem.measure(SizePlan.equal(problem.shape, 2)).quality


@pytest.mark.parametrize("preset", [ciess.Ciess.paper(), ciess.Ciess.program()], ids=["paper", "program"])
def test_presets_run_and_give_plans_that_fit(preset: CiessPaper) -> None:
    problem = Bandit()
    quick = dataclasses.replace(preset, episodes=2, td3=dataclasses.replace(preset.td3, batch_size=256, hidden=32))
    result = quick.search(problem)
    for budget, candidates in result.best.items():
        assert candidates
        assert all(candidate.plan.numbers <= problem.numbers[budget] for candidate in candidates)
    soft = {plan.numbers for plan in problem.measured} - {problem.numbers[budget] for budget in problem.budgets}
    assert len(soft) > 10, "plans are measured as the policy wants them"
    assert len(result.trace) == 2 * preset.steps


def test_presets_are_as_published() -> None:
    paper, program = ciess.Ciess.paper(), ciess.Ciess.program()
    assert (paper.episodes, paper.steps, paper.price, paper.finalists) == (30, 10, 0.4, 3)
    assert (paper.walk_length, paper.walk_threshold, paper.noise) == (5, 5, Noise("gaussian"))
    assert paper.td3 == TD3Settings(0.99, 0.005, 2, 2.0, 5.0, 3e-3, 1e-3, None, 4096, 256)
    assert run(paper).fidelity == published_training(ciess.LightGCN(), 5)
    assert run(paper).fidelity.epochs == 5
    assert (program.steps, program.reward, program.free_dimensions, program.peak_first) == (11, "raw", 1, False)
    assert program.noise == Noise("gaussian", shared=True, after_choice=True)
    assert program.td3 == dataclasses.replace(paper.td3, max_grad_norm=0.01)
    assert ciess.Ciess.paper(price=0.2, dim=8) == dataclasses.replace(paper, price=0.2, dim=8)
    assert ciess.Ciess.program(price=0.05).price == 0.05


@pytest.mark.parametrize(
    ("config", "batches", "every", "floor"),
    [(ciess.LightGCN(), 2000, 200, 1e-3), (ciess.NGCF(), 3000, 100, 1e-3), (ciess.NCF(), 1500, 50, 1e-4)],
)
def test_the_program_trains_the_published_batches(
    config: BackboneConfig, batches: int, every: int, floor: float
) -> None:
    training = published_training(config).training
    assert training is not None
    assert (training.steps, training.batch_size, training.lr) == (batches, 10_000, 0.03)
    assert training.rate(every) == 0.03
    assert training.rate(every + 1) == pytest.approx(0.027)
    assert training.rate(100_000) == floor
    assert run(ciess.Ciess.program()).fidelity.training == dataclasses.replace(
        published_training(ciess.LightGCN()).training, network_l2=0.0
    )


def test_a_backbone_that_the_program_has_not_is_trained_by_its_own_recipe() -> None:
    assert published_training(ciess.MF()).training is None


def test_a_largest_size_of_ones_own_holds() -> None:
    problem = Bandit()
    dataclasses.replace(QUICK, dim=4).search(problem)
    assert max(plan.max_size for plan in problem.measured[1:]) <= 4


def test_finalists_alone_are_trained_from_scratch(split: Split) -> None:
    phases: list[str] = []
    backbone = ciess.LightGCN(dim=16, training=Training(steps=8, batch_size=500, eval_every=4))
    method = dataclasses.replace(ciess.Ciess.paper(), episodes=1, steps=2, td3=SMALL)
    ciess.search(
        split, backbone=backbone, budgets=["60%"], method=method, progress=lambda phase, *_: phases.append(phase)
    )
    assert "60% ciess-paper 1, from scratch" in phases
    assert {phase for phase in phases if phase.startswith("60% equal sizes")} <= {
        "60% equal sizes",
        "60% equal sizes 1",
    }


def test_settings_out_of_bounds_are_refused() -> None:
    for wrong, told in (
        ({"reward": "ratoi"}, "reward is 'ratoi'"),
        ({"episodes": -1}, "episodes is -1"),
        ({"training": "text"}, "training is 'text'"),
        ({"price": float("nan")}, "price is nan"),
    ):
        with pytest.raises(InputError, match=told):
            CiessPaper(**wrong)  # type: ignore[arg-type]


def test_evaluations_are_of_users_and_items() -> None:
    problem = Bandit()
    users, items = evaluated(problem, problem.measure(SizePlan.equal(problem.shape, 2)))
    assert users.tolist() == [2.0] * 60
    assert items.tolist() == [2.0] * 40


def test_users_that_are_not_measured_count_for_nothing() -> None:
    """Two of three users are measured: transitions are of these, not of zeros for the other."""
    side = Side(np.array([1, 2, 3]), TD3(3, SMALL, 0), 2)
    quality = torch.tensor([0.5, math.nan, 0.25])
    states = side.states(torch.ones(3), quality)
    assert states[:, 2].tolist() == [0, 0, -0.5], "unknown quality is seen as the middle"
    side.remember(states, torch.zeros(3), quality, states)
    assert len(side.replay) == 2
    assert side.replay._kept.rewards[:2].tolist() == [0.5, 0.25]
