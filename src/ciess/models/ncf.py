"""NCF (He et al., WWW 2017): NeuMF, an inner product and a small network side by side, here trained with BPR."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, relu

from ciess.checks import Dim
from ciess.data import Interactions
from ciess.errors import InputError
from ciess.models.base import Backbone, BackboneConfig, Represented, Training, inner_products, normal_table, xavier
from ciess.tables.order import balanced, importance_rotation


@dataclass(frozen=True)
class NCF(BackboneConfig):
    """NeuMF trained with BPR.

    Attributes:
        dim: numbers of a full row, both branches together.

    Raises:
        InputError: a dim below 2.
    """

    distillation = Training(steps=120, batch_size=1_000_000, lr=0.1, lr_every=10, eval_every=40, patience=2)

    dim: Dim = 256
    training: Training = field(default_factory=lambda: Training(steps=600, lr=0.01, l2=5e-3, network_l2=2e-3))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dim < 2:
            raise InputError(f"dim is {self.dim}: NCF needs at least 2, a number for each branch")

    @property
    def network_parameters(self) -> int:
        """The two halves of the hidden layer, its bias and output, and the output of the inner product."""
        return 2 * (self.dim // 2) ** 2 + 2 * (self.dim // 2) + (self.dim + 1) // 2

    def build(self, train: Interactions, seed: int = 0) -> "NCFModel":
        """Rows drawn from N(0, 0.1²), Xavier weights; h starts as ones, so that GMF starts as matrix factorisation."""
        return NCFModel(train.n_users, train.n_items, self.dim, seed)


class NCFModel(Backbone):
    """h·(p ∘ q) + w·ReLU(W_u m + W_i n + b) for a user's rows p, m and an item's q, n (He et al., eq. 12).

    Even columns of a table are its GMF branch (p, q), odd ones its MLP branch (m, n): cutting a row short cuts both
    alike. The hidden layer is as wide as the MLP branch. There is no output bias: BPR only sees differences.
    """

    def __init__(self, n_users: int, n_items: int, dim: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        gmf, mlp = (dim + 1) // 2, dim // 2
        self.user_table = normal_table(n_users, dim, generator)
        self.item_table = normal_table(n_items, dim, generator)
        hidden = xavier(mlp, 2 * mlp, generator)
        self.user_hidden, self.item_hidden = (nn.Parameter(half.clone()) for half in hidden.split(mlp, 1))
        self.hidden_bias = nn.Parameter(torch.zeros(mlp))
        self.gmf_output = nn.Parameter(torch.ones(gmf))
        self.mlp_output = nn.Parameter(xavier(1, mlp, generator)[0])

    def represent(self, user_table: Tensor, item_table: Tensor) -> Represented:
        """Full-width tables (n, dim) to vectors (n, dim): h∘p beside W_u m + b, q beside W_i n."""
        users = [user_table[:, ::2] * self.gmf_output, user_table[:, 1::2] @ self.user_hidden.T + self.hidden_bias]
        items = [item_table[:, ::2], item_table[:, 1::2] @ self.item_hidden.T]
        return Represented(torch.cat(users, 1), torch.cat(items, 1))

    def score(self, vectors: Represented, users: Tensor, items: Tensor) -> Tensor:
        """See `Backbone.score`."""
        gmf, mlp = self._branches(vectors)
        # The gradient of `embedding` is cheaper than that of plain indexing.
        hidden = relu(embedding(users, mlp.users)[:, None] + embedding(items, mlp.items))
        return inner_products(gmf, users, items) + hidden @ self.mlp_output

    def score_all(self, vectors: Represented, users: Tensor) -> Tensor:
        """See `Backbone.score_all`.

        No (b, n_items, width) tensor is made: relu(z) = (z + |z|)/2, and w·|x + y| is the L1 distance of w∘x and
        −w∘y where w > 0, its opposite where w < 0.
        """
        gmf, mlp = self._branches(vectors)
        hidden_users, hidden_items = mlp.users[users] * self.mlp_output, mlp.items * self.mlp_output
        sums = hidden_users.sum(1)[:, None] + hidden_items.sum(1)
        for sign in (1, -1):
            group = self.mlp_output.sign() == sign
            if group.any():
                sums = sums + sign * torch.cdist(hidden_users[:, group], -hidden_items[:, group], p=1)
        return gmf.users[users] @ gmf.items.T + sums / 2

    @torch.no_grad()
    def order_dimensions(self) -> None:
        """Turn the columns of each branch by singular value decompositions, so that cutting rows short loses least.

        GMF: p∘h and q become U√S and V√S of U S Vᵀ, all users' scores of all items, and h becomes 1. MLP: what
        enters the hidden layer, M W_uᵀ = U S Vᵀ, becomes rows U S and weights V; the same for items.
        """
        users, items = balanced(self.user_table[:, ::2] * self.gmf_output, self.item_table[:, ::2])
        self.user_table[:, ::2] = users
        self.item_table[:, ::2] = items
        self.gmf_output.fill_(1)
        for table, weights in ((self.user_table, self.user_hidden), (self.item_table, self.item_hidden)):
            entering = table[:, 1::2] @ weights.T
            rotation = importance_rotation(entering)
            table[:, 1::2] = entering @ rotation
            weights.copy_(rotation)

    def _branches(self, vectors: Represented) -> tuple[Represented, Represented]:
        gmf = len(self.gmf_output)
        return Represented(*(side[:, :gmf] for side in vectors)), Represented(*(side[:, gmf:] for side in vectors))
