"""Data that nothing was tuned on, by defaults alone: `python benchmarks/unseen.py DATA`.

For every folder of interactions under DATA and the synthetic set, and every backbone: the full model beside a tuned
peer, ALS and BPR of `implicit`, whose settings are chosen on validation from a grid; and at each budget equal sizes,
the popularity rule and marginal allocation with the best precision for each budget, what `ciess search --precision
auto` gives, peers that code or prune the tables of the same full model, and smaller models, see frontier.py. Nothing
depends on a set's name. What is done is kept under `--cells`, known by all that makes it: the same command goes on
where it was stopped. A set and backbone that is whole is kept as JSON under `--out`, and made anew when it is deleted;
the table is made of these.
"""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
import tyro
from equal_bytes import CHOICE, OURS, TOLD, Cell, EqualBytes, Point, compared, tails
from implicit.als import AlternatingLeastSquares
from implicit.bpr import BayesianPersonalizedRanking
from reproduce import RESULTS, SHOWN, commit, marked, spread
from rich.console import Console
from scipy.sparse import csr_matrix

import ciess
from ciess.data import Interactions, Split, split_random
from ciess.evaluation.metrics import Evaluation, Evaluator, evaluate
from ciess.evaluation.significance import SIGNIFICANT, spelled_p
from ciess.experiment.bench import Bench
from ciess.experiment.executors import executor_named, part_of
from ciess.experiment.keys import canonical, code_of, digest, sources
from ciess.experiment.recipe import Recipe
from ciess.files import write_whole
from ciess.models import BackboneConfig, backbone_named
from ciess.progress import ConsoleProgress, Progress, silent
from ciess.train.checkpoint import Kept

LINES = {name: OURS[name] for name in CHOICE}
"""Precision and method of our lines."""
SYNTHETIC = "synthetic"
FACTORS = 128
GRIDS = {
    "implicit ALS": [
        {"alpha": alpha, "regularization": weight} for alpha, weight in product((1, 4, 16, 64, 256), (0.1, 1, 10, 100))
    ],
    "implicit BPR": [
        {"learning_rate": rate, "regularization": weight}
        for rate, weight in product((0.01, 0.03, 0.1), (0.001, 0.01, 0.1, 0.3))
    ],
}
"""Settings of the tuned peers that are tried."""


@dataclass(frozen=True)
class Unseen:
    """Defaults on data that nothing was tuned on."""

    data: tyro.conf.Positional[Path]
    """A folder of folders of interactions, one for each set."""
    sets: tuple[str, ...] = ()
    """Folders of DATA, and `synthetic`; all unless given."""
    backbones: tuple[str, ...] = ("als", "mf", "lightgcn")
    """Recommenders."""
    budgets: tuple[str, ...] = ("10%", "5%", "2.5%", "1%")
    """Of the bytes of the full tables in float32."""
    seeds: tuple[int, ...] = (0,)
    """Of split, training and search."""
    most_with_graph: int = 2_000_000
    """Interactions above which backbones with a graph, which every step passes over as a whole, are left out."""
    out: Path = RESULTS / "unseen"
    """Folder of results."""
    cells: Path = Path("runs/cells")
    """Keeps the parts that are done."""
    threads: int = 2
    """Of PyTorch, faiss and implicit."""
    executor: str | None = None
    """processes:N or ray[:ADDRESS] makes what is missing, each set and backbone by itself."""
    shard: str | None = None
    """I/N makes the I-th of N parts of the sets and backbones, and no table: the same command without it, where the
    files of all lie under `--out`, makes it."""


def main() -> None:
    """Do what is missing; make the table."""
    settings = tyro.cli(Unseen, description="Defaults on data that nothing was tuned on.")
    console = Console(width=120)
    work = part_of([*product(settings.sets or sets_in(settings.data), settings.backbones)], settings.shard)
    missing = [each for each in work if not _path(settings, *each).exists()]
    if settings.executor:
        with executor_named(settings.executor) as pool:
            jobs = {pool.submit(make, settings, *each): each for each in missing}
            for job in as_completed(jobs):
                console.print(", ".join(jobs[job]), job.exception() or "done", markup=False)
    else:
        for name, backbone in missing:
            console.rule(f"{name}, {backbone}")
            with ConsoleProgress(console, 60) as progress:
                make(settings, name, backbone, progress)
    if settings.shard is None:
        text = report([json.loads(path.read_text()) for path in sorted(settings.out.glob("*.json"))])
        write_whole(settings.out / "README.md", text)
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def make(settings: Unseen, name: str, backbone: str, progress: Progress = silent) -> None:
    """Study a backbone on a set, and keep what it comes to where it fits."""
    torch.set_num_threads(settings.threads)
    found = study(settings, interactions(settings.data, name), backbone, progress)
    if found is not None:
        write_whole(_path(settings, name, backbone), json.dumps({"set": name, **found}, indent=1) + "\n")


