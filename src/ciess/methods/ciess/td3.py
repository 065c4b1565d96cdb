"""TD3: an actor and twin critics for one continuous action in [−1, 1].

Fujimoto et al., Addressing Function Approximation Error in Actor-Critic Methods, ICML 2018 (arXiv 1802.09477), without
terminal states.
"""

import copy
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from ciess.checks import AboveZero, Checked, NotNegative, Positive, Share
from ciess.errors import InputError
from ciess.models.seeded import seeded
from ciess.train.adam import Adam
from ciess.train.checkpoint import State


@dataclass(frozen=True)
class TD3Settings(Checked):
    """Hyper-parameters of TD3.

    Attributes:
        gamma: discount γ of the next step's value.
        tau: soft update rate τ of the target networks.
        policy_delay: critic updates for each update of the actor and the targets.
        target_policy_noise: standard deviation of the noise on the target actor's action, in the unit that `TD3` is
            told (sizes in CIESS).
        noise_clip: bound of that noise, in the same unit.
        critic_lr: Adam's learning rate of the critics.
        actor_lr: Adam's learning rate of the actor.
        max_grad_norm: gradients are clipped to this norm; None does not clip.
        batch_size: transitions of an update.
        hidden: width of both hidden layers.

    Raises:
        InputError: a setting outside of its bounds.
    """

    gamma: Share = 0.99
    tau: Share = 0.005
    policy_delay: Positive = 2
    target_policy_noise: NotNegative = 2.0
    noise_clip: NotNegative = 5.0
    critic_lr: AboveZero = 3e-3
    actor_lr: AboveZero = 1e-3
    max_grad_norm: AboveZero | None = None
    batch_size: Positive = 4096
    hidden: Positive = 256


class Transitions(NamedTuple):
    """States (n, s), actions (n,) or (n, a) in [−1, 1], rewards (n,), next states (n, s)."""

    states: Tensor
    actions: Tensor
    rewards: Tensor
    next_states: Tensor


class Replay:
    """Replay buffer of the last `capacity` transitions.

    Args:
        capacity: how many are kept.
        state_size: numbers of a state.
        action_shape: of one action; a single number unless it is given.
    """

    def __init__(self, capacity: int, state_size: int, action_shape: tuple[int, ...] = ()) -> None:
        states = torch.zeros(2, capacity, state_size)
        self._kept = Transitions(states[0], torch.zeros(capacity, *action_shape), torch.zeros(capacity), states[1])
        self._added = 0

    def __len__(self) -> int:
        return min(self._added, len(self._kept.actions))

    @property
    def rewards(self) -> Tensor:
        """All that are stored."""
        return self._kept.rewards[: len(self)]

    def add(self, new: Transitions) -> None:
        """Store transitions in the place of the oldest."""
        at = (self._added + torch.arange(len(new.actions))) % len(self._kept.actions)
        for kept, values in zip(self._kept, new, strict=True):
            kept[at] = values
        self._added += len(new.actions)

    def sample(self, n: int, generator: torch.Generator) -> Transitions:
        """Draw n transitions, uniformly and with replacement."""
        at = torch.randint(len(self), (n,), generator=generator)
        return Transitions(*(kept[at] for kept in self._kept))

    def state(self) -> State:
        """What is stored, see `Resumable`."""
        return State({"added": self._added}, self._kept._asdict())

    def restore(self, state: State) -> None:
        """See `Resumable`."""
        self._added = state.told["added"]
        for name, kept in self._kept._asdict().items():
            kept.copy_(state.tensors[name])


