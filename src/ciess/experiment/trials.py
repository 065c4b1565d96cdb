"""The cells of a comparison: made in this process, or by an executor."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ciess.data import Interactions, Split, split_random
from ciess.errors import InputError
from ciess.evaluation.metrics import Evaluation
from ciess.experiment.bench import Bench
from ciess.experiment.cells import Cells
from ciess.experiment.clock import Clock
from ciess.experiment.finished import Finished
from ciess.experiment.recipe import Recipe
from ciess.methods import method_name, method_names, methods_named, methods_under, separated_methods
from ciess.methods.equal import EqualSizes
from ciess.methods.problem import Method
from ciess.progress import Progress, silent
from ciess.results.comparison import Cell
from ciess.results.outcome import EQUAL, FULL
from ciess.stopping import safe_point
from ciess.tables.budget import Budget
from ciess.tables.plan import SizePlan


def methods_by_name(methods: str | Method | Sequence[str | Method] | Mapping[str, Method]) -> dict[str, Method]:
    """What `compare` is told, equal sizes first.

    Raises:
        InputError: an unknown method, two of one name, or another one under the name of equal sizes.
    """
    if isinstance(methods, Mapping):
        given = [*methods_under(methods).items()]
    else:
        given = []
        several = methods if isinstance(methods, Iterable) and not isinstance(methods, str) else [methods]
        for each in several or method_names(by_default=True):
            if not isinstance(each, str):
                given.append((method_name(each), each))
                continue
            for text in separated_methods(each):
                given += methods_named(text).items()
    names = [name for name, _ in given]
    if len({*names}) < len(names) or FULL in names:
        raise InputError(f"methods are {', '.join(names)}: give each a name of its own, and none '{FULL}'")
    for name, method in given:
        if isinstance(method, type):
            raise InputError(f"method {name} is the class {method.__name__}: give its settings, {method.__name__}()")
        if not callable(getattr(method, "search", None)):
            raise InputError(f"method {name} is of type {type(method).__name__}: give a name, or a method's settings")
        if name == EQUAL and not isinstance(method, EqualSizes):
            raise InputError(f"method {name} is {type(method).__name__}, not equal sizes: give it another name")
    return {EQUAL: EqualSizes(), **dict(given)}


@dataclass(frozen=True)
class Trials:
    """Makes cells of a comparison; sent to another process or machine, it makes one there by seed and method.

    Attributes:
        given: interactions, or a split for all seeds.
        recipe: what all methods share.
        budgets: of the searches.
        folder: keeps cells and full models; None keeps nothing.
        methods: as `compare` takes them: classes of a file are known by its name.
        threads: of PyTorch, whose sums depend on it.
        force: whether to try even what would not fit into the memory that is available.
    """

    given: Interactions | Split
    recipe: Recipe
    budgets: list[Budget]
    folder: Path | None
    methods: Any
    threads: int
    force: bool

    def of(self, seed: int, progress: Progress = silent, clock: Clock | None = None) -> "_Seed":
        """The cells of a seed."""
        return _Seed(self, seed, progress, clock or Clock())

    def __call__(self, seed: int, name: str) -> Cell | str:
        """One cell, or what is wrong with the request itself."""
        torch.set_num_threads(self.threads)
        methods = {} if name == FULL else {name: methods_by_name(self.methods)[name]}
        try:
            return [*self.of(seed).cells(methods)][-1]
        except InputError as error:
            return str(error)


def spread(
    pool: Executor, trials: Trials, wanted: Mapping[int, list[str]], methods: Mapping[str, Method], progress: Progress
) -> list[Cell]:
    """The cells of each seed, made by an executor: methods as soon as their full model is there."""
    runs = {seed: trials.of(seed).kept for seed in wanted}
    all_methods: dict[str, Method | None] = {FULL: None, **methods}
    order = [(seed, name) for seed, names in wanted.items() for name in (FULL, *names)]
    kept = {(seed, name): runs[seed].read(name, all_methods[name]) for seed, name in order}
    found = {key: cell for key, cell in kept.items() if cell is not None}
    jobs: dict[Future[Cell | str], tuple[int, str]] = {}

    def submit(*keys: tuple[int, str]) -> None:
        jobs.update({pool.submit(trials, *key): key for key in keys if key not in found})

    def rest(seed: int) -> list[tuple[int, str]]:
        return [(seed, name) for name in wanted[seed]]

    for seed in wanted:
        submit(*(rest(seed) if (seed, FULL) in found else [(seed, FULL)]))
    while jobs:
        safe_point()
        for job in wait(jobs, timeout=1, return_when=FIRST_COMPLETED).done:
            seed, name = key = jobs.pop(job)
            try:
                made = job.result()
            except InputError:
                # No cell can be made there.
                raise
            except Exception as error:
                made = Cell(name, seed, error=sentence(error))
            if isinstance(made, str):
                raise InputError(made)
            found[key] = made
            progress("cells", len(found), len(order), f"{name}, seed {seed}")
            if not made.error:
                runs[seed].write(made, all_methods[name])
            if name == FULL and not made.error:
                submit(*rest(seed))
            elif name == FULL:
                found |= {each: Cell(each[1], seed, error=made.error) for each in rest(seed) if each not in found}
    # Not before all are made: workers share pieces.
    for run in runs.values():
        run.unfinished().forget()
    return [found[key] for key in order]


class _Seed:
    """All cells of one seed.

    Args:
        trials: what all seeds share.
        seed: of everything.
        progress: told every step.
        clock: told what phase the time goes to.
    """

    def __init__(self, trials: Trials, seed: int, progress: Progress, clock: Clock) -> None:
        self._trials, self.seed, self.progress, self.clock = trials, seed, progress, clock
        given = trials.given
        self.split = given if isinstance(given, Split) else split_random(given, seed=seed)
        self.kept = Cells(trials.folder, self.split, trials.recipe, trials.budgets, seed)
        self._known: dict[tuple[SizePlan, bool], Evaluation] = {}

    @cached_property
    def bench(self) -> Bench:
        """Made when there is something to do."""
        trials, kept = self._trials, (self.kept.full(), self.clock, self.kept.unfinished())
        bench = Bench(self.split, trials.recipe, self.seed, self.progress, *kept, trials.force)
        bench.check(trials.budgets)
        bench.tune()
        return bench

    def cells(self, methods: Mapping[str, Method]) -> Iterator[Cell]:
        """The full model's, then each method's."""
        # All are read first: what is damaged or cannot be kept is refused before anything is trained.
        kept = {name: self.kept.read(name, method) for name, method in {FULL: None, **methods}.items()}
        full = kept[FULL] or self._cell(FULL, None, self._full)
        yield full
        for name, method in methods.items():
            # Without a full model there is nothing to cut.
            yield (
                Cell(name, self.seed, error=full.error)
                if full.error
                else kept[name] or self._cell(name, method, partial(self._searched, name, method, full))
            )

    def _cell(self, name: str, method: Method | None, make: Callable[[], Cell]) -> Cell:
        """What is made now and kept; one that fails is told and tried again the next time."""
        # What is wrong with the request itself is raised here, at once, and for all.
        _ = self.bench
        try:
            cell = make()
        except Exception as error:
            return Cell(name, self.seed, error=sentence(error))
        self.kept.write(cell, method)
        return cell

    def _full(self) -> Cell:
        full = self.bench.full_models
        shown = full.shown()
        if not shown.quality.any():
            raise InputError(
                "the full model ranks no user's test items among its first 20, so there is no quality to keep: "
                "train it longer, or give a test set of items that it knows"
            )
        users = self._by_user(shown)
        row = full.finished.row(FULL, "", shown, shown.quality)
        return Cell(
            FULL, self.seed, [row], {"": users}, trainings=1, seconds=row.seconds, tuning=self.bench.full_models.tuning
        )

    def _searched(self, name: str, method: Method, full: Cell) -> Cell:
        ready = self.bench.prepared(method)
        problem = self.bench.problem(self._trials.budgets)
        found = self.bench.run(name, ready, problem)
        peak = torch.from_numpy(full.quality[""])
        rows, quality, valid = [], {}, {}
        for budget, each in found.best.items():
            finished = each if self.split.test is None else self.bench.followed(each, budget)
            shown = self._shown(finished)
            rows.append(finished.row(name, str(budget), shown, peak[shown.users]))
            quality[str(budget)], valid[str(budget)] = self._by_user(shown), self._by_user(finished.valid)
        effort = found.trainings, found.measurements, found.finishes, found.seconds
        return Cell(name, self.seed, rows, quality, valid, *effort)

    def _shown(self, finished: Finished) -> Evaluation:
        if self.split.test is None:
            return finished.valid
        # Methods that agree on a plan share what it comes to.
        if finished.key not in self._known:
            _, self._known[finished.key] = self.bench.measured(finished)
        return self._known[finished.key]

    def _by_user(self, shown: Evaluation) -> NDArray[np.float32]:
        quality = np.full(self.split.train.n_users, np.nan, dtype=np.float32)
        quality[shown.users.numpy()] = shown.quality.numpy()
        return quality


def sentence(error: Exception) -> str:
    """What went wrong, in one line."""
    told = " ".join(str(error).split())
    return told if isinstance(error, InputError) else f"{type(error).__name__}: {told}".removesuffix(": ")
