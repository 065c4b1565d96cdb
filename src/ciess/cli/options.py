"""What several commands are told, and a command as one types it."""

import dataclasses
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_type_hints

import tyro

from ciess.checks import Positive, check, literal, nearest
from ciess.cli.values import separated
from ciess.errors import InputError, shortened

if TYPE_CHECKING:
    from ciess.data import Interactions, Split
    from ciess.models import BackboneConfig

PrecisionName = Literal["auto", "float32", "float16", "int8", "int6", "int4", "int4-shared", "tapered"]

T = TypeVar("T")
_D = TypeVar("_D", "Interactions", "Split")

_ROLES = ("user", "item", "rating", "time")
_SETTINGS = ("dim", "l2")
"""Options that are settings of the backbone or of its training, and are named as there."""
_FACTORS = "--backbone factors"


def option(metavar: str | None = None, help: str | None = None) -> Any:
    """How an option shows in the help: with a short word for its value, and in brackets its default, if it has one."""
    return tyro.conf.arg(metavar=metavar, help=help, help_behavior_hint=_default)


def _default(value: str) -> str:
    return "" if value in ("", "None", "False", "True", "default") else f"[{value}]"


Flat = Annotated[T, tyro.conf.arg(name="", help="")]
"""Options of their own class: they come after the others, and without a prefix. The help is given, as empty: else the
parser looks for one in the source at every call, which takes as long as all else that it does."""
Positional = tyro.conf.Positional[Annotated[T, option()]]
Count = Annotated[T, option("N")]
Name = Annotated[T, option("NAME")]
Flag = Annotated[bool, option()]
File = Annotated[Path | None, option("FILE")]
Folder = Annotated[Path, option("FOLDER")]
Precision = Annotated[PrecisionName, option("NAME", "float32 to int4, int4-shared, tapered, auto")]
Dim = Annotated[int | None, option("N", "Dimensions of a full row: 128, with ncf 256")]
Set = Annotated[tuple[str, ...], option("NAME=VALUE ...", "Other settings of the recommender: alpha=40 lr=0.1")]
Recommender = Annotated[str, option("NAME", "lightgcn, mf, ncf, ngcf or als")]
Force = Annotated[bool, option(help="Try even what memory is too small for")]
Budgets = Annotated[tuple[str, ...], option("BUDGET ...", "Of both tables: 5% 32MB 6.4dims")]
AsJson = Annotated[bool, option(help="Print one JSON document")]


@dataclass(frozen=True)
class Columns:
    """Which columns of the data are meant."""

    columns: Annotated[tuple[str, ...], option("COLUMN ...")] = ()
    """Where names are unusual: user=NAME item=NAME …"""
    layout: Name[Literal["lines", "table"] | None] = None
    """Without column names: lines (user item …) or table"""

    def read(self, path: Path, min_rating: float | None = None) -> "Interactions":
        """Read interactions from a file, a folder or a named set."""
        from ciess.data import read

        return read(path, **self.named(), min_rating=min_rating, layout=self.layout)

    def prepared_or_read(self, path: Path) -> "Interactions | Split":
        """What `ciess data prepare` wrote, or interactions as `read` reads them.

        Raises:
            InputError: columns are named of what is prepared.
        """
        from ciess.data.prepared import prepared
        from ciess.data.readers import is_prepared

        if not is_prepared(path):
            return self.read(path)
        if self != Columns():
            raise InputError(f"{path} is prepared: give columns to `ciess data prepare`")
        return prepared(path)

    def named(self) -> dict[str, str]:
        """Column names by their roles.

        Raises:
            InputError: what is written names none, or one twice.
        """
        written = [each for value in self.columns for each in re.split(rf",(?=(?:{'|'.join(_ROLES)})=)", value)]
        named = dict(each.partition("=")[::2] for each in written)
        if len(named) < len(written) or not all(named.values()) or named.keys() - {*_ROLES}:
            roles = " ".join(f"{role}=NAME" for role in _ROLES)
            raise InputError(
                f"--columns {shlex.join(self.columns)} does not name columns, each once: write one or more of {roles}"
            )
        return named


