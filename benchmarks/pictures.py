"""Pictures of docs/methods.md: `python benchmarks/pictures.py DATA/ml-1m`.

Each method searches once; of the plan that it finds best by its own measurements, mean sizes are drawn against
popularity. A picture that is there already is not made again.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from matplotlib.axes import Axes
from numpy.typing import NDArray
from rich.console import Console

import ciess
from ciess.data import split_random
from ciess.experiment.bench import Bench
from ciess.experiment.recipe import Recipe
from ciess.files import write_whole
from ciess.methods import method_named, method_names
from ciess.progress import ConsoleProgress
from ciess.report.figures import Line, paint_sizes
from ciess.report.measures import sizes_by_popularity
from ciess.report.svg import drawn
from ciess.tables.budget import Budget
from ciess.tables.plan import SizePlan

SIDES = (Line("users", "accent", "o"), Line("items", "equal", "s"))
GROUPS = 12
"""Of like popularity, a side."""
HEIGHT = 220
"""In pixels."""


@dataclass(frozen=True)
class Pictures:
    """Draw a plan of every method."""

    data: tyro.conf.Positional[Path]
    """File or folder of interactions."""
    backbone: str = "mf"
    """The recommender."""
    budget: str = "5%"
    """Of the plans."""
    seed: int = 0
    """Of split, training and searches."""
    out: Path = Path(__file__).parents[1] / "docs" / "methods"
    """Folder of pictures."""
    threads: int = 2
    """Of PyTorch."""


def main() -> None:
    """Draw the pictures that are missing."""
    settings = tyro.cli(Pictures, description="Draw a plan of every method.")
    torch.set_num_threads(settings.threads)
    missing = [name for name in method_names(by_default=True) if not (settings.out / f"{name}.svg").exists()]
    if not missing:
        return
    split, budget = split_random(ciess.read(settings.data), seed=settings.seed), Budget.parse(settings.budget)
    settings.out.mkdir(parents=True, exist_ok=True)
    with ConsoleProgress(Console(width=120), 60) as progress:
        recipe = Recipe.of(settings.backbone, None, "float32", "input", False)
        bench = Bench(split, recipe, settings.seed, progress)
        for name in missing:
            problem = bench.problem([budget])
            best = bench.prepared(method_named(name)).search(problem).best[budget][0]
            popularity = problem.popularity
            write_whole(settings.out / f"{name}.svg", picture(name, best.plan, popularity))


def picture(name: str, plan: SizePlan, popularity: tuple[NDArray[np.int64], NDArray[np.int64]]) -> str:
    """An SVG of the mean sizes of users and items of like popularity."""
    sides = zip((plan.user_sizes, plan.item_sizes), popularity, strict=True)
    lines = dict(zip(SIDES, (sizes_by_popularity(*side, GROUPS) for side in sides), strict=True))

    def paint(axes: Axes) -> None:
        paint_sizes(axes, lines, plan.dim)
        axes.set_xlabel("interactions of the user or item")
        axes.legend(loc="best")

    return drawn(f"plan-{name}", paint, HEIGHT)


if __name__ == "__main__":
    main()
