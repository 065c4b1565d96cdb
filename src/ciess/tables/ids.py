"""`RowIds`: which user or item each row of a table belongs to, looked up without reading all of them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class RowIds(ABC):
    """The ids of a table's rows, either whole numbers or texts.

    Attributes:
        order: (n,) rows in order of rising id, int32 where they fit.
    """

    order: NDArray[np.signedinteger]

    @classmethod
    def of(cls, ids: ArrayLike) -> "RowIds":
        """Of (n,) unique ids, one for each row; what is neither a whole number nor text is told apart by its text."""
        found = np.asarray(ids)
        if found.dtype.kind in "iu" and (not len(found) or found.max() <= np.iinfo(np.int64).max):
            return WholeIds(_rows_by(found), found.astype(smallest_type(found)))
        texts = [str(each) for each in found.tolist()]
        letters = [text.encode() for text in texts]
        ends = np.cumsum([len(each) for each in letters], dtype=np.int64)
        rising = _rows_by(np.array([*texts, None], dtype=object)[:-1])
        return TextIds(rising, np.frombuffer(b"".join(letters), dtype=np.uint8), ends)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "RowIds":
        """The inverse of `arrays`.

        Raises:
            KeyError: an array is missing.
            ValueError: arrays that do not belong together.
        """
        ids: RowIds
        if "numbers" in arrays:
            ids = WholeIds(arrays["order"], arrays["numbers"])
        else:
            ids = TextIds(arrays["order"], arrays["letters"], arrays["ends"])
            if len(ids) and ids.ends[-1] != len(ids.letters):
                raise ValueError("letters and their ends do not match")
        if ids.order.shape != (len(ids),):
            raise ValueError("ids and their order do not match")
        return ids

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

    def rows(self, ids: ArrayLike) -> NDArray[np.int64]:
        """(b,) the row of each id, −1 where it is unknown; whole numbers may be asked for as text."""
        wanted, possible = self._comparable(np.asarray(ids))
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
        numbers, possible = np.zeros(len(ids), dtype=np.int64), np.zeros(len(ids), dtype=bool)
        for place, each in enumerate(ids.tolist()):
            try:
                whole = int(each)
                # Neither 1.5 nor what is beyond 64 bits; True is no id.
                possible[place] = (isinstance(each, str) or whole == each) and not isinstance(each, bool)
                numbers[place] = whole
            except (ValueError, TypeError, OverflowError):
                possible[place] = False
        return numbers, possible


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

    def take(self, rows: NDArray[np.integer]) -> NDArray[Any]:
        """See `RowIds`."""
        ends = self.ends[rows]
        starts = np.where(rows > 0, self.ends[np.maximum(rows, 1) - 1], 0)
        texts = np.empty(rows.size, dtype=object)
        for place, (start, end) in enumerate(zip(starts.reshape(-1).tolist(), ends.reshape(-1).tolist(), strict=True)):
            texts[place] = self.letters[start:end].tobytes().decode()
        return texts.reshape(rows.shape)

    def _comparable(self, ids: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        texts = np.empty(len(ids), dtype=object)
        texts[:] = [str(each) for each in ids.tolist()]
        return texts, np.ones(len(ids), dtype=bool)


def _rows_by(ids: NDArray[Any]) -> NDArray[np.signedinteger]:
    """(n,) rows in order of rising id."""
    order = np.argsort(ids, kind="stable")
    return order.astype(smallest_type(order))


def smallest_type(numbers: NDArray[np.integer]) -> np.dtype[np.signedinteger]:
    """int32 where all numbers fit, else int64."""
    small = np.iinfo(np.int32)
    fits = not len(numbers) or bool(small.min <= numbers.min() and numbers.max() <= small.max)
    return np.dtype(np.int32 if fits else np.int64)
