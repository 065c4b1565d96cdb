"""Our table beside the published one: `python benchmarks/reproduce.py DATA --name ml-1m`.

A cell is one backbone and seed: a whole `ciess.search` with equal sizes, mixed random, the popularity rule and, with
`--ablation`, CIESS from nothing, with other noise and without the random walk, all with the same full model, fidelity
and finish.
Each cell is kept as JSON under `--out` when it is done, and not run again: the same command takes up a stopped run.
The tables are printed from the cells, and kept beside them as Markdown.
"""

import csv
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
import tyro
from recipes import recipe_of
from rich.console import Console
from scipy.stats import combine_pvalues, ttest_1samp

import ciess
from ciess.files import write_whole
from ciess.methods.ciess.noise import Noise
from ciess.methods.mixed import MixedRandom
from ciess.methods.popularity import Popularity
from ciess.methods.problem import Method
from ciess.models import BackboneConfig
from ciess.progress import ConsoleProgress
from ciess.train.finish import Finish

PUBLISHED = Path(__file__).with_name("published.csv")
RESULTS = Path(__file__).with_name("results")
PUBLISHED_NAMES = {
    "equal": "ES",
    "mixed random": "MR",
    "mixed-random": "MR",
    "ciess": "CIESS",
    "pep": "PEP",
    "esapn": "ESAPN",
    "optembed": "OptEmbed",
    "bet": "BET",
}
"""Our rows' names in the published tables: Qu et al., SIGIR 2023, Table 1; Qu et al., WSDM 2024 (BET)."""
SHOWN = ("recall@20", "ndcg@20")


@dataclass(frozen=True)
class Reproduce:
    """Reproduce the published tables."""

    data: tyro.conf.Positional[Path]
    """File or folder of interactions."""
    name: str
    """Name of the data set in published.csv, and of the folder of results."""
    backbones: tuple[str, ...] = ("lightgcn", "ngcf", "ncf", "mf", "als")
    """Recommenders."""
    budgets: tuple[str, ...] = ("20%", "10%", "5%")
    """Of the bytes of the full tables: 80, 90 and 95 % sparsity."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of split, training and search."""
    ablation: bool = False
    """CIESS from nothing, so with uniform and OU noise, and without the random walk, too (the first backbone only)."""
    out: Path = RESULTS
    """Folder of results."""
    threads: int = 2
    """Of PyTorch."""


def main() -> None:
    """Run the cells that are missing, print the tables."""
    settings = tyro.cli(Reproduce, description="Our table beside the published one.")
    torch.set_num_threads(settings.threads)
    console, folder = Console(width=120), settings.out / settings.name
    if settings.ablation:
        # Cells of their own: such a one has more methods, and takes longer.
        folder /= "ablation"
    for backbone in settings.backbones:
        for seed in settings.seeds:
            path = folder / f"{backbone}-{seed}.json"
            if not path.exists():
                beside = beside_ciess(seed, settings.ablation and backbone == settings.backbones[0])
                console.rule(f"{backbone}, seed {seed}")
                config, finishing = recipe_of(settings.name, backbone)
                cell = run(settings.data, config, finishing, settings.budgets, seed, beside, console)
                write_whole(path, json.dumps({"backbone": backbone, **cell}, indent=1) + "\n")
    text = report(settings.name, [json.loads(path.read_text()) for path in sorted(folder.glob("*-[0-9]*.json"))])
    (folder / "README.md").write_text(text)
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def beside_ciess(seed: int, ablation: bool) -> dict[str, Method]:
    """The methods beside CIESS and equal sizes."""
    methods: dict[str, Method] = {"mixed random": MixedRandom(seed=seed), "popularity": Popularity(seed=seed)}
    if ablation:
        # From nothing: what starts from the popularity rule rarely leaves it, whatever its noise. As many
        # measurements as the rule and CIESS take together.
        methods["from nothing"] = alone = ciess.Ciess(seed=seed, start=None, episodes=5)
        # The same spread as Gaussian noise of σ = 6 sizes has beside a uniform one of ± 11 and OU's σ = 40.
        scale = alone.noise.scale
        for name, changes in {
            "uniform noise": {"noise": Noise("uniform", scale * 11 / 6)},
            "OU noise": {"noise": Noise("ou", scale * 40 / 6)},
            "no walk": {"walk_length": 0},
        }.items():
            methods[name] = dataclasses.replace(alone, **changes)
    return methods


