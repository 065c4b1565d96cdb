"""`SizePlan`: an embedding size for every user and every item, and how their numbers are stored."""

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ciess.checks import check
from ciess.errors import InputError
from ciess.tables.encoding import Encoding
from ciess.tables.precision import Precision

FLOAT32_BYTES = 4
MOST_DIM = 2**16
"""Dimensions that a table may have: so nobody's file makes the rows that are decoded at once too large for memory."""


class TableShape(NamedTuple):
    """The shape of the full-size tables: users and items, each with `dim` numbers a row."""

    n_users: int
    n_items: int
    dim: int

    @property
    def rows(self) -> int:
        """Rows of both tables."""
        return self.n_users + self.n_items

    @property
    def full_bytes(self) -> int:
        """Bytes of both full tables in float32."""
        return self.rows * self.dim * FLOAT32_BYTES


@dataclass(frozen=True, eq=False)
class SizePlan:
    """How many numbers each user and each item keeps: a size d keeps the first d numbers of the row.

    Attributes:
        user_sizes: (n_users,) int32, each in 1..dim.
        item_sizes: (n_items,) int32, each in 1..dim.
        dim: numbers of a full row (d_max).
        precision: how numbers are stored.

    Raises:
        InputError: a size is not a whole number in 1..dim, the tables are too wide, or a taper is of another width.
    """

    user_sizes: NDArray[np.int32]
    item_sizes: NDArray[np.int32]
    dim: int
    precision: Encoding = Precision.FLOAT32

    def __post_init__(self) -> None:
        check("dim", self.dim, int)
        check("precision", self.precision, Encoding)
        if self.dim > MOST_DIM:
            raise InputError(f"dim is {self.dim}: tables have at most {MOST_DIM:,} dimensions")
        self.precision.check(self.dim)
        object.__setattr__(self, "user_sizes", _checked_sizes(self.user_sizes, self.dim, "user"))
        object.__setattr__(self, "item_sizes", _checked_sizes(self.item_sizes, self.dim, "item"))

    @classmethod
    def equal(cls, shape: TableShape, size: int, precision: Encoding = Precision.FLOAT32) -> "SizePlan":
        """The plan that gives every row the same size."""
        return cls(np.full(shape.n_users, size), np.full(shape.n_items, size), shape.dim, precision)

    @classmethod
    def from_sizes(cls, sizes: ArrayLike, shape: TableShape, precision: Encoding = Precision.FLOAT32) -> "SizePlan":
        """From the sizes of users and items in one (n_users + n_items,) array, users first.

        Raises:
            InputError: sizes of more or fewer rows, or as `SizePlan`.
        """
        sizes = np.asarray(sizes)
        if sizes.shape != (shape.rows,):
            raise InputError(f"sizes are of shape {sizes.shape}: give ({shape.rows},), users first, then items")
        return cls(sizes[: shape.n_users], sizes[shape.n_users :], shape.dim, precision)

    @property
    def shape(self) -> TableShape:
        """The shape of the full tables."""
        return TableShape(len(self.user_sizes), len(self.item_sizes), self.dim)

    @property
    def sizes(self) -> NDArray[np.int32]:
        """(n_users + n_items,) sizes, users first."""
        return np.concatenate([self.user_sizes, self.item_sizes])

    @property
    def digest(self) -> str:
        """A short text that tells plans of one shape apart, as names of files do."""
        return f"{self.precision}-{hashlib.sha256(self.sizes.tobytes()).hexdigest()[:16]}"

    @property
    def numbers(self) -> int:
        """How many numbers both tables keep."""
        return int(self.user_sizes.sum(dtype=np.int64) + self.item_sizes.sum(dtype=np.int64))

    @property
    def max_size(self) -> int:
        """The largest size in use: later columns of the tables need not be computed."""
        return int(max(self.user_sizes.max(), self.item_sizes.max()))

    @property
    def sparsity(self) -> float:
        """1 − numbers / ((users + items)·dim), the papers' c."""
        return 1 - self.numbers / (self.shape.rows * self.dim)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, SizePlan)
            and (self.dim, self.precision) == (other.dim, other.precision)
            and np.array_equal(self.user_sizes, other.user_sizes)
            and np.array_equal(self.item_sizes, other.item_sizes)
        )

    def __hash__(self) -> int:
        return hash((self.user_sizes.tobytes(), self.item_sizes.tobytes(), self.dim, self.precision))


def check_shape(plan: SizePlan, shape: TableShape) -> None:
    """Refuse a plan of other tables.

    Raises:
        InputError: it is of another shape.
    """
    if plan.shape != shape:
        given, wanted = (f"{a:,} users, {b:,} items and dim {dim}" for a, b, dim in (plan.shape, shape))
        raise InputError(f"a plan is of {given}, the tables of {wanted}: make it by problem.shape")


def _checked_sizes(sizes: ArrayLike, dim: int, side: str) -> NDArray[np.int32]:
    sizes = np.asarray(sizes)
    whole = sizes.astype(np.int32)
    if sizes.ndim != 1 or len(sizes) == 0 or not np.array_equal(whole, sizes):
        raise InputError(f"{side} sizes must be a non-empty row of whole numbers, one for each {side}")
    if whole.min() < 1 or whole.max() > dim:
        raise InputError(f"{side} sizes must lie in 1..{dim}, not {whole.min()}..{whole.max()}: clip them")
    return whole
