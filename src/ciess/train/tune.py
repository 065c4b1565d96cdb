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
"""Steps of a narrow trial draw no more triplets than it takes to pass over the interactions in so many."""
_LATEST = 5
"""A search goes on beyond its `trials` while so many latest ones together gain enough."""
_WEIGHTS = ("regularisation", "l2", "network_l2")
"""Settings that weigh squares of parameters: where data are few, wide models need more of it than narrow ones."""


@dataclass(frozen=True)
class Tuning(Checked):
    """How much a tuning may try.

    Attributes:
        trials: trainings of narrow models; up to twice as many while the latest five gain half a percent.
        dim: dimensions of the models that are tried, at most.
        finals: trainings of the model's own width: the best settings, those at the start, and what lies between; then
            one with twice the weight of squares of parameters, and where that gains half a percent, so many more and up
            to as many again.
        users: users that models no wider than `dim` are measured on, at most.
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
    valid: Evaluator | None = None,
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
        valid: measures the finals; None measures all users.
        seed: of training and of the users that are measured.
        progress: told after every trial.
        kept: keeps what was found, and the trials until then.
    """
    limits = tuning or Tuning()

    def made() -> State:
        found = _tuned(config, split, limits, held, valid, seed, progress, kept)
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
    valid: Evaluator | None,
    seed: int,
    progress: Progress,
    kept: Kept,
) -> Tuned:
    names = [name for name in config.tuned if name not in held and config.setting(name) > 0]
    if not names or not config.training.steps:
        return Tuned(config, [])
    steps = np.log([config.tuned[name] for name in names])
    search = _Search(config, names, split, limits, valid, seed, progress, kept)
    # A simplex about the start: all steps up, and each one alone down.
    search.descend(np.vstack([np.zeros(len(names)), steps, -np.diag(steps)[1:]]), limits.dim, limits.trials)
    ranked = _ranked(search.trials)
    if config.dim > limits.dim:
        narrow = len(search.trials)
        for place in _finals([search.place(trial) for trial in ranked[: limits.finals - 1]]):
            search(place, config.dim)
        _weigh_more(search, max(search.trials[narrow:], key=_quality_of), steps, config.dim, limits.finals)
        ranked = _ranked(search.trials[narrow:])
    if len(ranked) == 1:
        return Tuned(config, search.trials)
    return Tuned(config.changed(**{name: ranked[1][name] for name in names}), search.trials)


def _finals(ranked: list[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """Where narrow models were best, the start first, and the middle between it and the best."""
    return ranked if len(ranked) == 1 else [*ranked, (ranked[0] + ranked[1]) / 2]


def _weigh_more(search: "_Search", best: dict[str, float], steps: NDArray[np.float64], dim: int, most: int) -> None:
    """Try the best settings of the model's own width with twice the weights, and go on from there if it gains."""
    weighs = np.array([name in _WEIGHTS for name in search.names])
    if not weighs.any():
        return
    place = search.place(best) + weighs * steps / 2
    if -search(place, dim) > (1 + _WORTH_IT) * best["quality"]:
        # A simplex about it: half of all steps up, and each alone but one, a weight only if there is nothing else.
        alone = np.delete(np.diag(steps), int(weighs.argmin()), axis=0)
        search.descend(place + np.vstack([np.zeros(len(steps)), steps, alone]) / 2, dim, most)


def _quality_of(trial: Mapping[str, float]) -> float:
    return trial["quality"]


def _ranked(trials: list[dict[str, float]]) -> list[dict[str, float]]:
    """The first trial, and those that are better by half a percent, the best first."""
    first, *others = trials
    better = [trial for trial in others if trial["quality"] > (1 + _WORTH_IT) * first["quality"]]
    return [first, *sorted(better, key=_quality_of, reverse=True)]


class _Search:
    """The trials of one tuning: a function of places, logarithms of factors of the settings, to be minimised.

    Attributes:
        names: of the settings.
        trials: so far.
    """

    def __init__(
        self,
        config: BackboneConfig,
        names: list[str],
        split: Split,
        limits: Tuning,
        valid: Evaluator | None,
        seed: int,
        progress: Progress,
        kept: Kept,
    ) -> None:
        self._config, self.names, self._split, self._limits = config, names, split, limits
        self._seed, self._progress, self._kept = seed, progress, kept
        users = np.flatnonzero(split.valid.user_counts)
        chosen = np.random.default_rng(seed).permutation(users)[: limits.users]
        self._quick = Evaluator(split.train.matrix, split.valid.matrix, users=np.sort(chosen))
        self._valid = valid or Evaluator(split.train.matrix, split.valid.matrix)
        self.trials: list[dict[str, float]] = []

    def place(self, trial: Mapping[str, float]) -> NDArray[np.float64]:
        """Where a trial's settings are."""
        return np.log([trial[name] / self._config.setting(name) for name in self.names])

    def descend(self, simplex: NDArray[np.float64], dim: int, trials: int) -> None:
        """Nelder and Mead's search from a simplex: so many trials, and up to as many more while they gain."""
        began = len(self.trials)

        def settled(_: object) -> None:
            found = [trial["quality"] for trial in self.trials[began:]]
            if len(found) >= trials and max(found) <= (1 + _WORTH_IT) * max(found[:-_LATEST], default=0.0):
                raise StopIteration

        # Few runs tune, and its import takes long.
        from scipy.optimize import minimize

        minimize(
            lambda place: self(place, dim),
            simplex[0],
            method="Nelder-Mead",
            callback=settled,
            options={"initial_simplex": simplex, "maxfev": 2 * trials, "xatol": 0.2, "fatol": 0.0},
        )

    def __call__(self, place: NDArray[np.float64], dim: int) -> float:
        values = {
            name: float(f"{self._config.setting(name) * np.exp(each):.3g}")
            for name, each in zip(self.names, place, strict=True)
        }
        trial = self._tried(values, dim)
        best = max(trial["quality"] for trial in self.trials)
        total = max(self._limits.trials, len(self.trials))
        self._progress("tuning", len(self.trials), total, f"best {best:.4f}")
        return -trial["quality"]

    def _tried(self, values: Mapping[str, float], dim: int) -> dict[str, float]:
        """A training with some settings, no wider than `dim`; what was tried already is not trained again."""
        for known in self.trials:
            if known["dim"] == dim and {name: known[name] for name in values} == values:
                return known

        def made() -> State:
            start = time.perf_counter()
            config = self._config.changed(**values).short(dim)
            quality = self._quality(config)
            return State({**values, "dim": config.dim, "quality": quality, "seconds": time.perf_counter() - start}, {})

        trial: dict[str, float] = self._kept.within("trial", len(self.trials)).once(made).told
        self.trials.append(trial)
        return trial

    def _quality(self, config: BackboneConfig) -> float:
        train, training = self._split.train, config.training
        model = config.build(train, self._seed)
        if config.dim < self._config.dim:
            # Finals draw as many as the whole training: with fewer, more weight of squares looks better.
            triplets = min(training.triplets(train.n_users + train.n_items), max(1, len(train) // _STEPS_A_PASS))
            training = dataclasses.replace(training, batch_size=triplets)
        lesson = model.solver(train) or BPR(model, train, training, self._seed)
        # What is decided last, between few that are close, is measured as exactly as the full model will be.
        valid = self._valid if config.dim > self._limits.dim else self._quick
        try:
            with seeded(self._seed):
                fitted = fit(model, lesson, training, valid=valid, seed=self._seed)
            return 0.0 if fitted.diverged else fitted.quality or 0.0
        except Diverged:
            # Such settings are tried, and found to be worth nothing.
            return 0.0
