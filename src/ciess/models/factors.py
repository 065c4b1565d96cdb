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
from ciess.data.columns import Ids
from ciess.data.foreign import array_in
from ciess.errors import InputError, refused
from ciess.files import check_file, given_path
from ciess.models import factor_rows
from ciess.models.base import DESCENT, BackboneConfig, Training, TwoTables
from ciess.models.factor_rows import GivenIds
from ciess.tables.order import balanced

_Table = NDArray[np.float32]
_MOST_SCORE = 1e15
"""The root of the mean square of scores, or its inverse, up to which float32 holds the squares that training takes."""


@dataclass(frozen=True)
class Factors(BackboneConfig):
    """Tables trained elsewhere, scored by inner products of a user's and an item's row.

    They are not trained here. Columns of very different scale on both sides are balanced, which changes no score.
    If no ids are given, row 0 belongs to the smallest id of the interactions, and so on; text ids sort as text. If
    there are more rows than ids, the ids must be the rows' numbers, from 0.

    Attributes:
        dim: the tables' width; 0 reads it from the files.
        training: none.
        users: a .npy file of (n_users, dim) numbers; empty for tables from memory, see `from_arrays`.
        items: a .npy file of (n_items, dim) numbers.
        user_ids: a file with the id of each row of `users`, in their order: a text with one id a line, .npy, or a
            column of .csv or .parquet; empty if none are given.
        item_ids: the same for `items`.

    Raises:
        InputError: a file that is missing or holds no such table, tables of different widths, or not one id a row.
    """

    unused = DESCENT | {"dim", "steps", "eval_every", "patience"}
    distillation = Training(steps=120, batch_size=1_000_000, lr=0.3, lr_every=5, eval_every=30, patience=2)

    dim: int = 0
    training: Training = field(default_factory=lambda: Training(steps=0))
    users: str | os.PathLike[str] = ""
    items: str | os.PathLike[str] = ""
    user_ids: str | os.PathLike[str] = ""
    item_ids: str | os.PathLike[str] = ""

    def __post_init__(self) -> None:
        for side in ("users", "items", "user_ids", "item_ids"):
            object.__setattr__(self, side, os.fspath(getattr(self, side)))
        # With a width, as in the settings of a saved model, the files are read when they are needed, if ever.
        if self.dim == 0:
            object.__setattr__(self, "dim", self.tables[0].shape[1])
        super().__post_init__()

    @classmethod
    def from_arrays(
        cls, users: ArrayLike, items: ArrayLike, *, user_ids: Ids | None = None, item_ids: Ids | None = None
    ) -> "Factors":
        """From tables in memory, which are copied: NumPy arrays, PyTorch tensors or lists of any kind of numbers.

        Args:
            users: (n_users, dim) numbers.
            items: (n_items, dim) numbers.
            user_ids: (n_users,) ids in the order of the rows; see the class for what counts without them.
            item_ids: (n_items,) the same for items.

        Raises:
            InputError: not two tables of finite numbers and one width, or not one id for each row.
        """
        tables = _of_like_columns(_checked(users, "the user factors"), _checked(items, "the item factors"))
        config = cls(dim=tables[0].shape[1])
        # In place of what would be read from files; no field, so that settings stay plain.
        vars(config)["tables"] = tables
        return config.with_ids(user_ids, item_ids)

    def with_ids(self, user_ids: Ids | None = None, item_ids: Ids | None = None) -> "Factors":
        """The same with ids of the rows, as in `from_arrays`; sides without new ones keep theirs.

        Raises:
            InputError: not one id for each row.
        """
        if user_ids is None and item_ids is None:
            return self
        new = (("user", user_ids), ("item", item_ids))
        ids = GivenIds(
            *(
                kept if given is None else factor_rows.given_ids(side, given, len(table))
                for (side, given), kept, table in zip(new, self.ids, self.tables, strict=True)
            )
        )
        config = self.changed()
        vars(config).update(tables=self.tables, ids=ids)
        return config

    def changed(self, **settings: Any) -> "Factors":
        """See `BackboneConfig`: the same tables and ids."""
        config = super().changed(**settings)
        vars(config).update({name: each for name, each in vars(self).items() if name in ("tables", "ids")})
        return config

    @classmethod
    def from_model(cls, model: Any, *, user_ids: Ids | None = None, item_ids: Ids | None = None) -> "Factors":
        """From a fitted model of implicit (its user_factors and item_factors) or of LightFM (its representations).

        Ids are as in `from_arrays`.

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
            return cls.from_arrays(users, items, user_ids=user_ids, item_ids=item_ids)
        try:
            users, items = model.user_factors, model.item_factors
        except AttributeError as error:
            raise InputError(f"{name} has no user_factors and item_factors: use Factors.from_arrays") from error
        if users is None or items is None:
            raise InputError(f"{name} has no factors yet: fit it first")
        # Implicit keeps the factors of models fitted on a GPU in a class of its own.
        users, items = (table.to_numpy() if hasattr(table, "to_numpy") else table for table in (users, items))
        return cls.from_arrays(users, items, user_ids=user_ids, item_ids=item_ids)

    @cached_property
    def tables(self) -> tuple[_Table, _Table]:
        """The user and the item table, read once and balanced."""
        if not self.users or not self.items:
            raise InputError("factors are two tables: name a .npy file of users and one of items")
        users, items = _of_like_columns(_read(given_path("users", self.users)), _read(given_path("items", self.items)))
        if self.dim not in (0, users.shape[1]):
            raise InputError(f"dim is {self.dim}, but {self.users} holds {users.shape[1]} columns: leave dim out")
        return users, items

    @property
    def learns(self) -> bool:
        """Without tables of its own, as rows that were scored by another backbone are kept, it stands for that one."""
        return not self.users and "tables" not in vars(self)

    @cached_property
    def ids(self) -> GivenIds:
        """Ids of the rows of both tables, where they are given."""
        files = (("user", self.user_ids), ("item", self.item_ids))
        return GivenIds(
            *(
                factor_rows.given_ids(side, given_path("ids", file), len(table)) if file else None
                for (side, file), table in zip(files, self.tables, strict=True)
            )
        )

    def matched(self, interactions: Interactions) -> Interactions:
        """The interactions over the users and items that have a row, in the order of the rows.

        Users and items without interactions stay. Interactions of others are left out with a warning.

        Raises:
            InputError: rows and ids that do not belong together.
        """
        return factor_rows.matched(interactions, self.tables, self.ids)

    def caution(self, interactions: Interactions) -> str:
        """What to tell if the rows seem to be in another order than the ids; empty if they do not.

        Raises:
            InputError: another order explains the interactions clearly better.
        """
        return factor_rows.caution(interactions, self.tables, self.ids)

    def build(self, train: Interactions, seed: int = 0) -> "FactorsModel":
        """The rows of the users and items of `train`; the seed does not matter.

        Raises:
            InputError: a user or item has no row, or there are more rows than these without ids that tell which.
        """
        users, items = factor_rows.rows_of_all(train, self.tables, self.ids)
        return FactorsModel(self.tables[0][users], self.tables[1][items])

    def skeleton(self, train: Interactions) -> "FactorsModel":
        """A model that needs no tables of its own to score."""
        return FactorsModel(*(np.empty((n, 0), dtype=np.float32) for n in (train.n_users, train.n_items)))


class FactorsModel(TwoTables):
    """Two given tables, scored by inner products."""

    def __init__(self, users: _Table, items: _Table) -> None:
        super().__init__()
        self.user_table, self.item_table = nn.Parameter(torch.tensor(users)), nn.Parameter(torch.tensor(items))

    @torch.no_grad()
    def order_dimensions(self) -> None:
        """See `Backbone`. Nothing is known of the basis of given tables: a rotation, which keeps it, would not do."""
        users, items = balanced(self.user_table, self.item_table)
        self.user_table.copy_(users)
        self.item_table.copy_(items)


def _read(path: Path) -> _Table:
    size = check_file(path, "a .npy file, as numpy.save writes it")
    with refused(f"{path} is no .npy file of numbers", "write it with numpy.save"):
        if not size:
            raise EOFError("it is empty")
        table = array_in(path)
    return _checked(table, str(path))


def _checked(table: Any, name: str) -> _Table:
    if isinstance(table, str | Path):
        raise InputError(f"{name} are a path: name files by ciess.Factors(users=..., items=...), or load them")
    if isinstance(table, torch.Tensor):
        # NumPy has no bfloat16.
        table = table.detach().cpu().to_dense()
        table = (table.float() if table.is_floating_point() else table).numpy()
    try:
        found = np.asarray(table)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} are no table of numbers ({error}): give rows of one length") from error
    # Floats that NumPy does not know by itself, such as JAX's bfloat16, are of kind V.
    if (found.dtype.kind not in "fiu" and "float" not in found.dtype.name) or found.ndim != 2 or 0 in found.shape:
        raise InputError(f"{name}: {found.dtype} of shape {found.shape}, not a table of numbers (rows, columns)")
    with np.errstate(over="ignore"):
        numbers = found.astype(np.float32)
    finite = np.isfinite(numbers).all(1)
    if not finite.all():
        raise InputError(
            f"{name}: row {int(finite.argmin())} (from 0) holds numbers that are not finite: fix or remove it"
        )
    return numbers


def _of_like_columns(users: _Table, items: _Table) -> tuple[_Table, _Table]:
    """Both tables with columns of like mean squares; scores stay as they are, since the factors are powers of two.

    Scores beyond what training can reckon with are all multiplied by one power of two, which changes no ranking.
    """
    if users.shape[1] != items.shape[1]:
        raise InputError(
            f"user factors have {users.shape[1]} columns and item factors {items.shape[1]}: both need the same"
        )
    of_users, of_items = (np.square(table, dtype=np.float64).mean(0) for table in (users, items))
    usable = (of_users > 0) & (of_items > 0)
    ratio = np.divide(of_items, of_users, out=np.ones_like(of_users), where=usable)
    exponents = np.rint(np.log2(ratio) / 4).astype(np.int32)
    scale = float(np.sqrt(of_users @ of_items))
    more = 0 if not scale or 1 / _MOST_SCORE < scale < _MOST_SCORE else -round(np.log2(scale) / 2)
    return np.ldexp(users, more + exponents), np.ldexp(items, more - exponents)
