"""Compare methods: the same split, full model, recipe and fidelity for all; every cell kept, so that a run goes on."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ciess.checks import Seed, check
from ciess.data import Split, split_random
from ciess.errors import InputError
from ciess.evaluation.metrics import Evaluation
from ciess.experiment.bench import Bench, tested
from ciess.experiment.cells import Cells
from ciess.experiment.clock import Clock
from ciess.experiment.comparison import Comparison
from ciess.experiment.finished import Finished
from ciess.experiment.given import learned, matched
from ciess.experiment.pipeline import parsed_budgets
from ciess.experiment.recipe import Recipe, Target, TestUsers
from ciess.experiment.settings import described, surroundings
from ciess.experiment.spelling import spelled_call
from ciess.methods import method_name, method_names, methods_named
from ciess.methods.equal import EqualSizes
from ciess.methods.problem import Method
from ciess.models import BackboneConfig
from ciess.progress import Progress, silent
from ciess.results.comparison import Cell
from ciess.results.outcome import EQUAL, FULL, on_sample
from ciess.tables.budget import Budget
from ciess.tables.plan import SizePlan
from ciess.tables.precision import Precision
from ciess.train.finish import Finish

if TYPE_CHECKING:
    from ciess.data.interactions import InteractionsLike


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
        progress: told every step.

    Raises:
        InputError: a budget that cannot be met, no or equal budgets or seeds, a seed below 0, an unknown method,
            backbone, precision or target, two methods of one name, settings that cells cannot be known by, or a folder
            that cannot be written. What goes wrong in a method is told in the result, and the others go on.
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
    found: list[Cell] = []

    def told(phase: str, done: int, total: int, note: str = "") -> None:
        progress(f"{len(found) + 1}/{len(seeds) * (1 + len(chosen))} {phase}", done, total, note)

    given, cautions = matched(data, recipe.config)
    for seed in seeds:
        split = given if isinstance(given, Split) else split_random(given, seed=seed)
        kept = None if cells is None else Path(cells)
        for cell in _Seed(split, recipe, wanted, seed, kept, told, clock, force).cells(chosen):
            found.append(cell)  # noqa: PERF402 - progress counts them as they come
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


def methods_by_name(methods: str | Method | Sequence[str | Method] | Mapping[str, Method]) -> dict[str, Method]:
    """What `compare` is told, equal sizes first.

    Raises:
        InputError: an unknown method, or two of one name.
    """
    if isinstance(methods, Mapping):
        given = list(methods.items())
    else:
        given = []
        several = methods if isinstance(methods, Iterable) and not isinstance(methods, str) else [methods]
        for each in several or method_names(by_default=True):
            given += methods_named(each).items() if isinstance(each, str) else [(method_name(each), each)]
    names = [name for name, _ in given]
    if len({*names}) < len(names) or FULL in names:
        raise InputError(f"methods are {', '.join(names)}: give each a name of its own, and none '{FULL}'")
    return {EQUAL: EqualSizes(), **dict(given)}


class _Seed:
    """All cells of one seed.

    Args:
        split: what everything is measured on.
        recipe: what all methods share.
        budgets: of the searches.
        seed: of everything.
        folder: keeps cells and full models; None keeps nothing.
        progress: told every step.
        clock: told what phase the time goes to.
        force: whether to try even what would not fit into the memory that is available.
    """

    def __init__(
        self,
        split: Split,
        recipe: Recipe,
        budgets: list[Budget],
        seed: int,
        folder: Path | None,
        progress: Progress,
        clock: Clock,
        force: bool,
    ) -> None:
        self.split, self.recipe, self.budgets, self.seed, self.progress = split, recipe, budgets, seed, progress
        self.clock, self._force = clock, force
        self.kept = Cells(folder, split, recipe, budgets, seed)
        self._known: dict[tuple[SizePlan, bool], Evaluation] = {}

    @cached_property
    def bench(self) -> Bench:
        """Made when there is something to do."""
        bench = Bench(
            self.split,
            self.recipe,
            self.seed,
            self.progress,
            self.kept.full(),
            self.clock,
            self.kept.unfinished(),
            self._force,
        )
        bench.check(self.budgets)
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
        # What the cells were made of is needed no more.
        self.kept.unfinished().forget()

    def _cell(self, name: str, method: Method | None, make: Callable[[], Cell]) -> Cell:
        """What is made now and kept; one that fails is told and tried again the next time."""
        # What is wrong with the request itself is raised here, at once, and for all.
        _ = self.bench
        try:
            cell = make()
        except Exception as error:
            return Cell(name, self.seed, error=_sentence(error))
        self.kept.write(cell, method)
        return cell

    def _full(self) -> Cell:
        full = self.bench.full_models
        shown = full.shown()
        users = self._by_user(shown)
        row = full.finished.row(FULL, "", shown, _mean(users))
        return Cell(
            FULL, self.seed, [row], {"": users}, trainings=1, seconds=row.seconds, tuning=self.bench.full_models.tuning
        )

    def _searched(self, name: str, method: Method, full: Cell) -> Cell:
        ready = self.bench.prepared(method)
        problem = self.bench.problem(self.budgets, getattr(ready, "fidelity", None))
        found = self.bench.run(name, ready, problem)
        peak = _mean(full.quality[""])
        rows, quality = [], {}
        for budget, finished in found.best.items():
            shown = self._shown(finished)
            rows.append(finished.row(name, str(budget), shown, peak))
            quality[str(budget)] = self._by_user(shown)
        effort = found.trainings, found.measurements, found.finishes, found.seconds
        return Cell(name, self.seed, rows, quality, *effort)

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


def _mean(quality: NDArray[np.float32]) -> float:
    return float(np.nanmean(quality, dtype=np.float64))


def _sentence(error: Exception) -> str:
    """What went wrong, in one line."""
    told = " ".join(str(error).split())
    return told if isinstance(error, InputError) else f"{type(error).__name__}: {told}".removesuffix(": ")
