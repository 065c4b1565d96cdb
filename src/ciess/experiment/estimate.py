"""What a search would take, before anything is trained: bytes exactly where they are known, memory and time roughly."""

import dataclasses
import math
import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
import polars as pl

from ciess.checks import Within, check
from ciess.data import Interactions
from ciess.errors import InputError
from ciess.evaluation.metrics import Evaluator, evaluate
from ciess.experiment.room import Memory, memory_of
from ciess.experiment.users import measured_users, tested_users
from ciess.methods.marginal import FOLLOWING, STARTS, Marginal
from ciess.models import BackboneConfig
from ciess.serve.seen import type_of_items
from ciess.tables.budget import Budget
from ciess.tables.layout import equal_bytes
from ciess.tables.plan import SizePlan, TableShape
from ciess.tables.precision import Precision
from ciess.train.finish import Finish, finish
from ciess.train.fit import fit
from ciess.train.losses import BPR, share_drawn

_FINISHES = 2
"""Plans finished for each budget, equal sizes among them."""
_Counted = Annotated[int, Within(1, 10**12)]
_ROWS_PROBED, _INTERACTIONS_PROBED = 12_000, 200_000
"""Of the small sets on which steps are timed."""


@dataclass(frozen=True)
class Packed:
    """The largest equal size that a budget allows in one precision.

    Attributes:
        budget: as written.
        limit: bytes that both tables may take.
        precision: how numbers are stored.
        size: the largest equal size, numbers a row; 0 where not even one fits.
        table_bytes: of both tables at that size, as stored.
    """

    budget: str
    limit: int
    precision: str
    size: int
    table_bytes: int


@dataclass(frozen=True)
class Seconds:
    """Time on this machine while nothing else runs on it, very roughly.

    Attributes:
        training: the full model, if validation never stops it early; and again on all data.
        search: of the default method.
        finish: of the plans that were found.
        test: ranking all users.
    """

    training: float
    search: float
    finish: float
    test: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.training + self.search + self.finish + self.test


@dataclass(frozen=True)
class Estimate:
    """What a search would take.

    Attributes:
        table_bytes: of both full tables in float32.
        optimiser_bytes: of Adam's moments; 0 where nothing descends.
        packed: what fits each budget in each precision.
        beside_bytes: of what a saved model keeps beside its tables: interactions, and ids that are whole numbers.
        memory: while it runs.
        seconds: None where time was not asked for.
    """

    table_bytes: int
    optimiser_bytes: int
    packed: list[Packed]
    beside_bytes: int
    memory: Memory
    seconds: Seconds | None


def estimate(
    n_users: int,
    n_items: int,
    interactions: int,
    config: BackboneConfig,
    budgets: Sequence[str | Budget] = ("20%", "10%", "5%"),
    *,
    seconds: bool = True,
) -> Estimate:
    """Estimate a search by the default method.

    Args:
        n_users: how many.
        n_items: how many.
        interactions: how many, before they are split.
        config: settings of the backbone.
        budgets: limits on the bytes of both tables.
        seconds: time a few steps on small random data of the same proportions, which takes some seconds.

    Raises:
        InputError: something that is no budget, or one above the full tables; counts that are not from 1 to 10¹², or
            more interactions than pairs of a user and an item.
    """
    for name, count in (("n_users", n_users), ("n_items", n_items), ("interactions", interactions)):
        check(name, count, _Counted)
    if interactions > n_users * n_items:
        raise InputError(
            f"{interactions:,} interactions are more than the {n_users * n_items:,} pairs of a user and an item, "
            "each of which counts once: give as many at most"
        )
    shape = TableShape(n_users, n_items, config.dim)
    tiny = _random(40, 30, 200)
    model = config.build(tiny, 0)
    descends = config.training.steps > 0 and model.solver(tiny) is None
    wanted = [Budget.parse(budget) for budget in budgets]
    return Estimate(
        shape.full_bytes,
        2 * shape.full_bytes if descends else 0,
        [_packed(budget, shape, precision) for budget in wanted for precision in Precision],
        _beside(shape, interactions),
        memory_of(shape, interactions, model, descends),
        _seconds(shape, interactions, config, len(wanted)) if seconds else None,
    )


def _packed(budget: Budget, shape: TableShape, precision: Precision) -> Packed:
    limit = budget.within(shape)
    size = bisect_right(range(1, shape.dim + 1), limit, key=lambda size: equal_bytes(shape, size, precision))
    return Packed(str(budget), limit, precision.value, size, equal_bytes(shape, size, precision) if size else 0)


def _beside(shape: TableShape, interactions: int) -> int:
    """Offsets of the users, an item for each interaction, the items by popularity, and two numbers for each id.

    See `SeenItems` and `RowIds`.
    """
    item = type_of_items(shape.n_items).itemsize
    offset = 4 if interactions < 2**31 else 8
    return (shape.n_users + 1) * offset + (interactions + shape.n_items) * item + shape.rows * 8


