"""`OutcomeData`: what a search came to; `Row`: a line of its table."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, SupportsFloat, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ciess.errors import InputError
from ciess.evaluation.metrics import Evaluation
from ciess.evaluation.significance import Difference, differences_tested
from ciess.methods.policy import SizePolicy
from ciess.serve.model import CompressedModel
from ciess.tables.budget import Budget
from ciess.tables.plan import SizePlan

FULL, EQUAL, KEPT = "full", "equal", "search"
"""Names of lines: the full model, equal sizes, and what a search keeps."""

_FEW = 4
"""Lines that a caution names."""
T = TypeVar("T")


class ByBudget(dict[Budget, T]):
    """Values by budget. A budget is also known by its text, however it is written: `models["5%"]`, `models["5 %"]`.

    Raises:
        InputError: a text that is no budget, or a budget that is not there.
    """

    def __missing__(self, key: Budget | str) -> T:
        budget = Budget.parse(key)
        if not super().__contains__(budget):
            raise InputError(f"there is no budget {budget}: use one of {', '.join(map(str, self))}")
        return self[budget]

    def __contains__(self, key: object) -> bool:
        try:
            return isinstance(key, str | Budget) and super().__contains__(Budget.parse(key))
        except InputError:
            return False

    def get(self, key: Budget | str, default: Any = None) -> Any:
        """The value, or the default where the budget is not there."""
        return super().get(Budget.parse(key), default) if key in self else default


@dataclass(frozen=True)
class Row:
    """One line of a result table: a method at a budget, measured once.

    Attributes:
        method: `full`, `equal`, the name of a method, or `search` for what a search keeps.
        budget: as written; empty for the full model.
        metrics: Recall and NDCG, and what becomes of rare items (`TAIL_METRICS`), on the set that the table shows.
        kept: share of the full model's quality that is kept on that set.
        valid_quality: mean quality on validation, before validation joined the training data.
        table_bytes: bytes of both tables as stored.
        user_size: mean size of the users.
        item_size: mean size of the items.
        precision: how parameters are stored.
        seconds: training for the full model; else finishing and this budget's share of the search.
        found_by: what found the plan: a method, `equal` where it is equal sizes, or the simple rule that a method
            started from.
        converged: whether validation had levelled off when training ended; else more steps would have gained.
        standard_error: of `kept`, as a mean over the users that the set was measured on.
        runs: of that training: the learning rate of each as a share of the recipe's, and the steps that were kept.
        valid_tail_recall: tail recall at 20 on validation, which `max_tail_loss` goes by; 0 in results of before.
    """

    method: str
    budget: str
    metrics: dict[str, float]
    kept: float
    valid_quality: float
    table_bytes: int
    user_size: float
    item_size: float
    precision: str
    seconds: float
    found_by: str
    converged: bool = True
    standard_error: float = 0.0
    runs: list[dict[str, float]] = field(default_factory=list)
    valid_tail_recall: float = 0.0


class _Line(Protocol):
    @property
    def method(self) -> str: ...
    @property
    def budget(self) -> str: ...
    @property
    def metrics(self) -> Mapping[str, SupportsFloat]: ...


L = TypeVar("L", bound=_Line)


def line_of(lines: Sequence[L], method: str, budget: str | Budget) -> L:
    """The line of a method at a budget, however the budget is written; empty for the full model.

    Raises:
        InputError: there is none; those that there are are named.
    """
    written = str(Budget.parse(budget)) if budget else ""
    for line in lines:
        if (line.method, line.budget) == (method, written):
            return line
    known = ", ".join(f"{line.method} {line.budget}".strip() for line in lines)
    raise InputError(f"there is no row '{f'{method} {budget}'.strip()}': use one of {known}")


def tails_kept(lines: Sequence[_Line]) -> list[float | None]:
    """Share of the full model's tail recall that each line keeps; None where the full model has none, or no line."""
    recalls = [float(line.metrics["tail-recall@20"]) for line in lines]
    full = next((recall for line, recall in zip(lines, recalls, strict=True) if line.method == FULL), 0.0)
    return [recall / full if full else None for recall in recalls]


