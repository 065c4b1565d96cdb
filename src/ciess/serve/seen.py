"""`SeenItems`: the items that each user has already, and how many users each item."""

from collections.abc import Mapping
from dataclasses import dataclass
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
    """

    offsets: NDArray[np.signedinteger]
    items: NDArray[np.unsignedinteger]
    n_items: int
    learned: NDArray[np.bool_] | None = None

    @classmethod
    def of(
        cls,
        offsets: NDArray[np.integer],
        items: NDArray[np.integer],
        n_items: int,
        learned: NDArray[np.bool_] | None = None,
    ) -> "SeenItems":
        """From the arrays of a CSR matrix, and whether each entry was learned."""
        return cls(offsets.astype(smallest_type(offsets)), items.astype(_type_of_items(n_items)), n_items, learned)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], n_users: int, n_items: int) -> "SeenItems":
        """The inverse of `arrays`.

        Raises:
            KeyError: an array is missing.
            ValueError: arrays that do not belong together, or to so many users and items.
        """
        items, bits = arrays["items"], arrays.get("learned")
        if bits is not None and len(bits) != -(-len(items) // 8):
            raise ValueError("learned interactions do not match those that were seen")
        learned = None if bits is None else np.unpackbits(bits, count=len(items)).astype(bool)
        seen = cls(arrays["offsets"], items, n_items, learned)
        fits = seen.offsets.shape == (n_users + 1,) and seen.items.dtype == _type_of_items(n_items)
        if not fits or seen.offsets[0] != 0 or seen.offsets[-1] != len(seen.items):
            raise ValueError("seen items do not match the tables")
        return seen

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """What is stored."""
        stored = {"offsets": self.offsets, "items": self.items}
        return stored if self.learned is None else {**stored, "learned": np.packbits(self.learned)}

    def of_users(self, users: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """What (b,) users have: the place of the user among them, and the item's row, one of each for every entry."""
        places, entries = self._entries(users)
        return places, self.items[entries].astype(np.int64)

    def learned_counts(self, users: NDArray[np.int64]) -> NDArray[np.int64]:
        """(b,) how many interactions of each user the model has learned."""
        places, entries = self._entries(users)
        learned = places if self.learned is None else places[self.learned[entries]]
        return np.bincount(learned, minlength=len(users))

    def _entries(self, users: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For every item of (b,) users: the place of the user among them, and where in `items` it stands."""
        starts = self.offsets[users].astype(np.int64)
        counts = self.offsets[users + 1] - starts
        places = np.repeat(np.arange(len(users)), counts)
        return places, np.arange(len(places)) + np.repeat(starts - (np.cumsum(counts) - counts), counts)

    def popularity(self) -> NDArray[np.int64]:
        """(n_items,) how many users have each item."""
        counts = np.zeros(self.n_items, dtype=np.int64)
        for start in range(0, len(self.items), _ENTRIES_AT_ONCE):
            counts += np.bincount(self.items[start : start + _ENTRIES_AT_ONCE], minlength=self.n_items)
        return counts


def _type_of_items(n_items: int) -> np.dtype[np.unsignedinteger]:
    kind = np.uint8 if n_items <= 2**8 else np.uint16 if n_items <= 2**16 else np.uint32
    return np.dtype(kind)
