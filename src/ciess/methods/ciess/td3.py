"""TD3: an actor and twin critics for one continuous action in [−1, 1].

Fujimoto et al., Addressing Function Approximation Error in Actor-Critic Methods, ICML 2018, as CIESS uses it:
states of a few numbers, one action, no terminal states.
"""

import copy
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class TD3Settings:
    """Hyper-parameters of TD3.

    Attributes:
        discount: what a reward one step later is worth (γ).
        target_rate: how far the targets move towards the networks at an update (τ).
        actor_every: critics' updates for each update of the actor and the targets.
        target_noise: standard deviation of the noise on the target's action, the whole range being 2.
        target_noise_limit: where that noise is cut.
        critic_lr: Adam's learning rate for the critics.
        actor_lr: Adam's learning rate for the actor.
        gradient_norm: where gradients are clipped.
        batch_size: transitions an update.
        hidden: width of both hidden layers.
    """

    discount: float = 0.99
    target_rate: float = 0.005
    actor_every: int = 2
    target_noise: float = 2 * 2 / 127
    target_noise_limit: float = 2 * 5 / 127
    critic_lr: float = 3e-3
    actor_lr: float = 1e-3
    gradient_norm: float = 1.0
    batch_size: int = 4096
    hidden: int = 256


class Transitions(NamedTuple):
    """States (n, s), actions (n,) in [−1, 1], rewards (n,), the states that followed (n, s)."""

    states: Tensor
    actions: Tensor
    rewards: Tensor
    next_states: Tensor


class Replay:
    """The last `capacity` transitions; the oldest make room."""

    def __init__(self, capacity: int, state_size: int) -> None:
        numbers, states = torch.zeros(capacity), torch.zeros(capacity, state_size)
        self._kept = Transitions(states, numbers, numbers.clone(), states.clone())
        self._added = 0

    def __len__(self) -> int:
        return min(self._added, len(self._kept.actions))

    def add(self, new: Transitions) -> None:
        """Keep new transitions."""
        capacity = len(self._kept.actions)
        at = (self._added + torch.arange(len(new.actions))) % capacity
        for kept, numbers in zip(self._kept, new, strict=True):
            kept[at] = numbers
        self._added += len(new.actions)

    def sample(self, n: int, generator: torch.Generator) -> Transitions:
        """Draw n transitions, uniformly and with replacement."""
        at = torch.randint(len(self), (n,), generator=generator)
        return Transitions(*(kept[at] for kept in self._kept))


class TD3:
    """One actor, two critics, and their targets."""

    def __init__(self, state_size: int, settings: TD3Settings, seed: int) -> None:
        self.settings = settings
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.actor = _network(state_size, settings.hidden)
            self.critics = nn.ModuleList(_network(state_size + 1, settings.hidden) for _ in range(2))
        # So small a last layer lets the actor start at mid-range.
        last = list(self.actor.parameters())[-2:]
        for parameter in last:
            nn.init.uniform_(parameter, -3e-3, 3e-3, generator=torch.Generator().manual_seed(seed))
        self.target_actor, self.target_critics = copy.deepcopy(self.actor), copy.deepcopy(self.critics)
        self._actor_optimiser = torch.optim.Adam(self.actor.parameters(), settings.actor_lr)
        self._critic_optimiser = torch.optim.Adam(self.critics.parameters(), settings.critic_lr)
        self._generator = torch.Generator().manual_seed(seed)
        self._updates = 0

    @torch.no_grad()
    def act(self, states: Tensor) -> Tensor:
        """(n,) the actor's actions in [−1, 1]."""
        return _act(self.actor, states)

    @torch.no_grad()
    def value(self, states: Tensor, actions: Tensor) -> Tensor:
        """(n,) what the first critic thinks of actions."""
        return _value(self.critics[0], states, actions)

    def imitate(self, states: Tensor, actions: Tensor, steps: int = 300) -> None:
        """Teach the actor, (n, s) states by (n,) actions, before anything is known about their value."""
        optimiser = torch.optim.Adam(self.actor.parameters(), 3e-3)
        for _ in range(steps):
            at = torch.randint(len(actions), (self.settings.batch_size,), generator=self._generator)
            self._descend((_act(self.actor, states[at]) - actions[at]).square().mean(), self.actor, optimiser)
        self.target_actor.load_state_dict(self.actor.state_dict())

    def update(self, replay: Replay) -> None:
        """One update of the critics, and of actor and targets when it is their turn."""
        batch = replay.sample(self.settings.batch_size, self._generator)
        goal = self._goal(batch)
        loss = sum((_value(critic, batch.states, batch.actions) - goal).square().mean() for critic in self.critics)
        self._descend(loss, self.critics, self._critic_optimiser)
        self._updates += 1
        if self._updates % self.settings.actor_every == 0:
            value = _value(self.critics[0], batch.states, _act(self.actor, batch.states))
            self._descend(-value.mean(), self.actor, self._actor_optimiser)
            self._follow(self.target_actor, self.actor)
            self._follow(self.target_critics, self.critics)

    @torch.no_grad()
    def _goal(self, batch: Transitions) -> Tensor:
        """What the critics should say: reward plus the lesser target's discounted value (Fujimoto et al., eq. 14)."""
        if self.settings.discount == 0:
            return batch.rewards
        noise = torch.randn(len(batch.actions), generator=self._generator) * self.settings.target_noise
        limit = self.settings.target_noise_limit
        actions = (_act(self.target_actor, batch.next_states) + noise.clamp(-limit, limit)).clamp(-1, 1)
        values = [_value(critic, batch.next_states, actions) for critic in self.target_critics]
        return batch.rewards + self.settings.discount * torch.minimum(*values)

    def _descend(self, loss: Tensor | int, network: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        optimiser.zero_grad()
        assert isinstance(loss, Tensor)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), self.settings.gradient_norm)
        optimiser.step()

    @torch.no_grad()
    def _follow(self, target: nn.Module, network: nn.Module) -> None:
        for old, new in zip(target.parameters(), network.parameters(), strict=True):
            old.lerp_(new, self.settings.target_rate)


def _network(inputs: int, hidden: int) -> nn.Sequential:
    layers = [nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1)]
    return nn.Sequential(*layers)


def _act(actor: nn.Module, states: Tensor) -> Tensor:
    actions: Tensor = torch.tanh(actor(states)).squeeze(1)
    return actions


def _value(critic: nn.Module, states: Tensor, actions: Tensor) -> Tensor:
    values: Tensor = critic(torch.cat([states, actions[:, None]], dim=1)).squeeze(1)
    return values
