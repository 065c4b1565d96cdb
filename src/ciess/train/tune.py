"""Tuning of a full model: its few decisive settings, found on validation by short trainings of narrow models.

A backbone names these settings, `BackboneConfig.tuned`. They are searched on a logarithmic scale by the simplex method
of Nelder and Mead (The Computer Journal, 1965). What is best for 32 dimensions and a part of the steps is close to best
for the whole model (docs/search.md), at a small part of its cost. Not always: more dimensions may need more of a prior.
So the best of what was tried, the start and the middle between them are compared once more at the model's own width.
"""

import dataclasses
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from ciess.checks import Checked, Positive, Within
from ciess.data import Split
from ciess.evaluation.metrics import Evaluator
from ciess.models.base import BackboneConfig
from ciess.models.seeded import seeded
from ciess.progress import Progress, silent
from ciess.train.checkpoint import NOTHING, Kept, State
from ciess.train.fit import Diverged, fit
from ciess.train.losses import BPR

_WORTH_IT = 0.005
"""Gain in validation quality, as a share, up to which there is none: settings stay as they are."""
_STEPS_A_PASS = 4
"""Where settings are tried, steps draw no more triplets than it takes to pass over the interactions in so many."""
_LATEST = 5
"""A search goes on beyond its `trials` while so many latest ones together gain enough."""


@dataclass(frozen=True)
class Tuning(Checked):
    """How much a tuning may try.

    Attributes:
        trials: trainings of narrow models; up to twice as many while the latest five gain half a percent.
        dim: dimensions of the models that are tried, at most.
        finals: trainings of the model's own width: the best settings, those at the start, and what lies between.
        users: users that they are measured on, at most.
    """

    trials: Positive = 16
    dim: Positive = 32
    finals: Annotated[int, Within(3)] = 4
    users: Positive = 2000


@dataclass(frozen=True)
class Tuned:
    """What a tuning came to.

    Attributes:
        config: the backbone's settings to train the full model by.
        trials: what was tried, in order: the settings, `dim`, `quality` on validation and `seconds` of each.
    """

    config: BackboneConfig
    trials: list[dict[str, float]]


def tune(
    config: BackboneConfig,
    split: Split,
    *,
    tuning: Tuning | None = None,
    held: Collection[str] = (),
    seed: int = 0,
    progress: Progress = silent,
    kept: Kept = NOTHING,
) -> Tuned:
    """Find a backbone's decisive settings on validation.

    Args:
        config: where the search starts; it stays where nothing is better by half a percent.
        split: trained on train, measured on validation.
        tuning: how much is tried.
        held: settings that stay as they are.
        seed: of training and of the users that are measured.
        progress: told after every trial.
        kept: keeps what was found, and the trials until then.
    """
    limits = tuning or Tuning()

    def made() -> State:
        found = _tuned(config, split, limits, held, seed, progress, kept)
        return State(
            {"settings": {name: found.config.setting(name) for name in config.tuned}, "trials": found.trials}, {}
        )

    told = kept.once(made, always=True).told
    kept.within("trial").forget()
    return Tuned(config.changed(**told["settings"]), told["trials"])


def _tuned(
    config: BackboneConfig,
    split: Split,
    limits: Tuning,
    held: Collection[str],
    seed: int,
    progress: Progress,
    kept: Kept,
) -> Tuned:
    names = [name for name in config.tuned if name not in held and config.setting(name) > 0]
    if not names or not config.training.steps:
        return Tuned(config, [])
    steps = np.log([config.tuned[name] for name in names])
    search = _Search(config, names, split, limits, seed, progress, kept)
    # A simplex about the start: all steps up, and each one alone down.
    simplex = np.vstack([np.zeros(len(names)), steps, -np.diag(steps)[1:]])

    def settled(_: object) -> None:
        found = [trial["quality"] for trial in search.trials]
        if len(found) >= limits.trials and max(found) <= (1 + _WORTH_IT) * max(found[:-_LATEST], default=0.0):
            raise StopIteration

    minimize(
        search,
        simplex[0],
        method="Nelder-Mead",
        callback=settled,
        options={"initial_simplex": simplex, "maxfev": 2 * limits.trials, "xatol": 0.2, "fatol": 0.0},
    )
    ranked = _ranked(search.trials)
    if len(ranked) > 1 and config.dim > limits.dim:
        first, best = ranked[:2]
        between = {name: float(f"{(first[name] * best[name]) ** 0.5:.3g}") for name in names}
        finals = [*ranked[: limits.finals - 1], between]
        ranked = _ranked([search.tried(trial, config.dim) for trial in finals])
    if len(ranked) == 1:
        return Tuned(config, search.trials)
    return Tuned(config.changed(**{name: ranked[1][name] for name in names}), search.trials)


def _ranked(trials: list[dict[str, float]]) -> list[dict[str, float]]:
    """The first trial, and those that are better by half a percent, the best first."""
    first, *others = trials
    better = [trial for trial in others if trial["quality"] > (1 + _WORTH_IT) * first["quality"]]
    return [first, *sorted(better, key=lambda trial: -trial["quality"])]


class _Search:
    """The trials of one tuning: a function of logarithms of factors, to be minimised."""

    def __init__(
        self,
        config: BackboneConfig,
        names: list[str],
        split: Split,
        limits: Tuning,
        seed: int,
        progress: Progress,
        kept: Kept,
    ) -> None:
        self._config, self._names, self._split, self._limits = config, names, split, limits
        self._seed, self._progress, self._kept = seed, progress, kept
        users = np.flatnonzero(split.valid.user_counts)
        chosen = np.random.default_rng(seed).permutation(users)[: limits.users]
        self._valid = Evaluator(split.train.matrix, split.valid.matrix, users=np.sort(chosen))
        self.trials: list[dict[str, float]] = []

    def __call__(self, place: NDArray[np.float64]) -> float:
        values = {
            name: float(f"{self._config.setting(name) * np.exp(each):.3g}")
            for name, each in zip(self._names, place, strict=True)
        }
        trial = self.tried(values, self._limits.dim)
        best = max(trial["quality"] for trial in self.trials)
        total = max(self._limits.trials, len(self.trials))
        self._progress("tuning", len(self.trials), total, f"best {best:.4f}")
        return -trial["quality"]

    def tried(self, settings: Mapping[str, float], dim: int) -> dict[str, float]:
        """A training with the settings named, no wider than `dim`."""

        def made() -> State:
            start = time.perf_counter()
            config = self._config.changed(**values).short(dim)
            quality = self._quality(config)
            return State({**values, "dim": config.dim, "quality": quality, "seconds": time.perf_counter() - start}, {})

        values = {name: settings[name] for name in self._names}
        trial: dict[str, float] = self._kept.within("trial", len(self.trials)).once(made).told
        self.trials.append(trial)
        return trial

    def _quality(self, config: BackboneConfig) -> float:
        train = self._split.train
        model = config.build(train, self._seed)
        triplets = min(config.training.triplets(train.n_users + train.n_items), max(1, len(train) // _STEPS_A_PASS))
        fewer = dataclasses.replace(config.training, batch_size=triplets)
        lesson = model.solver(train) or BPR(model, train, fewer, self._seed)
        try:
            with seeded(self._seed):
                fitted = fit(model, lesson, config.training, valid=self._valid, seed=self._seed)
            return 0.0 if fitted.diverged else fitted.quality or 0.0
        except Diverged:
            # Such settings are tried, and found to be worth nothing.
            return 0.0
