"""What several commands are told, and a command as one types it."""

import dataclasses
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_type_hints

import tyro

from ciess.errors import InputError

if TYPE_CHECKING:
    from ciess.data import Interactions, Split
    from ciess.models import BackboneConfig

PrecisionName = Literal["auto", "float32", "float16", "int8", "int6", "int4", "int4-shared"]

T = TypeVar("T")


def option(metavar: str | None = None, help: str | None = None) -> Any:
    """How an option shows in the help: with a short word for its value, and with its default where it has one."""
    return tyro.conf.arg(metavar=metavar, help=help, help_behavior_hint=_default)


def _default(value: str) -> str:
    return "" if value in ("", "None", "False") else f"(default: {value})"


Flat = Annotated[T, tyro.conf.arg(name="")]
"""Options of their own class: they come after the others, and without a prefix."""
Positional = tyro.conf.Positional[Annotated[T, option()]]
Count = Annotated[T, option("N")]
Name = Annotated[T, option("NAME")]
Flag = Annotated[bool, option()]
File = Annotated[Path | None, option("FILE")]
Folder = Annotated[Path, option("FOLDER")]
Budgets = Annotated[
    tuple[str, ...], option("BUDGET ...", "Limits on the bytes of both tables, such as 5% 32MB 6.4dims.")
]
AsJson = Annotated[bool, option(help="Print one JSON document.")]


@dataclass(frozen=True)
class Columns:
    """Which columns of the data are meant."""

    columns: Annotated[tuple[str, ...], option("user=NAME ...")] = ()
    """Columns whose names are not the usual ones: user= item= rating= time="""
    layout: Name[Literal["lines", "table"] | None] = None
    """Of files of numbers: lines (user item item …) or table."""

    def read(self, path: Path, min_rating: float | None = None) -> "Interactions":
        """Read interactions from a file, a folder or a named set."""
        from ciess.data import read

        named = dict(each.partition("=")[::2] for each in self.columns)
        if not all(named.values()) or named.keys() - {"user", "item", "rating", "time"}:
            raise InputError(f"--columns {shlex.join(self.columns)} names no columns: write user=NAME item=NAME")
        return read(path, **named, min_rating=min_rating, layout=self.layout)


@dataclass(frozen=True)
class Filters:
    """Which interactions of the data are kept."""

    min_rating: Annotated[float | None, option("RATING")] = None
    """Keep interactions rated at least this."""
    k_core: Count[int] = 1
    """Keep users and items with at least this many interactions."""
    columns: Flat[Columns] = field(default_factory=Columns)

    def read(self, path: Path) -> "Interactions":
        """Read interactions from a file, a folder or a named set, and filter them."""
        return self.core(self.rated(path))

    def rated(self, path: Path) -> "Interactions":
        """Read interactions, and filter them by rating alone."""
        return self.columns.read(path, self.min_rating)

    def core(self, interactions: "Interactions") -> "Interactions":
        """Those of users and items that have enough."""
        return interactions if self.k_core == 1 else interactions.k_core(self.k_core)


@dataclass(frozen=True)
class Printing:
    """What a command that writes files prints."""

    json: Flag = False
    """Print one JSON document, and all else to the error output."""
    quiet: Flag = False
    """Print nothing but errors."""


@dataclass(frozen=True)
class Shared:
    """What `search` and `compare` are both told: data, recommender, budgets."""

    data: Positional[Path | None] = None
    """Interactions: a file, a folder, or a name of `ciess data list`; split 50/25/25 for each user."""
    backbone: Name[str] = "lightgcn"
    """Recommender: lightgcn, mf, ncf, ngcf, als or factors."""
    budgets: Budgets = ("20%", "10%", "5%")
    precision: Name[PrecisionName] = "float32"
    """Numbers: float32, float16, int8, int6, int4, int4-shared or auto."""
    target: Name[Literal["input", "output"]] = "input"
    """What is packed: rows as learned (input), or as scored (output), which need no graph."""
    dim: Count[int | None] = None
    """Numbers of a full row: 128 unless given, 256 with ncf."""
    l2: Annotated[float | None, option("WEIGHT")] = None
    """Weight of the rows' norms in training: try a few."""
    user_factors: File = None
    """With --backbone factors: .npy, a row for each user, ids rising."""
    item_factors: File = None
    """The same for each item."""
    train: File = None
    """In place of DATA: interactions to learn."""
    valid: File = None
    """With --train: what choices are made on."""
    test: File = None
    """With --train: what the table shows; else it shows validation."""
    filters: Flat[Filters] = field(default_factory=Filters)
    printing: Flat[Printing] = field(default_factory=Printing)

    def config(self) -> "BackboneConfig":
        """Settings of the recommender."""
        from ciess.models import backbone_named

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
            return self.filters.read(self.data)
        if self.train is None or self.valid is None:
            raise InputError("no interactions are given: name DATA, or both --train and --valid")
        # A k-core of each file by itself would leave nothing of one that holds out one item of each user.
        test = self.filters.rated(self.test) if self.test else None
        return split_given(self.filters.read(self.train), self.filters.rated(self.valid), test)


def command_line(command: Any) -> str:
    """What one types to run a command again, such as `ciess search ratings.csv --seed 1`.

    Defaults are left out, and how the result is printed.
    """
    return shlex.join(["ciess", type(command).__name__.lower(), *_arguments(command)])


def _arguments(settings: Any) -> Iterator[str]:
    hints = get_type_hints(type(settings), include_extras=True)
    fields = {field.name: field for field in dataclasses.fields(settings)}
    # Positional ones come first: an option of several values would swallow them.
    positional = [name for name in fields if tyro.conf.Positional in getattr(hints[name], "__metadata__", ())]
    for name in [*positional, *(each for each in fields if each not in positional)]:
        value = getattr(settings, name)
        if isinstance(value, Printing):
            continue
        if dataclasses.is_dataclass(value):
            yield from _arguments(value)
        elif isinstance(value, bool) and value != fields[name].default:
            yield f"--{'' if value else 'no-'}{name}".replace("_", "-")
        elif value != fields[name].default:
            values = [str(each) for each in value] if isinstance(value, tuple) else [str(value)]
            yield from values if name in positional else [f"--{name}".replace("_", "-"), *values]
