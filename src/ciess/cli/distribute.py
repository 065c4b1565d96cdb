"""`ciess distribute`."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.table import Table

from ciess.checks import Seed, check
from ciess.cli.options import (
    AsJson,
    Columns,
    Count,
    Flat,
    Folder,
    Name,
    Positional,
    PrecisionName,
    Set,
    configured,
    option,
    settings_given,
)
from ciess.cli.results import at_work

_METRICS = ("recall@20", "ndcg@20", "quality")


@dataclass(frozen=True)
class Distribute:
    """Train and shrink a model over several processes, started by torchrun."""

    data: Positional[Path]
    """A file, a folder, prepared or not, or a name"""
    backbone: Name[str] = "als"
    """als or mf"""
    dim: Count[int | None] = None
    """Dimensions of a full row: 128"""
    set: Set = ()
    budget: Annotated[str, option("BUDGET")] = "10%"
    """Of both tables: 5% 32MB 6.4dims"""
    policy: Annotated[Path | None, option("FOLDER")] = None
    """Of a searched model, whose sizes are taken; else equal"""
    precision: Annotated[PrecisionName, option("NAME")] = "float32"
    """float32, float16, int8, int6 or int4"""
    seed: Count[int] = 0
    """Of split and training"""
    out: Folder = Path("runs/distribute")
    """For the model"""
    json: AsJson = False
    columns: Flat[Columns] = field(default_factory=Columns)

    def run(self, console: Console) -> None:
        """Train, finish, pack, save, print the table."""
        from ciess.experiment.distribute import check_distributed, distribute
        from ciess.methods.policy import SizePolicy
        from ciess.tables.budget import Budget
        from ciess.train.shards import is_first

        # What can be refused at once is refused before data are read.
        config = configured(self.backbone, settings_given({"dim": self.dim}, self.set))
        Budget.parse(self.budget)
        check("--seed", self.seed, Seed)
        policy = None if self.policy is None else SizePolicy.load(self.policy)
        check_distributed(config, self.out, self.precision)
        first = is_first()
        with at_work(Console(quiet=True) if self.json or not first else console) as progress:
            found = distribute(
                self.columns.prepared_or_read(self.data),
                self.out,
                backbone=config,
                budget=self.budget,
                policy=policy,
                precision=self.precision,
                seed=self.seed,
                progress=progress,
            )
        if not first:
            return
        if self.json:
            print(json.dumps({**dataclasses.asdict(found), "folder": str(found.folder)}, indent=2))
            return
        table = Table(title=f"Measured on {found.shown}", box=None, padding=(0, 1, 0, 0))
        for heading in ("", "Recall@20", "NDCG@20", "Quality", "Kept"):
            table.add_column(heading, justify="right" if heading else "left")
        for name, means in (("full model", found.full), (f"budget {self.budget}", found.small)):
            kept = means["quality"] / found.full["quality"] if found.full["quality"] else 0.0
            table.add_row(name, *(f"{means[metric]:.4f}" for metric in _METRICS), f"{kept:.1%}")
        console.print(table)
        told = "process" if found.processes == 1 else "processes"
        where = f"saved {found.folder}: tables of {found.table_bytes:,} bytes, in {found.processes} {told}"
        console.print(where, soft_wrap=True)
