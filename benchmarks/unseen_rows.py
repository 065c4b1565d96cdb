"""A search on a sample of rows beside searches on all: `python benchmarks/unseen_rows.py DATA`.

Users are sampled with the items that they touch. What is found there becomes a policy, which sizes all rows. Beside it
stand searches on all rows. A comparison as any: equal sizes too, one finish for all, test after all choices.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from reproduce import table
from rich.console import Console

import ciess
from ciess.experiment.compare import compare
from ciess.methods import methods_named
from ciess.methods.problem import Method
from ciess.methods.sample import Sampled
from ciess.progress import ConsoleProgress


@dataclass(frozen=True)
class UnseenRows:
    """Size rows that no search has seen."""

    data: tyro.conf.Positional[Path]
    """File or folder of interactions."""
    backbones: tuple[str, ...] = ("als", "mf")
    """Recommenders whose rows stand alone."""
    methods: tuple[str, ...] = ("popularity", "marginal")
    """On all rows, and on a sample."""
    budgets: tuple[str, ...] = ("5%",)
    """Of the bytes of the full tables."""
    seeds: tuple[int, ...] = (0,)
    """Of split, training, sample and search."""
    share: float = 0.15
    """Of the users that are searched."""
    threads: int = 2
    """Of PyTorch."""
    tune: bool = True
    """Tune the full models."""
    out: Path | None = None
    """Folder for a JSON file for each backbone, and for what is done."""


def main() -> None:
    """Compare, print the tables."""
    settings = tyro.cli(UnseenRows, description="Sizes of rows that no search has seen.")
    torch.set_num_threads(settings.threads)
    console, data = Console(width=120), ciess.read(settings.data)
    whole: dict[str, Method] = {}
    for each in settings.methods:
        whole |= methods_named(each)
    parts = {f"{name} on {settings.share:.0%}": Sampled(each, settings.share) for name, each in whole.items()}
    for backbone in settings.backbones:
        with ConsoleProgress(console, seconds_between_lines=60) as progress:
            found = compare(
                data,
                methods={**whole, **parts},
                backbone=backbone,
                budgets=settings.budgets,
                seeds=settings.seeds,
                tune=settings.tune,
                progress=progress,
            )
        if found.failures:
            raise SystemExit(found.failures[0].error)
        if settings.out:
            settings.out.mkdir(parents=True, exist_ok=True)
            (settings.out / f"{backbone}.json").write_text(json.dumps(found.to_dict(), indent=1) + "\n")
        text = "\n".join([f"## {backbone}", "", *table(found.to_dict(), backbone, {}), ""])
        console.print(text, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