def sets_in(folder: Path) -> list[str]:
    """The synthetic set and all folders of a folder."""
    return [SYNTHETIC, *sorted(path.name for path in folder.iterdir() if path.is_dir())]


def interactions(folder: Path, name: str) -> Interactions:
    """A set by its name."""
    return ciess.synthetic().interactions if name == SYNTHETIC else ciess.read(folder / name)


def _tuned(settings: Unseen, split: Split, usual: BackboneConfig, seed: int, progress: Progress) -> BackboneConfig:
    """A backbone's settings on a split, found as a search finds them; kept with the cells."""
    key = digest({"backbone": canonical(usual, "backbone"), "data": canonical(split), "seed": seed, "code": code_of()})
    recipe = Recipe.of(usual, None, "float32", "input", True)
    bench = Bench(split, recipe, seed, progress, Kept(settings.cells, f"tuned-{seed}-{key}"))
    bench.tune()
    return bench.recipe.config


def study(settings: Unseen, data: Interactions, backbone: str, progress: Progress) -> dict[str, Any] | None:
    """A backbone on a set, all seeds; None where it does not fit."""
    usual = backbone_named(backbone)
    cells, full = [], []
    for seed in settings.seeds:
        split = split_random(data, seed=seed)
        if len(data) > settings.most_with_graph and not usual.build(split.train, seed).rows_stand_alone:
            return None
        config = _tuned(settings, split, usual, seed, progress)
        ours = EqualBytes(split, config, None, settings.budgets, seed, settings.cells, progress, LINES)
        cells.append(ours.cell())
        points = [Point(_row("full", "default", ours.full), ours.by_user(ours.full))]
        points += tuned_peers(split, seed, settings.cells, settings.threads, progress)
        full.append(Cell({"seed": seed}, points))
    return {
        "commit": commit(),
        "backbone": backbone,
        "settings": {"budgets": settings.budgets, "seeds": settings.seeds},
        "data": {"users": data.n_users, "items": data.n_items, "interactions": len(data)},
        "full": compared(full, "full"),
        "small": compared(cells),
    }


def tuned_peers(split: Split, seed: int, cells: Path, threads: int, progress: Progress) -> list[Point]:
    """Models of `implicit`: settings chosen on validation, trained anew on train and validation, measured on test."""
    key = [canonical(split), canonical(GRIDS), FACTORS, seed, sources([Path(__file__)])]
    kept = cells / f"implicit-{seed}-{digest(key)}.json"
    if not kept.exists():
        made = [_best_peer(name, split, seed, threads, progress) for name in GRIDS]
        write_whole(kept, json.dumps([{"row": each.row, "users": each.users.tolist()} for each in made]) + "\n")
    return [Point(each["row"], np.array(each["users"])) for each in json.loads(kept.read_text())]


def _best_peer(name: str, split: Split, seed: int, threads: int, progress: Progress) -> Point:
    valid, tried = Evaluator(split.train.matrix, split.valid.matrix), []
    for number, chosen in enumerate(GRIDS[name], 1):
        quality = float(_measured(name, chosen, split.train, valid, seed, threads).quality.mean())
        tried.append((quality, chosen))
        progress(name, number, len(GRIDS[name]), f"best {max(quality for quality, _ in tried):.4f}")
    best = max(tried, key=lambda each: each[0])[1]
    assert split.test is not None
    both = split.train_valid()
    found = _measured(name, best, both, Evaluator(both.matrix, split.test.matrix), seed, threads)
    users = np.full(both.n_users, np.nan)
    users[found.users.numpy()] = found.quality.numpy()
    return Point(_row(name, ", ".join(f"{key} {value:g}" for key, value in best.items()), found), users)


