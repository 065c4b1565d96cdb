"""Training and finishing of MF and ALS whose tables lie on several processes, by the steps that one process takes.

Each process holds a block of the users' rows and one of the items'. All draw the same; each learns from what concerns
its own users, looks up the items' rows where they lie, and steps its own rows.
"""

import time
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from scipy.sparse import csr_array
from torch import Tensor, nn

from ciess.data import Interactions
from ciess.data.sampling import Triplets, TripletSampler
from ciess.errors import InputError
from ciess.models.als import ALS, STEPS, closer_rows, interactions_a_row
from ciess.models.base import BackboneConfig, Represented, Training
from ciess.models.mf import MF, MFModel
from ciess.progress import Progress, silent
from ciess.tables.order import rotation_by
from ciess.tables.plan import SizePlan
from ciess.train.finish import Finish, Finishing, Run, in_runs
from ciess.train.fit import Descent, Fitted, while_gaining
from ciess.train.losses import SPREAD, Distillation, bpr_loss, share_drawn, spaced
from ciess.train.sharded_fit import Lesson, PlanPart, ShardedEvaluator, Tables, fit_shards
from ciess.train.shards import Checkpoint, Side, total

_PAIRS_AT_ONCE = 1 << 20
"""Interactions of the rows that ALS solves for together: no more rows of the other side are looked up at once."""


def check_backbone(config: BackboneConfig) -> None:
    """Refuse what is not trained here: one's own backbone too, whatever it is called or derived from.

    Raises:
        InputError: it is neither MF nor ALS.
    """
    if type(config) not in (MF, ALS):
        raise InputError(f"{type(config).__name__} is not trained on several processes: use mf or als")


class Sharded:
    """A model of two tables, scored by inner products of their rows, which lie on several processes.

    Args:
        config: its settings, which `check_backbone` has let pass.
        train: what it learns, the whole of it.
        seed: of the first rows and of draws.

    Attributes:
        sides: users and items.
        tables: this process' rows.

    Raises:
        InputError: more processes than rows.
    """

    def __init__(self, config: BackboneConfig, train: Interactions, seed: int) -> None:
        self._config, self._train, self._seed = config, train, seed
        self.sides = Side("users", train.n_users), Side("items", train.n_items)
        generator = torch.Generator().manual_seed(seed)
        users, items = (side.table(config.dim, generator) for side in self.sides)
        self.tables: Tables = users, items

    def fit(
        self, valid: ShardedEvaluator, folder: Path | None = None, progress: Progress = silent, phase: str = "fit"
    ) -> Fitted:
        """Train the tables, and put their dimensions in order.

        Args:
            valid: stops training and picks the best state.
            folder: keeps the last state that was measured.
            progress: told every step.
            phase: what progress is told.
        """

        def run(number: int, training: Training) -> Fitted:
            config = self._config
            lesson = self._sweeps(config) if isinstance(config, ALS) else self._descends(training, self._seed + number)
            kept, trained = Checkpoint(folder and folder / str(number)), number > 0
            return fit_shards(self.sides, self.tables, lesson, training, valid, None, kept, progress, phase, trained)

        fitted = while_gaining(self._config.training, run)
        with torch.no_grad():
            users = self.tables[0].double()
            rotation = rotation_by(total(users.T @ users)).float()
            for table in self.tables:
                table.copy_(table @ rotation)
        return fitted

    def _sweeps(self, config: ALS) -> Lesson:
        """Sweeps of alternating least squares: other rows are looked up, and all rows count in a Gramian."""
        matrix, (users, items) = self._train.matrix, self.sides
        parts = [_parts(matrix[users.own]), _parts(csr_array(matrix[:, items.own].T))]
        regularisation = config.regularisation * interactions_a_row(self._train)

        @torch.no_grad()
        def step(_: int) -> None:
            for at, table in enumerate(self.tables):
                side, other = self.sides[1 - at], self.tables[1 - at].detach()
                gramian = total(other.T @ other)
                for rows, own, wanted in parts[at]:
                    theirs = side.look_up(other, wanted)
                    table[rows] = closer_rows(
                        own, table[rows], theirs, None, config.alpha, regularisation, STEPS, gramian
                    )

        return Lesson(step)

    def _descends(self, training: Training, seed: int) -> Lesson:
        """Steps of Adam down BPR: a triplet is its user's process'."""
        sampler = TripletSampler(self._train, seed=seed)
        descent = Descent(self.tables, [1.0, 1.0], training)
        users, items = self.sides

        def step(number: int) -> None:
            drawn = sampler.sample(training.triplets(users.rows + items.rows))
            first, last = torch.searchsorted(drawn.users, torch.tensor([users.own.start, users.own.stop])).tolist()
            own = Triplets(*(each[first:last] for each in drawn))
            asked, places = torch.cat([own.positives, own.negatives]).unique(return_inverse=True)
            vectors = Represented(self.tables[0], items.look_up(self.tables[1], asked))
            local = Triplets(own.users - users.own.start, *places.tensor_split(2))
            share = (last - first) / len(drawn.users)
            loss = bpr_loss(_SCORER, vectors, *vectors, local, training.l2) if share else _nothing(vectors)
            descent(number, share * loss)

        return Lesson(step, descent.adam, sampler.generator)

    def finish(
        self,
        plan: SizePlan,
        settings: Finish,
        valid: ShardedEvaluator,
        folder: Path | None = None,
        progress: Progress = silent,
    ) -> tuple[Tables, Finishing]:
        """Tables within a plan's sizes, distilled from these as `ciess.train.finish.finish` does.

        Args:
            plan: the sizes of all rows, which share no scales.
            settings: of the distillation.
            valid: measures the runs; the best state of all is kept, the one before training among them.
            folder: keeps the last state that was measured in each run.
            progress: told every step.

        Returns:
            this process' rows, as wide as the plan's largest size, and how training went.
        """
        start, own = time.perf_counter(), PlanPart(plan, self.sides)
        users, items = (nn.Parameter(table[:, : plan.max_size] * mask) for table, mask in own.of(self.tables))
        small: Tables = users, items
        recipe, share = settings.training, share_drawn(self.sides[0].rows, self.sides[1].rows, settings.training)
        if recipe.steps:
            recipe = recipe.stretched(max(1.0, settings.share / share)).paced(own.distance(self.tables))

        def one(number: int, run: Run) -> Fitted:
            training = recipe.paced(run.rate)
            distillation = ShardedDistillation(self.sides, self.tables, settings.training, self._seed + number)
            descent = Descent(small, own.scales(self.tables), training)
            lesson = Lesson(lambda at: descent(at, distillation.of(small)), descent.adam, distillation.generator)
            checkpoint = Checkpoint(folder and folder / str(number))
            return fit_shards(self.sides, small, lesson, training, valid, own, checkpoint, progress, "finish")

        return small, in_runs(recipe.steps, one, start)


