"""`PackedEmbedding`: rows of a packed table for any PyTorch model, in the place of an `nn.Embedding`."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ciess.checks import choice
from ciess.errors import InputError
from ciess.serve.model import CompressedModel
from ciess.serve.saved import load
from ciess.tables.layout import SIDES
from ciess.tables.packed import PackedTable


class PackedEmbedding(nn.Module):
    """Looks rows of a packed table up, as `nn.Embedding` looks up those of a dense one, and decodes only these.

    For serving: it has no parameters, so nothing is trained and nothing is in its `state_dict`; no gradient reaches the
    table. Rows are decoded on the CPU and given back on the device of the indices.

    Args:
        table: packed rows.
        order: (n,) the place in the table of each index; None: indices are places.

    Attributes:
        num_embeddings: how many rows there are.
        embedding_dim: numbers of a row; a shorter one is filled up with zeros.
    """

    def __init__(self, table: PackedTable, order: NDArray[np.integer] | None = None) -> None:
        super().__init__()
        self._table, self._order = table, order
        self._source: CompressedModel | None = None
        self.num_embeddings, self.embedding_dim = len(table) if order is None else len(order), table.dim

    @classmethod
    def from_model(cls, model: CompressedModel | str | Path, side: str) -> "PackedEmbedding":
        """One table of a compressed model; index n is the n-th id of its side in rising order, as in exports.

        So where ids are 0 to n − 1, they are the indices. Rows are what is packed: with a graph backbone they have not
        been through the graph, unless it was searched with `target="output"`.

        Args:
            model: a model, or the folder of a saved one, whose table is then mapped into memory: what is looked up is
                read. It is compared with its checksum at the first look-up.
            side: `users` or `items`.

        Raises:
            InputError: another side, or what `ciess.load` raises.
        """
        choice("side", side, SIDES)
        opened = model if isinstance(model, CompressedModel) else load(model)
        tables = {"users": (opened.users, opened.user_index), "items": (opened.items, opened.item_index)}
        table, index = tables[side]
        found = cls(table, index.order)
        found._source = opened
        return found

    def forward(self, indices: Tensor) -> Tensor:
        """(…, embedding_dim) float32 rows of indices of any shape.

        Raises:
            InputError: indices are no whole numbers, or beyond the table; or the table's file is damaged.
        """
        if self._source is not None:
            self._source.verify()
        rows = self._table.rows(self._places(indices))
        return torch.from_numpy(rows).to(indices.device).view(*indices.shape, self.embedding_dim)

    def _places(self, indices: Any) -> NDArray[np.int64]:
        """(b,) places in the table, of indices of any shape."""
        if not isinstance(indices, Tensor) or indices.dtype not in _WHOLE:
            kind = indices.dtype if isinstance(indices, Tensor) else type(indices).__name__
            raise InputError(f"indices are of type {kind}: give a tensor of whole numbers")
        flat: NDArray[np.int64] = indices.detach().reshape(-1).cpu().numpy().astype(np.int64)
        wrong = flat[(flat < 0) | (flat >= self.num_embeddings)]
        if len(wrong):
            raise InputError(f"index {wrong[0]} is beyond the table: give 0 to {self.num_embeddings - 1:,}")
        return flat if self._order is None else self._order[flat].astype(np.int64)

    def extra_repr(self) -> str:
        """What `print` shows."""
        return f"{self.num_embeddings}, {self.embedding_dim}, {self._table.precision}"


_WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