def _measured(
    name: str, chosen: dict[str, float], data: Interactions, evaluator: Evaluator, seed: int, threads: int
) -> Evaluation:
    shared = {"factors": FACTORS, "random_state": seed, **chosen}
    if name == "implicit ALS":
        model = AlternatingLeastSquares(iterations=15, num_threads=threads, **shared)
    else:
        # Threads of BPR write over each other: with one it repeats itself.
        model = BayesianPersonalizedRanking(iterations=100, num_threads=1, **shared)
    model.fit(csr_matrix(data.matrix, dtype=np.float32), show_progress=False)
    return evaluate(ciess.Factors.from_arrays(model.user_factors, model.item_factors).build(data), evaluator)


def _row(method: str, detail: str, found: Evaluation) -> dict[str, Any]:
    return {"method": method, "detail": detail, "budget": "", "metrics": found.means(TOLD)}


def report(found: Sequence[dict[str, Any]]) -> str:
    """The tables of all sets and backbones as Markdown.

    Raises:
        SystemExit: they were made by different settings, such as shards of different commands.
    """
    if len(told := {json.dumps(each["settings"]) for each in found if "settings" in each}) > 1:
        raise SystemExit(f"results of different settings cannot be merged: {' and '.join(sorted(told))}")
    lines = [
        "# Defaults on data that nothing was tuned on",
        "",
        "`python benchmarks/unseen.py DATA`. Test Recall@20 / NDCG@20, mean ± standard deviation over seeds. Over it:",
        "gain in the users' quality, the mean of Recall and NDCG at 5, 10 and 20, of the full model over a tuned peer,",
        "and of what `ciess search --precision auto` gives over the method. **Bold** is significantly better,",
        f"*slanted* significantly worse (p < {SIGNIFICANT}): a paired t-test over users, whose gains are means over",
        "seeds, corrected after Holm for the full models, and for all methods and budgets, of a set and backbone.",
        "Coverage: share of items that anybody is shown among the first 20; tail recall: Recall@20 of the rarest items",
        "that have at most half of the interactions; Gini: how unevenly the first 20 are spread over items.",
        "",
    ]
    for each in found:
        count = each["data"]
        lines += [
            f"## {each['set']}, {each['backbone']}",
            "",
            f"{count['users']:,} users, {count['items']:,} items, {count['interactions']:,} interactions. "
            f"By commit {each['commit']}.",
            "",
            "| budget | method | settings | Recall@20 | NDCG@20 | kept | over it | p | coverage / tail recall / Gini |",
            "|---|---|---|---|---|---|---|---|---|",
            *_lines(each["full"], each["small"]["cells"]),
            *_lines(each["small"], each["small"]["cells"]),
            "",
        ]
    return "\n".join(lines)


def _lines(part: dict[str, Any], cells: list[dict[str, Any]]) -> Iterator[str]:
    """A row for each budget and method; kept is the share of the full model's NDCG@20."""
    gains = {(each["budget"], each["method"]): each for each in part["gains"]}
    rows = [(row, cell["full"]) for own, cell in zip(part["cells"], cells, strict=True) for row in own["rows"]]
    keys = dict.fromkeys((row["budget"], row["method"]) for row, _ in rows)
    # By budget, in the order in which these were asked for.
    order = list(dict.fromkeys(budget for budget, _ in keys))
    for budget, method in sorted(keys, key=lambda key: order.index(key[0])):
        mine = [(row, full) for row, full in rows if (row["budget"], row["method"]) == (budget, method)]
        gain = gains.get((budget, method))
        entries = [
            budget,
            method,
            mine[0][0]["detail"],
            *(spread([row["metrics"][metric] for row, _ in mine], 4) for metric in SHOWN),
            f"{mean(row['metrics']['ndcg@20'] / full['ndcg@20'] for row, full in mine):.1%}",
            *([marked(gain["gain"], gain["p_value"]), spelled_p(gain["p_value"])] if gain else ["", ""]),
            tails([row["metrics"] for row, _ in mine]),
        ]
        yield f"| {' | '.join(entries)} |"


def _path(settings: Unseen, name: str, backbone: str) -> Path:
    return settings.out / f"{name}-{backbone}.json"


if __name__ == "__main__":
    main()
