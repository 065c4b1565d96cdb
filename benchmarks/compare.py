"""`ciess compare` with what suits a data set: `python benchmarks/compare.py DATA --name gowalla --backbone lightgcn`.

Where `recipes.py` has nothing for a data set, `ciess compare` on the command line comes to the same. Cells are kept
under `runs/`: the same command goes on where it was stopped. The tables are written into `benchmarks/results/`.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from recipes import recipe_of
from reproduce import RESULTS
from rich.console import Console

import ciess
from ciess.experiment.compare import compare
from ciess.progress import ConsoleProgress


@dataclass(frozen=True)
class Compare:
    """Compare methods by the recipe of a data set."""

    data: tyro.conf.Positional[Path]
    """File or folder of interactions."""
    name: str
    """Name of the data set in recipes.py, and of the folder of results."""
    backbone: str = "lightgcn"
    """The recommender."""
    methods: tuple[str, ...] = ()
    """All unless given."""
    budgets: tuple[str, ...] = ("20%", "10%", "5%")
    """Of the bytes of the full tables."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of split, training and search."""
    out: Path = RESULTS
    """Folder of results."""
    cells: Path = Path("runs/cells")
    """Keeps what is done."""
    threads: int = 2
    """Of PyTorch."""


def main() -> None:
    """Run the cells that are missing, write the tables."""
    settings = tyro.cli(Compare, description=__doc__)
    torch.set_num_threads(settings.threads)
    config, finishing = recipe_of(settings.name, settings.backbone)
    console = Console(width=120)
    with ConsoleProgress(console, seconds_between_lines=60) as progress:
        comparison = compare(
            ciess.read(settings.data),
            methods=settings.methods,
            backbone=config,
            budgets=settings.budgets,
            seeds=settings.seeds,
            finishing=finishing,
            cells=settings.cells,
            progress=progress,
        )
    for path in comparison.save(settings.out / settings.name / f"compare-{settings.backbone}"):
        console.print(f"wrote {path}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
