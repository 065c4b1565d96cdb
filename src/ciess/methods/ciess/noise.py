"""Exploration noise on actions (CIESS, Eq. 11 and the ablation of Sec. 3)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ciess.checks import Checked, NotNegative

_THETA, _DT = 0.15, 0.01
"""Rate of return and time step of the Ornstein–Uhlenbeck process."""
_SCALES = {"gaussian": 6.0, "uniform": 11.0, "ou": 40.0, "none": 0.0}
"""The authors' noise, in sizes."""


@dataclass(frozen=True)
class Noise(Checked):
    """Noise that exploration adds to actions.

    Attributes:
        kind: `gaussian`, `uniform`, `ou` (Ornstein–Uhlenbeck, a walk that drifts back to 0), or `none`.
        scale: σ of a Gaussian draw, half the range of a uniform one, σ of OU; in the unit of what it is added to: sizes
            in the paper's search, actions in [−1, 1] in `Ciess`. None takes the authors' 6, 11 and 40 sizes, by kind.
        shared: one draw for all entities, as in the authors' program; else one for each entity.
        after_choice: added to the size that the critic chose, as in the authors' program; else to the actor's action,
            where the random walk starts.

    Raises:
        InputError: a setting outside of its bounds.
    """

    kind: Literal["gaussian", "uniform", "ou", "none"] = "gaussian"
    scale: NotNegative | None = None
    shared: bool = False
    after_choice: bool = False

    @property
    def effective_scale(self) -> float:
        """The scale, the authors' where none is given."""
        return _SCALES[self.kind] if self.scale is None else self.scale


class NoiseSource:
    """Draws noise for so many entities, step by step."""

    def __init__(self, settings: Noise, entities: int, generator: torch.Generator) -> None:
        self._settings, self._entities, self._generator = settings, entities, generator
        self.reset()

    def reset(self) -> None:
        """Start an episode: the Ornstein–Uhlenbeck process returns to 0."""
        self._state = torch.zeros(1 if self._settings.shared else self._entities)

    def draw(self) -> Tensor:
        """(entities,) the noise of the next step."""
        return self._next().expand(self._entities)

    def _next(self) -> Tensor:
        kind, scale, n = self._settings.kind, self._settings.effective_scale, len(self._state)
        if kind == "none":
            return self._state
        if kind == "uniform":
            return (2 * torch.rand(n, generator=self._generator) - 1) * scale
        drawn = torch.randn(n, generator=self._generator) * scale
        if kind == "gaussian":
            return drawn
        # x′ = x + θ (0 − x) dt + σ √dt N(0, 1)
        self._state = self._state - _THETA * self._state * _DT + drawn * _DT**0.5
        return self._state
