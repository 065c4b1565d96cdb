"""How well cheap measurements rank plans: `python benchmarks/fidelity.py DATA --name ml-1m`.

30 plans of one budget, equal sizes, mixed random ones and popularity rules drawn at random, are measured on validation
by every fidelity. The table gives Spearman's rank correlation with a whole finish, and with new models of the same
sizes trained to the end (as selective retraining does) for backbones named by `--retrained`.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from rich.console import Console
from scipy.stats import spearmanr

import ciess
from ciess.backbones import backbone_named
from ciess.data import split_random
from ciess.evaluation import Evaluator
from ciess.fidelity import Fidelity, FineTune, Scratch, Truncate
from ciess.finishing import Finish
from ciess.losses import BPR
from ciess.methods.equal import EqualSizes
from ciess.methods.mixed import MixedRandom
from ciess.methods.popularity import Rule, desired_sizes
from ciess.methods.problem import Problem
from ciess.progress import ConsoleProgress
from ciess.tables.budget import Budget
from ciess.tables.plan import SizePlan
from ciess.training import fit

RESULTS = Path(__file__).with_name("results")
RETRAINED = "retrained"


@dataclass(frozen=True)
class FidelityStudy:
    """Rank 30 plans by every fidelity."""

    data: tyro.conf.Positional[Path]
    """File or folder of interactions."""
    name: str
    """Name of the folder of results."""
    backbones: tuple[str, ...] = ("lightgcn", "ngcf", "ncf", "mf", "als")
    """Recommenders."""
    retrained: tuple[str, ...] = ("mf", "als")
    """Recommenders whose plans are also retrained to the end, which takes a full training for each plan."""
    plans: int = 30
    """How many."""
    budget: str = "10%"
    """Of all plans."""
    seed: int = 0
    """Of split, training and plans."""
    out: Path = RESULTS
    """Folder of results."""
    threads: int = 2
    """Of PyTorch."""


def main() -> None:
    """Study the backbones that are missing, print the table."""
    settings = tyro.cli(FidelityStudy, description="How well cheap measurements rank plans.")
    torch.set_num_threads(settings.threads)
    console, folder = Console(width=120), settings.out / settings.name
    folder.mkdir(parents=True, exist_ok=True)
    for backbone in settings.backbones:
        path = folder / f"fidelity-{backbone}.json"
        if not path.exists():
            console.rule(backbone)
            found = study(settings, backbone, console)
            path.write_text(json.dumps(found, indent=1) + "\n")
    text = report(settings, [json.loads(path.read_text()) for path in sorted(folder.glob("fidelity-*.json"))])
    (folder / "fidelity.md").write_text(text)
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def study(settings: FidelityStudy, name: str, console: Console) -> dict[str, object]:
    """Quality and seconds of every plan by every fidelity."""
    split = split_random(ciess.read(settings.data), seed=settings.seed)
    config, budget = backbone_named(name), Budget.parse(settings.budget)
    valid = Evaluator(split.train.matrix, split.valid.matrix)
    with ConsoleProgress(console, seconds_between_lines=60) as progress:
        full = config.build(split.train, settings.seed)
        lesson = full.solver(split.train) or BPR(full, split.train, config.training, settings.seed)
        fit(full, lesson, config.training, valid=valid, seed=settings.seed, phase="full model", progress=progress)
        full.order_dimensions()
        problem = Problem(full, config, split.train, valid, [budget], Truncate(), settings.seed)
        plans = varied(problem, budget, settings.plans, settings.seed)
        fidelities: dict[str, Fidelity] = {
            "truncate": Truncate(),
            "truncate and refit": Truncate(refit_steps=3),
            "finetune": FineTune(),
            "finish": FineTune(Finish.suiting(config)),
        }
        if name in settings.retrained:
            fidelities[f"scratch, {config.training.steps // 5} steps"] = Scratch(config.training.steps // 5)
            fidelities[RETRAINED] = Scratch()
        quality: dict[str, list[float]] = {}
        seconds = {}
        for label, fidelity in fidelities.items():
            start = time.perf_counter()
            quality[label] = []
            for number, plan in enumerate(plans, 1):
                quality[label].append(problem.measure(plan, fidelity).quality)
                progress(label, number, len(plans))
            seconds[label] = (time.perf_counter() - start) / len(plans)
    return {"backbone": name, "budget": settings.budget, "quality": quality, "seconds": seconds}


def varied(problem: Problem, budget: Budget, count: int, seed: int) -> list[SizePlan]:
    """Equal sizes, a fifth mixed random, the rest popularity rules drawn at random."""
    rng = np.random.default_rng(seed)
    plans = [EqualSizes().search(problem).best[budget][0].plan]
    plans += [MixedRandom(seed=seed + n).search(problem).best[budget][0].plan for n in range(count // 5)]
    while len(plans) < count:
        rule = Rule(rng.uniform(-2, 1), rng.uniform(-0.3, 0.6), rng.uniform(-0.2, 1.0))
        plans.append(problem.project(desired_sizes(problem, rule), budget))
    return plans


def report(settings: FidelityStudy, studies: list[dict[str, dict[str, list[float]]]]) -> str:
    """The table of all studies as Markdown."""
    lines = [
        f"# Fidelities on {settings.name}",
        "",
        f"`python benchmarks/fidelity.py {settings.name.upper()} --name {settings.name}`: {settings.plans} plans of",
        f"{settings.budget} of the bytes, seed {settings.seed}. Spearman's correlation of qualities on validation,",
        "with a finish and with retraining; loss: how far the plan that the fidelity likes best falls behind the best",
        "one, by a whole finish.",
        "",
        "| backbone | fidelity | seconds a plan | with a finish | with retraining | loss |",
        "|---|---|---|---|---|---|",
    ]
    for found in studies:
        quality, seconds = found["quality"], found["seconds"]
        finish = np.array(quality["finish"])
        for label, values in quality.items():
            retrained = f"{correlation(values, quality[RETRAINED]):.2f}" if RETRAINED in quality else ""
            loss = 1 - finish[int(np.argmax(values))] / finish.max()
            entries = [found["backbone"], label, f"{seconds[label]:.2f}", f"{correlation(values, finish):.2f}"]
            lines.append(f"| {' | '.join(map(str, entries))} | {retrained} | {loss:.1%} |")
    return "\n".join([*lines, ""])


def correlation(left: list[float], right: list[float]) -> float:
    """Spearman's."""
    return float(spearmanr(left, right).statistic)


if __name__ == "__main__":
    main()
