"""`ComparisonData`: what a comparison of methods came to, and what of it is more than chance."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from statistics import mean, stdev
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ciess.checks import choice
from ciess.evaluation.metrics import QUALITY_METRICS, TAIL_METRICS
from ciess.evaluation.significance import Difference, differences_tested, over_seeds
from ciess.results.outcome import EQUAL, FULL, Row, line_of, still_gaining
from ciess.tables.budget import Budget

BY_USER = ("quality", "valid")
"""What a cell holds of every user."""


@dataclass(frozen=True, eq=False)
class Cell:
    """One method, one seed, all budgets.

    Attributes:
        method: its name; `full` is the full model.
        seed: of split, training and search.
        rows: one for each budget.
        quality: for each budget as written, (n_users,) float32 quality of every user, NaN for those not measured.
        valid: the same on validation, before validation joined the training data; empty for the full model.
        trainings: models that the search trained, by itself or to measure a plan.
        measurements: plans that it measured.
        finishes: plans that were brought to their best.
        seconds: of the search.
        tuning: of the full model's settings: what was `chosen`, and the `trials`; empty for methods.
        error: why there are no rows; empty where there are.
    """

    method: str
    seed: int
    rows: list[Row] = field(default_factory=list)
    quality: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    valid: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    trainings: int = 0
    measurements: int = 0
    finishes: int = 0
    seconds: float = 0.0
    tuning: dict[str, Any] = field(default_factory=dict)
    error: str = ""

    def described(self) -> dict[str, Any]:
        """As JSON keeps it: all but the quality of every user."""
        told = {each.name: getattr(self, each.name) for each in dataclasses.fields(self) if each.name not in BY_USER}
        return {**told, "rows": [asdict(row) for row in self.rows]}


class Spread(NamedTuple):
    """Mean and standard deviation over seeds; no deviation where there is one seed."""

    mean: float
    deviation: float | None

    def __float__(self) -> float:
        return float(self.mean)

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Of one value or more."""
        found = [*values]
        return cls(mean(found), stdev(found) if len(found) > 1 else None)


@dataclass(frozen=True)
class Gain(Difference):
    """By how much one method's users fare better than another's at one budget, paired by user.

    A user's gain is the mean over the seeds in which both methods were measured. The mean over users and its interval
    are shares of the other method's quality, or as they are where that is 0; p is corrected after Holm for all
    comparisons of its kind: all with equal sizes, or all pairs of methods.

    Attributes:
        budget: as written.
        method: the one that gains.
        over: the other one.
    """

    budget: str
    method: str
    over: str


@dataclass(frozen=True)
class Line:
    """One method at one budget, over the seeds.

    Attributes:
        method: its name.
        budget: as written; empty for the full model.
        seeds: in which it came to something.
        metrics: Recall and NDCG, and what becomes of rare items (`TAIL_METRICS`).
        quality: mean of the six metrics at 5, 10, 20.
        kept: share of the full model's quality.
        table_bytes: bytes of both tables as stored.
        user_size: mean size of the users.
        item_size: mean size of the items.
        precision: how parameters are stored; several where seeds differ.
        found_by: what found the size plans: the method itself, the simple rule that it started from, or `equal` where
            it gave nothing but equal sizes; several where seeds differ.
        on_frontier: whether no other line has more quality in as many bytes or fewer.
        converged: whether validation had levelled off when training ended, in all seeds.
    """

    method: str
    budget: str
    seeds: list[int]
    metrics: dict[str, Spread]
    quality: Spread
    kept: Spread
    table_bytes: Spread
    user_size: Spread
    item_size: Spread
    precision: list[str]
    found_by: list[str]
    on_frontier: bool
    converged: bool


