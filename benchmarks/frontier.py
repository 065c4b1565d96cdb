"""Quality at equal bytes: `python benchmarks/frontier.py DATA --name ml-1m --backbone lightgcn`.

Ours, equal sizes and CIESS with the best precision for each budget and equal sizes in float32 and int8, all finished
alike, beside product quantisation, scalar quantisation and pruning of the same full model, whose settings are chosen on
validation for each budget. A cell is one backbone and seed; it is kept as JSON, and not run again. The table and the
figure are made from the cells.
"""

import copy
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
import tyro
from matplotlib.figure import Figure
from peers import Peer, Table, coded_at_most
from recipes import recipe_of
from reproduce import RESULTS, SHOWN, spread
from rich.console import Console
from scipy.stats import ttest_1samp

import ciess
from ciess.backbones import Backbone
from ciess.bench import Bench, Recipe
from ciess.data import Split, split_random
from ciess.errors import InputError
from ciess.evaluation import Evaluation, Evaluator, evaluate
from ciess.files import write_whole
from ciess.methods.ciess import Ciess
from ciess.methods.equal import EqualSizes
from ciess.methods.problem import Method
from ciess.methods.pruning import relative, root_mean_square
from ciess.progress import ConsoleProgress, Progress
from ciess.tables.budget import Budget
from ciess.tables.plan import TableShape

OURS: dict[str, tuple[str, Method]] = {
    "equal sizes, float32": ("float32", EqualSizes()),
    "equal sizes, int8": ("int8", EqualSizes()),
    "equal sizes, best precision": ("auto", EqualSizes()),
    "CIESS, best precision": ("auto", Ciess()),
}


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
    threads: int = 2
    """Of PyTorch and faiss."""


def main() -> None:
    """Run the cells that are missing; make the table and the figure."""
    settings = tyro.cli(Frontier, description="Quality at equal bytes.")
    torch.set_num_threads(settings.threads)
    console, folder = Console(width=120), settings.out / settings.name / "frontier"
    for seed in settings.seeds:
        path = folder / f"{settings.backbone}-{seed}.json"
        if not path.exists():
            console.rule(f"{settings.backbone}, seed {seed}")
            write_whole(path, json.dumps(cell(settings, seed, console), indent=1) + "\n")
    cells = [json.loads(path.read_text()) for path in sorted(folder.glob(f"{settings.backbone}-[0-9]*.json"))]
    text = report(settings, cells)
    (folder / f"{settings.backbone}.md").write_text(text)
    figure(cells).savefig(folder / f"{settings.backbone}.svg")
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def cell(settings: Frontier, seed: int, console: Console) -> dict[str, Any]:
    """What every method comes to at every budget."""
    config, finishing = recipe_of(settings.name, settings.backbone)
    split = split_random(ciess.read(settings.data), seed=seed)
    budgets = [Budget.parse(budget) for budget in settings.budgets]
    rows: list[dict[str, Any]] = []
    users: dict[tuple[str, str], torch.Tensor] = {}
    with ConsoleProgress(console, 60) as progress, tempfile.TemporaryDirectory() as folder:
        for name, (precision, method) in OURS.items():
            recipe = Recipe.of(config, finishing, precision, "input")
            bench = Bench(split, recipe, seed, progress, Path(folder) / "full")
            for budget, row, found in ours(bench, split, name, method, budgets):
                rows.append(row)
                users[name, str(budget)] = found.quality
        full = bench.full_shown()
        for budget, row, found in theirs(bench, split, budgets, progress):
            rows.append(row)
            users[row["method"], str(budget)] = found.quality
    for row in rows:
        row["p_of_ciess"] = _p_value(users, row)
    return {
        "backbone": settings.backbone,
        "seed": seed,
        "full": full.means(SHOWN),
        "full_bytes": _shape(bench).full_bytes,
        "rows": rows,
    }


def ours(
    bench: Bench, split: Split, name: str, method: Method, budgets: Sequence[Budget]
) -> Iterator[tuple[Budget, dict[str, Any], Evaluation]]:
    """One of our methods at all budgets that hold a number for each row in its precision."""
    possible = [budget for budget in budgets if _can(bench, budget)]
    for budget, chosen in bench.run(name, bench.prepared(method), bench.problem(possible)).best.items():
        model = bench.built(chosen)
        found = model.evaluate(split.test)
        plan = chosen.plan
        detail = f"{plan.precision}, {plan.user_sizes.mean():.1f} and {plan.item_sizes.mean():.1f}"
        row = _row(name, detail, budget, model.table_bytes, found)
        yield budget, {**row, "valid_quality": chosen.quality}, found


