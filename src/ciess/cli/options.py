"""What several commands are told, and a command as one types it."""

import dataclasses
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

import tyro

if TYPE_CHECKING:
    from ciess.data import Interactions

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


def command_line(command: Any) -> str:
    """What one types to run a command again, such as `ciess search ratings.csv --seed 1`; defaults are left out."""
    return shlex.join(["ciess", type(command).__name__.lower(), *_arguments(command)])


def _arguments(settings: Any, within: str = "") -> Iterator[str]:
    hints = get_type_hints(type(settings), include_extras=True)
    told = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    # Positional ones come first: an option of several values would swallow them.
    positional = [name for name in told if tyro.conf.Positional in getattr(hints[name], "__metadata__", ())]
    defaults = {field.name: field.default for field in dataclasses.fields(settings)}
    for name in [*positional, *(each for each in told if each not in positional)]:
        value = told[name]
        if dataclasses.is_dataclass(value):
            yield from _arguments(value, f"{within}{name}.")
        elif value != defaults[name]:
            option = f"--{within}{name}".replace("_", "-")
            values = [str(each) for each in value] if isinstance(value, tuple) else [str(value)]
            yield from values if name in positional else [option, *values]
