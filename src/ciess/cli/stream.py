"""`ciess stream`."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from rich.table import Table

from ciess.checks import Positive, Seed, check
from ciess.cli.options import (
    Columns,
    Count,
    Dim,
    Flag,
    Flat,
    Folder,
    Positional,
    Precision,
    Printing,
    Recommender,
    command_line,
    configured,
    option,
)
from ciess.cli.printing import say
from ciess.cli.results import at_work, own_folder

if TYPE_CHECKING:
    from ciess.experiment.stream import SegmentRow


@dataclass(frozen=True)
class Stream:
    """Follow a stream: test each segment of time, then learn it, within one budget."""

    data: Positional[Path]
    """Interactions with times: a file, a folder or a name"""
    backbone: Recommender = "mf"
    dim: Dim = None
    budget: Annotated[str, option("BUDGET")] = "10%"
    """Of both tables before every segment: 5% 32MB 6.4dims"""
    methods: Annotated[tuple[str, ...], option("NAME ...")] = ("equal", "popularity", "marginal")
    """As compare takes them, on a full model that goes on"""
    segments: Count[int] = 5
    """Parts of the later half of the interactions"""
    retrain: Flag = True
    """Without marginal on a model trained anew each time"""
    precision: Precision = "float32"
    seed: Count[int] = 0
    """Of training and searches"""
    out: Folder = Path("runs/stream")
    """For stream.json"""
    columns: Flat[Columns] = field(default_factory=Columns)
    printing: Flat[Printing] = field(default_factory=Printing)

    def run(self, console: Console) -> None:
        """Stream, save, print the table."""
        from ciess.experiment.runs import STREAM
        from ciess.experiment.stream import stream
        from ciess.experiment.trials import methods_by_name
        from ciess.tables.budget import Budget

        # What can be refused at once is refused before data are read.
        given = {} if self.dim is None else {"dim": self.dim}
        config, methods = configured(self.backbone, given), methods_by_name(self.methods)
        Budget.parse(self.budget)
        check("--segments", self.segments, Positive)
        check("--seed", self.seed, Seed)
        with own_folder(self, STREAM):
            data = self.columns.read(self.data)
            with at_work(console) as progress:
                rows = stream(
                    data,
                    methods=methods,
                    backbone=config,
                    budget=self.budget,
                    segments=self.segments,
                    retrain=self.retrain,
                    precision=self.precision,
                    seed=self.seed,
                    kept=self.out,
                    progress=progress,
                )
            self._show(rows, console)
        failures = [row for row in rows if row.error]
        for row in failures:
            say(f"{row.method}, segment {row.segment}: {row.error}")
        if failures:
            raise SystemExit(1)

    def _show(self, rows: "list[SegmentRow]", console: Console) -> None:
        from ciess.experiment.runs import STREAM
        from ciess.experiment.stream import METRICS, table_of
        from ciess.files import write_whole

        wholes, each = table_of(rows), [dataclasses.asdict(row) for row in rows]
        told = {"settings": {"command": command_line(self)}, "methods": wholes, "segments": each}
        document = json.dumps(told, indent=1) + "\n"
        write_whole(self.out / STREAM, document)
        if self.printing.json:
            print(document, end="")
        table = Table(title="Each segment tested before it is learned", box=None, padding=(0, 1, 0, 0))
        for heading in ("segment", "method", "Recall@20", "NDCG@20", "new", "of budget", "grown", "shrunk"):
            table.add_column(heading, justify="left" if heading == "method" else "right", no_wrap=heading != "method")
        for row in (each for each in rows if not each.error):
            table.add_row(
                str(row.segment),
                row.method,
                *(f"{row.metrics[metric]:.4f}" for metric in METRICS),
                f"{row.new_users:,}+{row.new_items:,}",
                f"{row.table_bytes / row.limit:.1%}",
                f"{row.grown:.0%}",
                f"{row.shrunk:.0%}",
            )
        for whole in wholes:
            means = (f"{whole[metric]:.4f}" for metric in METRICS)
            table.add_row("all", whole["method"], *means, "", f"{whole['most_of_budget']:.1%}", "", "")
        console.print(table)
        console.print(f"wrote {self.out / STREAM}", soft_wrap=True)