def theirs(
    bench: Bench, split: Split, budgets: Sequence[Budget], progress: Progress
) -> Iterator[tuple[Budget, dict[str, Any], Evaluation]]:
    """The peers: settings chosen on validation, measured on test with the full model that learned validation too."""
    test = Evaluator(bench.all_data.matrix, split.test.matrix)
    shape = _shape(bench)
    for budget in budgets:
        best: dict[str, tuple[float, Peer]] = {}
        candidates = coded_at_most(budget.limit(shape), _rows(bench.full))
        for number, peer in enumerate(candidates, 1):
            quality = float(evaluate(_coded(bench.full, peer), bench.valid).quality.mean())
            best[peer.method] = max(best.get(peer.method, (-1.0, peer)), (quality, peer), key=lambda found: found[0])
            progress(f"peers, {budget}", number, len(candidates), peer.name)
        for method, (_, peer) in best.items():
            found = evaluate(_coded(bench.full_on_all, peer), test)
            yield budget, _row(method, peer.name, budget, peer.stored_bytes(_rows(bench.full_on_all)), found), found


def _can(bench: Bench, budget: Budget) -> bool:
    try:
        bench.check([budget])
    except InputError:
        return False
    return True


def _shape(bench: Bench) -> TableShape:
    users, items = bench.full.user_table, bench.full.item_table
    return TableShape(len(users), len(items), users.shape[1])


def _rows(full: Backbone) -> Table:
    return relative(full.user_table, full.item_table).float().numpy()


@torch.no_grad()
def _coded(full: Backbone, peer: Peer) -> Backbone:
    """The full model with the rows of both tables as they come back; one codebook serves both."""
    rows = peer.coded(_rows(full))
    # Buffers, such as a graph, are shared: only the tables differ.
    model = copy.deepcopy(full, {id(buffer): buffer for buffer in full.buffers()})
    for table, part in zip((model.user_table, model.item_table), np.split(rows, [len(full.user_table)]), strict=True):
        table.copy_(torch.from_numpy(part) * root_mean_square(table))
    return model


def _row(method: str, detail: str, budget: Budget, stored: int, found: Evaluation) -> dict[str, Any]:
    return {"method": method, "detail": detail, "budget": str(budget), "bytes": stored, "metrics": found.means(SHOWN)}


def _p_value(users: dict[tuple[str, str], torch.Tensor], row: dict[str, Any]) -> float:
    """Of the hypothesis that CIESS is no better and no worse here: t-test, paired by user."""
    gain = users["CIESS, best precision", row["budget"]] - users[row["method"], row["budget"]]
    return float(ttest_1samp(gain.numpy(), 0.0).pvalue) if gain.any() else 1.0


def report(settings: Frontier, cells: list[dict[str, Any]]) -> str:
    """The table as Markdown."""
    seeds = ", ".join(str(found["seed"]) for found in cells)
    budgets = list(dict.fromkeys(row["budget"] for row in cells[0]["rows"]))
    full = " / ".join(spread([found["full"][metric] for found in cells], 4) for metric in SHOWN)
    lines = [
        f"# {settings.backbone} on {settings.name}: quality at equal bytes",
        "",
        f"`python benchmarks/frontier.py {settings.name.upper()} --name {settings.name} --backbone {settings.backbone}",
        f"--budgets {' '.join(budgets)}`; seeds {seeds}.",
        f"Test Recall@20 / NDCG@20; the full model comes to {full}. Kept: shares of the full model's.",
        "CIESS better or worse: seeds in which it is so with p < 0.05 (t-test, paired by user). Settings are seed",
        f"{cells[0]['seed']}'s: of ours the precision and the mean sizes of users and items.",
        "",
        f"![quality against bytes]({settings.backbone}.svg)",
        "",
        "| budget | method | settings | bytes | Recall@20 | NDCG@20 | kept | CIESS better | worse |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for budget in budgets:
        for method in dict.fromkeys(row["method"] for row in cells[0]["rows"]):
            lines += _line(cells, budget, method)
    return "\n".join([*lines, ""])


def _line(cells: list[dict[str, Any]], budget: str, method: str) -> list[str]:
    pairs = [
        (found, row) for found in cells for row in found["rows"] if (row["budget"], row["method"]) == (budget, method)
    ]
    if not pairs:
        return []
    rows = [row for _, row in pairs]
    kept = [mean(row["metrics"][metric] / found["full"][metric] for found, row in pairs) for metric in SHOWN]
    against = [_ciess(found, budget)["metrics"]["ndcg@20"] - row["metrics"]["ndcg@20"] for found, row in pairs]
    sure = [row["p_of_ciess"] < 0.05 for row in rows]
    counts = [sum(s and sign * gain > 0 for s, gain in zip(sure, against, strict=True)) for sign in (1, -1)]
    entries = [
        budget,
        method,
        rows[0]["detail"],
        f"{mean(row['bytes'] for row in rows):,.0f}",
        *(spread([row["metrics"][metric] for row in rows], 4) for metric in SHOWN),
        " / ".join(f"{share:.1%}" for share in kept),
        *(["", ""] if method.startswith("CIESS") else [f"{count}/{len(rows)}" for count in counts]),
    ]
    return [f"| {' | '.join(entries)} |"]


def _ciess(found: dict[str, Any], budget: str) -> dict[str, Any]:
    return next(row for row in found["rows"] if row["budget"] == budget and row["method"].startswith("CIESS"))


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
