"""Streams: interactions come in segments of time, each tested before it is learned; sizes grow and shrink."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ciess.checks import Positive, Seed, check
from ciess.data import Interactions, Split, interactions_of
from ciess.data.columns import rows_of
from ciess.data.interactions import InteractionsLike
from ciess.errors import InputError
from ciess.experiment.bench import Bench
from ciess.experiment.cells import Known
from ciess.experiment.full import Full
from ciess.experiment.keys import canonical, digest
from ciess.experiment.recipe import Recipe
from ciess.experiment.trials import methods_by_name, sentence
from ciess.files import given_path
from ciess.methods.marginal import Marginal
from ciess.methods.problem import Method
from ciess.models import BackboneConfig
from ciess.progress import Progress, silent
from ciess.tables.budget import Budget
from ciess.tables.plan import SizePlan
from ciess.tables.precision import Precision
from ciess.train.checkpoint import NOTHING, Kept, State
from ciess.train.finish import Finish

T = TypeVar("T")

RETRAINED = "retrain"
METRICS = ("recall@20", "ndcg@20")
_BEGINNING = 0.5
"""The share of all interactions that comes before the first segment."""


@dataclass(frozen=True)
class SegmentRow:
    """What one method comes to on one segment, by what was learned before it.

    Attributes:
        segment: its number, from 1.
        method: its name.
        metrics: Recall@20 and NDCG@20 of the users who were there before; items that were not count as missed.
        interactions: of the segment.
        new_users: how many users the segment brings.
        new_items: how many items it brings.
        table_bytes: of both tables when the segment began.
        limit: the budget's bytes then.
        grown: share of the rows that were there before the last segment and have more dimensions since.
        shrunk: share of those that have fewer.
        seconds: of search, finish and building, and of the full model where it is trained for this method alone; what
            an earlier run has kept takes next to none.
        error: why there is nothing of all this; empty where there is.
    """

    segment: int
    method: str
    metrics: dict[str, float] = field(default_factory=dict)
    interactions: int = 0
    new_users: int = 0
    new_items: int = 0
    table_bytes: int = 0
    limit: int = 0
    grown: float = 0.0
    shrunk: float = 0.0
    seconds: float = 0.0
    error: str = ""


def stream(
    data: "InteractionsLike",
    *,
    methods: Mapping[str, Method],
    backbone: str | BackboneConfig = "mf",
    budget: str | Budget = "10%",
    segments: int = 5,
    retrain: bool = True,
    finishing: Finish | None = None,
    precision: str | Precision = Precision.FLOAT32,
    seed: int = 0,
    kept: str | Path | None = None,
    progress: Progress = silent,
) -> list[SegmentRow]:
    """Let small models go along with a stream: what comes in each segment of time is tested, then learned.

    The first half of the interactions is there at the beginning, the rest comes in segments of as many each. Before a
    segment a method chooses sizes and its model is made by what has been learned; the latest segment learned is
    validation, on which choices are made. The full model goes on from the segment before: rows of known users and
    items are kept, new ones begin as the backbone begins them, and it trains for half as long. Budgets such as `5%` are
    of tables that grow with the users and items that are known, so rows must shrink for others to come.

    Args:
        data: with times; as `ciess.search` takes it.
        methods: searches by their names. One that fails before a segment is told so, and tried again before the next.
        backbone: a name, tuned once at the beginning, or a backbone's settings.
        budget: on the bytes of both tables, met before every segment.
        segments: how many.
        retrain: whether marginal allocation on a full model that is trained from nothing before each segment, the
            limit of what can be had, stands beside them as `retrain`.
        finishing: how plans are brought to their best.
        precision: how parameters are stored.
        seed: of training and searches.
        kept: a folder that keeps what is done: the same call goes on where another one was stopped, and comes to the
            same. None keeps nothing.
        progress: told every step.

    Returns:
        a row for each segment and method.

    Raises:
        InputError: no times, too few interactions for so many segments, or a budget that cannot be met. What goes wrong
            in a method is told in its row, and the others go on.
    """
    seed, limit = check("seed", seed, Seed), Budget.parse(budget)
    check("segments", segments, Positive)
    check("retrain", retrain, bool)
    check("methods", methods, Mapping)
    check("progress", progress, Callable)
    if retrain and RETRAINED in methods:
        raise InputError(f"methods name {RETRAINED}, as the limit beside them: give another name, or retrain=False")
    known_methods, folder = methods_by_name(methods), None if kept is None else given_path("kept", kept)
    data = interactions_of(data)
    recipe = Recipe.of(backbone, finishing, precision, "input", None)
    rows: list[SegmentRow] = []
    runs = {name: _Run(name, known_methods[name], limit) for name in methods}
    if retrain:
        runs[RETRAINED] = _Run(RETRAINED, Marginal(), limit)
    before: Full | None = None
    first: Interactions | None = None
    pieces = NOTHING
    for number, (train, valid, coming) in enumerate(_steps(data, segments), 1):

        def told(phase: str, done: int, total: int, note: str = "", number: int = number) -> None:
            progress(f"{number}/{segments} {phase}", done, total, note)

        known = train.union(valid).k_core(1)
        split = Split(*(part.over(known.user_ids, known.item_ids) for part in (train, valid)))
        if first is None:
            if folder is not None:
                # The first split does not tell how the rest is cut.
                pieces = Known(split, recipe, seed).unfinished(folder).within(digest([canonical(data), segments]))
            bench = _bench(split, recipe, seed, told, pieces)
            bench.check([limit])
            bench.tune()
            recipe, first = dataclasses.replace(bench.recipe, tune=False), split.train
        grown = dataclasses.replace(recipe, config=recipe.config.on_more(split.train, first))
        anew = _bench(split, grown, seed, told, pieces.within(number, "anew"))
        resumed = pieces.within(number, "resumed")
        going = anew if before is None else _resumed(split, grown, seed, told, resumed, before)
        full = _tried(partial(going.full_models.on, 2))
        for name, run in runs.items():
            bench = anew if name == RETRAINED else going
            tried = partial(run.segment, number, bench, coming)
            row = full if isinstance(full, str) and bench is going else _tried(tried)
            rows.append(SegmentRow(number, name, error=row) if isinstance(row, str) else row)
        before = before if isinstance(full, str) else full
    return rows


def _tried(work: Callable[[], T]) -> T | str:
    """What work comes to, or what went wrong, in one line."""
    try:
        return work()
    except Exception as error:
        return sentence(error)


def _bench(split: Split, recipe: Recipe, seed: int, progress: Progress, kept: Kept) -> Bench:
    return Bench(split, recipe, seed, progress, kept.within("full"), kept=kept)


def _steps(data: Interactions, segments: int) -> Iterator[tuple[Interactions, Interactions, Interactions]]:
    """For each segment what is learned before it, the latest part of that, and the segment."""
    if data.times is None:
        raise InputError("no times are known, by which a stream is cut: name their column, time=NAME")
    if segments > len(data):
        raise InputError(f"{segments} segments are too many for {len(data):,} interactions: take fewer")
    shares = np.linspace(_BEGINNING, 1, segments + 1)
    # The beginning has a latest part, too: of as many interactions as a segment, and no more than half of it.
    shares = np.concatenate([[max(2 * shares[0] - shares[1], shares[0] / 2)], shares])
    ordered = np.sort(data.times)
    cuts = ordered[(shares[:-1] * len(ordered)).astype(int)]
    part = np.searchsorted(cuts, data.times, side="right")
    counts = np.bincount(part, minlength=len(shares))
    if not counts.all():
        raise InputError(
            f"the interactions are of {len(np.unique(ordered)):,} times, too few for {segments} segments of as many: "
            "take fewer, or give finer times"
        )
    begun = np.full(data.n_users, len(shares))
    np.minimum.at(begun, data.users, part)
    of_known = np.bincount(part[part > begun[data.users]], minlength=len(shares))[2:]
    if not of_known.all():
        number = int(np.argmin(of_known)) + 1
        remedy = "take fewer segments, or data of users who come again"
        raise InputError(f"segment {number} has no user who is known before it: {remedy}")
    for number in range(2, len(shares)):
        yield data.take(part < number - 1), data.take(part == number - 1), data.take(part == number)


def _resumed(split: Split, recipe: Recipe, seed: int, progress: Progress, kept: Kept, before: Full) -> Bench:
    """A bench whose full model goes on from an earlier one's rows and weights."""
    config = recipe.config.changed(steps=-(-recipe.config.training.steps // 2))
    bench = _bench(split, dataclasses.replace(recipe, config=config), seed, progress, kept)
    bench.full_models.resume(before)
    return bench


@dataclass
class _Run:
    """One method along the stream."""

    name: str
    method: Method
    budget: Budget
    _plan: SizePlan | None = None
    _data: Interactions | None = None
    _carried: State | None = None

    def segment(self, number: int, bench: Bench, coming: Interactions) -> SegmentRow:
        """Choose by what is known, then test on what comes."""
        start = sum(bench.clock.seconds().values())
        with_own = bench.prepared(self.method)
        problem = bench.problem([self.budget])
        problem.carried = self._carried
        searched = bench.run(self.name, with_own, problem)
        self._carried = searched.carried
        chosen = bench.followed(searched.best[self.budget], self.budget)
        model, known = bench.built(chosen), bench.full_models.on(2).data
        seconds = sum(bench.clock.seconds().values()) - start
        grown, shrunk = self._changed(chosen.plan, known)
        brought = coming.k_core(1)
        row = SegmentRow(
            segment=number,
            method=self.name,
            metrics=model.evaluate(_of_users_of(known, coming)).means(METRICS),
            interactions=len(coming),
            new_users=int((known.user_rows(brought.user_ids) < 0).sum()),
            new_items=int((known.item_rows(brought.item_ids) < 0).sum()),
            table_bytes=model.table_bytes,
            limit=self.budget.limit(chosen.plan.shape),
            grown=grown,
            shrunk=shrunk,
            seconds=seconds,
        )
        if row.table_bytes > row.limit:
            raise InputError(f"{self.name} exceeds {self.budget} before segment {number}")
        self._plan, self._data = chosen.plan, known
        return row

    def _changed(self, plan: SizePlan, data: Interactions) -> tuple[float, float]:
        """Shares of the rows that were there and have more, and fewer, dimensions than before."""
        if self._plan is None or self._data is None:
            return 0.0, 0.0
        changes = []
        for side in ("user", "item"):
            rows = rows_of(getattr(data, f"{side}_ids"), getattr(self._data, f"{side}_ids"))
            now, then = (getattr(each, f"{side}_sizes").astype(int) for each in (plan, self._plan))
            changes.append(now[rows] - then)
        change = np.concatenate(changes)
        return float((change > 0).mean()), float((change < 0).mean())


def _of_users_of(known: Interactions, coming: Interactions) -> Interactions:
    """What comes of users who are known."""
    return coming.take(known.user_rows(coming.user_ids)[coming.users] >= 0).k_core(1)


def table_of(rows: Sequence[SegmentRow]) -> list[dict[str, Any]]:
    """Each method over all segments: mean metrics, the largest share of the budget that was taken, seconds.

    One that failed before a segment is left out: its means would be of other segments.
    """
    found, failed = [], {row.method for row in rows if row.error}
    for name in dict.fromkeys(row.method for row in rows if row.method not in failed):
        mine = [row for row in rows if row.method == name]
        means = {metric: float(np.mean([row.metrics[metric] for row in mine])) for metric in METRICS}
        most = max(row.table_bytes / row.limit for row in mine)
        seconds = sum(row.seconds for row in mine)
        found.append({"method": name, **means, "most_of_budget": most, "seconds": seconds})
    return found
