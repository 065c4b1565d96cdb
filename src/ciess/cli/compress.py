"""`ciess compress`."""

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from ciess.cli.options import Columns, PrecisionName, Printed
from ciess.cli.results import show


@dataclass(frozen=True)
class Compress(Printed):
    """Make tables small that you have trained elsewhere."""

    users: Path
    """A .npy file with a row of numbers for each user; inner products with the items' rows are scores."""
    items: Path
    """The same for each item."""
    interactions: Path
    """Interactions of the same users and items: a file as `search` reads it, or a matrix of scipy.sparse.save_npz."""
    budget: tuple[str, ...] = ("5%",)
    """Limits on the bytes of both tables, such as 5% 32MB 6.4dims."""
    precision: PrecisionName = "auto"
    """How numbers are stored; auto takes what is best for each budget."""
    seed: int = 0
    """Of everything random."""
    out: Path = Path("runs/compress")
    """Folder for the models and result.json."""
    columns: Columns = field(default_factory=Columns)

    def run(self, console: Console) -> None:
        """Compress, save, print the table."""
        from ciess.backbones.factors import Factors
        from ciess.compressing import compress
        from ciess.progress import ConsoleProgress
        from ciess.tables.budget import Budget

        budgets = [Budget.parse(budget) for budget in self.budget]
        factors = Factors(users=self.users, items=self.items)
        data = self.columns.read(self.interactions)
        with ConsoleProgress(console) as progress:
            outcome = compress(
                factors, data, budgets=budgets, precision=self.precision, seed=self.seed, progress=progress
            )
        show(self, outcome, console)
