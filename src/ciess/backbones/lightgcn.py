"""LightGCN (He et al., SIGIR 2020): rows smoothed over the graph of users and items, then inner products."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import block_array, csr_array, diags_array
from torch import Tensor

from ciess.backbones.base import BackboneConfig, Represented, Rotatable, normal_table
from ciess.data import Interactions


@dataclass(frozen=True)
class LightGCN(BackboneConfig):
    """LightGCN trained with BPR.

    Attributes:
        layers: hops over the graph.
    """

    layers: int = 3

    def build(self, train: Interactions, seed: int = 0) -> "LightGCNModel":
        """Rows drawn from N(0, 0.1²); the graph is `train`."""
        return LightGCNModel(train, self.dim, self.layers, seed)


class LightGCNModel(Rotatable):
    """Vectors are the mean of a row and its `layers` neighbourhood sums (He et al., eq. 3 and 4)."""

    def __init__(self, train: Interactions, dim: int, layers: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.user_table = normal_table(train.n_users, dim, 0.1, generator)
        self.item_table = normal_table(train.n_items, dim, 0.1, generator)
        self.layers = layers
        self.register_buffer("adjacency", normalised_adjacency(train.matrix), persistent=False)

    def represent(self, user_table: Tensor, item_table: Tensor) -> Represented:
        """Smooth the tables (n, width) over the graph."""
        layer = total = torch.cat([user_table, item_table])
        for _ in range(self.layers):
            layer = _Hop.apply(self.adjacency, layer)  # type: ignore[no-untyped-call]
            total = total + layer
        users, items = (total / (self.layers + 1)).split([len(user_table), len(item_table)])
        return Represented(users, items)


def normalised_adjacency(interactions: csr_array) -> Tensor:
    """(users + items)² sparse CSR tensor D^−½ A D^−½, symmetric, int32 indices where they fit."""
    degrees = [np.maximum(interactions.sum(axis), 1).astype(np.float64) for axis in (1, 0)]
    left, right = (diags_array(degree**-0.5) for degree in degrees)
    block = left @ interactions @ right
    adjacency = csr_array(block_array([[None, block], [block.T, None]]))
    adjacency.sort_indices()
    index = np.int32 if adjacency.nnz < 2**31 else np.int64
    return torch.sparse_csr_tensor(
        torch.from_numpy(adjacency.indptr.astype(index)),
        torch.from_numpy(adjacency.indices.astype(index)),
        torch.from_numpy(adjacency.data.astype(np.float32)),
        size=adjacency.shape,
        check_invariants=False,
    )


class _Hop(torch.autograd.Function):
    """One product with the adjacency. It is symmetric: the gradient is a product with the same matrix."""

    @staticmethod
    def forward(ctx, adjacency, layer):  # type: ignore[no-untyped-def]
        ctx.adjacency = adjacency
        return adjacency @ layer

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        return None, ctx.adjacency @ gradient