def _seconds(shape: TableShape, interactions: int, config: BackboneConfig, budgets: int) -> Seconds:
    """Times of single steps on two small sets, drawn on to the wanted size, times how many there are."""
    scale = max(1.0, shape.rows / _ROWS_PROBED, interactions / _INTERACTIONS_PROBED)
    near, far = (_Probe(shape, interactions, config, scale * by) for by in (1.0, 2.0))
    model, recipe = near.model, Finish.suiting(config)

    def at_full_size(small: float, smaller: float) -> float:
        # A part of a step is the same for any size, the other grows with it.
        growing = max(0.0, small - smaller) * 2 * scale
        return max(0.0, small - growing / scale) + growing

    step = at_full_size(near.training_step, far.training_step)
    share = share_drawn(shape.n_users, shape.n_items, recipe.training)
    finish_step = distillation_step(near.steps, far.steps[0], shape.rows, share**2 * shape.n_users * shape.n_items)
    users = min(shape.n_users, measured_users(shape.n_items))
    ranking = near.seconds_a_score * users * shape.n_items
    steps = recipe.training.steps * (max(1.0, recipe.share / share) if model.rows_stand_alone else 1.0)
    method = Marginal()
    # A plan follows the full model that has learned more, too.
    rounds, starts = method.rounds + FOLLOWING, STARTS + 1
    learned = (rounds + starts / 2) * method.steps * steps / recipe.training.steps
    # Each look at all rows is as many draws as it takes, each about two steps.
    looked = rounds * 2 * method.looks / share * 2
    # Each is finished on train, by two whole runs mostly, and built with validation; one of them is built with test.
    # What is built learns on.
    runs = 2 * _FINISHES + (_FINISHES + 1) * (2 if config.training.steps else 1)
    return Seconds(
        training=4 / 3 * config.training.steps * step + config.training.steps / config.training.eval_every * ranking,
        search=budgets * ((learned + looked) * finish_step + ranking),
        finish=budgets * (runs * steps * finish_step + 5 * _FINISHES * ranking),
        test=(2 * budgets + 1) * near.seconds_a_score * min(shape.n_users, tested_users(shape.n_items)) * shape.n_items,
    )


class Step(NamedTuple):
    """A timed step of distillation: seconds, the rows of both tables, and the scores that it draws."""

    seconds: float
    rows: int
    scores: float


def distillation_step(near: tuple[Step, Step], far: Step, rows: int, scores: float) -> float:
    """Seconds of a step on tables of so many rows that draws so many scores.

    A part of a step goes with the scores, a part with the rows, a part with neither. Scores do not grow with rows where
    a step draws as many as a recipe says, so that neither can be told from the other by tables of two sizes alone.

    Args:
        near: two steps on the same tables, the second of fewer scores.
        far: a step on smaller tables, if there are any.
        rows: of both tables.
        scores: drawn in a step.
    """
    many, few = near
    a_score = max(0.0, many.seconds - few.seconds) / (many.scores - few.scores)
    beside = [max(0.0, step.seconds - a_score * step.scores) for step in (few, far)]
    a_row = max(0.0, beside[0] - beside[1]) / max(1, few.rows - far.rows)
    return a_score * scores + a_row * rows + max(0.0, beside[0] - a_row * few.rows)


class _Probe:
    """Times of steps on a small random set of the same proportions.

    Attributes:
        model: of the backbone, hardly trained.
        training_step: seconds of a step of the full model's training; 0 where there is none.
        steps: of distillation, as the recipe says and with a quarter of the scores.
        seconds_a_score: of ranking, for each user and item.
    """

    def __init__(self, shape: TableShape, interactions: int, config: BackboneConfig, scale: float) -> None:
        n_users, n_items = max(50, round(shape.n_users / scale)), max(50, round(shape.n_items / scale))
        data = _random(n_users, n_items, round(min(interactions / scale, n_users * n_items / 4)))
        # Tables trained elsewhere are read from files of other sizes: any two tables take as long.
        self.model = config.build(data, 0)
        clock = _Clock()
        if config.training.steps:
            # As many triplets for each row as in a step at full size.
            triplets = max(1, round(config.training.triplets(shape.rows) / scale))
            training = dataclasses.replace(config.training, steps=3, batch_size=triplets)
            fit(self.model, self.model.solver(data) or BPR(self.model, data, training, 0), training, progress=clock)
        self.training_step = clock.fastest
        plan = SizePlan.equal(TableShape(n_users, n_items, config.dim), max(1, config.dim // 10))
        short = dataclasses.replace(Finish.suiting(config).lasting(3), refit_steps=1)
        drawn = share_drawn(n_users, n_items, short.training) ** 2 * n_users * n_items
        self.steps = self._timed(plan, short, drawn), self._timed(plan, short, drawn / 4)
        users = np.arange(min(n_users, 500))
        evaluator = Evaluator(data.matrix, data.matrix, users=users)
        start = _worked()
        evaluate(self.model, evaluator)
        self.seconds_a_score = (_worked() - start) / (len(users) * n_items)

    def _timed(self, plan: SizePlan, settings: Finish, scores: float) -> Step:
        clock, training = _Clock(), dataclasses.replace(settings.training, batch_size=max(1, round(scores)))
        finish(self.model, plan, dataclasses.replace(settings, training=training), seed=0, progress=clock)
        return Step(clock.fastest, plan.shape.rows, scores)


def _worked() -> float:
    """Seconds that this thread had a core: it takes part in all that PyTorch does, and other programs do not count."""
    return time.thread_time()


class _Clock:
    """The shortest time between two steps: the first ones also prepare, others may have been disturbed."""

    def __init__(self) -> None:
        self._last, self._best = 0.0, math.inf

    def __call__(self, phase: str, done: int, total: int, note: str = "") -> None:
        """See `Progress`."""
        now = _worked()
        if done > 1:
            self._best = min(self._best, now - self._last)
        self._last = now

    @property
    def fastest(self) -> float:
        """Seconds; 0 where no step was timed."""
        return self._best if math.isfinite(self._best) else 0.0


def _random(n_users: int, n_items: int, interactions: int) -> Interactions:
    """Every user with an item at least, popular and rare items."""
    rng = np.random.default_rng(0)
    users = np.concatenate([np.arange(n_users), rng.integers(n_users, size=max(0, interactions - n_users))])
    items = (n_items * rng.random(len(users)) ** 2).astype(np.int64)
    return Interactions.from_pairs(users, items, pl.Series(np.arange(n_users)), pl.Series(np.arange(n_items)))
