"""The loop that trains tables which lie on several processes: what is kept of them, measured, and gone back to."""

import math
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor, nn

from ciess.errors import InputError
from ciess.evaluation.metrics import QUALITY_METRICS, Evaluator
from ciess.models.base import Training
from ciess.progress import Progress
from ciess.stopping import Stopped, asked, safe_point
from ciess.tables.mask import prefix_mask
from ciess.tables.packed import rounded
from ciess.tables.plan import SizePlan
from ciess.train.adam import Adam
from ciess.train.finish import lost_to_kept
from ciess.train.fit import Fitted, Record
from ciess.train.held_tables import SMALLEST_SCALE
from ciess.train.shards import Checkpoint, Side, total

Tables = tuple[nn.Parameter, nn.Parameter]
"""This process' rows of users and of items."""


@dataclass(frozen=True)
class Lesson:
    """What takes a step of all processes' tables.

    Attributes:
        step: takes it, by its number from 1.
        adam: takes it where it descends.
        generator: of draws, in the same state on all processes.
    """

    step: Callable[[int], None]
    adam: Adam | None = None
    generator: torch.Generator | None = None


class PlanPart:
    """This process' part of what a plan keeps.

    Args:
        plan: of all rows.
        sides: users and items.
    """

    def __init__(self, plan: SizePlan, sides: Sequence[Side]) -> None:
        self._plan = plan
        self._sizes = [sizes[side.own] for side, sizes in zip(sides, (plan.user_sizes, plan.item_sizes), strict=True)]
        self._masks = [prefix_mask(sizes, plan.max_size) for sizes in self._sizes]

    def of(self, tables: Tables) -> list[tuple[Tensor, Tensor]]:
        """Each table and what the plan keeps of it."""
        return list(zip(tables, self._masks, strict=True))

    @torch.no_grad()
    def cut(self, tables: Tables) -> None:
        """Zero what the plan does not keep."""
        for table, mask in self.of(tables):
            table.mul_(mask)

    @torch.no_grad()
    def stored(self, tables: Tables) -> list[Tensor]:
        """Tables, of any width, as the plan stores them."""
        pairs = zip(tables, self._sizes, strict=True)
        return [
            torch.from_numpy(rounded(table.detach().numpy(), sizes, self._plan.precision)) for table, sizes in pairs
        ]

    @torch.no_grad()
    def scales(self, full: Tables) -> list[float]:
        """What learning rates count in: the root mean square of what the plan keeps of each table."""
        width = self._plan.max_size
        sums = [
            total(torch.stack([(table[:, :width].square() * mask).sum().double(), mask.sum().double()]))
            for table, mask in self.of(full)
        ]
        return [max(SMALLEST_SCALE, float((kept / count).sqrt())) for kept, count in sums]

    @torch.no_grad()
    def distance(self, full: Tables) -> float:
        """See `ciess.train.finish`."""
        lost = 0.0
        for table, stored in zip(full, self.stored(full), strict=True):
            squares = [each.square().sum().double() for each in (table - stored, table)]
            gone, there = total(torch.stack(squares)).tolist()
            lost += gone / there / 2 if there else 0.0
        return lost_to_kept(lost)


class ShardedEvaluator:
    """Full ranking against one held-out set, each process for its own users. All must call it together.

    Args:
        sides: users and items.
        seen: (n_users, n_items) items left out of the rankings, in one matrix or in several.
        truth: (n_users, n_items) held-out items.
        users: rows to measure; None measures all.

    Raises:
        InputError: no user has held-out items.
    """

    def __init__(
        self,
        sides: Sequence[Side],
        seen: Sequence[csr_array],
        truth: csr_array,
        users: NDArray[np.integer] | None = None,
    ) -> None:
        own, self._items = sides[0].own, sides[1]
        measured = np.arange(own.start, own.stop) if users is None else np.sort(users)
        first, last = np.searchsorted(measured, [own.start, own.stop])
        rows = measured[first:last] - own.start
        here = truth[own]
        rows = rows[np.diff(here.indptr)[rows] > 0]
        self._evaluator = Evaluator(sum(each[own] for each in seen), here, users=rows) if len(rows) else None
        self._count = int(total(torch.tensor(len(rows))))
        if not self._count:
            raise InputError("no user has held-out items: nothing can be measured")

    def means(self, tables: Sequence[Tensor]) -> dict[str, float]:
        """The mean over all users of `quality` and of each of its metrics, the same on all processes."""
        users, items = (table.detach() for table in tables)
        items = self._items.look_up(items, torch.arange(self._items.rows))
        sums = torch.zeros(1 + len(QUALITY_METRICS), dtype=torch.float64)
        if self._evaluator is not None:
            found = self._evaluator(lambda rows: users[rows] @ items.T)
            each = [found.quality, *(found.per_user(metric) for metric in QUALITY_METRICS)]
            sums = torch.stack([values.double().sum() for values in each])
        return dict(zip(("quality", *QUALITY_METRICS), (total(sums) / self._count).tolist(), strict=True))


