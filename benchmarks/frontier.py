"""Quality at equal bytes: `python benchmarks/frontier.py DATA --name ml-1m --backbone lightgcn`.

Ours, equal sizes and CIESS with the best precision for each budget and equal sizes in float32 and int8, all finished
alike, beside product quantisation, scalar quantisation and pruning of the same full model, whose settings are chosen on
validation for each budget. Each budget is searched by itself. Each part, a method or the peers at one budget with one
seed, is kept under `--cells`, known by all that makes it: the same command goes on where it was stopped. The result is
kept as JSON, and made anew when it is deleted; table and figure are made of it.
"""

import copy
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
import tyro
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray
from peers import Coded, Peer, Table, peers_for
from recipes import recipe_of
from reproduce import RESULTS, SHOWN, marked, spread
from rich.console import Console

import ciess
from ciess.data import split_random
from ciess.errors import InputError
from ciess.evaluation.metrics import Evaluation, Evaluator, evaluate
from ciess.evaluation.significance import SIGNIFICANT, differences_tested, over_seeds, spelled_p
from ciess.experiment.bench import Bench
from ciess.experiment.cells import Cells
from ciess.experiment.keys import sources
from ciess.experiment.recipe import Recipe
from ciess.files import write_whole
from ciess.methods.shared.pruning import relative, root_mean_square
from ciess.models import Backbone
from ciess.progress import ConsoleProgress, Progress
from ciess.tables.budget import Budget
from ciess.tables.plan import TableShape
from ciess.tables.precision import Precision

OURS = {
    "equal sizes, float32": ("float32", "equal"),
    "equal sizes, int8": ("int8", "equal"),
    "equal sizes, best precision": ("auto", "equal"),
    "CIESS, best precision": ("auto", "ciess"),
}
"""Precision and method of each line."""
EITHER = tuple(name for name, (precision, _) in OURS.items() if precision == "auto")
SEARCH = "search, best precision"
"""What `ciess search --precision auto` gives: the better one of these on validation; if they tie, the first."""
PEERS = sources([Path(__file__), Path(__file__).with_name("peers.py")])
"""What identifies the code of the peers and of their choice."""
DEARER = 3
"""Settings whose dearer form is tried."""


@dataclass(frozen=True)
class Frontier:
    """Quality at equal bytes."""

    data: tyro.conf.Positional[Path]
    """File or folder of interactions."""
    name: str
    """Name of the folder of results."""
    backbone: str = "lightgcn"
    """The recommender."""
    budgets: tuple[str, ...] = ("20%", "10%", "5%", "2.5%", "1.25%", "1%", "0.5%")
    """Of the bytes of the full tables in float32."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of split, training and search."""
    out: Path = RESULTS
    """Folder of results."""
    cells: Path = Path("runs/cells")
    """Keeps the parts that are done."""
    threads: int = 2
    """Of PyTorch and faiss."""


@dataclass(frozen=True, eq=False)
class Point:
    """A method at a budget.

    Attributes:
        row: what the cell keeps of it.
        users: (n_users,) quality on test, NaN for those without.
    """

    row: dict[str, Any]
    users: NDArray[np.float64]

    @property
    def budget(self) -> str:
        """As written."""
        return str(self.row["budget"])

    @property
    def key(self) -> tuple[str, str]:
        """Method and budget."""
        return str(self.row["method"]), self.budget


def main() -> None:
    """Do what is missing; make the table and the figure."""
    settings = tyro.cli(Frontier, description="Quality at equal bytes.")
    torch.set_num_threads(settings.threads)
    console, folder = Console(width=120), settings.out / settings.name / "frontier"
    path = folder / f"{settings.backbone}.json"
    if not path.exists():
        with ConsoleProgress(console, 60) as progress:
            found = compared([_Seed(settings, seed, progress).cell() for seed in settings.seeds])
        write_whole(path, json.dumps({"backbone": settings.backbone, **found}, indent=1) + "\n")
    found = json.loads(path.read_text())
    text = report(settings, found)
    (folder / f"{settings.backbone}.md").write_text(text)
    # The same result gives the same file.
    with rc_context({"svg.hashsalt": settings.backbone}):
        figure(found["cells"]).savefig(folder / f"{settings.backbone}.svg", metadata={"Date": None})
    console.print(text, markup=False, highlight=False, soft_wrap=True)


