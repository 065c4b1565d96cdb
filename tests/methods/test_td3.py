import torch

from ciess.methods.ciess.td3 import TD3, Replay, TD3Settings, Transitions


def states(n: int, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(n, 2, generator=generator) * 2 - 1


def test_the_actor_starts_at_mid_range() -> None:
    actions = TD3(2, TD3Settings(), seed=0).act(states(100, torch.Generator().manual_seed(0)))
    assert actions.abs().max() < 0.1


def test_a_bandit_is_solved() -> None:
    """Reward −(action − first number of the state)²: the best action is that number."""
    generator = torch.Generator().manual_seed(0)
    agent = TD3(2, TD3Settings(discount=0.0, batch_size=256, hidden=64, gradient_norm=1.0), seed=0)
    replay = Replay(5_000, 2)
    seen = states(5_000, generator)
    actions = torch.rand(5_000, generator=generator) * 2 - 1
    replay.add(Transitions(seen, actions, -(actions - seen[:, 0]).square(), seen))
    for _ in range(1_500):
        agent.update(replay)
    fresh = states(500, generator)
    assert (agent.act(fresh) - fresh[:, 0]).abs().mean() < 0.05


def test_values_are_discounted() -> None:
    """A reward of 1 for ever, at a discount of 0.5, is worth 2."""
    agent = TD3(2, TD3Settings(discount=0.5, batch_size=64, hidden=16, target_rate=0.05, gradient_norm=10.0), seed=0)
    replay = Replay(64, 2)
    same = torch.zeros(64, 2)
    actions = torch.linspace(-1, 1, 64)
    replay.add(Transitions(same, actions, torch.ones(64), same))
    for _ in range(2_000):
        agent.update(replay)
    assert (agent.value(same, actions) - 2).abs().max() < 0.1


def test_replay_forgets_the_oldest() -> None:
    replay = Replay(4, 1)
    for first in (0, 3):
        numbers = torch.arange(first, first + 3).float()
        replay.add(Transitions(numbers[:, None], numbers, numbers, numbers[:, None]))
    drawn = replay.sample(200, torch.Generator().manual_seed(0))
    assert len(replay) == 4
    assert set(drawn.actions.tolist()) == {2, 3, 4, 5}
    assert torch.equal(drawn.states[:, 0], drawn.rewards)


def test_a_seed_repeats_every_update() -> None:
    def train(seed: int) -> torch.Tensor:
        agent = TD3(2, TD3Settings(batch_size=32, hidden=8), seed)
        replay = Replay(32, 2)
        here = states(32, torch.Generator().manual_seed(0))
        replay.add(Transitions(here, here[:, 0], here[:, 1], here))
        for _ in range(10):
            agent.update(replay)
        return agent.act(here)

    assert torch.equal(train(1), train(1))
    assert not torch.equal(train(1), train(2))
