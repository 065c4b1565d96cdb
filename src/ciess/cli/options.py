"""What several commands are told, and a command as one types it."""

import dataclasses
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

import tyro

from ciess.errors import InputError

if TYPE_CHECKING:
    from ciess.backbones import BackboneConfig
    from ciess.data import Interactions, Split

PrecisionName = Literal["auto", "float32", "float16", "int8", "int4", "int4-shared"]


@dataclass(frozen=True)
class Columns:
    """Names of the data's columns, where they are not the usual ones."""

    user: str | None = None
    """Ids of users."""
    item: str | None = None
    """Ids of items."""
    rating: str | None = None
    """Ratings."""
    time: str | None = None
    """Timestamps."""

    def read(self, path: Path, min_rating: float | None = None, k_core: int = 1) -> "Interactions":
        """Read interactions from a file, a folder or a named set, and filter them."""
        from ciess.data import read

        interactions = read(
            path, user=self.user, item=self.item, rating=self.rating, time=self.time, min_rating=min_rating
        )
        return interactions.k_core(k_core) if k_core > 1 else interactions


@dataclass(frozen=True, kw_only=True)
class AsJson:
    """What programs that call a command need."""

    json: bool = False
    """Print one JSON document, and all else to the error output."""


@dataclass(frozen=True, kw_only=True)
class Printed(AsJson):
    """What is printed by a command that writes files."""

    quiet: bool = False
    """Print nothing but errors."""


@dataclass(frozen=True)
class Shared(Printed):
    """What `search` and `compare` are both told: data, recommender, budgets."""

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
    l2: float | None = None
    """Weight of the rows' norms in training: more where there are few interactions. Not for als and factors."""
    budgets: tuple[str, ...] = ("20%", "10%", "5%")
    """Limits on the bytes of both tables, such as 5% 32MB 6.4dims."""
    precision: PrecisionName = "float32"
    """How numbers are stored: floats, or whole numbers with a scale a row, or one for all rows of a size."""
    target: Literal["input", "output"] = "input"
    """What is packed: the tables that are learned, or the rows that are scored, which need no graph any more."""
    min_rating: float | None = None
    """Keep interactions rated at least this."""
    k_core: int = 1
    """Keep users and items with at least this many interactions."""
    columns: Columns = field(default_factory=Columns)

    def config(self) -> "BackboneConfig":
        """Settings of the recommender."""
        from ciess.backbones import backbone_named

        if self.backbone.lower() != "factors":
            if self.user_factors or self.item_factors:
                raise InputError("--user-factors and --item-factors need --backbone factors: name it")
            config = backbone_named(self.backbone, **({} if self.dim is None else {"dim": self.dim}))
            return config if self.l2 is None else replace(config, training=replace(config.training, l2=self.l2))
        if self.user_factors is None or self.item_factors is None:
            raise InputError("--backbone factors needs two tables: name both --user-factors and --item-factors")
        return backbone_named("factors", users=self.user_factors, items=self.item_factors)

    def interactions(self) -> "Interactions | Split":
        """The data, or a split of one's own."""
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


def command_line(command: Any) -> str:
    """What one types to run a command again, such as `ciess search ratings.csv --seed 1`.

    Defaults are left out, and how the result is printed.
    """
    return shlex.join(["ciess", type(command).__name__.lower(), *_arguments(command)])


def _arguments(settings: Any, within: str = "") -> Iterator[str]:
    hints = get_type_hints(type(settings), include_extras=True)
    printed = {field.name for field in dataclasses.fields(Printed)}
    fields = [field for field in dataclasses.fields(settings) if field.name not in printed]
    told = {field.name: getattr(settings, field.name) for field in fields}
    # Positional ones come first: an option of several values would swallow them.
    positional = [name for name in told if tyro.conf.Positional in getattr(hints[name], "__metadata__", ())]
    defaults = {field.name: field.default for field in fields}
    for name in [*positional, *(each for each in told if each not in positional)]:
        value = told[name]
        if dataclasses.is_dataclass(value):
            yield from _arguments(value, f"{within}{name}.")
        elif value != defaults[name]:
            option = f"--{within}{name}".replace("_", "-")
            values = [str(each) for each in value] if isinstance(value, tuple) else [str(value)]
            yield from values if name in positional else [option, *values]