@dataclass(frozen=True, eq=False)
class Cell:
    """All methods at all budgets with one seed.

    Attributes:
        about: the seed, the full model's metrics and bytes.
        points: the methods at the budgets.
    """

    about: dict[str, Any]
    points: list[Point]


def compared(cells: Sequence[Cell]) -> dict[str, Any]:
    """The cells of all seeds as JSON keeps them, and the gains of a search over each method, tested over users."""
    users = {(number, *point.key): point.users for number, cell in enumerate(cells) for point in cell.points}
    keys = dict.fromkeys(point.key for cell in cells for point in cell.points if point.row["method"] != SEARCH)

    def differences(method: str, budget: str) -> Iterator[NDArray[np.float64]]:
        for number in range(len(cells)):
            if (number, method, budget) in users:
                yield users[number, SEARCH, budget] - users[number, method, budget]

    tested = differences_tested((key, over_seeds(differences(*key))) for key in keys)
    gains = []
    for (method, budget), found in tested.items():
        theirs = mean(float(np.nanmean(each)) for (_, *key), each in users.items() if key == [method, budget])
        gain = {"method": method, "budget": budget, "gain": found.mean / (theirs or 1.0), "p_value": found.p_value}
        gains.append({**gain, "better": found.better, "same": found.same, "worse": found.worse})
    told = [{**cell.about, "rows": [point.row for point in cell.points]} for cell in cells]
    return {"cells": told, "gains": gains}


