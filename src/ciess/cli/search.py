"""`ciess search`."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from rich.console import Console

from ciess.checks import Positive, Seed, check, parsed_share
from ciess.cli.options import Count, Flag, Folder, Name, Shared, option
from ciess.cli.results import own_folder, search_and_show
from ciess.errors import InputError

if TYPE_CHECKING:
    from ciess.methods.problem import Method


@dataclass(frozen=True)
class Search(Shared):
    """Find small models for your interactions, one for each budget."""

    method: Name[str | None] = None
    """marginal (default), auto, a name, or mine.py:Mine"""
    preset: Name[Literal["default", "paper", "program"]] = "default"
    """Settings of CIESS: of this package, paper or program"""
    episodes: Count[int | None] = None
    """Episodes of the search by CIESS"""
    max_tail_loss: Annotated[str | None, option("SHARE")] = None
    """What rare items may lose of the full Recall@20: 5%"""
    sample: Annotated[str | None, option("SHARE")] = None
    """Search on this share of users, size all rows: 15%"""
    refit: Flag = True
    """Saved models do not learn what test held out"""
    seed: Count[int] = 0
    """Of split, training and search"""
    out: Folder = Path("runs/search")
    """For models and report"""

    def run(self, console: Console) -> None:
        """Search, save, print the table."""
        from ciess.experiment.runs import RESULT

        settings = self.settings()
        loss = None if self.max_tail_loss is None else parsed_share("--max-tail-loss", self.max_tail_loss)
        share = None if self.sample is None else parsed_share("--sample", self.sample, above_zero=True)
        with own_folder(self, RESULT):
            method = self._method()
            check("--seed", self.seed, Seed)
            search_and_show(
                self,
                self.interactions(),
                console,
                method=method,
                max_tail_loss=loss,
                sample=share,
                refit=self.refit,
                seed=self.seed,
                **settings,
            )

    def _method(self) -> "str | Method | None":
        from ciess.methods import method_named
        from ciess.methods.ciess.budgeted import Ciess
        from ciess.methods.ciess.paper import CiessPaper

        if self.method is None or self.method.lower() != "ciess":
            if self.preset != "default" or self.episodes is not None:
                raise InputError("--preset and --episodes are settings of CIESS: leave them out, or add --method ciess")
            return self.method if self.method in (None, "auto") else method_named(self.method)
        presets: dict[str, Ciess | CiessPaper] = {
            "default": Ciess(),
            "paper": Ciess.paper(),
            "program": Ciess.program(),
        }
        method = presets[self.preset]
        check("--episodes", self.episodes, Positive | None)
        return method if self.episodes is None else replace(method, episodes=self.episodes)
