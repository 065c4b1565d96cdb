"""The tuned full model beside a grid of settings: `python benchmarks/grids.py DATA`.

For every folder of interactions under DATA and the synthetic set, and every backbone: the full model whose settings are
tuned as `ciess search` tunes them, and the best of a grid of 30 settings around the defaults, all trained alike; the
best on validation is measured on test. What is done is kept under `--cells`: the same command goes on where it was
stopped.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import torch
import tyro
from reproduce import RESULTS, commit
from rich.console import Console
from unseen import interactions, sets_in

from ciess.data import Split, split_random
from ciess.experiment.bench import Bench
from ciess.experiment.keys import canonical, code_of, digest
from ciess.experiment.recipe import Recipe
from ciess.files import write_whole
from ciess.models import BackboneConfig, backbone_named
from ciess.progress import ConsoleProgress, Progress, silent
from ciess.train.checkpoint import Kept, State

FACTORS = ((1 / 9, 1 / 3, 1, 3, 9), (1 / 9, 1 / 3, 1, 3, 9, 27))
"""By which the defaults of a backbone's two tuned settings are multiplied."""
METRIC = "ndcg@20"


@dataclass(frozen=True)
class Grids:
    """The tuned full model beside a grid of settings."""

    data: tyro.conf.Positional[Path]
    """A folder of folders of interactions, one for each set."""
    sets: tuple[str, ...] = ()
    """Folders of DATA, and `synthetic`; all unless given."""
    backbones: tuple[str, ...] = ("als", "mf", "lightgcn")
    """Recommenders."""
    seed: int = 0
    """Of split and training."""
    out: Path = RESULTS / "grids"
    """Folder of results."""
    cells: Path = Path("runs/cells")
    """Keeps what is done."""
    threads: int = 2
    """Of PyTorch."""


def main() -> None:
    """Train what is missing; make the table."""
    settings = tyro.cli(Grids, description="The tuned full model beside a grid of settings.")
    torch.set_num_threads(settings.threads)
    console = Console(width=120)
    for name, backbone in product(settings.sets or sets_in(settings.data), settings.backbones):
        path = settings.out / f"{name}-{backbone}.json"
        if not path.exists():
            console.rule(f"{name}, {backbone}")
            split = split_random(interactions(settings.data, name), seed=settings.seed)
            with ConsoleProgress(console, 60) as progress:
                found = studied(split, backbone_named(backbone), settings.seed, settings.cells, progress)
            told = {"set": name, "backbone": backbone, "seed": settings.seed, "commit": commit(), **found}
            write_whole(path, json.dumps(told, indent=1) + "\n")
    text = report([json.loads(path.read_text()) for path in sorted(settings.out.glob("*.json"))])
    write_whole(settings.out / "README.md", text)
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def grid(config: BackboneConfig) -> Iterator[dict[str, float]]:
    """Values of a backbone's tuned settings around its defaults."""
    for factors in product(*FACTORS):
        pairs = zip(config.tuned, factors, strict=True)
        yield {name: float(f"{config.setting(name) * factor:.3g}") for name, factor in pairs}


def studied(
    split: Split, config: BackboneConfig, seed: int, cells: Path, progress: Progress = silent
) -> dict[str, Any]:
    """What the tuned model and the best of the grid come to on validation and test."""
    total = prod(map(len, FACTORS))
    trials = []
    for number, values in enumerate(grid(config), 1):
        trials.append({"settings": values, **_measured(split, config.changed(**values), False, seed, cells)})
        best = max(trials, key=lambda trial: float(trial["valid"]))
        progress("grid", number, total, f"best {best['valid']:.4f}")
    tuned = _measured(split, config, True, seed, cells)
    beside = _measured(split, config.changed(**best["settings"]), False, seed, cells, test=True)
    return {"tuned": tuned, "best": {**best, **beside}, "grid": trials}


def _measured(
    split: Split, config: BackboneConfig, tune: bool, seed: int, cells: Path, test: bool = False
) -> dict[str, Any]:
    """A full model on validation, and on test after it learned validation."""

    def made() -> State:
        bench = Bench(split, Recipe.of(config, None, "float32", "input", tune), seed)
        bench.tune()
        told: dict[str, Any] = {"valid": bench.full_models.finished.valid[METRIC]}
        if test or tune:
            told["test"] = bench.full_models.shown()[METRIC]
        return State({**told, **({"settings": bench.full_models.tuning.get("chosen", {})} if tune else {})}, {})

    data = canonical(split)
    key = digest({"backbone": canonical(config, "backbone"), "data": data, "tune": tune, "test": test, "seed": seed})
    return dict(Kept(cells, f"grid-{seed}-{key}-{code_of('report', 'exports', 'cli')}").once(made, always=True).told)


def report(found: list[dict[str, Any]]) -> str:
    """The table of all sets and backbones as Markdown."""
    lines = [
        "# The tuned full model beside a grid of settings",
        "",
        "`python benchmarks/grids.py DATA`. NDCG@20 on validation / test of the full model as `ciess search` tunes it,",
        "and of the best on validation of 30 settings, five times six values around the defaults.",
        "",
        "| set | backbone | tuned | settings | best of the grid | settings | tuned over it | seed | by commit |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for each in found:
        tuned, best = each["tuned"], each["best"]
        gains = " / ".join(f"{tuned[part] / best[part] - 1:+.1%}" for part in ("valid", "test"))
        entries = [each["set"], each["backbone"], _spelled(tuned), _settings(tuned), _spelled(best), _settings(best)]
        lines.append(f"| {' | '.join([*entries, gains, str(each['seed']), each['commit']])} |")
    return "\n".join(lines) + "\n"


def _spelled(one: dict[str, Any]) -> str:
    return f"{one['valid']:.4f} / {one['test']:.4f}"


def _settings(one: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in one["settings"].items()) or "defaults"


if __name__ == "__main__":
    main()