class _Part(NamedTuple):
    """Rows of a process that are solved for together: their interactions with the few other rows that they need."""

    rows: slice
    interactions: csr_array
    wanted: Tensor


def _parts(own: csr_array) -> list[_Part]:
    """A process' rows in parts of so few interactions that the other side's rows fit; as many on all processes."""
    count = torch.tensor(-(-own.nnz // _PAIRS_AT_ONCE))
    dist.all_reduce(count, dist.ReduceOp.MAX)
    ends = np.searchsorted(own.indptr, np.linspace(0, own.nnz, int(count) + 1)[1:-1])
    parts = []
    for first, last in pairwise([0, *ends.tolist(), own.shape[0]]):
        rows = own[first:last]
        columns, places = np.unique(rows.indices, return_inverse=True)
        compact = csr_array((rows.data, places, rows.indptr), shape=(rows.shape[0], len(columns)))
        parts.append(_Part(slice(first, last), compact, torch.from_numpy(columns).long()))
    return parts


_SCORER = MFModel(1, 1, 1, seed=0)
"""Scores any vectors by inner products."""


def _nothing(vectors: Represented) -> Tensor:
    """A loss of 0 that still asks the other processes for nothing, as they wait for it."""
    return 0.0 * sum((each.sum() for each in vectors), start=torch.zeros(()))


class ShardedDistillation(Distillation):
    """The part of a step's loss that is this process' users'.

    Args:
        sides: users and items.
        full: this process' rows of the teacher.
        training: see `Distillation`.
        seed: of the draws.
    """

    def __init__(self, sides: tuple[Side, Side], full: Tables, training: Training, seed: int) -> None:
        super().__init__(_SCORER, _SCORER, training, seed)
        self._sides, self._full = sides, full
        self.share = share_drawn(sides[0].rows, sides[1].rows, training)
        users, items = (spaced(side.rows, self.share) for side in sides)
        with torch.no_grad():
            scores = full[0][self._own(users)] @ sides[1].look_up(full[1], items).T
        spread = float(total(scores.std(dim=1).double().sum())) / len(users)
        self._sharpness = SPREAD / spread if spread > 0 else 1.0
        # Another process' rows of the teacher are not here.
        self._held = None

    def _own(self, users: Tensor) -> Tensor:
        """Those of drawn users that are this process', as its rows."""
        own = self._sides[0].own
        return users[(users >= own.start) & (users < own.stop)] - own.start

    @torch.no_grad()
    def _teach(self, items: Tensor) -> Tensor:
        """Look the teacher's rows of drawn items up; their places among these."""
        self._wanted = Represented(self._full[0], self._sides[1].look_up(self._full[1], items))
        return torch.arange(len(items))

    def of(self, tables: Tables) -> Tensor:
        """This process' part of the mean loss, a scalar."""
        users, items = self._draw(*(side.rows for side in self._sides))
        own, vectors = self._own(users), Represented(tables[0], self._sides[1].look_up(tables[1], items))
        places = self._teach(items)
        return self.pull(vectors, own, places) / len(users) if len(own) else _nothing(vectors)