class _Best:
    """The best state on validation so far."""

    def __init__(self, tables: Tables, valid: ShardedEvaluator, plan: PlanPart | None) -> None:
        self._tables, self._valid, self._plan = tables, valid, plan
        self.kept = [table.detach().clone() for table in tables]
        self.record = Record()
        self.told = self._told()
        """The record as a checkpoint keeps it; not a number stands for None."""

    def _told(self) -> Tensor:
        fields = [math.nan if each is None else float(each) for each in astuple(self.record)]
        return torch.tensor(fields, dtype=torch.float64)

    def restore(self) -> None:
        """Take the record that a checkpoint kept."""
        quality, step, misses, before, gain, diverged = self.told.tolist()
        none = [None if math.isnan(each) else each for each in (quality, before)]
        self.record = Record(none[0], int(step), int(misses), none[1], gain, bool(diverged))

    @torch.no_grad()
    def measure(self, step: int) -> None:
        stored = list(self._tables) if self._plan is None else self._plan.stored(self._tables)
        if total(torch.tensor(sum(int((~each.isfinite()).sum()) for each in stored))):
            self.record.broken(step)
        elif self.record.note(step, self._valid.means(stored)["quality"]):
            for kept, table in zip(self.kept, stored, strict=True):
                kept.copy_(table)
        self.told.copy_(self._told())

    @torch.no_grad()
    def take(self) -> None:
        """Go back to it."""
        for table, kept in zip(self._tables, self.kept, strict=True):
            table.copy_(kept)


def _state(sides: Sequence[Side], tables: Tables, lesson: Lesson, best: _Best) -> dict[str, Tensor]:
    """All that steps change, where it lies: whatever is read into it is in use."""
    state = {"told": best.told}
    for at, (side, table, kept) in enumerate(zip(sides, tables, best.kept, strict=True)):
        parts = {"table": table.detach(), "best": kept}
        if lesson.adam is not None:
            parts |= {"exp_avg": lesson.adam.means[at], "exp_avg_sq": lesson.adam.squares[at]}
        state |= {f"{side.name}.{name}": side.sharded(each) for name, each in parts.items()}
    if lesson.generator is not None:
        state["draws"] = lesson.generator.get_state()
    return state


def fit_shards(
    sides: Sequence[Side],
    tables: Tables,
    lesson: Lesson,
    training: Training,
    valid: ShardedEvaluator,
    plan: PlanPart | None,
    checkpoint: Checkpoint,
    progress: Progress,
    phase: str,
    trained: bool = False,
) -> Fitted:
    """The loop of `ciess.train.fit` for tables that lie on several processes; what is kept is kept when measured."""
    start, best = time.perf_counter(), _Best(tables, valid, plan)
    state = _state(sides, tables, lesson, best)
    done = checkpoint.read(state)
    best.restore()
    if lesson.generator is not None:
        lesson.generator.set_state(state["draws"])
    if lesson.adam is not None:
        for count in lesson.adam.steps:
            count.fill_(done)
    if not done and (trained or plan is not None):
        best.measure(0)
    for step in range(done + 1, training.steps + 1):
        if best.record.ends(training):
            break
        lesson.step(step)
        if plan is not None:
            plan.cut(tables)
        measured = step % training.eval_every == 0 or step == training.steps
        if measured:
            best.measure(step)
        # One that is asked to stop stops all, or they would wait for it.
        stop = int(total(torch.tensor(int(asked()))))
        if measured or stop:
            if lesson.generator is not None:
                state["draws"].copy_(lesson.generator.get_state())
            checkpoint.write(step, state)
        progress(phase, step, training.steps, str(best.record))
        if stop:
            safe_point()
            raise Stopped(signal.SIGTERM)
    best.take()
    return best.record.fitted(time.perf_counter() - start)
