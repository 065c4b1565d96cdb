import math

import pytest
import torch
from torch import Tensor, nn

from ciess.errors import InputError
from ciess.methods.ciess.td3 import TD3, Replay, TD3Settings, Transitions

QUIET = TD3Settings(target_policy_noise=0.0, batch_size=32, hidden=8)


class Affine(nn.Module):
    """offset + slope · the last input."""

    def __init__(self, offset: float, slope: float = 0.0) -> None:
        super().__init__()
        self.offset, self.slope = nn.Parameter(torch.tensor(float(offset))), nn.Parameter(torch.tensor(float(slope)))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.offset + self.slope * inputs[:, -1:]


def states(n: int, generator: torch.Generator) -> Tensor:
    return torch.rand(n, 2, generator=generator) * 2 - 1


def batch(n: int = 32) -> Transitions:
    here = states(2 * n, torch.Generator().manual_seed(0))
    return Transitions(here[:n], here[:n, 0], here[:n, 1], here[n:])


def targeting(settings: TD3Settings, action: float, critics: tuple[Affine, Affine], unit: float = 1.0) -> TD3:
    """An agent whose target actor always takes one action, and whose target critics are known."""
    agent = TD3(2, settings, seed=0, noise_unit=unit)
    agent.target_actor, agent.target_critics = Affine(math.atanh(action)), nn.ModuleList(critics)
    return agent


def test_the_actor_starts_at_mid_range() -> None:
    agent = TD3(2, TD3Settings(), seed=0)
    actions = agent.act(states(100, torch.Generator().manual_seed(0)))
    assert actions.abs().max() < 0.1
    assert parameters(agent.actor[-1]).abs().max() <= 3e-3


def test_the_target_is_the_reward_plus_the_discounted_lesser_value() -> None:
    """At action 0.5: Q₁′ = 2 + 0.5 = 2.5, Q₂′ = 1 + 4 · 0.5 = 3; y = r + 0.5 · 2.5."""
    settings = TD3Settings(gamma=0.5, target_policy_noise=0.0)
    for critics in ((Affine(2, 1), Affine(1, 4)), (Affine(1, 4), Affine(2, 1))):
        drawn = batch()
        torch.testing.assert_close(targeting(settings, 0.5, critics).td_target(drawn), drawn.rewards + 1.25)


def test_the_target_action_has_noise_that_is_clipped_and_stays_within_its_range() -> None:
    """Critics that say the action itself show it. Noise of 2 and bound of 5 are units of 0.02 each."""
    drawn = batch(20_000)
    settings, same = TD3Settings(gamma=1.0), (Affine(0, 1), Affine(0, 1))
    noise = targeting(settings, 0.0, same, unit=0.02).td_target(drawn) - drawn.rewards
    assert float(noise.std()) == pytest.approx(0.04, rel=0.03)
    assert float(noise.abs().max()) == pytest.approx(0.1, abs=1e-6), "clipped at 2.5 deviations"
    wide = TD3Settings(gamma=1.0, target_policy_noise=100.0, noise_clip=30.0)
    ends = targeting(wide, 0.8, same, unit=0.02).td_target(drawn) - drawn.rewards
    assert float(ends.max()) == pytest.approx(1.0)
    assert float(ends.min()) == pytest.approx(0.2)


def parameters(network: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten().clone() for p in network.parameters()])


def test_the_actor_and_all_targets_move_every_second_update_and_the_targets_by_tau() -> None:
    agent, replay = TD3(2, TD3Settings(tau=0.25, policy_delay=2, batch_size=32, hidden=8), seed=0), Replay(32, 2)
    replay.add(batch())
    networks = (agent.actor, agent.target_actor, agent.critics, agent.target_critics)
    before = [parameters(each) for each in networks]
    agent.update(replay)
    moved = [not torch.equal(parameters(each), old) for each, old in zip(networks, before, strict=True)]
    assert moved == [False, False, True, False]
    agent.update(replay)
    actor, target_actor, critics, target_critics = (parameters(each) for each in networks)
    assert not torch.equal(actor, before[0])
    torch.testing.assert_close(target_actor, 0.75 * before[1] + 0.25 * actor)
    torch.testing.assert_close(target_critics, 0.75 * before[3] + 0.25 * critics)


@pytest.mark.parametrize("slope", [1.0, -1.0])
def test_the_actor_climbs_what_the_first_critic_says(slope: float) -> None:
    agent, replay = TD3(2, TD3Settings(policy_delay=1, batch_size=32, hidden=8), seed=0), Replay(32, 2)
    replay.add(batch())
    # The optimiser has the critics that the agent was made with: these stay as they are.
    agent.critics = agent.target_critics = nn.ModuleList([Affine(0, slope), Affine(0, -slope)])
    before = agent.act(batch().states)
    agent.update(replay)
    assert (slope * (agent.act(batch().states) - before)).mean() > 0


