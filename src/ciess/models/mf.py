"""Matrix factorisation (Rendle et al., BPR, UAI 2009): a score is the inner product of two rows."""

from dataclasses import dataclass, field

import torch

from ciess.data import Interactions
from ciess.models.base import LEARNING_ALONE, BackboneConfig, Training, TwoTables, normal_table


@dataclass(frozen=True)
class MF(BackboneConfig):
    """Matrix factorisation trained with BPR."""

    unused = frozenset({"network_l2"})
    distillation = LEARNING_ALONE

    # The rate falls to a twentieth until the last step: slower, training would end while it still gains.
    training: Training = field(default_factory=lambda: Training(steps=600, lr=0.02, lr_every=20, l2=1e-2, patience=6))

    def build(self, train: Interactions, seed: int = 0) -> "MFModel":
        """Rows drawn from N(0, 0.1²)."""
        return MFModel(train.n_users, train.n_items, self.dim, seed)


class MFModel(TwoTables):
    """Two tables, scored by inner products."""

    def __init__(self, n_users: int, n_items: int, dim: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.user_table = normal_table(n_users, dim, generator)
        self.item_table = normal_table(n_items, dim, generator)
