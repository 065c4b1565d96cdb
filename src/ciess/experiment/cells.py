"""Files of cells and full models, so that nothing is done twice; known by all that makes them."""

import json
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from ciess.data import Split
from ciess.errors import InputError
from ciess.experiment.keys import canonical, code_of, digest
from ciess.experiment.recipe import Recipe
from ciess.experiment.settings import versions
from ciess.files import write_whole
from ciess.methods.problem import Method
from ciess.models.factors import Factors
from ciess.results.comparison import Cell
from ciess.results.outcome import Row
from ciess.tables.budget import Budget

FORMAT = 2
"""Of the files; other files are not read, since their names differ."""
_SHOWING = ("report", "exports", "cli")
"""Folders of the package that make no result."""
_SEARCHING = ("methods", "serve", "results")
"""Folders that make no full model."""


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
        self._folder, self._split, self._recipe, self._budgets, self._seed = folder, split, recipe, budgets, seed

    @cached_property
    def _full_key(self) -> dict[str, Any]:
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
    def _key(self) -> dict[str, Any]:
        """All that makes the cells of any method."""
        recipe = canonical(self._recipe, "recipe")
        budgets = [str(budget) for budget in self._budgets]
        return {**self._full_key, "code": code_of(*_SHOWING), "recipe": recipe, "budgets": budgets}

    def path_of_full(self) -> Path | None:
        """Where the trained full models are kept, without their endings."""
        return self._folder and self._folder / f"full-{self._seed}-{digest(self._full_key)}"

    def read(self, name: str, method: Method | None) -> Cell | None:
        """A cell that was kept, None where there is none.

        Raises:
            InputError: its files are damaged.
        """
        path = self._path(name, method)
        if path is None or not path.exists():
            return None
        try:
            told = json.loads(path.read_text())["cell"]
            told["rows"] = [Row(**row) for row in told["rows"]]
            return Cell(**told, quality=load_file(path.with_suffix(".safetensors")))
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise InputError(f"{path} or the file of the users beside it is damaged: delete both") from error

    def write(self, cell: Cell, method: Method | None) -> None:
        """Keep a cell. The users' file is written first: where there is a JSON file, the cell is whole.

        Raises:
            InputError: the folder cannot be written.
        """
        path = self._path(cell.method, method)
        if path is not None:
            write_whole(path.with_suffix(".safetensors"), save(cell.quality))
            kept = {"key": self._key_of(cell.method, method), "cell": cell.described()}
            write_whole(path, json.dumps(kept, indent=1) + "\n")

    def _path(self, name: str, method: Method | None) -> Path | None:
        plain = re.sub(r"[^\w.=,-]", "-", name)
        return self._folder and self._folder / f"{plain}-{self._seed}-{digest(self._key_of(name, method))}.json"

    def _key_of(self, name: str, method: Method | None) -> dict[str, Any]:
        if method is None:
            return {**self._key, "budgets": []}
        return {**self._key, "name": name, "method": canonical(method, type(method).__name__)}
