"""What a search gives back: models, and the table that says what they are worth."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from ciess.experiment.runs import RESULT, former_files
from ciess.files import Content, given_path, write_together
from ciess.report import as_fragment, report_files, searched, summary, write
from ciess.results.outcome import KEPT, OutcomeData
from ciess.tables.budget import Budget


@dataclass(frozen=True, eq=False, repr=False)
class Outcome(OutcomeData):
    """What a search gives back: see `OutcomeData` for what it holds."""

    def __repr__(self) -> str:
        kept = (self.row(KEPT, budget) for budget in self.plans)
        return f"Outcome({', '.join(f'{row.kept:.1%} of the quality kept in {row.budget}' for row in kept)})"

    def report(self, folder: str | Path) -> Path:
        """Write `report.html`, and `report.md` with its figures, for people; the path of the page.

        Raises:
            InputError: the folder cannot be written.
        """
        return write(searched(self), given_path("folder", folder))

    def _repr_html_(self) -> str:
        """What notebooks show: the answer and the result table."""
        return as_fragment(summary(self))

    def save(self, folder: str | Path) -> dict[Budget, Path]:
        """Save each model and its policy into a folder of its own, `result.json` and the report beside them.

        All appears at once: whoever reads, and whenever this is stopped, there is what a former run saved in the same
        folder, or what this one does.

        Raises:
            InputError: the folder cannot be written.
        """
        folder = given_path("folder", folder)
        result = {
            "shown": self.shown,
            "rows": [dataclasses.asdict(row) for row in self.rows],
            "settings": self.settings,
            "seconds": self.seconds,
            "trace": self.trace,
        }
        files: dict[str, Content] = {RESULT: json.dumps(result, indent=1) + "\n"}
        for budget, model in self.models.items():
            both = {**model.files, **self.policies[budget].files}
            files |= {f"{budget.folder}/{name}": content for name, content in both.items()}
        write_together(folder, files | report_files(searched(self)), former_files(folder))
        return {budget: folder / budget.folder for budget in self.models}
