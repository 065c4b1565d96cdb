"""LightGCN (He et al., SIGIR 2020): rows smoothed over the graph of users and items, then inner products."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ciess.checks import Layers
from ciess.data import Interactions
from ciess.models.base import BackboneConfig, Represented, Rotatable, normal_table
from ciess.models.graph import hop, normalised_adjacency


@dataclass(frozen=True)
class LightGCN(BackboneConfig):
    """LightGCN trained with BPR.

    Attributes:
        layers: hops over the graph.
    """

    unused = frozenset({"network_l2"})

    layers: Layers = 3

    def build(self, train: Interactions, seed: int = 0) -> "LightGCNModel":
        """Rows drawn from N(0, 0.1²); the graph is `train`."""
        return LightGCNModel(train, self.dim, self.layers, seed)


class LightGCNModel(Rotatable):
    """Vectors are the mean of a row and its `layers` neighbourhood sums (He et al., eq. 3 and 4)."""

    through_graph = True

    adjacency: Tensor

    def __init__(self, train: Interactions, dim: int, layers: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.user_table = normal_table(train.n_users, dim, generator)
        self.item_table = normal_table(train.n_items, dim, generator)
        self.layers = layers
        self.register_buffer("adjacency", normalised_adjacency(train.matrix), persistent=False)

    def represent(self, user_table: Tensor, item_table: Tensor) -> Represented:
        """Smooth the tables (n, width) over the graph."""
        layer = total = torch.cat([user_table, item_table])
        for _ in range(self.layers):
            layer = hop(self.adjacency, self.adjacency, layer)
            total = total + layer
        users, items = (total / (self.layers + 1)).split([len(user_table), len(item_table)])
        return Represented(users, items)