def with_options(message: str) -> str:
    """A message of the package, which names arguments, in the words of the command line."""
    # Those that begin with an option are the command line's own.
    if message.startswith("--"):
        return message
    message = re.sub("(a|the) rating threshold", "--min-rating", message)
    # In brackets alone: elsewhere it may be the name of a file.
    message = re.sub(r"\((?:user|item)_ids(?: and item_ids)?\)", lambda found: _dashed(found[0]), message)
    message = message.replace("target='output'", "--target output")
    return re.sub(rf"(?<![\w-])({'|'.join(_ROLES)})=NAME", r"--columns \1=NAME", message)


def _dashed(text: str) -> str:
    return re.sub(r"(user|item)_ids", r"--\1-ids", text)


@dataclass(frozen=True)
class Filters:
    """Which interactions of the data are kept."""

    min_rating: Annotated[float | None, option("N")] = None
    """Keep interactions rated at least this"""
    k_core: Count[int] = 1
    """Keep users and items with N interactions or more"""
    columns: Flat[Columns] = field(default_factory=Columns)

    def read(self, path: Path) -> "Interactions":
        """Read interactions from a file, a folder or a named set, and filter them."""
        return self.core(self.rated(path))

    def rated(self, path: Path) -> "Interactions":
        """Read interactions, and filter them by rating alone."""
        check("--k-core", self.k_core, Positive)
        return self.columns.read(path, self.min_rating)

    def core(self, interactions: _D) -> _D:
        """Those of users and items that have enough, in all parts of a split together."""
        return interactions if self.k_core == 1 else interactions.k_core(self.k_core)


@dataclass(frozen=True)
class Printing:
    """How a command that writes files does so, and what it prints: nothing that changes what it finds."""

    overwrite: Flag = False
    """Replace another run's result in --out"""
    json: Flag = False
    """Print one JSON document, all else to stderr"""
    quiet: Flag = False
    """Print nothing but errors"""