def tails_lost(rows: Sequence[Row], least: float) -> list[str]:
    """A caution for each kept model that has the least share of the full model's tail on validation, and not on test.

    Args:
        rows: measured on test, the full model's among them.
        least: the share of its tail recall that was to be kept.
    """
    full = line_of(rows, FULL, "").valid_tail_recall
    told = []
    for row, left in zip(rows, tails_kept(rows), strict=True):
        before = row.valid_tail_recall / full if full else 0.0
        if row.method == KEPT and left is not None and left < least <= before:
            told.append(
                f"of the full model's tail recall the model for {row.budget} keeps {left:.1%} on test, and "
                f"{before:.1%} on validation, which alone it was chosen by"
            )
    return told


def still_gaining(lines: Iterable[Row]) -> list[str]:
    """A caution if lines were still gaining when their training ended."""
    names = list(dict.fromkeys(f"{line.method} {line.budget}".strip() for line in lines if not line.converged))
    if not names:
        return []
    told = ", ".join(names[:_FEW]) + (f" and {len(names) - _FEW} others" if len(names) > _FEW else "")
    return [f"still gaining when training ended, so more steps may gain more: {told}"]


def on_sample(users: int, of: int) -> list[str]:
    """A caution if test was measured on a part of its users."""
    return [f"test is measured on {users:,} of its {of:,} users, drawn at random"] if users < of else []


@dataclass(frozen=True, eq=False, repr=False)
class OutcomeData:
    """What a search came to.

    Attributes:
        method: the name of what was searched by.
        models: the model kept for each budget, a `ByBudget`.
        plans: its sizes, in the order of the interactions' ids, a `ByBudget`.
        policies: what sized the rows, for other rows and data, a `ByBudget`.
        popularity: how many interactions of each user, (n_users,), and each item, (n_items,), the measured models have
            learned, in the same order.
        rows: the result table. At each budget `equal` comes first and `search`, the best of all on validation, last;
            a method that was asked for has a line where it found a plan of its own.
        evaluations: what each row was measured by, by its method and budget as in `row`.
        shown: what the table's metrics were measured on: `test`, or `validation` where there is no test.
        trace: all that the search measured on its way.
        settings: everything that made the result, versions and seed among it.
        seconds: wall time of each phase of the run.
    """

    method: str
    models: ByBudget[CompressedModel]
    plans: ByBudget[SizePlan]
    policies: ByBudget[SizePolicy]
    popularity: tuple[NDArray[np.int64], NDArray[np.int64]]
    rows: list[Row]
    evaluations: dict[tuple[str, str], Evaluation]
    shown: str
    trace: list[dict[str, float | str]]
    settings: dict[str, Any]
    seconds: dict[str, float] = field(default_factory=dict)

    def row(self, method: str, budget: str | Budget = "") -> Row:
        """The line of a method at a budget, such as `row("search", "5%")`; without a budget, of the full model.

        Raises:
            InputError: there is no such line.
        """
        return line_of(self.rows, method, budget)

    @property
    def cautions(self) -> list[str]:
        """Sentences about what the result may be worth."""
        tested = self.settings.get("tested") if self.shown == "test" else None
        sampled = [] if tested is None else on_sample(**tested)
        if sampled:
            error = max(row.standard_error for row in self.rows)
            sampled = [f"{sampled[0]}; what is kept has a standard error of at most {error:.2%}"]
        return [*self.settings["cautions"], *sampled, *still_gaining(self.rows)]

    @cached_property
    def gains(self) -> dict[tuple[str, str], Difference]:
        """By how much each line's users fare better than with equal sizes of the same budget, by method and budget.

        The p-values are corrected for all lines together; lines that share a model are tested once.
        """
        lines = {key: each for key, each in self.evaluations.items() if key[0] not in (FULL, EQUAL)}
        models = {id(each): (key, each) for key, each in lines.items()}
        tested = differences_tested(
            (same, (each.quality - self.evaluations[EQUAL, budget].quality).double().numpy())
            for same, ((_, budget), each) in models.items()
        )
        return {key: tested[id(each)] for key, each in lines.items()}

    def table(self) -> pl.DataFrame:
        """The result table as a frame: a line for each row, its metrics as columns, without its runs."""
        rows = [dataclasses.asdict(row) for row in self.rows]
        return pl.DataFrame([row | row.pop("metrics") for row in rows]).drop("runs")