class _Seed:
    """One backbone and seed.

    Args:
        settings: of the run.
        seed: of everything.
        progress: told every step.
    """

    def __init__(self, settings: Frontier, seed: int, progress: Progress) -> None:
        self._settings, self._seed, self._progress = settings, seed, progress
        self._config, self._finishing = recipe_of(settings.name, settings.backbone)
        self._split = split_random(ciess.read(settings.data), seed=seed)
        self._budgets = [Budget.parse(budget) for budget in settings.budgets]

    def cell(self) -> Cell:
        """What every method comes to at every budget."""
        points = [*self._ours(), *(point for budget in self._budgets for point in self._theirs(budget))]
        about = {
            "seed": self._seed,
            "full": self._bench.full_shown().means(SHOWN),
            "full_bytes": self._shape.full_bytes,
        }
        return Cell(about, with_search(points))

    def _ours(self) -> Iterator[Point]:
        """Our lines, in a comparison for each precision and budget: none depends on which others are asked for."""
        for precision, budget in product(dict.fromkeys(precision for precision, _ in OURS.values()), self._budgets):
            if not self._holds(budget, precision):
                continue
            wanted = {method: name for name, (each, method) in OURS.items() if each == precision}
            found = ciess.compare(
                self._split,
                methods=list(wanted),
                backbone=self._config,
                budgets=budget,
                seeds=self._seed,
                finishing=self._finishing,
                precision=precision,
                cells=self._settings.cells,
                progress=self._progress,
            )
            if found.failures:
                raise SystemExit(found.failures[0].error)
            for cell in found.cells:
                for row in cell.rows if cell.method in wanted else []:
                    detail = f"{row.precision}, {row.user_size:.1f} and {row.item_size:.1f}, by {row.found_by}"
                    named = {"method": wanted[cell.method], "detail": detail, "budget": row.budget}
                    measured = {"bytes": row.table_bytes, "valid_quality": row.valid_quality}
                    shown = {"metrics": {metric: row.metrics[metric] for metric in SHOWN}}
                    yield Point(named | measured | shown, cell.quality[row.budget].astype(np.float64))

    def _theirs(self, budget: Budget) -> list[Point]:
        """The peers: settings chosen on validation, measured on test with the full model that learned validation."""
        # The full model's name says what it learned, and how; the peers' code is not of the package.
        kept = self._kept.with_name(f"peers-{self._kept.name}-{PEERS}-{budget.folder}.json")
        if not kept.exists():
            made = [self._point(peer, budget) for peer in self._chosen(budget)]
            write_whole(kept, json.dumps([{"row": each.row, "users": each.users.tolist()} for each in made]) + "\n")
        return [Point(each["row"], np.array(each["users"])) for each in json.loads(kept.read_text())]

    def _chosen(self, budget: Budget) -> list[Peer]:
        """The best settings of each peer on validation."""
        rows, limit = _rows(self._bench.full), budget.limit(self._shape)
        found: list[tuple[float, Peer]] = []

        def tried(peers: Sequence[Peer]) -> None:
            for number, peer in enumerate(peers, 1):
                coded = peer.coded(rows)
                if coded.stored_bytes <= limit:
                    small = _with_rows(self._bench.full, coded)
                    found.append((float(evaluate(small, self._bench.valid).quality.mean()), peer))
                self._progress(f"peers, {budget}", number, len(peers), peer.name)

        def best_first() -> list[Peer]:
            return [peer for _, peer in sorted(found, key=lambda each: -each[0])]

        tried(peers_for(limit, rows))
        tried([peer.dearer for peer in best_first() if peer.dearer is not None][:DEARER])
        return list({peer.method: peer for peer in reversed(best_first())}.values())

    def _point(self, peer: Peer, budget: Budget) -> Point:
        full = self._bench.full_on(2).packed
        coded = peer.coded(_rows(full))
        found = evaluate(_with_rows(full, coded), self._test)
        named = {"method": peer.method, "detail": peer.name, "budget": str(budget)}
        row = named | {"bytes": coded.stored_bytes, "metrics": found.means(SHOWN)}
        return Point(row, self._by_user(found))

    def _by_user(self, found: Evaluation) -> NDArray[np.float64]:
        quality = np.full(self._shape.n_users, np.nan)
        quality[found.users.numpy()] = found.quality.numpy()
        return quality

    @cached_property
    def _bench(self) -> Bench:
        """For the full models, which comparisons keep and read too."""
        return Bench(self._split, self._recipe, self._seed, self._progress, self._kept)

    @cached_property
    def _recipe(self) -> Recipe:
        return Recipe.of(self._config, self._finishing, "float32", "input", False)

    @cached_property
    def _kept(self) -> Path:
        """Where the full models are kept."""
        kept = Cells(self._settings.cells, self._split, self._recipe, [], self._seed).path_of_full()
        assert kept is not None
        return kept

    @cached_property
    def _test(self) -> Evaluator:
        assert self._split.test is not None
        return Evaluator(self._split.train_valid().matrix, self._split.test.matrix)

    @cached_property
    def _shape(self) -> TableShape:
        users, items = self._bench.full.user_table, self._bench.full.item_table
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
        either = [point for name in EITHER for point in points if (point.row["method"], point.budget) == (name, budget)]
        best = max(either, key=lambda point: point.row["valid_quality"])
        found.insert(found.index(either[-1]) + 1, Point({**best.row, "method": SEARCH}, best.users))
    return found


def _rows(full: Backbone) -> Table:
    return relative(full.user_table, full.item_table).float().numpy()


@torch.no_grad()
def _with_rows(full: Backbone, coded: Coded) -> Backbone:
    """The full model with the rows of both tables as they come back; one codebook serves both."""
    # Buffers, such as a graph, are shared: only the tables differ.
    model = copy.deepcopy(full, {id(buffer): buffer for buffer in full.buffers()})
    parts = np.split(coded.rows, [len(full.user_table)])
    for table, part in zip((model.user_table, model.item_table), parts, strict=True):
        table.copy_(torch.from_numpy(part) * root_mean_square(table))
    return model


