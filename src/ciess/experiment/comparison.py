"""`Comparison`: what a comparison of methods came to, and what of it is more than chance."""

import itertools
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ciess.evaluation.metrics import QUALITY_METRICS
from ciess.evaluation.significance import bootstrap, holm
from ciess.experiment.cells import Cell
from ciess.experiment.text import latex, markdown
from ciess.files import write_whole
from ciess.results.outcome import Row

EQUAL, FULL = "equal", "full"
SIGNIFICANT = 0.05


class Spread(NamedTuple):
    """Mean and standard deviation over seeds; no deviation where there is one seed."""

    mean: float
    deviation: float | None

    def __float__(self) -> float:
        return self.mean

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Of one value or more."""
        found = [*values]
        return cls(mean(found), stdev(found) if len(found) > 1 else None)


@dataclass(frozen=True)
class Gain:
    """By how much one method's users fare better than another's at one budget, paired by user.

    A user's gain is the mean over the seeds in which both methods were measured.

    Attributes:
        budget: as written.
        method: the one that gains.
        over: the other one.
        gain: mean over users, as a share of the other one's quality.
        low: lower end of its 95 % interval.
        high: upper end.
        p_value: that there is no difference, corrected after Holm for all comparisons of its kind: all with equal
            sizes, or all pairs of methods.
        better: users of all seeds whose quality is higher.
        same: users whose quality is the same.
        worse: users whose quality is lower.
    """

    budget: str
    method: str
    over: str
    gain: float
    low: float
    high: float
    p_value: float
    better: int
    same: int
    worse: int

    @property
    def verdict(self) -> int:
        """1 where the gain is significant, −1 where a loss is, else 0."""
        return int(np.sign(self.gain)) if self.p_value < SIGNIFICANT else 0


@dataclass(frozen=True)
class Line:
    """One method at one budget, over the seeds.

    Attributes:
        method: its name.
        budget: as written; empty for the full model.
        seeds: in which it came to something.
        metrics: Recall and NDCG.
        quality: mean of the six metrics at 5, 10, 20.
        kept: share of the full model's quality.
        table_bytes: bytes of both tables as stored.
        user_size: mean size of the users.
        item_size: mean size of the items.
        precision: how numbers are stored; several where seeds differ.
        on_frontier: whether no other line has more quality in as many bytes or fewer.
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
    on_frontier: bool


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """What methods came to, side by side.

    Attributes:
        cells: one for each seed and method, the full model's among them.
        shown: what was measured on: `test`, or `validation` where there is no test.
        settings: everything that made the result, versions among it.
    """

    cells: list[Cell]
    shown: str
    settings: dict[str, Any]

    def __repr__(self) -> str:
        return f"Comparison({', '.join(self.methods)}; budgets {', '.join(self.budgets)}; measured on {self.shown})"

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

    def line(self, method: str, budget: str = "") -> Line:
        """The line of a method and a budget as written, such as `line("ciess", "5%")`."""
        return next(line for line in self.lines if (line.method, line.budget) == (method, budget))

    @cached_property
    def gains(self) -> list[Gain]:
        """Of every method over equal sizes, budget by budget."""
        return self._tested([(method, EQUAL) for method in self.methods if method != EQUAL])

    @cached_property
    def pairs(self) -> list[Gain]:
        """Of every method over every other, budget by budget."""
        return self._tested(list(itertools.combinations(self.methods, 2)))

    def gain(self, method: str, budget: str) -> Gain | None:
        """Over equal sizes; None for equal sizes themselves, and where one of the two failed."""
        return next((gain for gain in self.gains if (gain.method, gain.budget) == (method, budget)), None)

    def beaten(self, method: str, budget: str) -> list[str]:
        """The methods that a method is significantly better than at a budget."""
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
        }

    def to_markdown(self) -> str:
        """The tables as Markdown."""
        return markdown(self)

    def to_latex(self) -> str:
        """The table of quality as LaTeX, for the package booktabs."""
        return latex(self)

    def report(self, folder: str | Path) -> Path:
        """Write `report.html`, and `report.md` with its figures, for people; the path of the page.

        Raises:
            InputError: the folder cannot be written.
        """
        from ciess.report import compared, write

        return write(compared(self), Path(folder))

    def save(self, folder: str | Path) -> list[Path]:
        """Write `comparison.json`, `comparison.tex` and the report; the paths of these and of the page.

        Raises:
            InputError: the folder cannot be written.
        """
        folder = Path(folder)
        written = {
            folder / "comparison.json": json.dumps(self.to_dict(), indent=1, default=str) + "\n",
            folder / "comparison.tex": self.to_latex(),
        }
        for path, content in written.items():
            write_whole(path, content)
        return [*written, self.report(folder)]

    def _repr_html_(self) -> str:
        """What notebooks show: the answers and the table of quality."""
        from ciess.report import as_fragment, overview

        return as_fragment(overview(self))

    def _tested(self, pairs: list[tuple[str, str]]) -> list[Gain]:
        found = {
            (budget, method, over): users
            for budget, (method, over) in itertools.product(self.budgets, pairs)
            if len((users := self._users(method, over, budget))[0])
        }
        if not found:
            return []
        gains = [mine - theirs for mine, theirs in found.values()]
        by_user = np.stack([_over_seeds(each) for each in gains], axis=1)
        drawn = bootstrap(by_user[~np.isnan(by_user).all(1)])
        base = np.array([np.nanmean(_over_seeds(theirs)) for _, theirs in found.values()])
        return [
            Gain(
                budget,
                method,
                over,
                gain=float(gain),
                low=float(low),
                high=float(high),
                p_value=float(p_value),
                better=int((each > 0).sum()),
                same=int((each == 0).sum()),
                worse=int((each < 0).sum()),
            )
            for (budget, method, over), each, gain, low, high, p_value in zip(
                found,
                gains,
                drawn.mean / base,
                drawn.low / base,
                drawn.high / base,
                holm(drawn.p_value),
                strict=True,
            )
        ]

    def _users(self, method: str, over: str, budget: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(seeds, n_users) quality of both methods' users, in the seeds in which both came to something."""
        quality = {(cell.method, cell.seed): cell.quality[budget] for cell in self.cells if budget in cell.quality}
        both = [seed for seed in self.settings["seeds"] if {(method, seed), (over, seed)} <= quality.keys()]
        mine, theirs = (np.array([quality[name, seed] for seed in both], dtype=np.float64) for name in (method, over))
        return mine, theirs


def _line(rows: dict[int, Row], on_frontier: bool) -> Line:
    """A method's and budget's rows, one for each seed."""
    first = next(iter(rows.values()))
    return Line(
        method=first.method,
        budget=first.budget,
        seeds=sorted(rows),
        metrics={metric: Spread.of(row.metrics[metric] for row in rows.values()) for metric in QUALITY_METRICS},
        quality=_quality(rows),
        kept=Spread.of(row.kept for row in rows.values()),
        table_bytes=Spread.of(row.table_bytes for row in rows.values()),
        user_size=Spread.of(row.user_size for row in rows.values()),
        item_size=Spread.of(row.item_size for row in rows.values()),
        precision=sorted({str(row.precision) for row in rows.values()}),
        on_frontier=on_frontier,
    )


def _quality(rows: dict[int, Row]) -> Spread:
    return Spread.of(mean(row.metrics[metric] for metric in QUALITY_METRICS) for row in rows.values())


def _beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether one point, bytes and quality, makes another one needless."""
    return one != other and one[0] <= other[0] and one[1] >= other[1]


def _over_seeds(gains: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n_users,) mean of (seeds, n_users) over the seeds in which a user was measured; NaN where in none."""
    measured = (~np.isnan(gains)).sum(0)
    total = np.nan_to_num(gains).sum(0)
    means: NDArray[np.float64] = np.divide(total, measured, out=np.full(len(total), np.nan), where=measured > 0)
    return means
