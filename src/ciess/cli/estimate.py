"""`ciess estimate`."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from ciess.cli.options import AsJson, Budgets, Count, Dim, Filters, Flag, Flat, Positional, Recommender, configured
from ciess.cli.values import separated
from ciess.errors import InputError

if TYPE_CHECKING:
    from ciess.experiment.estimate import Estimate, Seconds


@dataclass(frozen=True)
class EstimateCommand:
    """Tell bytes of tables exactly, memory and time roughly, before a search."""

    data: Positional[Path | None] = None
    """Interactions to be counted: a file, a folder, or a name of `ciess data list`"""
    users: Count[float | None] = None
    """Without DATA: how many users, such as 1e6"""
    items: Count[float | None] = None
    """How many items"""
    interactions: Count[float | None] = None
    """How many interactions"""
    backbone: Recommender = "lightgcn"
    dim: Dim = None
    budgets: Budgets = ("20%", "10%", "5%")
    no_time: Flag = False
    """Leave out time: the answer comes at once"""
    json: AsJson = False
    filters: Flat[Filters] = field(default_factory=Filters)

    def run(self, console: Console) -> None:
        """Print bytes, memory and time."""
        from ciess.experiment.estimate import estimate
        from ciess.experiment.pipeline import parsed_budgets

        budgets = parsed_budgets(separated(self.budgets))
        if self.backbone.lower() == "factors":
            raise InputError("factors are not trained: estimate --backbone als, and leave its training out")
        config = configured(self.backbone, {"dim": self.dim})
        found = estimate(*self._counts(), config, budgets, seconds=not self.no_time)
        if self.json:
            print(json.dumps(dataclasses.asdict(found), indent=1))
        else:
            _show(found, console)

    def _counts(self) -> tuple[int, int, int]:
        told = (self.users, self.items, self.interactions)
        if self.data is not None:
            if any(each is not None for each in told):
                raise InputError("DATA and --users, --items or --interactions are both given: leave one out")
            data = self.filters.read(self.data)
            return data.n_users, data.n_items, len(data)
        if self.filters != Filters():
            raise InputError("columns and filters do nothing without DATA: leave them out")
        counts = [int(each) for each in told if each is not None and float(each).is_integer()]
        if len(counts) < 3 or min(counts) < 1:
            raise InputError(
                "too little is given: name DATA, or --users, --items and --interactions, each a whole number from 1 on"
            )
        return counts[0], counts[1], counts[2]


def _show(found: "Estimate", console: Console) -> None:
    from ciess.report.forms import in_bytes

    console.print(
        f"Full tables in float32: {in_bytes(found.table_bytes)}; Adam's moments: {in_bytes(found.optimiser_bytes)}"
    )
    precisions = list(dict.fromkeys(each.precision for each in found.packed))
    table = Table(title="Largest equal size that fits: dimensions of a row", box=None, padding=(0, 2, 0, 0))
    for heading in ("budget", "bytes", *precisions):
        table.add_column(heading, justify="right")
    for start in range(0, len(found.packed), len(precisions)):
        row = found.packed[start : start + len(precisions)]
        table.add_row(row[0].budget, in_bytes(row[0].limit), *(str(each.size) if each.size else "–" for each in row))
    console.print(table)
    beside = in_bytes(found.beside_bytes)
    console.print(f"Beside the tables, a model keeps {beside} of interactions and ids, more where ids are text")
    memory = found.memory
    console.print(
        f"Memory, about: {in_bytes(memory.peak)} at the peak (interactions {in_bytes(memory.interactions)}, "
        f"graph {in_bytes(memory.graph)}, and the most of training {in_bytes(memory.training)}, "
        f"search {in_bytes(memory.search)}, finish {in_bytes(memory.finish)})"
    )
    if found.seconds is not None:
        console.print(_told(found.seconds))


def _told(seconds: "Seconds") -> str:
    parts = ((part.name, getattr(seconds, part.name)) for part in dataclasses.fields(seconds))
    told = ", ".join(f"{name} {_duration(value)}" for name, value in parts)
    return f"Time here, very roughly, on an idle machine: {_duration(seconds.total)} ({told})"


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
