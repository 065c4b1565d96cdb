"""The one fit loop: steps of Adam down a loss, or of a solver; early stopping on validation."""

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ciess.errors import InputError
from ciess.evaluation.metrics import Evaluator
from ciess.models.base import Backbone, Solver, Training
from ciess.progress import Progress, silent
from ciess.tables.mask import random_prefix_mask
from ciess.tables.plan import SizePlan
from ciess.train.adam import Adam
from ciess.train.checkpoint import NOTHING, Attributes, Kept, Part, State, put_back, taken
from ciess.train.held_tables import HeldTables
from ciess.train.losses import Loss

DIVERGED = "training has diverged by step {}: lower its learning rate, or weigh its norms more"
_log = logging.getLogger(__name__)
LEVEL = 0.005
"""A gain in validation quality, as a share, up to which training has levelled off."""
_MORE_RUNS = 4
"""That a full model may take while it gains: with all of them, it takes three times the steps of the first one."""
_ATTRIBUTES = "<attributes>"
"""Before what is kept of a model beside its parameters; no module has such a name."""


class Diverged(InputError):
    """Parameters are no numbers any more, and there is no earlier state to go back to."""


@dataclass(frozen=True)
class Fitted:
    """What a fit came to.

    Attributes:
        steps: steps until the state that was kept.
        quality: its mean quality on validation; None without validation.
        seconds: wall time.
        gaining: whether the last measurement was still better than all before by more than half a percent.
        diverged: whether it ended as parameters were no numbers any more; the best state before that was kept.
        gained: whether what was kept is better than the state before the first step by more than half a percent; not
            where that was not measured.
        later: steps of these that each later run took, see `while_gaining`.
    """

    steps: int
    quality: float | None
    seconds: float
    gaining: bool = False
    diverged: bool = False
    gained: bool = False
    later: list[int] = field(default_factory=list)


def fit(
    backbone: Backbone,
    lesson: Loss | Solver,
    training: Training,
    *,
    valid: Evaluator | None = None,
    plan: SizePlan | None = None,
    trained: bool = False,
    relative_to: Backbone | None = None,
    seed: int = 0,
    phase: str = "train",
    progress: Progress = silent,
    kept: Kept = NOTHING,
) -> Fitted:
    """Train a backbone in place.

    Args:
        backbone: its tables are where training starts.
        lesson: a loss that each step lowers with Adam, or a solver whose tables each step takes.
        training: the recipe. With `valid`, its steps are a limit; without, all are taken.
        valid: measures quality every `training.eval_every` steps; the best state is kept.
        plan: sizes to hold throughout: numbers beyond a row's size are zero and stay zero. Rounded tables are what is
            measured and what comes out; where rows share scales, losses see them rounded too, and gradients pass as if
            they were not (Bengio et al., 2013, arXiv 1308.3432).
        trained: whether it has been trained before, so that the state before the first step counts, too; it always
            does when `plan` is given, since what was cut is trained.
        relative_to: given with `plan`: learning rates count in root mean squares of this model's parameters, each its
            own, so that tables of any scale learn alike (as in Shazeer and Stern, Adafactor, ICML 2018, Sec. 8), times
            its `distillation_rate`. Of a table, what the plan keeps counts: leading columns are larger than others.
        seed: of the sizes that rows are cut to where `training.nested`.
        phase: what progress is told.
        progress: told every step.
        kept: now and then keeps how far training is, so that it goes on from there.

    Raises:
        InputError: parameters are no numbers any more, and there is no state before that to go back to.
    """
    start = time.perf_counter()
    tables = HeldTables(backbone, plan)
    best = _Best(backbone, tables, valid)
    parts: dict[str, Part] = {"users": tables.users, "items": tables.items, "scales": tables, "best": best}
    parts["model"] = Attributes(backbone)
    if isinstance(lesson, Solver):
        advance = _sweeps(lesson, tables)
    else:
        rates = tables.rates(relative_to) if relative_to is not None else [1.0] * (2 + len(backbone.network))
        advance = descends = _Descends(lesson, backbone, tables, rates, training, seed)
        parts |= {**{f"network {name}": each for name, each in backbone.network.items()}, **descends.parts}
    if trained or plan is not None:
        best.measure(0)
    backbone.train(not isinstance(lesson, Solver) and lesson.dropout)
    for step in kept.steps(training.steps, parts, lambda: best.record.ends(training)):
        advance(step)
        tables.cut()
        if valid is not None and (step % training.eval_every == 0 or step == training.steps):
            best.measure(step)
        progress(phase, step, training.steps, str(best.record))
    if valid is None and not best.finite():
        raise Diverged(DIVERGED.format(training.steps))
    backbone.eval()
    best.take()
    tables.write_back()
    seconds = time.perf_counter() - start
    return Fitted(training.steps, None, seconds) if valid is None else best.record.fitted(seconds)


