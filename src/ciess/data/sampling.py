"""Triplets for BPR: a user, one of its items, and an item it does not have."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ciess.data.interactions import Interactions, pair_keys
from ciess.errors import InputError


class Triplets(NamedTuple):
    """Rows of users, rising, of an item each has, and of one it has not; (n,) int64 each."""

    users: Tensor
    positives: Tensor
    negatives: Tensor


_SLOTS = 32
"""For each pair that is there: of the others about one in so many is looked up in vain."""
_HASH = -0x61C8864680B583EB
"""2⁶⁴ over the golden ratio, as a signed number: its products' first bits are spread evenly (Knuth, The Art of Computer
Programming, vol. 3, 1973, Sec. 6.4)."""


class _Pairs:
    """Which pairs of a user and an item there are; most that are asked for are none.

    A filter of one bit a slot, into which pairs fall by a hash function, tells so of most of them (Bloom,
    Communications of the ACM, 1970). Only the rest is looked up among the sorted pairs, which takes ten times as long.

    Args:
        keys: (n,) numbers of the pairs, rising; one or more.
    """

    def __init__(self, keys: NDArray[np.int64]) -> None:
        self._width = (_SLOTS * len(keys)).bit_length()
        slots = self._slots(torch.from_numpy(keys)).numpy()
        filled = np.zeros(2**self._width // 8, dtype=np.uint8)
        np.bitwise_or.at(filled, slots >> 3, np.left_shift(1, slots & 7).astype(np.uint8))
        self._filled, self._keys = torch.from_numpy(filled), torch.from_numpy(keys)

    def places(self, keys: Tensor) -> Tensor:
        """Where among some keys those are that are there, rising."""
        slots = self._slots(keys)
        bits = self._filled[slots >> 3] >> (slots & 7).to(torch.uint8)
        likely = (bits & 1).nonzero().squeeze(1)
        asked = keys[likely]
        at = torch.searchsorted(self._keys, asked).clamp(max=len(self._keys) - 1)
        return likely[self._keys[at] == asked]

    def _slots(self, keys: Tensor) -> Tensor:
        slots: Tensor = (keys * _HASH >> (64 - self._width)) & (2**self._width - 1)
        return slots


class TripletSampler:
    """Draws triplets in bulk; no negative is ever among the user's items.

    Args:
        interactions: who has what.
        known: of the same users and items: what users have here is no negative either.
        seed: of all draws.

    Attributes:
        generator: of the draws.

    Raises:
        InputError: every user has every item.
    """

    def __init__(self, interactions: Interactions, seed: int = 0, known: Interactions | None = None) -> None:
        self._n_items = interactions.n_items
        counts = interactions.user_counts
        keys = pair_keys(interactions)
        owned = keys if known is None else np.union1d(keys, pair_keys(known))
        # Who has every item has no negative; who has none, no positive.
        have = np.bincount(owned // self._n_items, minlength=interactions.n_users)
        eligible = (counts > 0) & (have < self._n_items)
        if not eligible.any():
            raise InputError("every user has every item: there is nothing to learn")
        self._keys = torch.from_numpy(keys)
        self._owned = _Pairs(owned)
        self._counts = torch.as_tensor(counts)
        self._first = torch.from_numpy(interactions.matrix.indptr[:-1].astype(np.int64))
        self._users = torch.from_numpy(np.flatnonzero(eligible))
        self._eligible = torch.as_tensor(eligible)
        self.generator = torch.Generator().manual_seed(seed)

    def sample(self, n: int) -> Triplets:
        """Draw n users uniformly and an item of each, in the order of users: sparse kernels want rows in order."""
        users = self._users[self._integers(len(self._users), n).sort().values]
        counts = self._counts[users]
        # A uniform number below 1 can round up to the count itself.
        place = (torch.rand(n, generator=self.generator) * counts).long().clamp(max=counts - 1)
        return self._with_negatives(self._keys[self._first[users] + place])

    def stream(self, order: NDArray[np.int64], batches: int) -> Iterator[Triplets]:
        """Every interaction once, in an order of all of them, in so many batches; a batch is in the order of its users.

        Interactions of users who have every item are left out.
        """
        keys = self._keys[torch.from_numpy(order)]
        for batch in keys[self._eligible[keys // self._n_items]].tensor_split(batches):
            yield self._with_negatives(batch.sort().values)

    def _with_negatives(self, keys: Tensor) -> Triplets:
        users, positives = keys // self._n_items, keys % self._n_items
        negatives = self._integers(self._n_items, len(keys))
        wrong = self._owned.places(users * self._n_items + negatives)
        while len(wrong):
            negatives[wrong] = self._integers(self._n_items, len(wrong))
            wrong = wrong[self._owned.places(users[wrong] * self._n_items + negatives[wrong])]
        return Triplets(users, positives, negatives)

    def _integers(self, high: int, n: int) -> Tensor:
        return torch.randint(high, (n,), generator=self.generator)
