"""The one fit loop: steps of Adam down a loss, or of a solver; early stopping on validation."""

import math
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

_SMALLEST_SCALE = 1e-3
"""What a parameter of zeros, such as a bias, counts as."""


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
    relative_to: Backbone | None = None,
    seed: int = 0,
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
        relative_to: learning rates count in root mean squares of this model's parameters, each its own, so that
            tables of any scale learn alike (as in Shazeer and Stern, Adafactor, ICML 2018, Sec. 8).
        seed: of the sizes that rows are cut to where `training.nested`.
        phase: what progress is told.
        progress: told every step.
    """
    start = time.perf_counter()
    tables = _Tables(backbone, plan)
    trained = [tables.users, tables.items, *backbone.network.values()]
    if isinstance(lesson, Solver):
        advance = _sweeps(lesson, tables)
    else:
        rates = [1.0] * len(trained) if relative_to is None else _scales(relative_to)
        advance = _descent(lesson, backbone, trained, rates, training, seed)
    best = _Best(backbone, trained, valid)
    if plan is not None:
        best.measure(0)
    backbone.train()
    for step in range(1, training.steps + 1):
        advance(step)
        tables.cut()
        if valid is not None and (step % training.eval_every == 0 or step == training.steps):
            best.measure(step)
            if best.misses >= training.patience:
                break
        progress(phase, step, training.steps, best.note)
    backbone.eval()
    best.restore()
    tables.write_back()
    steps = training.steps if valid is None else best.step
    return Fitted(steps, best.quality, time.perf_counter() - start)


def _descent(
    loss: Loss, backbone: Backbone, trained: list[nn.Parameter], rates: list[float], training: Training, seed: int
) -> Callable[[int], None]:
    """Steps of Adam with a falling learning rate, times each parameter's own."""
    users, items = trained[:2]
    optimiser = torch.optim.Adam([{"params": [parameter]} for parameter in trained], lr=training.lr, fused=True)
    generator = torch.Generator().manual_seed(seed)

    def advance(step: int) -> None:
        decay = training.lr_decay ** ((step - 1) // training.lr_every)
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * max(training.lr_floor, training.lr * decay)
        optimiser.zero_grad()
        if training.nested and step % 2:
            vectors = backbone.represent(*(table * _random_prefixes(table, generator) for table in (users, items)))
        else:
            vectors = backbone.represent(users, items)
        loss(vectors, users, items).backward()
        optimiser.step()

    return advance


def _scales(backbone: Backbone) -> list[float]:
    """Root mean squares of the user table, the item table and the network's parameters; at least _SMALLEST_SCALE."""
    parameters = [backbone.user_table, backbone.item_table, *backbone.network.values()]
    return [max(_SMALLEST_SCALE, float(p.detach().square().mean().sqrt())) for p in parameters]


def _sweeps(solver: Solver, tables: "_Tables") -> Callable[[int], None]:
    """Steps of a solver, which knows the plan itself."""

    @torch.no_grad()
    def advance(_: int) -> None:
        users, items = solver(tables.users, tables.items)
        tables.users.copy_(users)
        tables.items.copy_(items)

    return advance


def _random_prefixes(table: Tensor, generator: torch.Generator) -> Tensor:
    """A mask that cuts every row to a size drawn log-uniformly from 1..width."""
    rows, width = table.shape
    drawn = torch.exp(torch.rand(rows, generator=generator) * math.log(width + 1)).int()
    # Rounding can lift the largest draw to width + 1.
    return prefix_mask(drawn.clamp(max=width), width, table.device)


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
        mode = self._backbone.training
        self._backbone.eval()
        vectors = self._backbone.vectors(*self._trained[:2])
        quality = float(self._valid(lambda users: self._backbone.score_all(vectors, users)).quality.mean())
        self._backbone.train(mode)
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