def while_gaining(training: Training, run: Callable[[int, Training], Fitted]) -> Fitted:
    """Train a full model, and for up to four more runs of half the steps at half the rate while it gains.

    Args:
        training: of the first run.
        run: takes a run, told its number and its training, from the best state so far, and goes back to the best.

    Returns:
        What the runs came to together.
    """
    fitted, more = run(0, training), training.resumed(training.steps)
    for number in range(1, 1 + _MORE_RUNS):
        if not fitted.gaining:
            break
        last = run(number, more)
        fitted = dataclasses.replace(
            last,
            steps=fitted.steps + last.steps,
            seconds=fitted.seconds + last.seconds,
            diverged=fitted.diverged or last.diverged,
            later=[*fitted.later, last.steps],
        )
    return fitted


def fitted_once(kept: Kept, backbone: Backbone, train: Callable[[], Fitted], always: bool = False) -> Fitted:
    """Train a backbone in place, or read what it came to if that was kept.

    Args:
        kept: its piece.
        backbone: as it was built.
        train: trains it.
        always: keep it, however long that takes.
    """

    if kept is NOTHING:
        return train()

    # Later training goes on with what a model has counted or drawn, such as masks of dropout.
    attributes = {_ATTRIBUTES: Attributes(backbone)}

    def made() -> State:
        fitted, counted = train(), taken(attributes)
        return State({"fitted": dataclasses.asdict(fitted)} | counted.told, backbone.state_dict() | counted.tensors)

    found = kept.once(made, always)
    put_back(attributes, found)
    backbone.load_state_dict(
        {name: each for name, each in found.tensors.items() if not name.startswith(f"{_ATTRIBUTES}.")}
    )
    # As after training: a module is built in training mode.
    backbone.eval()
    return Fitted(**found.told["fitted"])


