"""What several commands are told."""

from dataclasses import dataclass
from typing import Literal

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
