"""Quality at equal bytes: our lines and the peers of one backbone, split and seed, and the test over seeds."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peers import Coded, Peer, Table, peers_for
from reproduce import SHOWN
from smaller import smaller_for

import ciess
from ciess.data import Split
from ciess.errors import InputError
from ciess.evaluation.metrics import TAIL_METRICS, Evaluation, Evaluator, evaluate, standard_error
from ciess.evaluation.significance import differences_tested, over_seeds
from ciess.experiment.bench import Bench
from ciess.experiment.cells import Cells
from ciess.experiment.keys import sources
from ciess.experiment.recipe import Recipe
from ciess.files import write_whole
from ciess.methods.shared.pruning import relative, root_mean_square
from ciess.models import Backbone, BackboneConfig
from ciess.progress import Progress
from ciess.tables.budget import Budget
from ciess.tables.layout import stored_bytes
from ciess.tables.plan import TableShape
from ciess.tables.precision import Precision
from ciess.train.checkpoint import Kept
from ciess.train.finish import Finish

OURS = {
    "equal sizes, float32": ("float32", "equal"),
    "equal sizes, int8": ("int8", "equal"),
    "equal sizes, best precision": ("auto", "equal"),
    "marginal, best precision": ("auto", "marginal"),
    "popularity rule, best precision": ("auto", "popularity"),
}
"""Precision and method of each line."""
CHOICE = tuple(name for name, (precision, _) in OURS.items() if precision == "auto")
SEARCH = "search, best precision"
"""What `ciess search --precision auto` gives, chosen of these on validation."""
TOLD = (*SHOWN, *TAIL_METRICS)
"""Metrics that are kept of each line."""
PEERS = sources([Path(__file__).with_name(name) for name in ("equal_bytes.py", "peers.py", "smaller.py")])
"""What identifies the code of the peers and of their choice."""
DEARER = 3
"""Settings whose dearer form is tried."""


@dataclass(frozen=True, eq=False)
class Point:
    """A method at a budget.

    Attributes:
        row: what the cell keeps of it.
        users: (n_users,) quality on test, NaN for those without.
        valid: the same on validation; None for peers.
    """

    row: dict[str, Any]
    users: NDArray[np.float64]
    valid: NDArray[np.float64] | None = None

    @property
    def budget(self) -> str:
        """As written."""
        return str(self.row["budget"])

    @property
    def key(self) -> tuple[str, str]:
        """Method and budget."""
        return str(self.row["method"]), self.budget


@dataclass(frozen=True, eq=False)
class Cell:
    """All methods at all budgets with one seed.

    Attributes:
        about: the seed, the full model's metrics and bytes.
        points: the methods at the budgets.
    """

    about: dict[str, Any]
    points: list[Point]


def compared(cells: Sequence[Cell], better: str = SEARCH) -> dict[str, Any]:
    """The cells of all seeds as JSON keeps them, and the gains of one method over each other, tested over users.

    Args:
        cells: of the same users, one for each seed.
        better: the method whose gains are told.
    """
    users = {(number, *point.key): point.users for number, cell in enumerate(cells) for point in cell.points}
    keys = dict.fromkeys(point.key for cell in cells for point in cell.points if point.row["method"] != better)

    def differences(method: str, budget: str) -> Iterator[NDArray[np.float64]]:
        for number in range(len(cells)):
            if (number, method, budget) in users:
                yield users[number, better, budget] - users[number, method, budget]

    tested = differences_tested((key, over_seeds(differences(*key))) for key in keys)
    gains = []
    for (method, budget), found in tested.items():
        theirs = mean(float(np.nanmean(each)) for (_, *key), each in users.items() if key == [method, budget])
        gain = {"method": method, "budget": budget, "gain": found.gain / (theirs or 1.0), "p_value": found.p_value}
        gains.append({**gain, "better": found.better, "same": found.same, "worse": found.worse})
    told = [{**cell.about, "rows": [point.row for point in cell.points]} for cell in cells]
    return {"cells": told, "gains": gains}


class EqualBytes:
    """All methods at equal bytes, for one backbone, split and seed.

    Args:
        split: what everything is measured on.
        backbone: a name, to be tuned, or a backbone's settings, as they are.
        finishing: of our size plans; None for what suits the backbone.
        budgets: each is searched by itself.
        seed: of everything.
        cells: a folder that keeps the parts that are done.
        progress: told every step.
        ours: precision and method of each of our lines, those of `CHOICE` among them.
    """

    def __init__(
        self,
        split: Split,
        backbone: str | BackboneConfig,
        finishing: Finish | None,
        budgets: Sequence[str],
        seed: int,
        cells: Path,
        progress: Progress,
        ours: Mapping[str, tuple[str, str]] = OURS,
    ) -> None:
        self._split, self._backbone, self._finishing, self._seed = split, backbone, finishing, seed
        self._budgets, self._cells = [Budget.parse(budget) for budget in budgets], cells
        self._progress, self._lines = progress, ours

    def cell(self) -> Cell:
        """What every method comes to at every budget."""
        points = [*self._ours(), *(point for budget in self._budgets for point in self._theirs(budget))]
        about = {
            "seed": self._seed,
            "full": self.full.means(TOLD),
            "full_bytes": self._shape.full_bytes,
        }
        return Cell(about, with_search(points))

    @cached_property
    def full(self) -> Evaluation:
        """The full model on test."""
        return self._bench.full_models.shown()

    def _ours(self) -> Iterator[Point]:
        """Our lines, in a comparison for each precision and budget: none depends on which others are asked for."""
        for precision, budget in product(
            dict.fromkeys(precision for precision, _ in self._lines.values()), self._budgets
        ):
            if not self._holds(budget, precision):
                continue
            wanted = {method: name for name, (each, method) in self._lines.items() if each == precision}
            found = ciess.compare(
                self._split,
                methods=list(wanted),
                backbone=self._backbone,
                budgets=budget,
                seeds=self._seed,
                finishing=self._finishing,
                precision=precision,
                cells=self._cells,
                progress=self._progress,
            )
            if found.failures:
                raise SystemExit(found.failures[0].error)
            for cell in found.cells:
                for row in cell.rows if cell.method in wanted else []:
                    detail = f"{row.precision}, {row.user_size:.1f} and {row.item_size:.1f}, by {row.found_by}"
                    named = {"method": wanted[cell.method], "detail": detail, "budget": row.budget}
                    measured = {"bytes": row.table_bytes, "valid_quality": row.valid_quality}
                    shown = {"metrics": {metric: row.metrics[metric] for metric in TOLD}}
                    users, valid = (each[row.budget].astype(np.float64) for each in (cell.quality, cell.valid))
                    yield Point(named | measured | shown, users, valid)

    def _theirs(self, budget: Budget) -> list[Point]:
        """The peers: settings chosen on validation, measured on test by models that learned validation."""
        # The full model's name says what it learned, and how; the peers' code is not of the package.
        full = self._kept.path
        assert full is not None
        kept = full.with_name(f"peers-{full.stem}-{PEERS}-{budget.folder}.json")
        if not kept.exists():
            made = [*(self._point(peer, budget) for peer in self._chosen(budget)), *self._smaller(budget)]
            write_whole(kept, json.dumps([{"row": each.row, "users": each.users.tolist()} for each in made]) + "\n")
        return [Point(each["row"], np.array(each["users"])) for each in json.loads(kept.read_text())]

    def _chosen(self, budget: Budget) -> list[Peer]:
        """The best settings of each peer on validation."""
        rows, limit = _rows(self._bench.full_models.on(1).packed), budget.limit(self._shape)
        found: list[tuple[float, Peer]] = []

        def tried(peers: Sequence[Peer]) -> None:
            for number, peer in enumerate(peers, 1):
                coded = peer.coded(rows)
                if coded.stored_bytes <= limit:
                    small = _with_rows(self._bench.full_models.on(1).packed, coded)
                    found.append((float(evaluate(small, self._bench.valid).quality.mean()), peer))
                self._progress(f"peers, {budget}", number, len(peers), peer.name)

        def best_first() -> list[Peer]:
            return [peer for _, peer in sorted(found, key=lambda each: -each[0])]

        tried(peers_for(limit, rows))
        tried([peer.dearer for peer in best_first() if peer.dearer is not None][:DEARER])
        return list({peer.method: peer for peer in reversed(best_first())}.values())

    def _point(self, peer: Peer, budget: Budget) -> Point:
        full = self._bench.full_models.on(2).packed
        coded = peer.coded(_rows(full))
        found = evaluate(_with_rows(full, coded), self._test)
        named = {"method": peer.method, "detail": peer.name, "budget": str(budget)}
        row = named | {"bytes": coded.stored_bytes, "metrics": found.means(TOLD)}
        return Point(row, self.by_user(found))

    def _smaller(self, budget: Budget) -> Iterator[Point]:
        """Models of fewer dimensions in as many bytes."""
        for small in smaller_for(budget.limit(self._shape), *self._shape):
            found, chosen = small.measured(self._split, self._seed, self._cells, self._progress)
            settings = ", ".join(
                [f"{small.plan.dim} dimensions", *(f"{name} {each:g}" for name, each in chosen.items())]
            )
            named = {"method": small.method, "detail": settings, "budget": str(budget)}
            row = named | {"bytes": stored_bytes(small.plan), "metrics": found.means(TOLD)}
            yield Point(row, self.by_user(found))

    def by_user(self, found: Evaluation) -> NDArray[np.float64]:
        """(n_users,) quality of every user, NaN for those who were not measured."""
        quality = np.full(self._shape.n_users, np.nan)
        quality[found.users.numpy()] = found.quality.numpy()
        return quality

    @cached_property
    def _bench(self) -> Bench:
        """For the full models, which comparisons keep and read too."""
        bench = Bench(self._split, self._recipe, self._seed, self._progress, self._kept)
        bench.tune()
        return bench

    @cached_property
    def _recipe(self) -> Recipe:
        return Recipe.of(self._backbone, self._finishing, "float32", "input", None)

    @cached_property
    def _kept(self) -> Kept:
        """Keeps the full models."""
        return Cells(self._cells, self._split, self._recipe, [], self._seed).full()

    @cached_property
    def _test(self) -> Evaluator:
        assert self._split.test is not None
        return Evaluator(self._split.train_valid().matrix, self._split.test.matrix)

    @cached_property
    def _shape(self) -> TableShape:
        users, items = self._bench.full_models.on(1).packed.user_table, self._bench.full_models.on(1).packed.item_table
        return TableShape(len(users), len(items), users.shape[1])

    def _holds(self, budget: Budget, precision: str) -> bool:
        """Whether it holds a number for each row."""
        try:
            budget.numbers(self._shape, Precision.INT4_SHARED if precision == "auto" else Precision(precision))
        except InputError:
            return False
        return True


def with_search(points: Sequence[Point]) -> list[Point]:
    """With what a search gives at each budget, after what it chooses from."""
    found = list(points)
    for budget in dict.fromkeys(point.budget for point in points):
        equal, *others = (
            next(point for point in points if (point.row["method"], point.budget) == (name, budget)) for name in CHOICE
        )
        assert equal.valid is not None
        kept = equal
        for other in others:
            if kept is equal and other.valid is not None and _ahead(other.valid, equal.valid):
                kept = other
        found.insert(found.index(others[-1]) + 1, Point({**kept.row, "method": SEARCH}, kept.users))
    return found


def _ahead(quality: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Whether the mean difference of two qualities, user by user, is more than its standard error."""
    ahead = torch.from_numpy(quality - other)
    ahead = ahead[~ahead.isnan()]
    return float(ahead.mean()) > standard_error(ahead)


def tails(metrics: Sequence[Mapping[str, float]]) -> str:
    """Coverage, tail recall and Gini, means over seeds; nothing of results that were kept without them."""
    if not all(each.keys() >= {*TAIL_METRICS} for each in metrics):
        return ""
    return " / ".join(f"{mean(each[metric] for each in metrics):.3f}" for metric in TAIL_METRICS)


def _rows(full: Backbone) -> Table:
    return relative(full.user_table, full.item_table).float().numpy()


@torch.no_grad()
def _with_rows(full: Backbone, coded: Coded) -> Backbone:
    """The full model with the rows of both tables as they come back; one codebook serves both."""
    model = full.copied()
    parts = np.split(coded.rows, [len(full.user_table)])
    for table, part in zip((model.user_table, model.item_table), parts, strict=True):
        table.copy_(torch.from_numpy(part) * root_mean_square(table))
    return model
