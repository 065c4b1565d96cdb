"""`KnownPairs`: interactions that a model has learned, found among drawn users and items."""

import torch
from torch import Tensor

from ciess.data import Interactions


class KnownPairs:
    """Pairs of a user and an item that are known, and so are never recommended.

    Args:
        interactions: the pairs.
    """

    def __init__(self, interactions: Interactions) -> None:
        matrix = interactions.matrix
        self._offsets, self._items = torch.from_numpy(matrix.indptr), torch.from_numpy(matrix.indices)
        self._n_items = interactions.n_items

    def among(self, users: Tensor, items: Tensor) -> Tensor:
        """(b, m) whether a pair is known, of some users, (b,) rows, and some items, (m,) rows."""
        starts = self._offsets[users].long()
        counts = self._offsets[users + 1].long() - starts
        rows = torch.repeat_interleave(counts)
        first = counts.cumsum(0) - counts
        theirs = self._items[torch.arange(len(rows)) + (starts - first)[rows]].long()
        places = torch.full((self._n_items,), -1)
        places[items] = torch.arange(len(items))
        columns = places[theirs]
        drawn = columns >= 0
        found = torch.zeros(len(users), len(items), dtype=torch.bool)
        found[rows[drawn], columns[drawn]] = True
        return found
