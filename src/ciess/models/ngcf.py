"""NGCF (Wang et al., SIGIR 2019): rows passed through layers that mix a row with its neighbours' mean."""

from dataclasses import dataclass, field
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, normalize

from ciess.checks import Layers, Within
from ciess.data import Interactions
from ciess.models.base import BackboneConfig, InnerProduct, Represented, Training, normal_table, xavier
from ciess.models.graph import averaging_adjacency, hop, with_values
from ciess.tables.order import importance_rotation

_Dropped = Annotated[float, Within(0, 0.99)]


@dataclass(frozen=True)
class NGCF(BackboneConfig):
    """NGCF trained with BPR.

    Attributes:
        layers: hops over the graph.
        message_dropout: share of a layer's numbers dropped in training.
        edge_dropout: share of the graph's edges dropped in training, anew in each step.
    """

    distillation = Training(steps=150, batch_size=2_000_000, lr=0.3, lr_every=12, eval_every=50, patience=2)

    training: Training = field(default_factory=lambda: Training(steps=400, lr=0.02, l2=2e-2))
    layers: Layers = 3
    message_dropout: _Dropped = 0.1
    edge_dropout: _Dropped = 0.1

    @property
    def network_parameters(self) -> int:
        """Two matrices and a bias in each layer, and the matrix that turns rows."""
        return self.layers * self.dim * (2 * self.dim + 1) + self.dim**2

    def build(self, train: Interactions, seed: int = 0) -> "NGCFModel":
        """Rows drawn from N(0, 0.1²), Xavier weights; the graph is `train`."""
        return NGCFModel(train, self, seed)


class NGCFModel(InnerProduct):
    """E′ = LeakyReLU(L E W₁ + (L E ∘ E) W₂ + b) (Wang et al., eq. 7) with L = D⁻¹(A + I), the mean over the graph.

    Vectors are a row and its layers' outputs, each of length 1, side by side: (layers + 1)·dim numbers.

    The element-wise product allows no rotation of the rows. So the model keeps a (dim, dim) matrix that turns them
    first: as trained it is the identity, and does nothing.
    """

    through_graph = True
    distillation_rate = 1 / 6

    adjacency: Tensor
    transposed: Tensor
    mirror: Tensor

    def __init__(self, train: Interactions, config: NGCF, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        dim, layers = config.dim, range(config.layers)
        self.user_table = normal_table(train.n_users, dim, generator)
        self.item_table = normal_table(train.n_items, dim, generator)
        self.of_means = nn.ParameterList(nn.Parameter(xavier(dim, dim, generator)) for _ in layers)
        self.of_products = nn.ParameterList(nn.Parameter(xavier(dim, dim, generator)) for _ in layers)
        # Not learned, but a parameter, so that it is kept with what is.
        self.turn = nn.Parameter(torch.eye(dim), requires_grad=False)
        # The authors' two biases of a layer only ever appear as their sum.
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(dim)) for _ in layers)
        for name, matrix in zip(("adjacency", "transposed", "mirror"), averaging_adjacency(train.matrix), strict=True):
            self.register_buffer(name, matrix, persistent=False)
        self._message_dropout, self._edge_dropout = config.message_dropout, config.edge_dropout
        self._seed, self._draws = seed, 0
        self.eval()

    def represent(self, user_table: Tensor, item_table: Tensor) -> Represented:
        """Pass tables (n, dim) through the layers: (n, (layers + 1)·dim) vectors. Dropout in training mode only."""
        adjacency, transposed = self.adjacency, self.transposed
        if self.training:
            kept = self._kept(adjacency.values(), self._edge_dropout)
            adjacency = with_values(adjacency, adjacency.values() * kept)
            transposed = with_values(transposed, transposed.values() * kept.index_select(0, self.mirror))
        rows = torch.cat([user_table, item_table]) @ self.turn
        outputs = [rows]
        for of_means, of_products, bias in zip(self.of_means, self.of_products, self.biases, strict=True):
            means = hop(adjacency, transposed, rows)
            rows = leaky_relu(means @ of_means + (means * rows) @ of_products + bias, 0.2)
            if self.training:
                rows = rows * self._kept(rows, self._message_dropout)
            outputs.append(normalize(rows))
        users, items = torch.cat(outputs, 1).split([len(user_table), len(item_table)])
        return Represented(users, items)

    @torch.no_grad()
    def order_dimensions(self) -> None:
        """Rotate the rows, so that cutting them short loses least, and let the model turn them back."""
        rotation = importance_rotation(torch.cat([self.user_table, self.item_table]))
        for table in (self.user_table, self.item_table):
            table.copy_(table @ rotation)
        self.turn.copy_(rotation.T @ self.turn)

    def _kept(self, like: Tensor, dropout: float) -> Tensor:
        """A fresh mask: 0 where dropped, and 1 / (1 − dropout) elsewhere."""
        self._draws += 1
        # A new generator for each draw, since one kept by the model could neither be copied nor moved with it.
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self._draws)
        return torch.empty_like(like).bernoulli_(1 - dropout, generator=generator).div_(1 - dropout)
