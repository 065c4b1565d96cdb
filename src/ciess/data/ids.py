"""Ids of users and items: one rule for what two ids have in common, and `RowIds`, which finds the row of an id.

An id is known by its text, see `id_text`: 3, 3.0, NumPy's 3 and "3" are one id; 7, "07" and "007" are three.
"""

import dataclasses
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from ciess.errors import InputError

_CANONICAL = re.compile(r"0|-?[1-9][0-9]{0,18}")
_INT64 = np.iinfo(np.int64)
_IDS_AT_ONCE = 1 << 16


def id_text(value: Any) -> str | None:
    """The text that stands for an id; None for what is none.

    Whole numbers are their decimal digits, whatever their type, floats such as 3.0 and decimals among them. Other
    floats, text, UUIDs and dates are as Python writes them, bytes are UTF-8. Truth values, times, containers, what is
    missing, and floats that are too large to be exact are no ids.
    """
    # Instances of these are subclasses of others below.
    if value is None or isinstance(value, bool | np.bool_ | datetime):
        return None
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int | np.integer):
        # Spans of time are integers to NumPy.
        return None if isinstance(value, np.timedelta64) else str(int(value))
    if isinstance(value, float | np.floating):
        if not np.isfinite(value):
            return None
        if value != np.floor(value):
            return str(value)
        # Beyond its significant bits a float may have lost digits.
        whole, bits = int(value), np.finfo(type(value)).nmant + 1
        return str(whole) if abs(whole) < 2**bits else None
    if isinstance(value, Decimal):
        if not value.is_finite():
            return None
        return str(int(value)) if value == value.to_integral_value() else format(value.normalize(), "f")
    if isinstance(value, bytes):
        return _decoded(value)
    if isinstance(value, np.datetime64):
        return str(value) if np.datetime_data(value)[0] == "D" and not np.isnat(value) else None
    return str(value) if isinstance(value, date | UUID) and value == value else None


def _decoded(letters: bytes) -> str | None:
    try:
        return letters.decode()
    except UnicodeDecodeError:
        return None


def whole_number(text: str | None) -> int | None:
    """The number that a text writes as Python would, if it fits 64 bits: of "7", but not of "07", "+7" or "7.0"."""
    if text is None or _CANONICAL.fullmatch(text) is None:
        return None
    number = int(text)
    return number if _INT64.min <= number <= _INT64.max else None


def is_single(ids: Any) -> bool:
    """Whether this is one id and no list of them."""
    return not isinstance(ids, list | tuple) and np.ndim(ids) == 0


def unrolled(ids: Any) -> Any:
    """A list of ids that come in a set, a view or a generator, or that no array holds exactly; others as they are.

    No array holds whole numbers of a column that lacks some, of which NumPy makes floats, and those of 128 bits.
    """
    if isinstance(ids, list | tuple | str | bytes) or not isinstance(ids, Iterable):
        return ids
    if not hasattr(ids, "to_numpy"):
        return ids if hasattr(ids, "__array__") else list(ids)
    kind = str(getattr(ids, "dtype", "")).lower()
    whole = kind.startswith(("int", "uint"))
    return list(ids) if whole and (kind.endswith("128") or ids.to_numpy().dtype.kind == "f") else ids


def listed(ids: Any) -> NDArray[Any]:
    """(b,) ids as an array in which each keeps its own type: of 3.0 and "a", NumPy by itself makes text of both."""
    ids = unrolled(ids)
    if isinstance(ids, np.ma.MaskedArray):
        # What is masked has no id.
        ids = ids.tolist()
    if not isinstance(ids, list | tuple):
        return np.atleast_1d(ids.to_numpy() if hasattr(ids, "to_numpy") else np.asarray(ids))
    if all(type(each) is int and _INT64.min <= each <= _INT64.max for each in ids):
        return np.array(ids, dtype=np.int64)
    return np.fromiter(ids, dtype=object, count=len(ids))