@pytest.mark.parametrize(("bound", "clipped"), [(0.01, True), (None, False)])
def test_gradients_are_clipped_to_a_norm(bound: float | None, clipped: bool) -> None:
    agent, replay = TD3(2, TD3Settings(max_grad_norm=bound, batch_size=32, hidden=8), seed=0), Replay(32, 2)
    replay.add(batch()._replace(rewards=torch.full((32,), 10.0)))
    agent.update(replay)
    norm = float(torch.stack([p.grad.norm() for p in agent.critics.parameters() if p.grad is not None]).norm())
    assert (norm <= 0.0101) == clipped


def test_a_bandit_is_solved() -> None:
    """Reward −(action − first number of the state)²: the best action is that number."""
    generator = torch.Generator().manual_seed(0)
    rates = {"critic_lr": 3e-3, "actor_lr": 3e-3}
    agent = TD3(2, TD3Settings(gamma=0.0, batch_size=128, hidden=64, max_grad_norm=1.0, **rates), seed=0)
    replay = Replay(5_000, 2)
    seen = states(5_000, generator)
    actions = torch.rand(5_000, generator=generator) * 2 - 1
    replay.add(Transitions(seen, actions, -(actions - seen[:, 0]).square(), seen))
    for _ in range(400):
        agent.update(replay)
    fresh = states(500, generator)
    assert (agent.act(fresh) - fresh[:, 0]).abs().mean() < 0.05


def test_values_are_discounted() -> None:
    """A reward of 1 for ever, at a discount of 0.5, is worth 2."""
    quick = {"tau": 0.1, "critic_lr": 5e-3, "actor_lr": 5e-3}
    settings = TD3Settings(
        gamma=0.5, batch_size=64, hidden=16, max_grad_norm=10.0, target_policy_noise=0.03, noise_clip=0.08, **quick
    )
    agent, replay = TD3(2, settings, seed=0), Replay(64, 2)
    same, actions = torch.zeros(64, 2), torch.linspace(-1, 1, 64)
    replay.add(Transitions(same, actions, torch.ones(64), same))
    for _ in range(400):
        agent.update(replay)
    assert (agent.value(same, actions) - 2).abs().max() < 0.1


def test_replay_forgets_the_oldest() -> None:
    replay = Replay(4, 1)
    for first in (0, 3):
        numbers = torch.arange(first, first + 3).float()
        replay.add(Transitions(numbers[:, None], numbers, 10 + numbers, 20 + numbers[:, None]))
    drawn = replay.sample(200, torch.Generator().manual_seed(0))
    assert len(replay) == 4
    assert set(replay.rewards.tolist()) == {12, 13, 14, 15}
    assert len(Replay(4, 1).rewards) == 0
    assert set(drawn.actions.tolist()) == {2, 3, 4, 5}
    assert torch.equal(drawn.states[:, 0], drawn.actions)
    assert torch.equal(drawn.rewards, 10 + drawn.actions)
    assert torch.equal(drawn.next_states[:, 0], 20 + drawn.actions)


def test_a_seed_repeats_every_update() -> None:
    def train(seed: int) -> Tensor:
        agent, replay = TD3(2, QUIET, seed), Replay(32, 2)
        replay.add(batch())
        for _ in range(10):
            agent.update(replay)
        return agent.act(batch().states)

    assert torch.equal(train(1), train(1))
    assert not torch.equal(train(1), train(2))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"gamma": 1.5}, "gamma is 1.5: give a number from 0 to 1"),
        ({"policy_delay": 0}, "policy_delay is 0"),
        ({"critic_lr": 0.0}, "critic_lr is 0: give a number above 0"),
    ],
)
def test_settings_out_of_bounds_are_refused(wrong: dict[str, float], told: str) -> None:
    with pytest.raises(InputError, match=told):
        TD3Settings(**wrong)  # type: ignore[arg-type]


def test_an_agent_that_has_diverged_is_told() -> None:
    agent, replay = TD3(2, TD3Settings(actor_lr=1e30, critic_lr=1e30, batch_size=8, hidden=8), seed=0), Replay(32, 2)
    replay.add(batch())
    for _ in range(20):
        agent.update(replay)
    with pytest.raises(InputError, match="the agent has diverged: lower its actor_lr and critic_lr"):
        agent.act(batch().states)
