"""The one fit loop: steps of Adam down a loss, or of a solver; early stopping on validation."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ciess.backbones.base import Backbone, Solver, Training
from ciess.evaluation import Evaluator
from ciess.losses import Loss
from ciess.progress import Progress, silent
from ciess.tables.plan import SizePlan, prefix_mask


@dataclass(frozen=True)
class Fitted:
    """What a fit came to.

    Attributes:
        steps: steps until the state that was kept.
        quality: its mean quality on validation; None without validation.
        seconds: wall time.
    """

    steps: int
    quality: float | None
    seconds: float


def fit(
    backbone: Backbone,
    lesson: Loss | Solver,
    training: Training,
    *,
    valid: Evaluator | None = None,
    plan: SizePlan | None = None,
    phase: str = "train",
    progress: Progress = silent,
) -> Fitted:
    """Train a backbone in place.

    Args:
        backbone: its tables are where training starts.
        lesson: a loss that each step lowers with Adam, or a solver whose tables each step takes.
        training: the recipe. With `valid`, its steps are a limit; without, all are taken.
        valid: measures quality every `training.eval_every` steps; the best state is kept. The state before
            the first step counts when `plan` is given, since such a start is already trained.
        plan: sizes to hold throughout: numbers beyond a row's size are zero and stay zero.
        phase: what progress is told.
        progress: told every step.
    """
    start = time.perf_counter()
    tables = _Tables(backbone, plan)
    others = [p for name, p in backbone.named_parameters() if name not in ("user_table", "item_table")]
    trained = [tables.users, tables.items, *others]
    advance = _sweeps(lesson, tables) if isinstance(lesson, Solver) else _descent(lesson, backbone, trained, training)
    best = _Best(backbone, trained, valid)
    if plan is not None:
        best.measure(0)
    for step in range(1, training.steps + 1):
        advance(step)
        tables.cut()
        if valid is not None and (step % training.eval_every == 0 or step == training.steps):
            best.measure(step)
            if best.misses >= training.patience:
                break
        progress(phase, step, training.steps, best.note)
    best.restore()
    tables.write_back()
    steps = training.steps if valid is None else best.step
    return Fitted(steps, best.quality, time.perf_counter() - start)


def _descent(loss: Loss, backbone: Backbone, trained: list[nn.Parameter], training: Training) -> Callable[[int], None]:
    """Steps of Adam with a falling learning rate."""
    users, items = trained[:2]
    optimiser = torch.optim.Adam(trained, lr=training.lr, fused=True)

    def advance(step: int) -> None:
        decay = training.lr_decay ** ((step - 1) // training.lr_every)
        optimiser.param_groups[0]["lr"] = max(training.lr_floor, training.lr * decay)
        optimiser.zero_grad()
        loss(backbone.represent(users, items), users, items).backward()
        optimiser.step()

    return advance


def _sweeps(solver: Solver, tables: "_Tables") -> Callable[[int], None]:
    """Steps of a solver, which knows the plan itself."""

    @torch.no_grad()
    def advance(_: int) -> None:
        users, items = solver(tables.users, tables.items)
        tables.users.copy_(users)
        tables.items.copy_(items)

    return advance


class _Tables:
    """The tables while they are trained: cut to a plan, and no wider than its largest size where columns are apart."""

    def __init__(self, backbone: Backbone, plan: SizePlan | None) -> None:
        self._backbone = backbone
        self._dim = backbone.user_table.shape[1]
        width = plan.max_size if plan is not None and backbone.separable else self._dim
        full = (backbone.user_table, backbone.item_table)
        self.users, self.items = (nn.Parameter(table.detach()[:, :width].clone()) for table in full)
        self._masks: list[Tensor] = []
        if plan is not None:
            device = self.users.device
            self._masks = [prefix_mask(sizes, width, device) for sizes in (plan.user_sizes, plan.item_sizes)]
        self.cut()

    @torch.no_grad()
    def cut(self) -> None:
        """Zero what the plan does not keep. Adam's steps are elementwise, so this equals training the kept numbers."""
        for table, mask in zip((self.users, self.items), self._masks, strict=False):
            table.mul_(mask)

    @torch.no_grad()
    def write_back(self) -> None:
        """Put the trained tables into the backbone."""
        for name, table in (("user_table", self.users), ("item_table", self.items)):
            getattr(self._backbone, name).copy_(pad(table, (0, self._dim - table.shape[1])))


class _Best:
    """The best state on validation so far."""

    def __init__(self, backbone: Backbone, trained: list[nn.Parameter], valid: Evaluator | None) -> None:
        self._backbone, self._trained, self._valid = backbone, trained, valid
        self._state: list[Tensor] = []
        self.quality: float | None = None
        self.step = self.misses = 0

    @property
    def note(self) -> str:
        return "" if self.quality is None else f"best {self.quality:.4f} at step {self.step}"

    @torch.no_grad()
    def measure(self, step: int) -> None:
        if self._valid is None:
            return
        vectors = self._backbone.represent(*self._trained[:2])
        quality = float(self._valid(lambda users: self._backbone.score_all(vectors, users)).quality.mean())
        if self.quality is None or quality > self.quality:
            self.quality, self.step, self.misses = quality, step, 0
            self._state = [parameter.detach().clone() for parameter in self._trained]
        else:
            self.misses += 1

    @torch.no_grad()
    def restore(self) -> None:
        if self._state:
            for parameter, kept in zip(self._trained, self._state, strict=True):
                parameter.copy_(kept)