@dataclass(frozen=True)
class Shared:
    """What `search`, `apply` and `compare` are all told: data, recommender, budgets."""

    data: Positional[Path | None] = None
    """A file, a folder, or a name of `ciess data list`"""
    backbone: Name[str] = "lightgcn"
    """lightgcn, mf, ncf, ngcf, als or factors"""
    budgets: Budgets = ("20%", "10%", "5%")
    precision: Precision = "float32"
    target: Annotated[Literal["input", "output"], option("NAME")] = "input"
    """output: final vectors, served by NumPy alone"""
    dim: Dim = None
    l2: Count[float | None] = None
    """Weight of the rows' norms in training"""
    set: Set = ()
    tune: Annotated[Literal["on", "off"], option("NAME")] = "on"
    """Tune settings that are not given, or off"""
    user_factors: File = None
    """With --backbone factors: .npy, a row for each user"""
    item_factors: File = None
    """.npy, a row for each item"""
    user_ids: File = None
    """Ids of user rows; else rows are in order of ids"""
    item_ids: File = None
    """Ids of item rows"""
    train: File = None
    """Learn this; without it, DATA is split 50/25/25"""
    valid: File = None
    """With --train: what choices are made on"""
    test: File = None
    """With --train: what the table shows"""
    test_users: Annotated[Literal["sample", "all"], option("NAME")] = "sample"
    """Of many users, test a sample or all"""
    force: Force = False
    filters: Flat[Filters] = field(default_factory=Filters)
    printing: Flat[Printing] = field(default_factory=Printing)

    def settings(self) -> dict[str, Any]:
        """What `ciess.search` and `ciess.compare` are both given; what can be refused before data are read, is.

        Raises:
            InputError: as for `config`, or a budget that is none.
        """
        from ciess.experiment.pipeline import parsed_budgets

        return {
            "backbone": self.config(),
            "budgets": parsed_budgets(separated(self.budgets)),
            "precision": self.precision,
            "target": self.target,
            "tune": self.tune == "on",
            "test_users": self.test_users,
            "force": self.force,
        }

    def config(self) -> "BackboneConfig":
        """The recommender with the settings that are given.

        Raises:
            InputError: no such recommender, or an option that does nothing with it.
        """
        files = {
            "--user-factors": self.user_factors,
            "--item-factors": self.item_factors,
            "--user-ids": self.user_ids,
            "--item-ids": self.item_ids,
        }
        given = settings_given({name: getattr(self, name) for name in _SETTINGS}, self.set)
        if self.backbone.lower() != "factors":
            if named := [name for name, path in files.items() if path]:
                raise InputError(
                    f"{' '.join(named)} does nothing with {self.backbone}: add {_FACTORS}, or leave it out"
                )
            return configured(self.backbone, given)
        if self.user_factors is None or self.item_factors is None:
            raise InputError(f"{_FACTORS} needs two tables: name both --user-factors and --item-factors")
        names = ("users", "items", "user_ids", "item_ids")
        return configured("factors", given | dict(zip(names, files.values(), strict=True)))

    def interactions(self) -> "Interactions | Split":
        """The data, or a split of one's own."""
        from ciess.data import split_given
        from ciess.data.prepared import prepared
        from ciess.data.readers import is_prepared

        splits = {"--train": self.train, "--valid": self.valid, "--test": self.test}
        named = [name for name, path in splits.items() if path]
        if self.data is not None:
            if named:
                raise InputError(f"DATA and {' '.join(named)} are both given: leave one out")
            if is_prepared(self.data):
                if self.filters != Filters():
                    raise InputError(f"{self.data} is prepared: give columns and filters to `ciess data prepare`")
                return prepared(self.data)
            return self.filters.read(self.data)
        if self.train is None or self.valid is None:
            what = f"{' '.join(named)} alone is not enough" if named else "no interactions are given"
            raise InputError(f"{what}: name DATA, or both --train and --valid")
        test = self.filters.rated(self.test) if self.test else None
        return self.filters.core(split_given(self.filters.rated(self.train), self.filters.rated(self.valid), test))


def settings_given(named: Mapping[str, Any], written: tuple[str, ...]) -> dict[str, Any]:
    """Settings of a backbone by options of their names, None where they are not given, and those written after --set.

    Raises:
        InputError: one is given twice, or what is written is no setting.
    """
    told = [(name, value) for name, value in named.items() if value is not None]
    told += map(_setting, separated(written))
    given = dict(told)
    if len(given) < len(told):
        raise InputError(f"--set {shlex.join(written)} gives a setting that is given already: give each once")
    return given


def _setting(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        return name.replace("-", "_"), literal(value)
    except ValueError as error:
        raise InputError(f"--set {shortened(text)} is no setting: write it as NAME=NUMBER, such as alpha=40") from error


def configured(backbone: str, given: Mapping[str, Any]) -> "BackboneConfig":
    """A backbone by its name, with settings of its own or of its training as options give them; None: not given.

    Raises:
        InputError: no such backbone, or a setting that it does not use.
    """
    from ciess.models import backbone_names, backbone_uses, backbone_with

    used = backbone_uses(backbone)
    told = {name: value for name, value in given.items() if value is not None}
    for name in told:
        if name not in used:
            users = ", ".join(other for other in backbone_names() if name in backbone_uses(other))
            option = f"--{name.replace('_', '-')}" if name in _SETTINGS else f"--set {name}"
            told_by = f" (used by {users})" if users else nearest(name, used)
            raise InputError(f"{option} does nothing with {backbone}: leave it out{told_by}")
    return backbone_with(backbone, **told)


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
