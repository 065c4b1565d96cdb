"""`SeenItems`: the items that each user has already, and which items most users have."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ciess.data.ids import smallest_type

_ENTRIES_AT_ONCE = 1 << 22


@dataclass(frozen=True, eq=False)
class SeenItems:
    """Items of users, by rows of the packed tables; the layout of a CSR matrix without its ones.

    Attributes:
        offsets: (n_users + 1,) int32 where they fit, else int64: where each user's items begin.
        items: (n,) rows of items, rising for each user, of the smallest unsigned type that holds them.
        n_items: how many items there are.
        learned: (n,) whether the model has learned each; None where it has learned all.
        stored_popular: `popular` as it was read from a file; None where it is to be counted.
    """

    offsets: NDArray[np.signedinteger]
    items: NDArray[np.unsignedinteger]
    n_items: int
    learned: NDArray[np.bool_] | None = None
    stored_popular: NDArray[np.unsignedinteger] | None = None

    @classmethod
    def of(
        cls,
        offsets: NDArray[np.integer],
        items: NDArray[np.integer],
        n_items: int,
        learned: NDArray[np.bool_] | None = None,
    ) -> "SeenItems":
        """From the arrays of a CSR matrix, and whether each entry was learned."""
        return cls(offsets.astype(smallest_type(offsets)), items.astype(type_of_items(n_items)), n_items, learned)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], n_users: int, n_items: int) -> "SeenItems":
        """The inverse of `arrays`. Only types and lengths are looked at, see `check`.

        Raises:
            KeyError: an array is missing.
            ValueError: arrays that do not belong together, or to so many users and items.
        """
        offsets, items, bits = arrays["offsets"], arrays["items"], arrays.get("learned")
        if bits is not None and (bits.dtype != np.uint8 or bits.shape != (-(-len(items) // 8),)):
            raise ValueError("learned interactions do not match those that were seen")
        if arrays.keys() - {"offsets", "items", "learned", "popular"}:
            raise ValueError("there are other arrays beside the seen items")
        of_offsets = offsets.shape == (n_users + 1,) and offsets.dtype in (np.int32, np.int64)
        if not of_offsets or items.ndim != 1 or items.dtype != type_of_items(n_items) or offsets[-1] != len(items):
            raise ValueError("seen items do not match the tables")
        popular = arrays.get("popular")
        if popular is not None and (popular.dtype != items.dtype or popular.shape != (n_items,)):
            raise ValueError("the order of popular items does not match the tables")
        learned = None if bits is None else np.unpackbits(bits, count=len(items)).astype(bool)
        return cls(offsets, items, n_items, learned, popular)

    def check(self) -> None:
        """Read all entries: offsets must rise from 0, items be rows that do not fall for any user, and all be ordered.

        Raises:
            ValueError: it is not so.
        """
        if self.offsets[0] != 0 or np.any(self.offsets[1:] < self.offsets[:-1]):
            raise ValueError("the items of users do not follow each other")
        for start in range(0, len(self.items), _ENTRIES_AT_ONCE):
            items = self.items[start : start + _ENTRIES_AT_ONCE + 1]
            if items.max() >= self.n_items:
                raise ValueError("items are seen that do not exist")
            falls = start + 1 + np.flatnonzero(items[1:] < items[:-1])
            # Only from one user to the next.
            if not np.array_equal(self.offsets[np.searchsorted(self.offsets, falls)], falls):
                raise ValueError("the items of a user fall")
        if self.stored_popular is not None:
            named = np.zeros(self.n_items, dtype=bool)
            named[self.stored_popular[self.stored_popular < self.n_items]] = True
            if not named.all():
                raise ValueError("the order of popular items lacks some")

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """What is stored."""
        stored = {"offsets": self.offsets, "items": self.items, "popular": self.popular}
        return stored if self.learned is None else {**stored, "learned": np.packbits(self.learned)}

    def of_users(self, users: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """What (b,) users have: the place of the user among them, and the item's row, one of each for every entry."""
        places, entries = self._entries(users)
        return places, self.items[entries].astype(np.int64)

    @property
    def n_learned(self) -> int:
        """How many interactions the model has learned."""
        return len(self.items) if self.learned is None else int(np.count_nonzero(self.learned))

    def learned_of_users(self, users: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """`of_users`, of what the model has learned alone."""
        places, entries = self._entries(users)
        if self.learned is not None:
            learned = self.learned[entries]
            places, entries = places[learned], entries[learned]
        return places, self.items[entries].astype(np.int64)

    def learned_counts(self, users: NDArray[np.int64]) -> NDArray[np.int64]:
        """(b,) how many interactions of each user the model has learned."""
        return np.bincount(self.learned_of_users(users)[0], minlength=len(users))

    def _entries(self, users: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For every item of (b,) users: the place of the user among them, and where in `items` it stands."""
        starts = self.offsets[users].astype(np.int64)
        counts = self.offsets[users + 1] - starts
        places = np.repeat(np.arange(len(users)), counts)
        return places, np.arange(len(places)) + np.repeat(starts - (np.cumsum(counts) - counts), counts)

    @cached_property
    def popular(self) -> NDArray[np.unsignedinteger]:
        """(n_items,) items in order of how many users have them, falling; of equal ones the earlier comes first."""
        if self.stored_popular is not None:
            return self.stored_popular
        counts = np.zeros(self.n_items, dtype=np.int64)
        for start in range(0, len(self.items), _ENTRIES_AT_ONCE):
            counts += np.bincount(self.items[start : start + _ENTRIES_AT_ONCE], minlength=self.n_items)
        return np.argsort(-counts, kind="stable").astype(self.items.dtype)


def type_of_items(n_items: int) -> np.dtype[np.unsignedinteger]:
    """The smallest unsigned type that holds the rows of so many items."""
    kind = np.uint8 if n_items <= 2**8 else np.uint16 if n_items <= 2**16 else np.uint32
    return np.dtype(kind)
