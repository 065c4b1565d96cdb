"""`ciess compare`."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console

from ciess.cli.options import Folder, Name, Shared, command_line, option
from ciess.cli.printing import say
from ciess.cli.results import at_work, drawn, own_folder, show_cautions, show_tuned

if TYPE_CHECKING:
    from ciess.experiment.comparison import Comparison


@dataclass(frozen=True)
class Compare(Shared):
    """Compare methods under equal conditions, and tell chance from difference."""

    methods: Annotated[tuple[str, ...], option("NAME ...")] = ()
    """Without it all; bet:predicted=False, mine.py:Mine"""
    seeds: Annotated[tuple[int, ...], option("N ...")] = (0, 1, 2)
    """Of splits, training and searches"""
    executor: Name[str | None] = None
    """processes:4, ray or ray:ADDRESS makes the cells"""
    shard: Annotated[str | None, option("I/N")] = None
    """Make one of N parts of the cells, and no report"""
    merge: Annotated[tuple[Path, ...], option("FOLDER ...")] = ()
    """Take the cells of shards with other --out first"""
    out: Folder = Path("runs/compare")
    """For report and tables"""

    def run(self, console: Console) -> None:
        """Compare, save, print the tables."""
        from ciess.experiment.compare import checked_seeds, compare
        from ciess.experiment.executors import check_executor, part_of
        from ciess.experiment.runs import CELLS, COMPARISON
        from ciess.experiment.trials import methods_by_name

        settings = self.settings()
        methods_by_name(self.methods)
        checked_seeds(self.seeds)
        part_of([], self.shard)
        check_executor(self.executor)
        with own_folder(self, COMPARISON):
            data = self.interactions()
            with at_work(console) as progress:
                comparison = compare(
                    data,
                    methods=self.methods,
                    seeds=self.seeds,
                    cells=self.out / CELLS,
                    executor=self.executor,
                    shard=self.shard,
                    merge=[folder / CELLS for folder in self.merge],
                    progress=progress,
                    **settings,
                )
            if self.shard:
                done = len(comparison.cells) - len(comparison.failures)
                console.print(f"shard {self.shard}: {done} cells are kept in {self.out / CELLS}")
            else:
                comparison = replace(comparison, settings={"command": command_line(self), **comparison.settings})
                self._show(comparison, comparison.save(self.out), console)
        for failed in comparison.failures:
            say(f"{failed.method}, seed {failed.seed}: {failed.error}")
        if comparison.failures:
            raise SystemExit(1)

    def _show(self, comparison: "Comparison", paths: list[Path], console: Console) -> None:
        from ciess.experiment.runs import COMPARISON
        from ciess.report import comparison_table
        from ciess.report.wording import spent

        if self.printing.json:
            print((self.out / COMPARISON).read_text(), end="")
        table = comparison_table(comparison).showing(
            f"Measured on {comparison.shown}; bold: significantly better than equal sizes",
            *("Method", "Budget", "Recall@20", "NDCG@20", "Kept", "Tail kept", "Gain, %"),
        )
        console.print(drawn(table, console))
        show_tuned({f"tuned, seed {cell.seed}": cell.tuning for cell in comparison.cells if cell.tuning}, console)
        console.print(f"wall time: {spent(comparison.seconds)}")
        show_cautions(comparison.cautions, console)
        for path in paths:
            console.print(f"wrote {path}", soft_wrap=True)
