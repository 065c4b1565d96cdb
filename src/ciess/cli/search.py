"""`ciess search`."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro
from rich.console import Console

from ciess.cli.options import Columns, PrecisionName
from ciess.cli.results import search_and_show
from ciess.errors import InputError

if TYPE_CHECKING:
    from ciess.backbones import BackboneConfig
    from ciess.data import Interactions, Split
    from ciess.methods.problem import Method


@dataclass(frozen=True)
class Search:
    """Find small models for your interactions, one for each budget."""

    data: tyro.conf.Positional[Path | None] = None
    """File or folder of interactions, or a name of `ciess data list`; split 50/25/25 for each user at random."""
    train: Path | None = None
    """In place of DATA: interactions to learn."""
    valid: Path | None = None
    """With --train: interactions that choices are made on."""
    test: Path | None = None
    """With --train: what the table shows; without it, the table shows validation."""
    backbone: str = "lightgcn"
    """The recommender: lightgcn, mf, ncf, ngcf, als, or factors for tables that you have trained elsewhere."""
    user_factors: Path | None = None
    """With --backbone factors: a .npy file with a row of numbers for each user, ids in rising order."""
    item_factors: Path | None = None
    """With --backbone factors: the same for each item."""
    dim: int | None = None
    """Numbers of a full row: 128, 256 with ncf, which has two tables in one; factors have as many as their files."""
    budgets: tuple[str, ...] = ("20%", "10%", "5%")
    """Limits on the bytes of both tables, such as 5% 32MB 6.4dims."""
    precision: PrecisionName = "float32"
    """How numbers are stored: floats, or whole numbers with a scale a row, or one for all rows of a size."""
    target: Literal["input", "output"] = "input"
    """What is packed: the tables that are learned, or the rows that are scored, which need no graph any more."""
    seed: int = 0
    """Of the split, of training and of the search."""
    method: str = "ciess"
    """What finds the sizes: a method's name, a file of your own as mine.py:Mine, or auto for the best of several."""
    preset: Literal["default", "paper", "program"] = "default"
    """CIESS as it measured best here, as its paper says (a training for each plan), or as its authors' program does."""
    episodes: int | None = None
    """Episodes of the search: fewer are faster."""
    out: Path = Path("runs/search")
    """Folder for the models and result.json."""
    min_rating: float | None = None
    """Keep interactions rated at least this."""
    k_core: int = 1
    """Keep users and items with at least this many interactions."""
    columns: Columns = field(default_factory=Columns)

    def run(self, console: Console) -> None:
        """Search, save, print the table."""
        from ciess.tables.budget import Budget

        # What can be refused at once is refused before data are read.
        config = self._backbone()
        budgets = [Budget.parse(budget) for budget in self.budgets]
        method = self._method()
        search_and_show(
            self,
            self._data(),
            console,
            backbone=config,
            budgets=budgets,
            method=method,
            precision=self.precision,
            target=self.target,
            seed=self.seed,
        )

    def _method(self) -> "str | Method":
        from ciess.methods import method_named
        from ciess.methods.ciess import Ciess

        if self.method.lower() != "ciess":
            if self.preset != "default" or self.episodes is not None:
                raise InputError("--preset and --episodes are settings of CIESS: leave them out, or --method")
            return self.method if self.method == "auto" else method_named(self.method)
        method = {"default": Ciess(), "paper": Ciess.paper(), "program": Ciess.program()}[self.preset]
        return method if self.episodes is None else replace(method, episodes=self.episodes)

    def _backbone(self) -> "BackboneConfig":
        from ciess.backbones import backbone_named

        if self.backbone.lower() != "factors":
            if self.user_factors or self.item_factors:
                raise InputError("--user-factors and --item-factors need --backbone factors: name it")
            return backbone_named(self.backbone, **({} if self.dim is None else {"dim": self.dim}))
        if self.user_factors is None or self.item_factors is None:
            raise InputError("--backbone factors needs two tables: name both --user-factors and --item-factors")
        return backbone_named("factors", users=self.user_factors, items=self.item_factors)

    def _data(self) -> "Interactions | Split":
        from ciess.data import split_given

        if self.data is not None:
            if self.train or self.valid or self.test:
                raise InputError("DATA and --train are both given: name one of them")
            return self._read(self.data)
        if self.train is None or self.valid is None:
            raise InputError("no interactions are given: name DATA, or both --train and --valid")
        test = self._read(self.test) if self.test else None
        return split_given(self._read(self.train), self._read(self.valid), test)

    def _read(self, path: Path) -> "Interactions":
        return self.columns.read(path, self.min_rating, self.k_core)
