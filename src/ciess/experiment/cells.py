"""Files of cells and full models, so that nothing is done twice; known by all that makes them."""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ciess.data import Split
from ciess.errors import InputError, refused
from ciess.experiment.keys import canonical, code_of, digest
from ciess.experiment.recipe import Recipe
from ciess.experiment.settings import versions
from ciess.methods.problem import Method
from ciess.models.factors import Factors
from ciess.results.comparison import BY_USER, Cell
from ciess.results.outcome import Row
from ciess.tables.budget import Budget
from ciess.train.checkpoint import NOTHING, Kept, State

FORMAT = 4
"""Of the files; other files are not read, since their names differ."""
UNFINISHED = ".unfinished"
"""The folder of what a run that was stopped goes on from."""
_SHOWING = ("report", "exports", "cli")
"""Folders of the package that make no result."""
_SEARCHING = ("methods", "serve", "results")
"""Folders that make no full model."""


_OF_A_CELL = re.compile(r"-\d+-[0-9a-f]{16}$")
"""The end of a cell's name: seed and key."""


class Known:
    """What identifies everything that comes of one split, recipe and seed.

    Args:
        split: what everything is measured on.
        recipe: what all methods share.
        seed: of everything.

    Raises:
        InputError: settings by which what is kept cannot be told apart, when a key is asked for.
    """

    def __init__(self, split: Split, recipe: Recipe, seed: int) -> None:
        self._split, self._recipe, self._seed = split, recipe, seed

    @cached_property
    def of_full(self) -> dict[str, Any]:
        """All that makes the full models: data, settings, seed and code."""
        config = self._recipe.config
        tables = config.build(self._split.train, self._seed).state_dict() if isinstance(config, Factors) else None
        return {
            "format": FORMAT,
            "backbone": canonical(config, "backbone"),
            "tune": self._recipe.tune,
            "tables": canonical(tables),
            "data": canonical(self._split),
            "seed": self._seed,
            "code": code_of(*_SHOWING, *_SEARCHING),
            "versions": versions("ciess", "torch", "numpy", "scipy"),
        }

    @cached_property
    def of_all(self) -> dict[str, Any]:
        """All that makes searches, finishes and models, but for methods and budgets."""
        return {**self.of_full, "code": code_of(*_SHOWING), "recipe": canonical(self._recipe, "recipe")}

    def unfinished(self, folder: Path | None) -> Kept:
        """Keeps what a run does until it ends, in a folder of a folder; None keeps nothing."""
        return NOTHING if folder is None else Kept(folder / UNFINISHED, digest(self.of_all))


class Cells:
    """The cells of one split and seed, kept in a folder.

    Args:
        folder: None keeps nothing.
        split: what everything is measured on.
        recipe: what all methods share.
        budgets: of the searches.
        seed: of everything.
    """

    def __init__(self, folder: Path | None, split: Split, recipe: Recipe, budgets: Sequence[Budget], seed: int) -> None:
        self._folder, self._budgets, self._seed = folder, budgets, seed
        self._known = Known(split, recipe, seed)

    def full(self) -> Kept:
        """Keeps the full models."""
        if self._folder is None:
            return NOTHING
        return Kept(self._folder, f"full-{self._seed}-{digest(self._known.of_full)}")

    def unfinished(self) -> Kept:
        """Keeps what is done of cells that are not whole."""
        return self._known.unfinished(self._folder)

    def read(self, name: str, method: Method | None) -> Cell | None:
        """A cell that was kept, None where there is none; of one that is damaged, a warning tells."""
        found = self._kept(name, method).read()
        return None if found is None else _cell(found)

    def write(self, cell: Cell, method: Method | None) -> None:
        """Keep a cell.

        Raises:
            InputError: the folder cannot be written.
        """
        if self._folder is None:
            return
        tensors = {
            f"{kind} {budget}": torch.from_numpy(each)
            for kind in BY_USER
            for budget, each in getattr(cell, kind).items()
        }
        told = {"key": self._key_of(cell.method, method), "cell": cell.described()}
        self._kept(cell.method, method).write(State(told, tensors))

    def take(self, folder: Path, methods: Mapping[str, Method | None]) -> None:
        """Copy the cells of this seed and these methods that another run of the same comparison has kept.

        Raises:
            InputError: there are no cells, or one was made by other settings, data, code or versions.
        """
        names = [path.stem for path in sorted(folder.glob("*.safetensors")) if _OF_A_CELL.search(path.stem)]
        if not names:
            raise InputError(f"{folder} holds no cells: name the folder of a comparison or of a shard of one")
        for name in names:
            found = Kept(folder, name).read()
            if found is None:
                continue
            with refused(f"{folder / name}.safetensors holds no cell", "leave it out"):
                cell, key = _cell(found), found.told["key"]
                if cell.seed != self._seed or cell.method not in methods:
                    continue
                wanted = self._key_of(cell.method, methods[cell.method])
                differing = [part for part in wanted if key.get(part) != wanted[part]]
            if differing:
                told = f"{folder / name}.safetensors was made by other {', '.join(differing)}"
                raise InputError(f"{told}: merge shards of one comparison alone")
            if self.read(cell.method, methods[cell.method]) is None:
                self.write(cell, methods[cell.method])

    def _kept(self, name: str, method: Method | None) -> Kept:
        if self._folder is None:
            return NOTHING
        return Kept(self._folder).within(name, self._seed, digest(self._key_of(name, method)))

    def _key_of(self, name: str, method: Method | None) -> dict[str, Any]:
        if method is None:
            return {**self._known.of_all, "budgets": []}
        budgets = [str(budget) for budget in self._budgets]
        kind = canonical(method, type(method).__name__)
        return {**self._known.of_all, "budgets": budgets, "name": name, "method": kind}


def _cell(found: State) -> Cell:
    told = {**found.told["cell"], "rows": [Row(**row) for row in found.told["cell"]["rows"]]}
    for kind in BY_USER:
        of_kind = {name: each for name, each in found.tensors.items() if name.startswith(kind)}
        told[kind] = {name.removeprefix(f"{kind} "): each.numpy() for name, each in of_kind.items()}
    return Cell(**told)
