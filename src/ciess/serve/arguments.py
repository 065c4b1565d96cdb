"""What people ask a model for: ids and how many items."""

import math
from collections.abc import Mapping, Set
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ciess.checks import shown
from ciess.data.ids import is_single, listed, unrolled
from ciess.errors import InputError

_LISTS = (list, tuple, Set, np.ndarray)


def whole(k: Any, most: int | None = None) -> int:
    """k as an integer.

    Raises:
        InputError: it is no whole number, below 1, or above the most.
    """
    try:
        number = float(k) if isinstance(k, Real) and not isinstance(k, bool) else math.nan
    except OverflowError:
        number = math.inf
    if not number.is_integer() or number < 1 or (most is not None and number > most):
        wanted = "give a whole number of 1 or more" if most is None else f"ask for 1 to {most:,} items"
        raise InputError(f"k is {shown(k)}: {wanted}")
    return int(number)


def asked(name: str, ids: Any) -> tuple[NDArray[Any], bool]:
    """(b,) ids that were asked for, and whether it is one id and no list of them.

    Raises:
        InputError: they are lists of lists, or a mapping.
    """
    if isinstance(ids, Mapping):
        raise InputError(f"{name} are a mapping: give one id, or one list of ids for all users")
    ids = unrolled(ids)
    single = is_single(ids)
    found = listed(ids)
    if found.ndim > 1 or (found.dtype == object and any(isinstance(each, _LISTS) for each in found)):
        raise InputError(f"{name} are lists of lists: give one id, or one list of ids")
    return found, single
