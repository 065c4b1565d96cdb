"""`ciess compress`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from rich.console import Console

from ciess.checks import Seed, check
from ciess.cli.options import Budgets, Columns, Count, File, Flat, Folder, Force, Precision, Printing, option
from ciess.cli.results import at_work, own_folder, show
from ciess.cli.values import separated


@dataclass(frozen=True)
class Compress:
    """Make tables small that you have trained elsewhere."""

    users: Annotated[Path, option("FILE")]
    """User factors: a .npy file with a row for each user"""
    items: Annotated[Path, option("FILE")]
    """Item factors: the same for each item; inner products of the rows are scores"""
    interactions: Annotated[Path, option("FILE")]
    """What the tables have learned, as `search` reads it, or a .npz matrix"""
    held_out: File = None
    """Interactions that they have not learned, to measure on"""
    user_ids: File = None
    """Ids of its rows, one a line, .npy, .csv or .parquet; else row 0 is the smallest, text as text"""
    item_ids: File = None
    """The same for the items"""
    budgets: Budgets = ("5%",)
    precision: Precision = "auto"
    force: Force = False
    seed: Count[int] = 0
    """Of everything random"""
    out: Folder = Path("runs/compress")
    """For models and report"""
    columns: Flat[Columns] = field(default_factory=Columns)
    printing: Flat[Printing] = field(default_factory=Printing)

    def run(self, console: Console) -> None:
        """Compress, save, print the table."""
        from ciess.experiment.compress import check_fit, compress
        from ciess.experiment.pipeline import parsed_budgets
        from ciess.experiment.runs import RESULT
        from ciess.models.factors import Factors

        budgets = parsed_budgets(separated(self.budgets))
        check("--seed", self.seed, Seed)
        with own_folder(self, RESULT):
            factors = Factors(
                users=self.users, items=self.items, user_ids=self.user_ids or "", item_ids=self.item_ids or ""
            )
            check_fit(factors, budgets, self.precision)
            data = self.columns.read(self.interactions)
            held_out = self.columns.read(self.held_out) if self.held_out else None
            with at_work(console) as progress:
                outcome = compress(
                    factors,
                    data,
                    held_out=held_out,
                    budgets=budgets,
                    precision=self.precision,
                    force=self.force,
                    seed=self.seed,
                    kept=self.out,
                    progress=progress,
                )
            show(self, outcome, console)
