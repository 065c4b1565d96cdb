"""Two tables that were trained elsewhere: by implicit, LightFM, RecBole, or anything that scores by inner products."""

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from ciess.data import Interactions
from ciess.errors import InputError
from ciess.models.base import BackboneConfig, Training, TwoTables

_Table = NDArray[np.float32]


@dataclass(frozen=True)
class Factors(BackboneConfig):
    """Tables trained elsewhere, taken as they are.

    Row n of each belongs to the n-th id of the interactions, ids in rising order. A user's score of an item is the
    inner product of their rows.

    Attributes:
        dim: the tables' width; 0 reads it from the files.
        training: none.
        users: a .npy file of (n_users, dim) numbers; empty for tables from memory, see `from_arrays`.
        items: a .npy file of (n_items, dim) numbers.

    Raises:
        InputError: a file that is missing or holds no such table, or tables of different widths.
    """

    dim: int = 0
    training: Training = field(default_factory=lambda: Training(steps=0))
    users: str | os.PathLike[str] = ""
    items: str | os.PathLike[str] = ""

    def __post_init__(self) -> None:
        for side in ("users", "items"):
            object.__setattr__(self, side, os.fspath(getattr(self, side)))
        # With a width, as in the settings of a saved model, the files are read when they are needed, if ever.
        if self.dim == 0:
            object.__setattr__(self, "dim", self.tables[0].shape[1])
        super().__post_init__()

    @classmethod
    def from_arrays(cls, users: ArrayLike, items: ArrayLike) -> "Factors":
        """From tables in memory, (n_users, dim) and (n_items, dim), which are copied.

        Raises:
            InputError: not two tables of finite numbers and one width.
        """
        tables = _checked(users, "the user factors"), _checked(items, "the item factors")
        _refuse_widths(*tables)
        config = cls(dim=tables[0].shape[1])
        # In place of what would be read from files; no field, so that settings stay plain.
        vars(config)["tables"] = tables
        return config

    @classmethod
    def from_model(cls, model: Any) -> "Factors":
        """From a fitted model of implicit (its user_factors and item_factors) or of LightFM (its representations).

        LightFM's biases become two more columns: users get (bias, 1), items get (1, bias). A LightFM model with
        features of users or items needs them to represent both: give its representations to `from_arrays`.

        Raises:
            InputError: a model that is not fitted or has no such tables.
        """
        name = type(model).__name__
        if hasattr(model, "get_user_representations"):
            try:
                sides = model.get_user_representations(), model.get_item_representations()
            except ValueError as error:
                raise InputError(f"{name} has no factors yet ({error}): fit it first") from error
            (user_bias, users), (item_bias, items) = sides
            users = np.column_stack([users, user_bias, np.ones(len(users))])
            items = np.column_stack([items, np.ones(len(items)), item_bias])
            return cls.from_arrays(users, items)
        try:
            users, items = model.user_factors, model.item_factors
        except AttributeError as error:
            raise InputError(f"{name} has no user_factors and item_factors: use Factors.from_arrays") from error
        if users is None or items is None:
            raise InputError(f"{name} has no factors yet: fit it first")
        # Implicit keeps the factors of models fitted on a GPU in a class of its own.
        users, items = (table.to_numpy() if hasattr(table, "to_numpy") else table for table in (users, items))
        return cls.from_arrays(users, items)

    @cached_property
    def tables(self) -> tuple[_Table, _Table]:
        """The user and the item table, read once."""
        if not self.users or not self.items:
            raise InputError("factors are two tables: name a .npy file of users and one of items")
        users, items = _read(Path(self.users)), _read(Path(self.items))
        _refuse_widths(users, items)
        if self.dim not in (0, users.shape[1]):
            raise InputError(f"dim is {self.dim}, but {self.users} holds {users.shape[1]} columns: leave dim out")
        return users, items

    @property
    def learns(self) -> bool:
        """Without tables of its own, as rows that were scored by another backbone are kept, it stands for that one."""
        return not self.users and "tables" not in vars(self)

    def build(self, train: Interactions, seed: int = 0) -> "FactorsModel":
        """The tables as they are; the seed does not matter.

        Raises:
            InputError: not one row for each user and each item.
        """
        for side, table, n in zip(("user", "item"), self.tables, (train.n_users, train.n_items), strict=True):
            if len(table) != n:
                raise InputError(
                    f"there are {len(table):,} rows of {side} factors for {n:,} {side}s: "
                    f"give one for each {side} of the interactions, ids in rising order"
                )
        return FactorsModel(*self.tables)

    def skeleton(self, train: Interactions) -> "FactorsModel":
        """A model that needs no tables of its own to score."""
        return FactorsModel(*(np.empty((n, 0), dtype=np.float32) for n in (train.n_users, train.n_items)))


class FactorsModel(TwoTables):
    """Two given tables, scored by inner products."""

    def __init__(self, users: _Table, items: _Table) -> None:
        super().__init__()
        self.user_table, self.item_table = nn.Parameter(torch.tensor(users)), nn.Parameter(torch.tensor(items))


def _read(path: Path) -> _Table:
    if not path.is_file():
        raise InputError(f"{path} does not exist: name a .npy file, as numpy.save writes it")
    try:
        with path.open("rb") as file:
            # Not numpy.load, which also opens archives; pickled objects are refused.
            table = np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise InputError(f"{path} is no .npy file of numbers: write it with numpy.save") from error
    return _checked(table, str(path))


def _checked(table: ArrayLike, name: str) -> _Table:
    found = np.asarray(table)
    if found.dtype.kind not in "fiu" or found.ndim != 2 or 0 in found.shape:
        raise InputError(f"{name}: {found.dtype} of shape {found.shape}, not a table of numbers (rows, columns)")
    with np.errstate(over="ignore"):
        numbers = found.astype(np.float32)
    finite = np.isfinite(numbers).all(1)
    if not finite.all():
        raise InputError(f"{name}: row {int(finite.argmin())} (from 0) holds numbers that are not finite: mend it")
    return numbers


def _refuse_widths(users: _Table, items: _Table) -> None:
    if users.shape[1] != items.shape[1]:
        raise InputError(
            f"user factors have {users.shape[1]} columns and item factors {items.shape[1]}: both need the same"
        )