@dataclass(frozen=True, eq=False, repr=False)
class ComparisonData:
    """What methods came to, side by side.

    Attributes:
        cells: one for each seed and method, the full model's among them.
        shown: what was measured on: `test`, or `validation` where there is no test.
        settings: everything that made the result, versions among it.
        seconds: wall time of each phase of the run; cells that an earlier run kept take next to none.
    """

    cells: list[Cell]
    shown: str
    settings: dict[str, Any]
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def methods(self) -> list[str]:
        """Names of the methods, equal sizes first; the full model is none."""
        return [name for name in dict.fromkeys(cell.method for cell in self.cells) if name != FULL]

    @property
    def budgets(self) -> list[str]:
        """As written."""
        return list(self.settings["budgets"])

    @property
    def failures(self) -> list[Cell]:
        """Cells in which something went wrong."""
        return [cell for cell in self.cells if cell.error]

    @property
    def cautions(self) -> list[str]:
        """Sentences about what the result may be worth."""
        return [*self.settings["cautions"], *still_gaining(row for cell in self.cells for row in cell.rows)]

    @cached_property
    def lines(self) -> list[Line]:
        """The full model, then each budget's methods."""
        rows: dict[tuple[str, str], dict[int, Row]] = {}
        for cell in self.cells:
            for row in cell.rows:
                rows.setdefault((row.budget, cell.method), {})[cell.seed] = row
        found = [rows[key] for key in [("", FULL), *itertools.product(self.budgets, self.methods)] if key in rows]
        points = [(mean(row.table_bytes for row in each.values()), _quality(each).mean) for each in found]
        return [
            _line(each, on_frontier=not any(_beats(other, point) for other in points))
            for each, point in zip(found, points, strict=True)
        ]

    def line(self, method: str, budget: str | Budget = "") -> Line:
        """The line of a method at a budget, such as `line("ciess", "5%")`; without a budget, of the full model.

        Raises:
            InputError: there is no such line.
        """
        return line_of(self.lines, method, budget)

    @cached_property
    def gains(self) -> list[Gain]:
        """The gain of every method over equal sizes, budget by budget."""
        return self._tested([(method, EQUAL) for method in self.methods if method != EQUAL])

    @cached_property
    def pairs(self) -> list[Gain]:
        """The gain of every method over every other, budget by budget."""
        return self._tested(list(itertools.combinations(self.methods, 2)))

    def gain(self, method: str, budget: str | Budget) -> Gain | None:
        """Over equal sizes; None for equal sizes themselves and the full model, and where one of the two failed.

        Raises:
            InputError: a method or budget that was not compared.
        """
        method, budget = self._known(method, budget)
        return next((gain for gain in self.gains if (gain.method, gain.budget) == (method, budget)), None)

    def beaten(self, method: str, budget: str | Budget) -> list[str]:
        """The methods that a method is significantly better than at a budget.

        Raises:
            InputError: a method or budget that was not compared.
        """
        method, budget = self._known(method, budget)
        here = [gain for gain in self.pairs if gain.budget == budget]
        won = {gain.over for gain in here if gain.method == method and gain.verdict > 0}
        won |= {gain.method for gain in here if gain.over == method and gain.verdict < 0}
        return [name for name in self.methods if name in won]

    def to_dict(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return {
            "shown": self.shown,
            "lines": [asdict(line) for line in self.lines],
            "gains": [asdict(gain) for gain in self.gains],
            "pairs": [asdict(gain) for gain in self.pairs],
            "cells": [cell.described() for cell in self.cells],
            "settings": self.settings,
            "seconds": self.seconds,
        }

    def _known(self, method: str, budget: str | Budget) -> tuple[str, str]:
        """A method's and a budget's names in the comparison; the full model has no budget."""
        choice("method", method, [FULL, *self.methods])
        if method == FULL and not budget:
            return method, ""
        return method, choice("budget", str(Budget.parse(budget)), self.budgets)

    def _tested(self, pairs: list[tuple[str, str]]) -> list[Gain]:
        """Of pairs of methods, at all budgets at which both came to something in a seed."""
        quality = {(cell.method, cell.seed): cell.quality for cell in self.cells}
        both = {
            (budget, *pair): seeds
            for budget, pair in itertools.product(self.budgets, pairs)
            if (seeds := [n for n in self.settings["seeds"] if all(budget in quality.get((m, n), {}) for m in pair)])
        }

        def users(budget: str, method: str, seeds: list[int]) -> Iterator[NDArray[np.float64]]:
            return (quality[method, seed][budget].astype(np.float64) for seed in seeds)

        def difference(budget: str, method: str, over: str, seeds: list[int]) -> NDArray[np.float64]:
            return over_seeds(map(np.subtract, users(budget, method, seeds), users(budget, over, seeds)))

        tested = differences_tested((key, difference(*key, seeds)) for key, seeds in both.items())
        gains = []
        for (budget, method, over), found in tested.items():
            theirs = float(np.nanmean(over_seeds(users(budget, over, both[budget, method, over])))) or 1.0
            shares = {name: getattr(found, name) / theirs for name in ("gain", "low", "high")}
            gains.append(Gain(**asdict(found) | shares, budget=budget, method=method, over=over))
        return gains


def _line(rows: dict[int, Row], on_frontier: bool) -> Line:
    """A method's and budget's rows, one for each seed."""
    first = next(iter(rows.values()))
    return Line(
        method=first.method,
        budget=first.budget,
        seeds=sorted(rows),
        metrics={
            metric: Spread.of(row.metrics[metric] for row in rows.values()) for metric in QUALITY_METRICS + TAIL_METRICS
        },
        quality=_quality(rows),
        kept=Spread.of(row.kept for row in rows.values()),
        table_bytes=Spread.of(row.table_bytes for row in rows.values()),
        user_size=Spread.of(row.user_size for row in rows.values()),
        item_size=Spread.of(row.item_size for row in rows.values()),
        precision=sorted({str(row.precision) for row in rows.values()}),
        found_by=sorted({row.found_by for row in rows.values()}),
        on_frontier=on_frontier,
        converged=all(row.converged for row in rows.values()),
    )


def _quality(rows: dict[int, Row]) -> Spread:
    return Spread.of(mean(row.metrics[metric] for metric in QUALITY_METRICS) for row in rows.values())


def _beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether one point, bytes and quality, makes another one needless."""
    return one != other and one[0] <= other[0] and one[1] >= other[1]
