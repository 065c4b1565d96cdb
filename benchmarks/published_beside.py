"""Published cells beside ours: `python benchmarks/published_beside.py runs/compare --name ml-1m`.

Reads the `comparison.json` that `ciess compare` wrote into a folder, and writes `published.md` beside it. A published
cell stands beside our line of the same method at the largest of our budgets that keeps no more numbers: methods that
cannot be told a budget were published at whatever sparsity they came to. Of several such cells a line has the nearest.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import tyro
from reproduce import PUBLISHED_NAMES, SHOWN, published
from rich.console import Console

from ciess.files import write_whole

TOLERATED = -0.05
"""A rival further below its published number is treated as a fault of ours until shown otherwise."""


@dataclass(frozen=True)
class PublishedBeside:
    """Put published cells beside ours."""

    folder: tyro.conf.Positional[Path]
    """Where `ciess compare` wrote its tables."""
    name: str
    """Name of the data set in published.csv."""


class Pair(NamedTuple):
    """A published cell and ours beside it; both have the metrics of `SHOWN`."""

    method: str
    budget: str
    sparsity: str
    ours: list[float]
    published: list[float]

    @property
    def differences(self) -> list[float]:
        """Of ours from what is published, as shares of that."""
        return [mine / theirs - 1 for mine, theirs in zip(self.ours, self.published, strict=True)]


def pairs(comparison: dict[str, Any], name: str) -> list[Pair]:
    """Every published cell of a data set that a comparison, as `comparison.json` has it, has a line for."""
    backbone = comparison["settings"]["backbone"]["name"]
    known = sorted(published(name).items(), key=lambda cell: float(cell[0][2]))
    found: dict[tuple[str, str], Pair] = {}
    for method in dict.fromkeys(line["method"] for line in comparison["lines"]):
        shares = {
            float(line["budget"].rstrip("%")): line
            for line in comparison["lines"]
            if line["method"] == method and line["budget"].endswith("%")
        }
        # Settings stand behind a method's name.
        wanted = backbone, PUBLISHED_NAMES.get(method.partition(":")[0])
        for (*of, sparsity), metrics in known:
            within = [share for share in shares if share <= 100 - float(sparsity)]
            if (*of,) == wanted and within:
                line = shares[max(within)]
                ours = [line["metrics"][metric][0] for metric in SHOWN]
                theirs = [metrics[metric] for metric in SHOWN]
                found[method, line["budget"]] = Pair(method, line["budget"], sparsity, ours, theirs)
    return [*found.values()]


def report(comparison: dict[str, Any], name: str) -> str:
    """The pairs as Markdown."""
    found, told = pairs(comparison, name), comparison["settings"]
    seeds = ", ".join(map(str, told["seeds"]))
    below = [f"{each.method} at {each.budget}" for each in found if min(each.differences) < TOLERATED]
    lines = [
        f"# Published cells beside ours: {name}, {told['backbone']['name']}",
        "",
        f"Ours: mean over seeds {seeds}, on {comparison['shown']}. Published at: the share of numbers that was pruned.",
        "Ours keeps no more, its index included. Splits, full models and finishes differ.",
        "",
        "| method | budget | published at | Recall@20 | published | difference | NDCG@20 | published | difference |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for each in found:
        entries = [each.method, each.budget, f"{each.sparsity} %"]
        for mine, theirs, difference in zip(each.ours, each.published, each.differences, strict=True):
            entries += [f"{mine:.4f}", f"{theirs:.4f}", f"{difference:+.1%}"]
        lines.append(f"| {' | '.join(entries)} |")
    lines += ["", f"More than {-TOLERATED:.0%} below: {', '.join(below) or 'none'}.", ""]
    return "\n".join(lines)


def main() -> None:
    """Read, pair, write, print."""
    settings = tyro.cli(PublishedBeside, description="Published cells beside ours.")
    text = report(json.loads((settings.folder / "comparison.json").read_text()), settings.name)
    write_whole(settings.folder / "published.md", text)
    Console(width=120).print(text, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