def report(settings: Frontier, found: dict[str, Any]) -> str:
    """The table as Markdown."""
    cells = found["cells"]
    seeds = ", ".join(str(cell["seed"]) for cell in cells)
    budgets = list(dict.fromkeys(row["budget"] for row in cells[0]["rows"]))
    full = " / ".join(spread([cell["full"][metric] for cell in cells], 4) for metric in SHOWN)
    lines = [
        f"# {settings.backbone} on {settings.name}: quality at equal bytes",
        "",
        f"`python benchmarks/frontier.py {settings.name.upper()} --name {settings.name} --backbone {settings.backbone}",
        f"--budgets {' '.join(budgets)}`; seeds {seeds}.",
        f"Test Recall@20 / NDCG@20; the full model comes to {full}. Kept: shares of the full model's.",
        "Search is what `ciess search --precision auto` gives: equal sizes or CIESS, the better on validation.",
        "Search over it: gain in the users' quality, the mean of Recall and NDCG at 5, 10 and 20, by the search over",
        "the method. **Bold** is significantly better, *slanted* significantly worse: a paired t-test over users,",
        f"whose gains are means over seeds, corrected after Holm for the table, p < {SIGNIFICANT}. Settings are seed",
        f"{cells[0]['seed']}'s: of ours the precision, the mean sizes of users and items, and what found them.",
        "",
        f"![quality against bytes]({settings.backbone}.svg)",
        "",
        "| budget | method | settings | bytes | Recall@20 | NDCG@20 | kept | search over it | p |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for budget in budgets:
        for method in dict.fromkeys(row["method"] for row in cells[0]["rows"]):
            lines += _line(found, budget, method)
    return "\n".join([*lines, ""])


def _line(found: dict[str, Any], budget: str, method: str) -> list[str]:
    pairs = [
        (cell, row)
        for cell in found["cells"]
        for row in cell["rows"]
        if (row["budget"], row["method"]) == (budget, method)
    ]
    if not pairs:
        return []
    rows = [row for _, row in pairs]
    kept = [mean(row["metrics"][metric] / cell["full"][metric] for cell, row in pairs) for metric in SHOWN]
    gains = [each for each in found["gains"] if (each["budget"], each["method"]) == (budget, method)]
    entries = [
        budget,
        method,
        rows[0]["detail"],
        f"{mean(row['bytes'] for row in rows):,.0f}",
        *(spread([row["metrics"][metric] for row in rows], 4) for metric in SHOWN),
        " / ".join(f"{share:.1%}" for share in kept),
        *([marked(gains[0]["gain"], gains[0]["p_value"]), spelled_p(gains[0]["p_value"])] if gains else ["", ""]),
    ]
    return [f"| {' | '.join(entries)} |"]


def figure(cells: list[dict[str, Any]]) -> Figure:
    """Quality against bytes, one line a method."""
    drawn = Figure(figsize=(7, 4.5), layout="constrained")
    axes = drawn.subplots()
    for method in dict.fromkeys(row["method"] for row in cells[0]["rows"]):
        rows = [
            (
                100 * row["bytes"] / found["full_bytes"],
                row["budget"],
                row["metrics"]["ndcg@20"] / found["full"]["ndcg@20"],
            )
            for found in cells
            for row in found["rows"]
            if row["method"] == method
        ]
        budgets = list(dict.fromkeys(budget for _, budget, _ in rows))
        points = [np.mean([(share, kept) for share, at, kept in rows if at == budget], axis=0) for budget in budgets]
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=method)
    axes.set_xscale("log")
    axes.set_xlabel("bytes of both tables, % of the full ones in float32")
    axes.set_ylabel("share of the full model's NDCG@20")
    axes.set_ylim(top=1.02)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return drawn


if __name__ == "__main__":
    main()