def run(
    data: Path,
    backbone: BackboneConfig,
    finishing: Finish,
    budgets: tuple[str, ...],
    seed: int,
    beside: Mapping[str, Method],
    console: Console,
) -> dict[str, Any]:
    """One cell: rows, each with the p-value of its users' quality against equal sizes."""
    with ConsoleProgress(console, seconds_between_lines=60) as progress:
        outcome = ciess.search(
            ciess.read(data),
            backbone=backbone,
            budgets=budgets,
            beside=beside,
            finishing=finishing,
            seed=seed,
            progress=progress,
        )
    rows = []
    for row in outcome.rows:
        users = outcome.evaluations[row.method, row.budget].quality
        p_value = 1.0
        if row.budget:
            gain = users - outcome.evaluations["equal", row.budget].quality
            p_value = float(ttest_1samp(gain.numpy(), 0.0).pvalue) if gain.any() else 1.0
        rows.append({**dataclasses.asdict(row), "p_against_equal": p_value})
    return {"seed": seed, "rows": rows, "settings": outcome.settings}


def published(name: str) -> dict[tuple[str, str, str], dict[str, float]]:
    """Metrics by backbone, method and sparsity."""
    with PUBLISHED.open() as file:
        return {
            (row["backbone"], row["method"], row["sparsity_percent"]): {m: float(row[m]) for m in SHOWN}
            for row in csv.DictReader(file)
            if row["dataset"] == name
        }


def report(name: str, cells: list[dict[str, Any]]) -> str:
    """The tables of all cells that are kept as Markdown."""
    shown = published(name)
    lines = [
        f"# {name}",
        "",
        f"`python benchmarks/reproduce.py {name.upper()} --name {name}`. Mean ± standard deviation, on test.",
        "Better: seeds in which the users' quality differs from equal sizes of the same recipe for the better with",
        "p < 0.05 (t-test, paired by user). Together: these tests as one (Stouffer's method), as if seeds, which share",
        "their users, were independent; p < 0.05, too.",
        "Kept: share of the full model's quality. Published: the papers' Recall@20 and NDCG@20 at the same share,",
        "float32.",
        "",
    ]
    for backbone in dict.fromkeys(cell["backbone"] for cell in cells):
        mine = [cell for cell in cells if cell["backbone"] == backbone]
        seeds = ", ".join(str(cell["seed"]) for cell in mine)
        lines += [f"## {backbone}", "", f"Seeds {seeds}.", "", *table(mine, backbone, shown), ""]
    return "\n".join(lines)


def table(
    cells: list[dict[str, Any]], backbone: str, shown: Mapping[tuple[str, str, str], dict[str, float]]
) -> list[str]:
    """A line for each method and budget, over the seeds that have it."""
    lines = [
        "| budget | method | Recall@20 | NDCG@20 | kept | better | together | users' size | items' size | published |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    by_seed = [{(row["method"], row["budget"]): row for row in cell["rows"]} for cell in cells]
    for method, budget in max(by_seed, key=len):
        having = [rows for rows in by_seed if (method, budget) in rows]
        rows = [each[method, budget] for each in having]
        chances = [chance(row, each.get(("equal", budget), row)) for row, each in zip(rows, having, strict=True)]
        sparsity = f"{100 - float(budget.rstrip('%')):g}" if budget.endswith("%") else ""
        known = shown.get((backbone, PUBLISHED_NAMES.get(method, ""), sparsity))
        entries = [
            budget,
            method,
            *(spread([row["metrics"][metric] for row in rows], 4) for metric in SHOWN),
            f"{mean(row['kept'] for row in rows):.1%}",
            *(
                [f"{sum(p < 0.025 for p in chances)}/{len(rows)}", together(chances)]
                if budget and method != "equal"
                else ["", ""]
            ),
            f"{mean(row['user_size'] for row in rows):.1f}",
            f"{mean(row['item_size'] for row in rows):.1f}",
            " / ".join(f"{known[metric]:.4f}" for metric in SHOWN) if known else "",
        ]
        lines.append(f"| {' | '.join(entries)} |")
    return lines


def chance(row: dict[str, Any], equal: dict[str, Any]) -> float:
    """One-sided p-value of the hypothesis that a row is no better than equal sizes."""
    half = row["p_against_equal"] / 2
    return float(half if row["kept"] > equal["kept"] else 1 - half)


def together(chances: list[float]) -> str:
    """What the one-sided p-values of all seeds say as one."""
    # A p-value of 0 or 1 would outvote all others.
    one_sided = float(combine_pvalues(np.clip(chances, 1e-12, 1 - 1e-12), method="stouffer").pvalue)
    return "better" if one_sided < 0.025 else "worse" if one_sided > 0.975 else "no different"


def spread(values: list[float], digits: int) -> str:
    """Mean ± standard deviation."""
    deviation = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{deviation}"


if __name__ == "__main__":
    main()
