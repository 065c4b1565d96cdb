"""Compare methods: the same split, full model, recipe and fidelity for all; every cell kept, so that a run goes on."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from ciess.checks import Seed, check
from ciess.data import Split
from ciess.data.interactions import InteractionsLike
from ciess.errors import InputError
from ciess.experiment.clock import Clock
from ciess.experiment.comparison import Comparison
from ciess.experiment.executors import check_executor, executor_named, part_of
from ciess.experiment.given import learned, matched
from ciess.experiment.pipeline import parsed_budgets
from ciess.experiment.recipe import Recipe, Target, TestUsers
from ciess.experiment.settings import described, surroundings
from ciess.experiment.spelling import spelled_call
from ciess.experiment.trials import Trials, methods_by_name, spread
from ciess.experiment.users import tested
from ciess.files import given_path
from ciess.methods.problem import Method
from ciess.models import BackboneConfig
from ciess.progress import Progress, silent
from ciess.results.comparison import Cell
from ciess.results.outcome import FULL, on_sample
from ciess.tables.budget import Budget
from ciess.tables.precision import Precision
from ciess.train.finish import Finish


def compare(
    data: "InteractionsLike | Split",
    *,
    methods: str | Method | Sequence[str | Method] | Mapping[str, Method] = (),
    backbone: str | BackboneConfig = "lightgcn",
    budgets: str | Budget | Sequence[str | Budget] = ("20%", "10%", "5%"),
    seeds: int | Sequence[int] = (0,),
    finishing: Finish | None = None,
    precision: str | Precision = Precision.FLOAT32,
    target: Target = "input",
    tune: bool | None = None,
    test_users: TestUsers = "sample",
    force: bool = False,
    cells: str | Path | None = None,
    executor: str | None = None,
    shard: str | None = None,
    merge: Sequence[str | Path] = (),
    progress: Progress = silent,
) -> Comparison:
    """Compare methods under the same conditions, beside equal sizes and the full model.

    For each seed the full model is trained once. Every method searches by itself, its candidates get the same finish,
    the best on validation for each budget is finished anew on all data, and measured once on test.

    Args:
        data: as `ciess.search` takes it; interactions are split by each seed.
        methods: names, files as `mine.py:Mine`, or settings, one or several; a mapping gives names of your own. None
            given: all methods of the package. Equal sizes are always among them.
        backbone: a name, or a backbone's settings.
        budgets: limits on the bytes of both tables as stored, one or several.
        seeds: one or several, of split, training and searches, whatever the methods say.
        finishing: the final training of size plans.
        precision: how parameters are stored; `auto` takes for each budget the one that is best for equal sizes.
        target: what is packed: `input`, the tables that are learned, or `output`, the final vectors that are scored.
        tune: whether the full model's decisive settings are tuned on validation first, but for those that differ from
            the backbone's defaults; None tunes a backbone that is given by its name.
        test_users: whose test interactions are measured: `all`, or a `sample` of 20,000 or more where ranking all items
            for all users would take minutes.
        force: whether to try even what would not fit into the memory that is available.
        cells: a folder that keeps what is done: the same call goes on where another one ended, and later methods train
            no full model again. What is kept is known by data, settings, seed, code and versions: what other code made
            is not read. None keeps nothing.
        executor: where cells are made: `processes:N`, N at a time on this machine, or `ray[:ADDRESS]`; each with as
            many threads as this process has, so that they are the same. One whose process is lost is told as one that
            fails. None makes all in this process.
        shard: `i/n` makes the i-th of n parts of the cells alone, to be kept and merged; the result holds no others.
        merge: folders of cells that other shards have kept, to be copied to `cells` first.
        progress: told every step.

    Raises:
        InputError: a budget that cannot be met, no or equal budgets or seeds, a seed below 0, an unknown method,
            backbone, precision, target or executor, two methods of one name, settings that cells cannot be known by,
            cells to be merged that were made by other settings, data, code or versions, or a folder that cannot be
            written. What goes wrong in a method is told in the result, and the others go on.
    """
    clock = Clock()
    wanted, recipe = parsed_budgets(budgets), Recipe.of(backbone, finishing, precision, target, tune, test_users)
    chosen, seeds = methods_by_name(methods), checked_seeds(seeds)
    call = spelled_call(
        compare,
        "data",
        methods=methods,
        backbone=backbone,
        budgets=tuple(map(str, wanted)),
        seeds=seeds,
        finishing=finishing,
        precision=str(precision),
        target=target,
        tune=tune,
        test_users=test_users,
        cells=None if cells is None else str(cells),
    )
    check_executor(executor)
    check("progress", progress, Callable)
    if cells is None and (shard or merge):
        raise InputError("a shard and what is merged are kept as cells: name a folder for cells")
    units = part_of([(seed, name) for seed in seeds for name in chosen], shard)
    wanted_of = {seed: [name for each, name in units if each == seed] for seed in seeds}
    given, cautions = matched(data, recipe.config)
    found: list[Cell] = []

    def told(phase: str, done: int, total: int, note: str = "") -> None:
        progress(f"{len(found) + 1}/{len(units) + len({seed for seed, _ in units})} {phase}", done, total, note)

    with ExitStack() as stack:
        # Workers share full models by files.
        kept = stack.enter_context(TemporaryDirectory()) if executor and cells is None else cells
        folder = None if kept is None else given_path("cells", kept)
        trials = Trials(given, recipe, wanted, folder, methods, torch.get_num_threads(), force)
        for seed in seeds if merge else ():
            cells_of_seed = trials.of(seed).kept
            for other in merge:
                cells_of_seed.take(given_path("merge", other), {FULL: None, **chosen})
        if executor is None:
            for seed in filter(wanted_of.get, seeds):
                run = trials.of(seed, told, clock)
                for cell in run.cells({name: chosen[name] for name in wanted_of[seed]}):
                    found.append(cell)  # noqa: PERF402 - progress counts them as they come
                # What the cells were made of is needed no more.
                run.kept.unfinished().forget()
        else:
            pool = stack.enter_context(executor_named(executor))
            found += spread(pool, trials, {seed: names for seed, names in wanted_of.items() if names}, chosen, progress)
    split = trials.of(seeds[-1]).split
    measured = tested(split.test, test_users)
    cautions += [] if isinstance(given, Split) else learned(recipe.config)
    about = {
        "call": call,
        "cautions": [*cautions, *(on_sample(**measured) if measured else [])],
        "seeds": list(seeds),
        "budgets": [str(budget) for budget in wanted],
        **recipe.described(),
        "methods": {name: described(method) for name, method in chosen.items()},
        **surroundings(split),
    }
    return Comparison(found, "validation" if split.test is None else "test", about, clock.seconds())


def checked_seeds(given: int | Sequence[int]) -> tuple[int, ...]:
    """What `compare` is told.

    Raises:
        InputError: no seeds, one twice, or something that is none.
    """
    seeds = tuple(check("seed", seed, Seed) for seed in (given if isinstance(given, Iterable) else (given,)))
    if not seeds or len({*seeds}) < len(seeds):
        raise InputError("seeds must be given, each once: for example 0 1 2")
    return seeds
