"""Noise by which actions stray from the actor's (CIESS, Sec. 3.3 and its ablation)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Noise:
    """Noise on actions, whose range is 2.

    Attributes:
        kind: `gaussian`, `uniform`, `ou` (Ornstein–Uhlenbeck, a walk that drifts back to 0), or `none`.
        scale: standard deviation of a Gaussian draw, the half range of a uniform one, σ of OU.
        shared: one draw for all entities of a side, as the published program does; else one for each.
        after_choice: added to the size that the critic chose, as the published program does; else to where the
            random walk starts, as in the paper.
    """

    kind: Literal["gaussian", "uniform", "ou", "none"] = "gaussian"
    scale: float = 0.2
    shared: bool = False
    after_choice: bool = False


_RETURN, _TIME_STEP = 0.15, 0.01
"""θ and dt of the Ornstein–Uhlenbeck process."""


class NoiseSource:
    """Draws noise for the entities of one side, step by step."""

    def __init__(self, settings: Noise, entities: int, generator: torch.Generator) -> None:
        self._settings, self._generator = settings, generator
        self._draws, self._entities = 1 if settings.shared else entities, entities
        self._walk = torch.zeros(self._draws)

    def reset(self) -> None:
        """An episode starts: the Ornstein–Uhlenbeck process returns to 0."""
        self._walk = torch.zeros(self._draws)

    def draw(self) -> Tensor:
        """(entities,) the next noise."""
        return self._next().expand(self._entities)

    def _next(self) -> Tensor:
        scale = self._settings.scale
        if self._settings.kind == "none":
            return torch.zeros(self._draws)
        if self._settings.kind == "uniform":
            return (2 * torch.rand(self._draws, generator=self._generator) - 1) * scale
        drawn = torch.randn(self._draws, generator=self._generator) * scale
        if self._settings.kind == "gaussian":
            return drawn
        self._walk = self._walk * (1 - _RETURN * _TIME_STEP) + drawn * _TIME_STEP**0.5
        return self._walk
