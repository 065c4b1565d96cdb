"""`ciess compress`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from rich.console import Console

from ciess.cli.options import Budgets, Columns, Count, Flat, Folder, Name, PrecisionName, Printing, option
from ciess.cli.results import show


@dataclass(frozen=True)
class Compress:
    """Make tables small that you have trained elsewhere."""

    users: Annotated[Path, option("FILE")]
    """A .npy file with a row of numbers for each user."""
    items: Annotated[Path, option("FILE")]
    """The same for each item; inner products of the rows are scores."""
    interactions: Annotated[Path, option("FILE")]
    """Of the same users and items, as `search` reads them, or a .npz matrix."""
    budgets: Budgets = ("5%",)
    precision: Name[PrecisionName] = "auto"
    """Numbers: float32, float16, int8, int6, int4, int4-shared or auto."""
    seed: Count[int] = 0
    """Of everything random."""
    out: Folder = Path("runs/compress")
    """For models and report."""
    columns: Flat[Columns] = field(default_factory=Columns)
    printing: Flat[Printing] = field(default_factory=Printing)

    def run(self, console: Console) -> None:
        """Compress, save, print the table."""
        from ciess.experiment.compress import compress
        from ciess.models.factors import Factors
        from ciess.progress import ConsoleProgress
        from ciess.tables.budget import Budget

        budgets = [Budget.parse(budget) for budget in self.budgets]
        factors = Factors(users=self.users, items=self.items)
        data = self.columns.read(self.interactions)
        with ConsoleProgress(console) as progress:
            outcome = compress(
                factors, data, budgets=budgets, precision=self.precision, seed=self.seed, progress=progress
            )
        show(self, outcome, console)
