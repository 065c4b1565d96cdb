"""What a search gives back: models, and the table that says what they are worth."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ciess.errors import InputError
from ciess.evaluation.metrics import Evaluation
from ciess.serve.model import CompressedModel
from ciess.tables.budget import Budget
from ciess.tables.packed import stored_bytes
from ciess.tables.plan import SizePlan

if TYPE_CHECKING:
    from ciess.experiment.bench import Finished


@dataclass(frozen=True)
class Row:
    """One line of the result table.

    Attributes:
        method: `full`, `equal`, the name of what was searched by, such as `ciess` or `auto`, or of a method beside it.
            The searched one's line is what was kept, be it equal sizes.
        budget: as written; empty for the full model.
        metrics: mean metrics on the set that the table shows.
        kept: share of the full model's quality that is kept on that set.
        valid_quality: mean quality on validation, before validation joined the training data.
        table_bytes: bytes of both tables as stored.
        user_size: mean size of the users.
        item_size: mean size of the items.
        precision: how numbers are stored.
        seconds: training for the full model; else finishing and this budget's share of the search.
        found_by: the method that found the plan: `equal` where equal sizes were kept, and with `auto` the best one.
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

    @classmethod
    def of(
        cls,
        method: str,
        budget: str,
        finished: "Finished",
        shown: Evaluation,
        full_quality: float,
        found_by: str | None = None,
    ) -> "Row":
        """What came of a plan, measured by `shown`; `full_quality` is the full model's on the same set."""
        plan, quality = finished.plan, float(shown.quality.mean())
        return cls(
            method=method,
            budget=budget,
            metrics=shown.means(),
            kept=quality / full_quality,
            valid_quality=finished.quality,
            table_bytes=stored_bytes(plan) if budget else plan.shape.full_bytes,
            user_size=float(plan.user_sizes.mean()),
            item_size=float(plan.item_sizes.mean()),
            precision=plan.precision,
            seconds=finished.seconds,
            found_by=found_by or method,
        )


@dataclass(frozen=True, eq=False, repr=False)
class Outcome:
    """What a search gives back.

    Attributes:
        method: the name of what was searched by; its rows are what was kept.
        models: the best small model for each budget.
        plans: its sizes, in the order of the interactions' ids.
        popularity: how many interactions of each user, (n_users,), and each item, (n_items,), the models have learned,
            in the same order.
        rows: the result table.
        evaluations: what each row was measured by, its method and budget as in `row`.
        shown: what the table's metrics were measured on: `test`, or `validation` where there is no test.
        trace: all that the search measured on its way.
        settings: everything that made the result, versions and seed among it.
    """

    method: str
    models: dict[Budget, CompressedModel]
    plans: dict[Budget, SizePlan]
    popularity: tuple[NDArray[np.int64], NDArray[np.int64]]
    rows: list[Row]
    evaluations: dict[tuple[str, str], Evaluation]
    shown: str
    trace: list[dict[str, float | str]]
    settings: dict[str, Any]

    def row(self, method: str, budget: str = "") -> Row:
        """The line of a method and a budget as written, such as `row("equal", "5%")`."""
        return next(row for row in self.rows if (row.method, row.budget) == (method, budget))

    def __repr__(self) -> str:
        kept = (self.row(self.method, str(budget)) for budget in self.plans)
        return f"Outcome({', '.join(f'{row.kept:.1%} of the quality kept in {row.budget}' for row in kept)})"

    def table(self) -> pl.DataFrame:
        """The result table as a frame: a line for each row, its metrics as columns."""
        rows = [dataclasses.asdict(row) for row in self.rows]
        return pl.DataFrame([row | row.pop("metrics") for row in rows])

    def report(self, folder: str | Path) -> Path:
        """Write `report.html`, and `report.md` with its figures, for people; the path of the page.

        Raises:
            InputError: the folder cannot be written.
        """
        from ciess.report import searched, write

        return write(searched(self), Path(folder))

    def _repr_html_(self) -> str:
        """What notebooks show: the answer and the result table."""
        from ciess.report import as_fragment, summary

        return as_fragment(summary(self))

    def save(self, folder: str | Path) -> dict[Budget, Path]:
        """Save each model into a folder of its own, `result.json` and the report beside them.

        Raises:
            InputError: the folder cannot be written.
        """
        folder = Path(folder)
        saved = {budget: model.save(folder / budget.folder) for budget, model in self.models.items()}
        result = {
            "shown": self.shown,
            "rows": [dataclasses.asdict(row) for row in self.rows],
            "settings": self.settings,
            "trace": self.trace,
        }
        try:
            (folder / "result.json").write_text(json.dumps(result, indent=1) + "\n")
        except OSError as error:
            raise InputError(f"{folder} cannot be written ({error.strerror}): choose another folder") from error
        self.report(folder)
        return saved
