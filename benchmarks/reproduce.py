"""Our table beside the published one: `python benchmarks/reproduce.py DATA --name ml-1m`.

A comparison for each backbone of equal sizes, mixed random, the popularity rule, CIESS, marginal allocation and, with
`--ablation`, CIESS from nothing, with other noise and without the random walk, all with the same full model, fidelity
and finish. What is
done is kept under `--cells`: the same command takes up a stopped run. A comparison that is whole is kept as JSON under
`--out`, and made anew when it is deleted; the tables are made of these.
"""

import csv
import dataclasses
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
import tyro
from rich.console import Console

import ciess
from ciess.evaluation.significance import SIGNIFICANT, spelled_p
from ciess.files import write_whole
from ciess.methods.ciess.noise import Noise
from ciess.methods.marginal import Marginal
from ciess.methods.mixed import MixedRandom
from ciess.methods.popularity import Popularity
from ciess.methods.problem import Method
from ciess.progress import ConsoleProgress

PUBLISHED = Path(__file__).with_name("published.csv")
RESULTS = Path(__file__).with_name("results")
PUBLISHED_NAMES = {
    "equal": "ES",
    "mixed random": "MR",
    "mixed-random": "MR",
    "ciess": "CIESS",
    "marginal": "CIESS",
    "pep": "PEP",
    "esapn": "ESAPN",
    "optembed": "OptEmbed",
    "bet": "BET",
}
"""What stands beside our rows in the published tables: Qu et al., SIGIR 2023, Table 1; Qu et al., WSDM 2024 (BET)."""
SHOWN = ("recall@20", "ndcg@20")


@dataclass(frozen=True)
class Measured:
    """What is measured on, and where it is kept."""

    data: tyro.conf.Positional[Path]
    """File or folder of interactions."""
    name: str
    """Name of the data set and of the folder of results."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of split, training and search."""
    out: Path = RESULTS
    """Folder of results."""
    cells: Path = Path("runs/cells")
    """Keeps what is done."""
    threads: int = 2
    """Of PyTorch and faiss."""


@dataclass(frozen=True)
class Reproduce(Measured):
    """Reproduce the published tables."""

    executor: str | None = None
    """processes:N or ray[:ADDRESS] makes what is missing."""
    shard: str | None = None
    """I/N makes the cells of the I-th of N parts, and no tables: the same command without it makes these."""
    merge: tuple[Path, ...] = ()
    """Folders of cells of other shards, taken first; those of other settings, data or code are refused."""

    backbones: tuple[str, ...] = ("lightgcn", "ngcf", "ncf", "mf", "als")
    """Recommenders."""
    budgets: tuple[str, ...] = ("20%", "10%", "5%")
    """Of the bytes of the full tables: 80, 90 and 95 % sparsity."""
    published: str = ""
    """The name of the data set in published.csv, where that is another one."""
    methods: tuple[str, ...] = ()
    """Which of the methods beside equal sizes; all unless given. With a graph, the rule's measurements take longest."""
    ablation: bool = False
    """CIESS from nothing, so with other noise or none, without the random walk, and without the critic's choice, too
    (the first backbone only)."""


def main() -> None:
    """Run the cells that are missing, print the tables."""
    settings = tyro.cli(Reproduce, description="Our table beside the published one.")
    torch.set_num_threads(settings.threads)
    console, folder = Console(width=120), settings.out / settings.name
    if settings.ablation:
        folder /= "ablation"
    for backbone in settings.backbones:
        path = folder / f"reproduce-{backbone}.json"
        if not path.exists():
            console.rule(backbone)
            methods = methods_beside(settings.ablation and backbone == settings.backbones[0])
            with ConsoleProgress(console, seconds_between_lines=60) as progress:
                found = ciess.compare(
                    ciess.read(settings.data),
                    methods={name: methods[name] for name in settings.methods or methods},
                    backbone=backbone,
                    budgets=settings.budgets,
                    seeds=settings.seeds,
                    cells=settings.cells,
                    executor=settings.executor,
                    shard=settings.shard,
                    merge=settings.merge,
                    progress=progress,
                )
            if found.failures:
                raise SystemExit(found.failures[0].error)
            if settings.shard:
                continue
            told = {"commit": commit(), **found.to_dict()}
            write_whole(path, json.dumps(told, indent=1, default=str) + "\n")
    if settings.shard:
        return
    text = report(
        settings.name,
        settings.published or settings.name,
        [json.loads(path.read_text()) for path in sorted(folder.glob("reproduce-*.json"))],
    )
    (folder / "README.md").write_text(text)
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def methods_beside(ablation: bool) -> dict[str, Method]:
    """CIESS and the methods beside it and equal sizes."""
    methods: dict[str, Method] = {
        "mixed random": MixedRandom(),
        "popularity": Popularity(),
        "ciess": ciess.Ciess(),
        "marginal": Marginal(),
    }
    if ablation:
        # From nothing: what starts from a good plan shows less of what finds one.
        methods["from nothing"] = alone = ciess.Ciess(start=None)
        # The same spread as Gaussian noise of σ = 6 sizes has beside a uniform one of ± 11 and OU's σ = 40.
        scale = alone.noise.effective_scale
        for name, changes in {
            "uniform noise": {"noise": Noise("uniform", scale * 11 / 6)},
            "OU noise": {"noise": Noise("ou", scale * 40 / 6)},
            "no noise": {"noise": Noise("none")},
            "no walk": {"walk_length": 0},
            "no critic's choice": {"choice": "actor"},
        }.items():
            methods[name] = dataclasses.replace(alone, **changes)
    return methods


