"""How well cheap measurements rank plans: `python benchmarks/fidelity.py DATA --name ml-1m`.

30 plans of one budget, equal sizes, mixed random ones and popularity rules drawn at random, are measured on validation
by every fidelity. The table gives Spearman's rank correlation with a whole finish, and with new models of the same
sizes trained to the end (as selective retraining does) for as many of the plans as `--retrained` says.
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
FINISH, RETRAINED = "finish", "retrained"


@dataclass(frozen=True)
class FidelityStudy:
    """Rank 30 plans by every fidelity."""

    data: tyro.conf.Positional[Path]
    """File or folder of interactions."""
    name: str
    """Name of the folder of results."""
    backbones: tuple[str, ...] = ("lightgcn", "ngcf", "ncf", "mf", "als")
    """Recommenders."""
    plans: int = 30
    """How many."""
    retrained: int = 30
    """How many of them, equally far apart, are also retrained to the end: a full training each."""
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
        everything = range(len(plans))
        some = everything[:: len(plans) // settings.retrained]
        fidelities: dict[str, tuple[Fidelity, range]] = {
            "truncate": (Truncate(), everything),
            "truncate and refit": (Truncate(refit_steps=3), everything),
            "finetune": (FineTune(), everything),
            FINISH: (FineTune(Finish.suiting(config)), everything),
            f"scratch, {config.training.steps // 5} steps": (Scratch(config.training.steps // 5), some),
            RETRAINED: (Scratch(), some),
        }
        quality: dict[str, dict[int, float]] = {}
        seconds = {}
        for label, (fidelity, chosen) in fidelities.items():
            start = time.perf_counter()
            quality[label] = {}
            for count, number in enumerate(chosen, 1):
                quality[label][number] = problem.measure(plans[number], fidelity).quality
                progress(label, count, len(chosen))
            seconds[label] = (time.perf_counter() - start) / len(chosen)
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


def report(settings: FidelityStudy, studies: list[dict[str, dict[str, dict[str, float]]]]) -> str:
    """The table of all studies as Markdown."""
    lines = [
        f"# Fidelities on {settings.name}",
        "",
        f"`python benchmarks/fidelity.py {settings.name.upper()} --name {settings.name}`: {settings.plans} plans of",
        f"{settings.budget} of the bytes, seed {settings.seed}. Spearman's correlation of qualities on validation,",
        "with a finish and with retraining, over plans that both measured; loss: how far the plan that the fidelity",
        "likes best falls behind the best of those that it measured, by a whole finish.",
        "",
        "| backbone | fidelity | plans | seconds a plan | with a finish | with retraining | loss |",
        "|---|---|---|---|---|---|---|",
    ]
    for found in studies:
        quality, seconds = found["quality"], found["seconds"]
        for label, values in quality.items():
            finish = {plan: quality[FINISH][plan] for plan in values}
            loss = 1 - finish[max(values, key=lambda plan: values[plan])] / max(finish.values())
            entries = [
                str(found["backbone"]),
                label,
                str(len(values)),
                f"{seconds[label]:.2f}",
                *(f"{correlation(values, quality[other]):.2f}" for other in (FINISH, RETRAINED)),
                f"{loss:.1%}",
            ]
            lines.append(f"| {' | '.join(entries)} |")
    return "\n".join([*lines, ""])


def correlation(left: dict[str, float], right: dict[str, float]) -> float:
    """Spearman's, over the plans that have both."""
    plans = left.keys() & right.keys()
    return float(spearmanr([left[plan] for plan in plans], [right[plan] for plan in plans]).statistic)


if __name__ == "__main__":
    main()
