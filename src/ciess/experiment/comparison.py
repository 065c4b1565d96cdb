"""`Comparison`: what a comparison of methods came to, in files for people and programs."""

import json
from dataclasses import dataclass
from pathlib import Path

from ciess.experiment.runs import COMPARISON, LATEX, former_files
from ciess.files import given_path, write_together
from ciess.report import (
    as_fragment,
    as_latex,
    as_markdown,
    compared,
    comparison_table,
    in_tables,
    overview,
    report_files,
    write,
)
from ciess.report.rendering import PAGE
from ciess.results.comparison import ComparisonData


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(ComparisonData):
    """What methods came to, side by side: see `ComparisonData` for what it holds."""

    def __repr__(self) -> str:
        return f"Comparison({', '.join(self.methods)}; budgets {', '.join(self.budgets)}; measured on {self.shown})"

    def to_markdown(self) -> str:
        """The tables as Markdown."""
        return as_markdown(in_tables(self))

    def to_latex(self) -> str:
        """The table of quality as LaTeX, for the package booktabs."""
        told = ("Budget", "Method", "Found by", "Recall@20", "NDCG@20", "Kept", "Gain, %", "95% interval", "p")
        return as_latex(comparison_table(self).showing("", *told, "Users better", "Same", "Worse"))

    def report(self, folder: str | Path) -> Path:
        """Write `report.html`, and `report.md` with its figures, for people; the path of the page.

        Raises:
            InputError: the folder cannot be written.
        """
        return write(compared(self), given_path("folder", folder))

    def save(self, folder: str | Path) -> list[Path]:
        """Write `comparison.json`, `comparison.tex` and the report; the paths of these and of the page.

        All appears at once, in the place of what a former run saved in the same folder.

        Raises:
            InputError: the folder cannot be written.
        """
        folder = given_path("folder", folder)
        written = {
            COMPARISON: json.dumps(self.to_dict(), indent=1, default=str) + "\n",
            LATEX: self.to_latex(),
            **report_files(compared(self)),
        }
        write_together(folder, written, former_files(folder))
        return [folder / name for name in (COMPARISON, LATEX, PAGE)]

    def _repr_html_(self) -> str:
        """What notebooks show: the answers and the table of quality."""
        return as_fragment(overview(self))
