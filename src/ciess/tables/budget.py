"""`Budget`: a limit on the bytes of both tables as stored, and the projection of any plan onto it."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ciess.checks import check
from ciess.errors import InputError, shortened
from ciess.tables.encoding import Encoding
from ciess.tables.layout import equal_bytes, most_bytes, stored_bytes
from ciess.tables.plan import FLOAT32_BYTES, SizePlan, TableShape
from ciess.tables.precision import Precision

_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_SPELLED = {unit.lower(): unit for unit in ("%", "dims", *_UNITS)}
_FORM = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-zA-Z%]*)\s*")
_MOST = 1e18
"""Of any unit: more than any tables have."""
_TRIES = 12
"""To fill a budget to the last number."""
_LEAST, _HALVINGS = 1e-200, 64
"""Of desired sizes over the largest of them, and of the scale that fills a budget."""
_ROUNDING = 1e-9
"""A share of a sum of weights that is no lack."""


@dataclass(frozen=True)
class Budget:
    """A limit on the bytes of both tables, index and file header included.

    Written `5%` (of both full tables in float32), `32MB` (also B, kB, GB, KiB, MiB, GiB) or `6.4dims`
    (mean float32 dimensions a row); units in any case. At most the full tables.

    Raises:
        InputError: an unknown unit, nothing at all, or more than any tables have.
    """

    amount: float
    unit: str

    def __post_init__(self) -> None:
        above_zero = check("amount", self.amount, float) > 0
        text = shortened(str(self))
        if self.unit not in _SPELLED.values():
            raise InputError(f"budget '{text}' has an unknown unit: use one of {', '.join(_SPELLED.values())}")
        if not above_zero:
            raise InputError(f"budget '{text}' leaves no room: it must be above zero")
        if self.amount > _MOST or (self.unit == "%" and self.amount > 100):
            raise InputError(f"budget '{text}' is more than the full tables: use at most '100%'")

    @classmethod
    def parse(cls, text: "str | Budget") -> "Budget":
        """Read a budget as people write it.

        Raises:
            InputError: not a budget, or not above zero, or above 100 %.
        """
        if isinstance(text, Budget):
            return text
        form, text = _FORM.fullmatch(str(text)), shortened(str(text))
        if form is None:
            raise InputError(f"budget '{text}' is not a budget: write it like '5%', '32MB' or '6.4dims'")
        amount = min(float(form[1]), 2 * _MOST)
        if not form[2]:
            share = f"'{100 * amount if amount < 1 else min(amount, 100):g}%'" if amount else "'5%'"
            many = f"'{amount:.0f}B'" if amount > 100 else "'32MB'"
            raise InputError(f"budget '{text}' has no unit: write {share} for a share of the full tables, or {many}")
        return cls(amount, _SPELLED.get(form[2].lower(), form[2]))

    def __str__(self) -> str:
        return f"{self.amount:.12g}{self.unit}"

    @property
    def folder(self) -> str:
        """The name of the folder that holds the model of this budget: `budget-5` for `5%`, `budget-32MB`."""
        return f"budget-{self}".removesuffix("%")

    def limit(self, shape: TableShape) -> int:
        """The most bytes that both packed tables may take on disk."""
        if self.unit == "%":
            return int(shape.full_bytes * self.amount / 100)
        if self.unit == "dims":
            return int(shape.rows * self.amount * FLOAT32_BYTES)
        return int(self.amount * _UNITS[self.unit])

    def within(self, shape: TableShape, precision: Encoding = Precision.FLOAT32) -> int:
        """The limit in bytes, which is no more than all that there is to store.

        Raises:
            InputError: it is more.
        """
        limit = self.limit(shape)
        whole = max(shape.full_bytes, equal_bytes(shape, shape.dim, precision))
        if limit > whole:
            raise InputError(
                f"budget '{self}' is {limit:,} bytes, more than the {whole:,} of the full tables: "
                f"use at most '{self.enough(shape, whole, math.floor)}'"
            )
        return limit

    def numbers(self, shape: TableShape, precision: Encoding = Precision.FLOAT32) -> int:
        """How many parameters both tables may surely keep, whatever their sizes: header, index and scales are paid.

        Raises:
            InputError: not even one dimension for every row fits, or all fit and some of the budget is left.
        """
        limit = self.within(shape, precision)
        # The header's length depends a little on the numbers.
        most = shape.rows * shape.dim
        values = -(-precision.most_bits(most, shape.rows) // 8) // precision.dtype.itemsize * precision.dtype.itemsize
        fixed = most_bytes(shape, most, precision) - values
        numbers = precision.numbers_in((limit - fixed) * 8, shape.rows)
        least = equal_bytes(shape, 1, precision)
        if limit < least:
            raise InputError(
                f"budget '{self}' is {limit:,} bytes, too small for one dimension in each of {shape.rows:,} rows: "
                f"use at least '{self.enough(shape, least, math.ceil)}'"
            )
        return int(min(max(numbers, shape.rows), shape.rows * shape.dim))

    @staticmethod
    def enough(shape: TableShape, size: int, rounded: Callable[[float], int]) -> str:
        """A number of bytes as a budget: a share of the full tables, or bytes where that is above 100 %."""
        share = rounded(size / shape.full_bytes * 1e4) / 100
        return f"{share:g}%" if share <= 100 else f"{size}B"

    def filled(self, plan_of: Callable[[int], SizePlan], numbers: int) -> SizePlan:
        """The largest plan that fits, to hardly a parameter, among those that `plan_of` makes for each count of them.

        Args:
            plan_of: the plan that keeps so many parameters.
            numbers: what surely fits, see `numbers`.
        """
        plan = plan_of(numbers)
        limit, most = self.limit(plan.shape), plan.shape.rows * plan.dim
        # What the index did not need is given out, or half as much where that would be too much, and so on.
        step = (limit - stored_bytes(plan)) * 8 // plan.precision.bits
        for _ in range(_TRIES):
            if step <= 0 or numbers >= most:
                break
            larger = plan_of(min(numbers + step, most))
            if (left := limit - stored_bytes(larger)) >= 0:
                plan, numbers = larger, numbers + step
                step = min(step, left * 8 // plan.precision.bits)
            else:
                step //= 2
        return plan


def planned(desired: ArrayLike, shape: TableShape, budget: Budget, precision: Encoding) -> SizePlan:
    """Desired sizes, (n_users + n_items,), scaled to a plan that fills the budget and never exceeds it.

    Raises:
        InputError: a budget that cannot be met, or desired sizes that are not finite or not above 0.
    """

    def scaled(numbers: int) -> SizePlan:
        return SizePlan.from_sizes(project(desired, numbers, shape.dim), shape, precision)

    return budget.filled(scaled, budget.numbers(shape, precision))


def project(
    desired: ArrayLike, numbers: float, dim: int, stands_for: NDArray[np.float64] | None = None
) -> NDArray[np.int32]:
    """Scale positive desired sizes so that the whole sizes in 1..dim fill `numbers` and never exceed it.

    Args:
        desired: (n,) sizes, finite and above 0; only their ratios matter.
        numbers: how many parameters there are to give, n..n·dim; whole but for samples.
        stands_for: (n,) how many rows each row of a sample stands for: its parameters count as often, so that fewer
            than those of one row may be left. None for one.

    Returns:
        (n,) int32 sizes whose sum is `numbers`.

    Raises:
        InputError: desired sizes that are not finite or not above 0.
        ValueError: fewer parameters than rows.
    """
    desired = np.asarray(desired, dtype=np.float64)
    if not ((desired > 0) & (desired < np.inf)).all():
        row = int(np.argmin((desired > 0) & (desired < np.inf)))
        raise InputError(f"desired size {row} (from 0) is {desired[row]}: sizes must be finite and above 0")
    weights = np.ones(len(desired)) if stands_for is None else stands_for
    if numbers < weights.sum() * (1 - _ROUNDING):
        raise ValueError(f"{numbers} numbers cannot fill {weights.sum():g} rows of size 1 or more")
    # By the logarithm of the scale: desired sizes may be as far apart as numbers can be.
    shares = np.maximum(desired / desired.max(), _LEAST)
    fits = partial(_fits, shares, weights, numbers, dim)
    scaled = np.clip(math.exp(largest_scale(fits, math.log(dim / shares.min()), _HALVINGS)) * shares, 1, dim)
    sizes: NDArray[np.int32] = np.floor(scaled).astype(np.int32)
    # What rounding down left over goes to the rows that lost most by it; ties go to the earlier row.
    while (left := numbers - float(sizes @ weights)) > 0:
        open_rows = np.flatnonzero(sizes < dim)
        first = open_rows[np.argsort(-(scaled - sizes)[open_rows], kind="stable")]
        first = first[np.cumsum(weights[first]) <= left]
        if not len(first):
            break
        sizes[first] += 1
    return sizes


def _fits(shares: NDArray[np.float64], weights: NDArray[np.float64], numbers: float, dim: int, scale: float) -> bool:
    """Whether sizes by the logarithm of a scale, rounded down, are no more than some numbers."""
    return bool(np.clip(np.floor(math.exp(scale) * shares), 1, dim) @ weights <= numbers)


def largest_scale(fits: Callable[[float], Any], most: float, halvings: int) -> float:
    """The largest scale in 0 to `most` at which sizes fit, by halving; 0 surely does."""
    low, high = 0.0, most
    for _ in range(halvings):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
