"""Quality at equal bytes: `python benchmarks/frontier.py DATA --name ml-1m --backbone lightgcn`.

Ours, equal sizes and marginal allocation with the best precision for each budget and equal sizes in float32 and int8,
all finished alike, beside product quantisation, scalar quantisation, TurboQuant, RaBitQ and pruning of the same full
model, whose settings are chosen on validation for each budget, and beside smaller models, ALS and MF with as few
dimensions as fit, tuned on validation and stored in float32 or int8. Each budget is searched by itself. Each part, a
method or the peers at one budget with one seed, is kept under `--cells`, known by all that makes it: the same command
goes on where it was stopped. The result is kept as JSON, and made anew when it is deleted; table and figure are made
of it.
"""

import json
from dataclasses import dataclass
from statistics import mean
from typing import Any

import numpy as np
import torch
import tyro
from equal_bytes import EqualBytes, compared, tails
from matplotlib import rc_context
from matplotlib.figure import Figure
from reproduce import SHOWN, Measured, marked, spread
from rich.console import Console

import ciess
from ciess.data import split_random
from ciess.evaluation.significance import SIGNIFICANT, spelled_p
from ciess.files import write_whole
from ciess.progress import ConsoleProgress, Progress


@dataclass(frozen=True)
class Frontier(Measured):
    """Quality at equal bytes."""

    backbone: str = "lightgcn"
    """The recommender."""
    budgets: tuple[str, ...] = ("20%", "10%", "5%", "2.5%", "1.25%", "1%", "0.5%")
    """Of the bytes of the full tables in float32."""


def main() -> None:
    """Do what is missing; make the table and the figure."""
    settings = tyro.cli(Frontier, description="Quality at equal bytes.")
    torch.set_num_threads(settings.threads)
    console, folder = Console(width=120), settings.out / settings.name / "frontier"
    path = folder / f"{settings.backbone}.json"
    if not path.exists():
        with ConsoleProgress(console, 60) as progress:
            found = compared([of_seed(settings, seed, progress).cell() for seed in settings.seeds])
        write_whole(path, json.dumps({"backbone": settings.backbone, **found}, indent=1) + "\n")
    found = json.loads(path.read_text())
    text = report(settings, found)
    (folder / f"{settings.backbone}.md").write_text(text)
    # The same result gives the same file.
    with rc_context({"svg.hashsalt": settings.backbone}):
        figure(found["cells"]).savefig(folder / f"{settings.backbone}.svg", metadata={"Date": None})
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def of_seed(settings: Frontier, seed: int, progress: Progress) -> EqualBytes:
    """What is done for one seed."""
    split = split_random(ciess.read(settings.data), seed=seed)
    return EqualBytes(split, settings.backbone, None, settings.budgets, seed, settings.cells, progress)


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
        "Search is what `ciess search --precision auto` gives: equal sizes or its own, the better on validation.",
        "Search over it: gain in the users' quality, the mean of Recall and NDCG at 5, 10 and 20, by the search over",
        "the method. **Bold** is significantly better, *slanted* significantly worse: a paired t-test over users,",
        f"whose gains are means over seeds, corrected after Holm for the table, p < {SIGNIFICANT}. Settings are seed",
        f"{cells[0]['seed']}'s: of ours the precision, the mean sizes of users and items, and what found them.",
        "Coverage is the share of items that anybody is shown among the first 20, tail recall Recall@20 of the rarest",
        "items that have at most half of the interactions, and Gini that of how often each item is shown; of the full",
        f"model they are {tails([cell['full'] for cell in cells])}.",
        "",
        f"![quality against bytes]({settings.backbone}.svg)",
        "",
        "| budget | method | settings | bytes | Recall@20 | NDCG@20 | kept | search over it | p "
        "| coverage / tail recall / Gini |",
        "|---|---|---|---|---|---|---|---|---|---|",
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
        tails([row["metrics"] for row in rows]),
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