class Descent:
    """Steps of Adam on some parameters, at a recipe's falling learning rate times each parameter's own.

    Args:
        parameters: what learns; those that need no gradient stay as they are.
        rates: each parameter's own.
        training: the recipe.

    Attributes:
        adam: its state.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], rates: Sequence[float], training: Training) -> None:
        learning = [(p, rate) for p, rate in zip(parameters, rates, strict=True) if p.requires_grad]
        self._parameters, self._rates = [p for p, _ in learning], [rate for _, rate in learning]
        self._training = training
        self.adam = Adam(self._parameters)

    def __call__(self, step: int, loss: Tensor) -> None:
        """Take a step, counted from 1, down a loss; its gradient reaches no other parameter."""
        self.adam.zero_grad()
        loss.backward(inputs=self._parameters)
        self.adam.step([rate * self._training.rate(step) for rate in self._rates])


class _Descends:
    """Steps down a loss that sees the tables as they are stored or, where nested, cut at random."""

    def __init__(
        self, loss: Loss, backbone: Backbone, tables: HeldTables, rates: list[float], training: Training, seed: int
    ) -> None:
        self._loss, self._backbone, self._tables, self._nested = loss, backbone, tables, training.nested
        self._descent = Descent([tables.users, tables.items, *backbone.network.values()], rates, training)
        self._generator = torch.Generator().manual_seed(seed)

    @property
    def parts(self) -> Mapping[str, Part]:
        """What steps change, beside the tables and the network."""
        return {"adam": self._descent.adam, "cuts": self._generator, "draws": self._loss.generator}

    def __call__(self, step: int) -> None:
        users, items = self._tables.seen(step)
        seen = (users, items)
        if self._nested and step % 2:
            masks = (random_prefix_mask(table, self._generator) for table in seen)
            seen = (users * next(masks), items * next(masks))
        self._descent(step, self._loss(self._backbone.represent(*seen), users, items))


def _sweeps(solver: Solver, tables: HeldTables) -> Callable[[int], None]:
    """Steps of a solver, which knows the plan itself."""

    @torch.no_grad()
    def advance(_: int) -> None:
        users, items = solver(tables.users, tables.items)
        tables.users.copy_(users)
        tables.items.copy_(items)

    return advance


@dataclass
class Record:
    """What measurements on validation have come to so far.

    Attributes:
        quality: the best one; None before any.
        step: at which it was measured.
        misses: measurements since.
        before: quality before the first step; None where it was not measured.
        gain: of the last measurement over the best of the steps before it, as a share; 0 where it was no gain.
        diverged: whether parameters are no numbers any more.
    """

    quality: float | None = None
    step: int = 0
    misses: int = 0
    before: float | None = None
    gain: float = 0.0
    diverged: bool = False

    def note(self, step: int, quality: float) -> bool:
        """Note a measurement; whether it is the best so far."""
        if step == 0:
            self.before = quality
        if self.quality is None or quality > self.quality:
            self.gain = quality / self.quality - 1 if self.quality else float(step > 0)
            self.quality, self.step, self.misses = quality, step, 0
            return True
        self.gain = 0.0
        self.misses += 1
        return False

    def broken(self, step: int) -> None:
        """Note that parameters are no numbers any more.

        Raises:
            Diverged: nothing was measured before.
        """
        if self.quality is None:
            raise Diverged(DIVERGED.format(step))
        self.diverged, self.gain = True, 0.0
        _log.warning("%s; the state of step %s is kept", DIVERGED.format(step), self.step)

    def ends(self, training: Training) -> bool:
        """Whether training ends here: it has diverged, or has not gained for as long as it may."""
        return self.diverged or self.misses >= training.patience

    def fitted(self, seconds: float) -> Fitted:
        """What a fit came to, after so many seconds of wall time, that went back to the best."""
        gained = self.before is not None and self.quality is not None and self.quality > (1 + LEVEL) * self.before
        return Fitted(self.step, self.quality, seconds, self.gain > LEVEL, self.diverged, gained)

    def __str__(self) -> str:
        return "" if self.quality is None else f"best {self.quality:.4f} at step {self.step}"


class _Best:
    """The best state on validation so far."""

    def __init__(self, backbone: Backbone, tables: HeldTables, valid: Evaluator | None) -> None:
        self._backbone, self._tables, self._valid = backbone, tables, valid
        self._state: list[Tensor] = []
        self.record = Record()

    def state(self) -> State:
        """See `Resumable`."""
        return State(dataclasses.asdict(self.record), {f"{at:03}": each for at, each in enumerate(self._state)})

    def restore(self, state: State) -> None:
        """See `Resumable`."""
        self.record = Record(**state.told)
        self._state = [state.tensors[name] for name in sorted(state.tensors)]

    @torch.no_grad()
    def finite(self) -> bool:
        """Whether all parameters are numbers, as they stand."""
        learned = (self._tables.users, self._tables.items, *self._backbone.network.values())
        return all(bool(each.isfinite().all()) for each in learned)

    @torch.no_grad()
    def measure(self, step: int) -> None:
        if self._valid is None:
            return
        if not self.finite():
            self.record.broken(step)
            return
        mode = self._backbone.training
        self._backbone.eval()
        tables = self._tables.stored()
        vectors = self._backbone.vectors(*tables)
        quality = float(self._valid(lambda users: self._backbone.score_all(vectors, users)).quality.mean())
        self._backbone.train(mode)
        if self.record.note(step, quality):
            self._state = [each.detach().clone() for each in (*tables, *self._backbone.network.values())]

    @torch.no_grad()
    def take(self) -> None:
        """Go back to it."""
        if self._state:
            users, items, *network = self._state
            self._tables.take(users, items)
            for parameter, kept in zip(self._backbone.network.values(), network, strict=True):
                parameter.copy_(kept)
