"""How well cheap measurements rank plans: `python benchmarks/fidelity.py DATA --name ml-1m`.

30 plans of one budget, equal sizes, mixed random ones and popularity rules drawn at random, are measured on validation
by every fidelity. The table gives Spearman's rank correlation with a whole finish, and with new models of the same
sizes trained to the end (as selective retraining does) for as many of the plans as `--retrained` says.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
import tyro
from rich.console import Console
from scipy.stats import spearmanr

import ciess
from ciess.data import split_random
from ciess.evaluation.metrics import Evaluator
from ciess.files import write_whole
from ciess.methods.equal import EqualSizes
from ciess.methods.fidelity import Fidelity, FineTune, Scratch, Truncate
from ciess.methods.mixed import MixedRandom
from ciess.methods.popularity import Rule, desired_sizes
from ciess.methods.problem import Problem
from ciess.models import BackboneConfig, backbone_named
from ciess.progress import ConsoleProgress, Progress
from ciess.tables.budget import Budget
from ciess.tables.plan import SizePlan
from ciess.train.finish import Finish
from ciess.train.fit import fit
from ciess.train.losses import BPR

RESULTS = Path(__file__).with_name("results")
FINISH, SHORT, RETRAINED = "finish", "scratch, a fifth of the steps", "retrained"

Measured = dict[str, tuple[float, float]]
"""Of plans, by their numbers: quality on validation, and seconds."""
Study = dict[str, Measured]
"""Of all fidelities."""


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
    """Study the backbones, print the table."""
    settings = tyro.cli(FidelityStudy, description="How well cheap measurements rank plans.")
    torch.set_num_threads(settings.threads)
    console, folder = Console(width=120), settings.out / settings.name
    for backbone in settings.backbones:
        console.rule(backbone)
        study(settings, backbone, folder / f"fidelity-{backbone}.json", console)
    paths = sorted(folder.glob("fidelity-*.json"))
    text = report(settings, {path.stem.removeprefix("fidelity-"): json.loads(path.read_text()) for path in paths})
    write_whole(folder / "fidelity.md", text)
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def study(settings: FidelityStudy, name: str, path: Path, console: Console) -> None:
    """Measure every plan by every fidelity; what a file holds already is not measured again."""
    config = backbone_named(name)
    fidelities = compared(settings, config)
    found: Study = json.loads(path.read_text()) if path.exists() else {label: {} for label in fidelities}
    missing = {
        label: [plan for plan in plans if str(plan) not in found[label]] for label, (_, plans) in fidelities.items()
    }
    if not any(missing.values()):
        return
    with ConsoleProgress(console, seconds_between_lines=60) as progress:
        problem = trained(settings, config, progress)
        plans = varied(problem, settings.plans, settings.seed)
        for label, numbers in missing.items():
            for count, number in enumerate(numbers, 1):
                start = time.perf_counter()
                quality = problem.measure(plans[number], fidelities[label][0]).quality
                found[label][str(number)] = quality, time.perf_counter() - start
                write_whole(path, json.dumps(found, indent=1) + "\n")
                progress(label, count, len(numbers))


def compared(settings: FidelityStudy, config: BackboneConfig) -> dict[str, tuple[Fidelity, range]]:
    """The fidelities, and the plans that each measures."""
    everything = range(settings.plans)
    some = everything[:: settings.plans // settings.retrained]
    return {
        "truncate": (Truncate(), everything),
        "truncate and refit": (Truncate(refit_steps=3), everything),
        "finetune": (FineTune(), everything),
        FINISH: (FineTune(Finish.suiting(config)), everything),
        SHORT: (Scratch(config.training.lasting(config.training.steps // 5)), some),
        RETRAINED: (Scratch(), some),
    }


def trained(settings: FidelityStudy, config: BackboneConfig, progress: Progress) -> Problem:
    """A full model, and what plans of it are measured on."""
    split = split_random(ciess.read(settings.data), seed=settings.seed)
    valid = Evaluator(split.train.matrix, split.valid.matrix)
    full = config.build(split.train, settings.seed)
    lesson = full.solver(split.train) or BPR(full, split.train, config.training, settings.seed)
    fit(full, lesson, config.training, valid=valid, seed=settings.seed, phase="full model", progress=progress)
    full.order_dimensions()
    budgets = [Budget.parse(settings.budget)]
    return Problem(full, config, split.train, valid, budgets, Truncate(), settings.seed, progress)


def varied(problem: Problem, count: int, seed: int) -> list[SizePlan]:
    """Equal sizes, a fifth mixed random, the rest popularity rules drawn at random."""
    [budget], rng = problem.budgets, np.random.default_rng(seed)
    plans = [EqualSizes().search(problem).best[budget][0].plan]
    plans += [MixedRandom(seed=seed + n).search(problem).best[budget][0].plan for n in range(count // 5)]
    while len(plans) < count:
        rule = Rule(rng.uniform(-2, 1), rng.uniform(-0.3, 0.6), rng.uniform(-0.2, 1.0))
        plans.append(problem.project(desired_sizes(problem, rule), budget))
    return plans


def report(settings: FidelityStudy, studies: dict[str, Study]) -> str:
    """The table of all studies as Markdown."""
    lines = [
        f"# Fidelities on {settings.name}",
        "",
        f"`python benchmarks/fidelity.py {settings.name.upper()} --name {settings.name}`: {settings.plans} plans of",
        f"{settings.budget} of the bytes, seed {settings.seed}. Spearman's correlation of qualities on validation,",
        "with a finish and with retraining, over plans that both measured; loss: how far the plan that the fidelity",
        "likes best falls behind the best of those that it measured, by a whole finish. Seconds are medians.",
        "",
        "| backbone | fidelity | plans | seconds a plan | with a finish | with retraining | loss |",
        "|---|---|---|---|---|---|---|",
    ]
    for backbone, found in studies.items():
        for label, measured in found.items():
            if not (finish := {plan: found[FINISH][plan][0] for plan in measured.keys() & found[FINISH].keys()}):
                continue
            loss = 1 - finish[max(finish, key=lambda plan: measured[plan][0])] / max(finish.values())
            entries = [
                backbone,
                label,
                str(len(measured)),
                f"{median(seconds for _, seconds in measured.values()):.2f}",
                *(correlation(measured, found[other]) for other in (FINISH, RETRAINED)),
                f"{loss:.1%}",
            ]
            lines.append(f"| {' | '.join(entries)} |")
    return "\n".join([*lines, ""])


def correlation(left: Measured, right: Measured) -> str:
    """Spearman's, over the plans that have both."""
    plans = left.keys() & right.keys()
    if len(plans) < 3:
        return ""
    return f"{spearmanr([left[plan][0] for plan in plans], [right[plan][0] for plan in plans]).statistic:.2f}"


if __name__ == "__main__":
    main()