@dataclass(frozen=True, eq=False)
class RowIds(ABC):
    """The ids of a table's rows, either whole numbers or texts.

    Attributes:
        order: (n,) rows in order of rising id, int32 where they fit.
    """

    order: NDArray[np.signedinteger]

    @classmethod
    def of(cls, ids: Any) -> "RowIds":
        """Of (n,) ids, one for each row and no two the same: whole numbers if they are integers, else their texts.

        Raises:
            InputError: a value that is no id.
        """
        found = listed(ids)
        if found.dtype.kind in "iu" and (not len(found) or found.max() <= _INT64.max):
            return WholeIds(_rows_by(found), found.astype(smallest_type(found)))
        texts = [id_text(each) for each in found]
        if None in texts:
            raise InputError(f"{found[texts.index(None)]!r} is no id: give whole numbers or text")
        letters = [text.encode() for text in texts if text is not None]
        ends = np.cumsum([len(each) for each in letters], dtype=np.int64)
        rising = _rows_by(np.array([*texts, None], dtype=object)[:-1])
        return TextIds(rising, np.frombuffer(b"".join(letters), dtype=np.uint8), ends)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "RowIds":
        """The inverse of `arrays`. Only types and lengths are looked at, see `check`.

        Raises:
            KeyError: an array is missing.
            ValueError: arrays that do not belong together.
        """
        kind = WholeIds if "numbers" in arrays else TextIds
        ids: RowIds = kind(**{field.name: arrays[field.name] for field in dataclasses.fields(kind)})
        for name, array in arrays.items():
            wanted = (np.uint8,) if name == "letters" else (np.int32, np.int64)
            if name not in ids.arrays or array.ndim != 1 or array.dtype not in wanted:
                raise ValueError(f"{name} are no part of ids")
        if len(ids.order) != len(ids):
            raise ValueError("ids and their order do not match")
        return ids

    def check(self) -> None:
        """Read all ids: every row must have one of its own, and `order` must be their order.

        Raises:
            ValueError: it is not so.
        """
        if len(self) and not (self.order.min() >= 0 and self.order.max() < len(self)):
            raise ValueError("the order of ids names rows that do not exist")
        for start in range(0, len(self) - 1, _IDS_AT_ONCE):
            # Where each is more than the one before, none is named twice, and so all are named.
            ids = self.take(self.order[start : start + _IDS_AT_ONCE + 1])
            if not np.all(ids[1:] > ids[:-1]):
                raise ValueError("ids are not in the order that is told")

    @property
    @abstractmethod
    def arrays(self) -> dict[str, NDArray[Any]]:
        """What is stored."""

    @abstractmethod
    def take(self, rows: NDArray[np.integer]) -> NDArray[Any]:
        """The ids of rows, of their shape: int64, or objects that are texts."""

    @abstractmethod
    def _comparable(self, ids: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """(b,) ids of the stored type, and which of those asked for can be one."""

    @abstractmethod
    def __len__(self) -> int: ...

    def rows(self, ids: Any) -> NDArray[np.int64]:
        """(b,) the row of each id, −1 where it is unknown; ids are compared by their texts, see `id_text`."""
        wanted, possible = self._comparable(listed(ids))
        if not len(self):
            return np.full(len(wanted), -1)
        low, high = np.zeros(len(wanted), dtype=np.int64), np.full(len(wanted), len(self) - 1)
        while (low < high).any():
            middle = (low + high) // 2
            below = self.take(self.order[middle]) < wanted
            # Where a search is over, low is high is middle, and must not move.
            low = np.where(below & (low < high), middle + 1, low)
            high = np.where(below, high, middle)
        found = self.order[low].astype(np.int64)
        return np.where(possible & (self.take(found) == wanted), found, -1)


@dataclass(frozen=True, eq=False)
class WholeIds(RowIds):
    """Ids that are whole numbers.

    Attributes:
        numbers: (n,) int32 where they fit, else int64.
    """

    numbers: NDArray[np.signedinteger]

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """See `RowIds`."""
        return {"order": self.order, "numbers": self.numbers}

    def take(self, rows: NDArray[np.integer]) -> NDArray[Any]:
        """See `RowIds`."""
        found: NDArray[Any] = self.numbers[rows].astype(np.int64)
        return found

    def _comparable(self, ids: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        if ids.dtype.kind in "iu" and ids.dtype != np.uint64:
            return ids.astype(np.int64), np.ones(len(ids), dtype=bool)
        numbers = [whole_number(id_text(each)) for each in ids]
        possible = np.array([each is not None for each in numbers], dtype=bool)
        return np.array([each or 0 for each in numbers], dtype=np.int64), possible


@dataclass(frozen=True, eq=False)
class TextIds(RowIds):
    """Ids that are texts.

    Attributes:
        letters: all texts in UTF-8, one after the other.
        ends: (n,) where each ends.
    """

    letters: NDArray[np.uint8]
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """See `RowIds`."""
        return {"order": self.order, "letters": self.letters, "ends": self.ends}

    def check(self) -> None:
        """See `RowIds`."""
        starts = np.concatenate([[0], self.ends[:-1]])
        if np.any(self.ends < starts) or (self.ends[-1] if len(self) else 0) != len(self.letters):
            raise ValueError("letters and their ends do not match")
        super().check()

    def take(self, rows: NDArray[np.integer]) -> NDArray[Any]:
        """See `RowIds`."""
        ends = self.ends[rows]
        starts = np.where(rows > 0, self.ends[np.maximum(rows, 1) - 1], 0)
        texts, letters = np.empty(rows.size, dtype=object), self.letters.data
        for place, (start, end) in enumerate(zip(starts.reshape(-1).tolist(), ends.reshape(-1).tolist(), strict=True)):
            texts[place] = str(letters[start:end], "utf-8")
        return texts.reshape(rows.shape)

    def _comparable(self, ids: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        texts = np.empty(len(ids), dtype=object)
        texts[:] = [id_text(each) for each in ids]
        possible = np.array([each is not None for each in texts], dtype=bool)
        return np.where(possible, texts, ""), possible


def _rows_by(ids: NDArray[Any]) -> NDArray[np.signedinteger]:
    """(n,) rows in order of rising id."""
    order = np.argsort(ids, kind="stable")
    return order.astype(smallest_type(order))


def inverse(places: NDArray[np.integer], n: int) -> NDArray[np.int64]:
    """(n,) which entry of `places` holds 0, 1, …, n − 1; −1 where none does. Places of −1 are none."""
    rows = np.full(n, -1, dtype=np.int64)
    known = np.flatnonzero(places >= 0)
    rows[places[known]] = known
    return rows


def smallest_type(numbers: NDArray[np.integer]) -> np.dtype[np.signedinteger]:
    """int32 where all numbers fit, else int64."""
    small = np.iinfo(np.int32)
    fits = not len(numbers) or bool(small.min <= numbers.min() and numbers.max() <= small.max)
    return np.dtype(np.int32 if fits else np.int64)
