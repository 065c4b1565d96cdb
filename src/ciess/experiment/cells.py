"""`Cell`: what one method came to with one seed, and its file, so that nothing is done twice."""

import dataclasses
import hashlib
import inspect
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from ciess.data import Split
from ciess.errors import InputError
from ciess.experiment.recipe import Recipe
from ciess.experiment.settings import described
from ciess.files import write_whole
from ciess.methods.problem import Method
from ciess.models.factors import Factors
from ciess.results.outcome import Row
from ciess.tables.budget import Budget

FORMAT = 1
"""Of the files; other files are not read, since their names differ."""


@dataclass(frozen=True, eq=False)
class Cell:
    """One method, one seed, all budgets.

    Attributes:
        method: its name; `full` is the full model.
        seed: of split, training and search.
        rows: one for each budget.
        quality: for each budget as written, (n_users,) float32 quality of every user, NaN for those not measured.
        trainings: models that the search trained, by itself or to measure a plan.
        measurements: plans that it measured.
        finishes: plans that were brought to their best.
        seconds: of the search.
        error: why there are no rows; empty where there are.
    """

    method: str
    seed: int
    rows: list[Row] = field(default_factory=list)
    quality: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    trainings: int = 0
    measurements: int = 0
    finishes: int = 0
    seconds: float = 0.0
    error: str = ""

    def described(self) -> dict[str, Any]:
        """As JSON keeps it: all but the quality of every user."""
        told = {each.name: getattr(self, each.name) for each in dataclasses.fields(self) if each.name != "quality"}
        return {**told, "rows": [dataclasses.asdict(row) for row in self.rows]}


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
        self._folder, self._seed = folder, seed
        self._full_key = {
            "format": FORMAT,
            "backbone": described(recipe.config),
            "backbone source": _source(recipe.config),
            "tables": _digest(*recipe.config.tables) if isinstance(recipe.config, Factors) else "",
            "data": _fingerprint(split),
            "seed": seed,
        }
        self._key = {**self._full_key, "recipe": described(recipe), "budgets": [str(budget) for budget in budgets]}

    def path_of_full(self) -> Path | None:
        """Where the trained full models are kept, without their endings."""
        return self._folder and self._folder / f"full-{self._seed}-{_name(self._full_key)}"

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
            kept = {"key": self._key_of(method), "cell": cell.described()}
            write_whole(path, json.dumps(kept, indent=1, default=str) + "\n")

    def _path(self, name: str, method: Method | None) -> Path | None:
        plain = re.sub(r"[^\w.=,-]", "-", name)
        return self._folder and self._folder / f"{plain}-{self._seed}-{_name(self._key_of(method))}.json"

    def _key_of(self, method: Method | None) -> dict[str, Any]:
        if method is None:
            return {**self._key, "budgets": []}
        return {**self._key, "method": described(method), "method source": _source(method)}


def _name(key: dict[str, Any]) -> str:
    return _digest(json.dumps(key, sort_keys=True, default=str).encode())


def _source(settings: object) -> str:
    """What identifies the code of a class that is none of ciess: the file it stands in."""
    if type(settings).__module__.startswith("ciess."):
        return ""
    try:
        return _digest(Path(inspect.getfile(type(settings))).read_bytes())
    except (OSError, TypeError):
        return ""


def _fingerprint(split: Split) -> str:
    """What identifies interactions, whatever their ids and times."""
    parts = [each.matrix for each in (split.train, split.valid, split.test) if each is not None]
    return _digest(
        *(array.astype(np.int64) for part in parts for array in (part.indptr, part.indices, np.array(part.shape)))
    )


def _digest(*parts: bytes | NDArray[Any]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).data)
    return digest.hexdigest()[:12]
