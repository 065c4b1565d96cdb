"""`ciess apply`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.console import Console

from ciess.checks import Seed, check
from ciess.cli.options import Count, Flag, Folder, Shared, option
from ciess.cli.results import own_folder, search_and_show


@dataclass(frozen=True, kw_only=True)
class Apply(Shared):
    """Size the rows of your interactions as another search has learned to."""

    policy: Annotated[Path, option("FOLDER")]
    """Of a model that `ciess search` saved, such as runs/search/budget-5"""
    refit: Flag = True
    """Saved models do not learn what test held out"""
    seed: Count[int] = 0
    """Of split and training"""
    out: Folder = Path("runs/apply")
    """For models and report"""

    def run(self, console: Console) -> None:
        """Size, finish, save, print the table."""
        from ciess.experiment.runs import RESULT
        from ciess.methods.policy import Applied, SizePolicy

        settings = self.settings()
        check("--seed", self.seed, Seed)
        with own_folder(self, RESULT):
            method = Applied(SizePolicy.load(self.policy))
            search_and_show(
                self,
                self.interactions(),
                console,
                method=method,
                refit=self.refit,
                seed=self.seed,
                **settings,
            )