class TD3:
    """Actor μ, critics Q₁ and Q₂, and their target networks.

    Args:
        state_size: numbers of a state.
        settings: hyper-parameters.
        seed: of weights and draws.
        noise_unit: what one unit of the settings' noise is in actions.
    """

    def __init__(self, state_size: int, settings: TD3Settings, seed: int, noise_unit: float = 1.0) -> None:
        self.settings, self._noise_unit = settings, noise_unit
        with seeded(seed):
            self.actor = mlp(state_size, settings.hidden)
            self.critics = nn.ModuleList(mlp(state_size + 1, settings.hidden) for _ in range(2))
            # Actions start in the middle of their range.
            for parameter in self.actor[-1].parameters():
                nn.init.uniform_(parameter, -3e-3, 3e-3)
        self.target_actor, self.target_critics = copy.deepcopy(self.actor), copy.deepcopy(self.critics)
        self._actor_adam = Adam(self.actor.parameters())
        self._critic_adam = Adam(self.critics.parameters())
        self._generator = torch.Generator().manual_seed(seed)
        self._updates = 0

    @torch.no_grad()
    def act(self, states: Tensor) -> Tensor:
        """(n,) actions μ(s) in [−1, 1].

        Raises:
            InputError: learning has diverged.
        """
        return finite(action(self.actor, states), "actor_lr and critic_lr")

    @torch.no_grad()
    def value(self, states: Tensor, actions: Tensor) -> Tensor:
        """(n,) values Q₁(s, a)."""
        return value(self.critics[0], states, actions)

    def update(self, replay: Replay) -> None:
        """One update of the critics and, every `policy_delay` updates, of the actor and the target networks."""
        batch = replay.sample(self.settings.batch_size, self._generator)
        target = self.td_target(batch)
        losses = [mse_loss(value(critic, batch.states, batch.actions), target) for critic in self.critics]
        self._descend(torch.stack(losses).sum(), self.critics, self._critic_adam, self.settings.critic_lr)
        self._updates += 1
        if self._updates % self.settings.policy_delay == 0:
            # Deterministic policy gradient: the actor ascends Q₁(s, μ(s)).
            loss = -value(self.critics[0], batch.states, action(self.actor, batch.states)).mean()
            self._descend(loss, self.actor, self._actor_adam, self.settings.actor_lr)
            soft_update(self.target_actor, self.actor, self.settings.tau)
            soft_update(self.target_critics, self.critics, self.settings.tau)

    @torch.no_grad()
    def td_target(self, batch: Transitions) -> Tensor:
        """Clipped double-Q target y = r + γ min Q′(s′, ã), ã = μ′(s′) + clipped noise (Fujimoto et al., Alg. 1)."""
        scale, bound = (
            each * self._noise_unit for each in (self.settings.target_policy_noise, self.settings.noise_clip)
        )
        noise = (torch.randn(len(batch.actions), generator=self._generator) * scale).clamp(-bound, bound)
        if not self.settings.gamma:
            return batch.rewards
        actions = (action(self.target_actor, batch.next_states) + noise).clamp(-1, 1)
        values = [value(critic, batch.next_states, actions) for critic in self.target_critics]
        return batch.rewards + self.settings.gamma * torch.minimum(*values)

    def _descend(self, loss: Tensor, network: nn.Module, adam: Adam, lr: float) -> None:
        adam.zero_grad()
        loss.backward()
        if self.settings.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(network.parameters(), self.settings.max_grad_norm)
        adam.step(lr)


@torch.no_grad()
def soft_update(target: nn.Module, network: nn.Module, tau: float) -> None:
    """θ′ ← τ θ + (1 − τ) θ′."""
    for old, new in zip(target.parameters(), network.parameters(), strict=True):
        old.lerp_(new, tau)


def mlp(inputs: int, hidden: int, outputs: int = 1) -> nn.Sequential:
    """Two hidden layers."""
    layers = [nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)]
    return nn.Sequential(*layers)


def action(actor: nn.Module, states: Tensor) -> Tensor:
    """(n,) actions in [−1, 1] of an actor in (n, s) states."""
    return torch.tanh(actor(states)).squeeze(1)


def finite(actions: Tensor, rates: str) -> Tensor:
    """The actions of an agent, if they are finite.

    Args:
        actions: of any shape.
        rates: the settings to lower where they are not.

    Raises:
        InputError: they are not.
    """
    if not actions.isfinite().all():
        raise InputError(f"the agent has diverged: lower its {rates}")
    return actions


def value(critic: nn.Module, states: Tensor, actions: Tensor) -> Tensor:
    """(n,) values Q(s, a) of a critic, of (n,) or (n, a) actions."""
    values: Tensor = critic(torch.cat([states, actions.view(len(states), -1)], dim=1)).squeeze(1)
    return values