def commit() -> str:
    """The commit of this checkout, with a plus where files have been changed since; empty outside of a checkout."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    return subprocess.run(
        command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    ).stdout.strip()


def published(name: str) -> dict[tuple[str, str, str], dict[str, float]]:
    """Metrics by backbone, method and sparsity."""
    with PUBLISHED.open() as file:
        return {
            (row["backbone"], row["method"], row["sparsity_percent"]): {m: float(row[m]) for m in SHOWN}
            for row in csv.DictReader(file)
            if row["dataset"] == name
        }


def report(name: str, published_as: str, comparisons: list[dict[str, Any]]) -> str:
    """The tables of all comparisons that are kept as Markdown."""
    shown = published(published_as)
    named = "" if published_as == name else f" --published {published_as}"
    lines = [
        f"# {name}",
        "",
        f"`python benchmarks/reproduce.py {name.upper()} --name {name}{named}`. Mean ± standard deviation, on test.",
        "Kept: share of the full model's quality. Over equal sizes: gain in quality. **Bold** is significantly better,",
        f"*slanted* significantly worse (p < {SIGNIFICANT}): a paired t-test over users, whose gains are means over",
        "seeds, corrected after Holm for all methods and budgets of a backbone. Published: the papers' Recall@20 and",
        "NDCG@20 at the same share, float32, of the method that is named.",
        "",
    ]
    for found in comparisons:
        backbone = found["settings"]["backbone"]["name"]
        seeds = ", ".join(map(str, found["settings"]["seeds"]))
        told = f"Seeds {seeds}." + (f" By commit {found['commit']}." if "commit" in found else "")
        lines += [f"## {backbone}", "", told, "", *table(found, backbone, shown), ""]
    return "\n".join(lines)


def table(found: dict[str, Any], backbone: str, shown: Mapping[tuple[str, str, str], dict[str, float]]) -> list[str]:
    """A row for each method and budget."""
    headings = (
        "budget, method, found by, Recall@20, NDCG@20, kept, over equal sizes, p, user size, item size, published"
    )
    rows = ["| " + headings.replace(", ", " | ") + " |", "|---" * 11 + "|"]
    gains = {(gain["method"], gain["budget"]): gain for gain in found["gains"]}
    for line in found["lines"]:
        method, budget = line["method"], line["budget"]
        sparsity = f"{100 - float(budget.rstrip('%')):g}" if budget.endswith("%") else ""
        theirs = PUBLISHED_NAMES.get(method, "")
        known = shown.get((backbone, theirs, sparsity))
        gain = gains.get((method, budget))
        entries = [
            budget,
            method,
            ", ".join(line["found_by"]) if budget else "",
            *(spelled(*line["metrics"][metric], 4) for metric in SHOWN),
            f"{line['kept'][0]:.1%}",
            *(["", ""] if gain is None else [marked(gain["gain"], gain["p_value"]), spelled_p(gain["p_value"])]),
            f"{line['user_size'][0]:.1f}",
            f"{line['item_size'][0]:.1f}",
            f"{theirs} {' / '.join(f'{known[metric]:.4f}' for metric in SHOWN)}" if known else "",
        ]
        rows.append(f"| {' | '.join(entries)} |")
    return rows


def marked(gain: float, p_value: float) -> str:
    """A gain, bold where it is significant, slanted where a loss is."""
    mark = "" if p_value >= SIGNIFICANT or gain == 0 else "**" if gain > 0 else "*"
    return f"{mark}{gain:+z.1%}{mark}"


def spread(values: list[float], digits: int) -> str:
    """Mean ± standard deviation of the values of several seeds."""
    return spelled(mean(values), stdev(values) if len(values) > 1 else None, digits)


def spelled(middle: float, deviation: float | None, digits: int) -> str:
    """Mean ± standard deviation, if there is one."""
    return f"{middle:.{digits}f}" + ("" if deviation is None else f" ± {deviation:.{digits}f}")


if __name__ == "__main__":
    main()
