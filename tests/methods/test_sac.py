import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from ciess.errors import InputError
from ciess.methods.ciess.td3 import Replay, Transitions
from ciess.methods.shared.sac import SAC, SACSettings
from ciess.train.checkpoint import put_back, taken

SMALL = SACSettings(gamma=0.5, tau=0.25, temperature=0.1, batch_size=32, hidden=8)


class Affine(nn.Module):
    """offset + slope · the last input."""

    def __init__(self, offset: float, slope: float) -> None:
        super().__init__()
        self.offset, self.slope = nn.Parameter(torch.tensor(offset)), nn.Parameter(torch.tensor(slope))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.offset + self.slope * inputs[:, -1:]


def transitions(n: int = 32) -> Transitions:
    drawn = torch.rand(4, n, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return Transitions(drawn[0], drawn[1], drawn[2, :, 0], drawn[3])


def remembered(new: Transitions) -> Replay:
    replay = Replay(len(new.rewards), 2, (2,))
    replay.add(new)
    return replay


def parameters(network: nn.Module) -> Tensor:
    return torch.cat([each.detach().flatten().clone() for each in network.parameters()])


def test_actions_are_squashed_normals_with_their_likelihood() -> None:
    agent, states = SAC(2, 2, SMALL, seed=0), transitions().states
    with torch.no_grad():
        mean, log_deviation = agent.actor(states).chunk(2, dim=1)
        actions, log_likely = agent._drawn(states)
        reference = TransformedDistribution(Normal(mean, log_deviation.exp()), TanhTransform())
        torch.testing.assert_close(log_likely, reference.log_prob(actions).sum(1), rtol=1e-3, atol=1e-3)
        assert torch.equal(agent.act(states, drawn=False), mean.tanh())
    draws = agent.act(states[:1].expand(20_000, 2)).atanh()
    torch.testing.assert_close(draws.mean(0), mean[0], atol=0.03, rtol=0)
    torch.testing.assert_close(draws.std(0), log_deviation[0].exp(), atol=0.03, rtol=0)


@pytest.mark.parametrize("order", [1, -1])
def test_the_target_is_the_reward_and_the_discounted_lesser_soft_value(
    order: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At an action of 0.5: Q₁′ = 2 + 0.5, Q₂′ = 1 + 4 · 0.5; log π = −2 at a temperature of 0.1 adds 0.2."""
    agent, batch = SAC(2, 2, SMALL, seed=0), transitions()
    agent.target_critics = nn.ModuleList([Affine(2.0, 1.0), Affine(1.0, 4.0)][::order])
    monkeypatch.setattr(agent, "_drawn", lambda states: (torch.full((32, 2), 0.5), torch.full((32,), -2.0)))
    torch.testing.assert_close(agent.target(batch), batch.rewards + 0.5 * 2.7)


@pytest.mark.parametrize(("log_deviation", "rises"), [(-4.0, True), (0.0, False)])
def test_the_temperature_rises_where_actions_are_too_certain(log_deviation: float, rises: bool) -> None:
    agent = SAC(2, 2, SMALL, seed=0)
    with torch.no_grad():
        agent.actor[-1].bias[2:] = log_deviation
    agent.update(remembered(transitions()))
    assert (agent.log_temperature.item() > math.log(0.1)) == rises


def test_rewards_of_any_scale_teach_the_same() -> None:
    agents, plain = [SAC(2, 2, SMALL, seed=0) for _ in range(2)], transitions()
    for agent, scale in zip(agents, (1, 64), strict=True):
        agent.update(remembered(plain._replace(rewards=scale * (plain.rewards - 3))))
    for network in ("actor", "critics"):
        torch.testing.assert_close(*(parameters(getattr(agent, network)) for agent in agents), atol=1e-4, rtol=0)


def test_targets_move_by_tau() -> None:
    agent = SAC(2, 2, SMALL, seed=0)
    before = parameters(agent.target_critics)
    agent.update(remembered(transitions()))
    torch.testing.assert_close(parameters(agent.target_critics), 0.75 * before + 0.25 * parameters(agent.critics))


def test_a_bandit_is_solved() -> None:
    """Reward −|a − (s₁, −s₁) / 2|²: the best action is that point."""
    settings = SACSettings(gamma=0.0, lr=3e-3, temperature=0.02, batch_size=128, hidden=32)
    agent, seen = SAC(2, 2, settings, seed=0), transitions(2_000)

    def best(states: Tensor) -> Tensor:
        return torch.stack([states[:, 0], -states[:, 0]], dim=1) / 2

    replay = remembered(seen._replace(rewards=-(seen.actions - best(seen.states)).square().sum(1)))
    for _ in range(500):
        agent.update(replay)
    fresh = transitions(300).next_states
    assert (agent.act(fresh, drawn=False) - best(fresh)).abs().mean() < 0.07


def test_what_is_put_back_goes_on_to_the_same_bits() -> None:
    first, other = (SAC(2, 2, SMALL, seed) for seed in (0, 1))
    replay = remembered(transitions())
    for _ in range(3):
        first.update(replay)
    state = copy.deepcopy(taken({"agent": first, "replay": replay}))
    before, empty = copy.deepcopy(state), Replay(32, 2, (2,))
    put_back({"agent": other, "replay": empty}, state)
    for _ in range(3):
        first.update(replay)
        other.update(empty)
    for network in ("actor", "critics", "target_critics"):
        assert torch.equal(parameters(getattr(first, network)), parameters(getattr(other, network)))
    assert torch.equal(first.log_temperature, other.log_temperature)
    states = transitions().states
    assert torch.equal(first.act(states), other.act(states))
    assert all(torch.equal(each, before.tensors[name]) for name, each in state.tensors.items()), "it stays as it is"


def test_an_agent_that_has_diverged_is_told() -> None:
    agent, new = SAC(2, 2, SACSettings(lr=1e9, batch_size=8, hidden=8), seed=0), transitions()
    for _ in range(20):
        agent.update(remembered(new))
    with pytest.raises(InputError, match="diverged: lower its lr"):
        agent.act(new.states)
