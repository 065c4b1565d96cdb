"""SAC: a stochastic actor, twin critics and a temperature that is learned, for actions in [−1, 1] of several numbers.

Haarnoja et al., Soft Actor-Critic Algorithms and Applications, 2018 (arXiv 1812.05905), without terminal states.
"""

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, softplus

from ciess.checks import AboveZero, Checked, Positive, Share
from ciess.methods.ciess.td3 import Replay, Transitions, finite, mlp, soft_update, value
from ciess.models.seeded import seeded
from ciess.train.adam import Adam
from ciess.train.checkpoint import Composed, Part

_LEAST_LOG, _MOST_LOG = -5.0, 2.0
"""Of the actor's standard deviation."""
_LEAST_SPREAD = 1e-6
"""Of rewards that are standardised."""


@dataclass(frozen=True)
class SACSettings(Checked):
    """Hyper-parameters of SAC; the defaults are the paper's.

    Attributes:
        gamma: discount γ of the next step's value.
        tau: soft update rate τ of the target critics.
        lr: Adam's learning rate of the actor, the critics and the temperature.
        temperature: α to begin with.
        batch_size: transitions of an update.
        hidden: width of both hidden layers.

    Raises:
        InputError: a setting outside of its bounds.
    """

    gamma: Share = 0.99
    tau: Share = 0.005
    lr: AboveZero = 3e-4
    temperature: AboveZero = 1.0
    batch_size: Positive = 256
    hidden: Positive = 256


class SAC(Composed):
    """Actor π, critics Q₁ and Q₂ with target networks, and the temperature α.

    Rewards count in standard deviations from the mean of all that are stored, so that one temperature suits any scale.

    Args:
        state_size: numbers of a state.
        action_size: numbers of an action.
        settings: hyper-parameters.
        seed: of weights and draws.
    """

    def __init__(self, state_size: int, action_size: int, settings: SACSettings, seed: int) -> None:
        self.settings = settings
        with seeded(seed):
            self.actor = mlp(state_size, settings.hidden, 2 * action_size)
            self.critics = nn.ModuleList(mlp(state_size + action_size, settings.hidden) for _ in range(2))
        self.target_critics = copy.deepcopy(self.critics)
        self.log_temperature = torch.tensor(math.log(settings.temperature), requires_grad=True)
        # The entropy that is aimed at.
        self._entropy = -float(action_size)
        learned = {"actor": self.actor.parameters(), "critics": self.critics.parameters(), "α": [self.log_temperature]}
        self._adams = {name: Adam(each) for name, each in learned.items()}
        self._generator = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def act(self, states: Tensor, drawn: bool = True) -> Tensor:
        """(n, a) actions in [−1, 1]: drawn from π(· | s), or the middle of it.

        Raises:
            InputError: learning has diverged.
        """
        return finite(self._drawn(states)[0] if drawn else torch.tanh(self._normal(states)[0]), "lr")

    def update(self, replay: Replay) -> None:
        """One update of the critics, the actor, the temperature and the target networks (Alg. 1)."""
        batch, of_all = replay.sample(self.settings.batch_size, self._generator), replay.rewards
        rewards = (batch.rewards - of_all.mean()) / of_all.std(correction=0).clamp(min=_LEAST_SPREAD)
        target = self.target(batch._replace(rewards=rewards))
        losses = [mse_loss(value(critic, batch.states, batch.actions), target) for critic in self.critics]
        self._descend("critics", torch.stack(losses).sum())
        actions, log_likely = self._drawn(batch.states)
        worth = self._least(self.critics, batch.states, actions)
        self._descend("actor", (self._temperature * log_likely - worth).mean())
        self._descend("α", -self.log_temperature * (log_likely.detach().mean() + self._entropy))
        soft_update(self.target_critics, self.critics, self.settings.tau)

    @torch.no_grad()
    def target(self, batch: Transitions) -> Tensor:
        """y = r + γ (min Q′(s′, a′) − α log π(a′ | s′)), a′ drawn from π."""
        actions, log_likely = self._drawn(batch.next_states)
        soft = self._least(self.target_critics, batch.next_states, actions) - self._temperature * log_likely
        return batch.rewards + self.settings.gamma * soft

    @property
    def parts(self) -> dict[str, Part]:
        """All that learning changes."""
        networks = {"actor": self.actor, "critics": self.critics, "targets": self.target_critics}
        weights = {f"{name}.{key}": each for name, net in networks.items() for key, each in net.state_dict().items()}
        adams = {f"Adam of {name}": each for name, each in self._adams.items()}
        return {**weights, **adams, "log α": self.log_temperature, "generator": self._generator}

    @property
    def _temperature(self) -> Tensor:
        return self.log_temperature.detach().exp()

    def _normal(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Means and logarithms of deviations, (n, a) each, of what is squashed into an action."""
        mean, log_deviation = self.actor(states).chunk(2, dim=1)
        return mean, log_deviation.clamp(_LEAST_LOG, _MOST_LOG)

    def _drawn(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """(n, a) actions tanh(x), x normal, and (n,) their log-likelihoods, log N(x) − Σ log(1 − tanh²(x))."""
        mean, log_deviation = self._normal(states)
        noise = torch.randn(mean.shape, generator=self._generator)
        x = mean + log_deviation.exp() * noise
        log_normal = -noise.square() / 2 - log_deviation - math.log(2 * math.pi) / 2
        return torch.tanh(x), (log_normal - 2 * (math.log(2) - x - softplus(-2 * x))).sum(1)

    @staticmethod
    def _least(critics: nn.ModuleList, states: Tensor, actions: Tensor) -> Tensor:
        return torch.minimum(*(value(critic, states, actions) for critic in critics))

    def _descend(self, name: str, loss: Tensor) -> None:
        self._adams[name].zero_grad()
        loss.backward()
        self._adams[name].step(self.settings.lr)
