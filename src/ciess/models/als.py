"""Alternating least squares for implicit feedback (Hu, Koren, Volinsky, ICDM 2008).

Minimises Σ c (p − x·y)² + λ (Σ‖x‖² + Σ‖y‖²) over all pairs of a user x and an item y, where p is 1 and c is 1 + alpha
for interactions, and p is 0 and c is 1 for all other pairs.
"""

import dataclasses
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from ciess.checks import AboveZero, NotNegative
from ciess.data import Interactions
from ciess.models.base import DESCENT, LEARNING_ALONE, BackboneConfig, Solver, Training
from ciess.models.graph import sparse_tensor
from ciess.models.mf import MFModel
from ciess.tables.mask import prefix_mask
from ciess.tables.plan import SizePlan

_NUMBERS_IN_A_BLOCK = 8_000_000
"""Of rows that are solved for together."""
STEPS = 3
"""Of conjugate gradients for each row in a sweep: more give no better models (docs/search.md)."""


@dataclass(frozen=True)
class ALS(BackboneConfig):
    """Alternating least squares; the steps of its training are sweeps over users and then items.

    Attributes:
        alpha: how much more an interaction weighs than a pair without one.
        regularisation: λ, the weight of the squared norms, over the mean interactions a row, the geometric mean of how
            many a user has and an item has: the best λ grows with these.

    Raises:
        InputError: a setting outside of its bounds.
    """

    unused = DESCENT
    distillation = LEARNING_ALONE
    tuned = {"alpha": 4.0, "regularisation": 4.0}  # noqa: RUF012 - never changed

    training: Training = field(default_factory=lambda: Training(steps=15, eval_every=1, patience=3))
    alpha: NotNegative = 15.0
    regularisation: AboveZero = 1.3

    def short(self, dim: int) -> "ALS":
        """Few sweeps: they come close to the last one's quality soon."""
        training = dataclasses.replace(self.training, steps=min(5, self.training.steps), eval_every=5)
        return dataclasses.replace(self, dim=min(self.dim, dim), training=training)

    def on_more(self, data: Interactions, before: Interactions) -> "ALS":
        """The weight λ itself stays: the more a row has, the less its prior counts."""
        return dataclasses.replace(
            self, regularisation=self.regularisation * interactions_a_row(before) / interactions_a_row(data)
        )

    def build(self, train: Interactions, seed: int = 0) -> "ALSModel":
        """Rows drawn from N(0, 0.1²)."""
        return ALSModel(train.n_users, train.n_items, self, seed)


def interactions_a_row(data: Interactions) -> float:
    """Interactions a row: the geometric mean of how many a user has and an item has."""
    return float(len(data) / (data.n_users * data.n_items) ** 0.5)


class ALSModel(MFModel):
    """Two tables, scored by inner products; each row is solved for, the other side's given."""

    def __init__(self, n_users: int, n_items: int, config: ALS, seed: int) -> None:
        super().__init__(n_users, n_items, config.dim, seed)
        self._config = config

    def solver(self, train: Interactions, plan: SizePlan | None = None) -> Solver:
        """Sweeps of alternating least squares."""
        return _Sweep(self._config, train, plan)


class _Sweep(Solver):
    """Users given items, then items given users."""

    def __init__(self, config: ALS, train: Interactions, plan: SizePlan | None) -> None:
        self._alpha = config.alpha
        self._regularisation = config.regularisation * interactions_a_row(train)
        self._sides = (train.matrix, csr_array(train.matrix.T))
        self._sizes = (None, None) if plan is None else (plan.user_sizes, plan.item_sizes)

    def __call__(self, user_table: Tensor, item_table: Tensor) -> tuple[Tensor, Tensor]:
        """See `Solver`."""
        users = self._closer(0, user_table, item_table)
        return users, self._closer(1, item_table, users)

    def _closer(self, side: int, table: Tensor, other: Tensor) -> Tensor:
        return closer_rows(self._sides[side], table, other, self._sizes[side], self._alpha, self._regularisation, STEPS)


@torch.no_grad()
def closer_rows(
    interactions: csr_array,
    table: Tensor,
    other: Tensor,
    sizes: NDArray[np.int32] | None,
    alpha: float,
    regularisation: float,
    steps: int,
    gramian: Tensor | None = None,
) -> Tensor:
    """The rows of one side, brought closer to those that are best for the other side's (Hu et al., equation 4).

    Conjugate gradients from the rows as they are (Takács, Pilászy, Tikk, RecSys 2011): what a few steps leave, the next
    sweep would change anyway. A row of size d goes to what is best for the other table's first d columns, so to the
    best of its size and not to the best full row cut short; a row without interactions to zero.

    Args:
        interactions: (n, n_other) CSR; what is stored is an interaction.
        table: (n, width) the rows.
        other: (n_other, width) the other side's table, zero beyond its own sizes.
        sizes: (n,) numbers to keep of each row, at most width; None: all.
        alpha: how much more an interaction weighs.
        regularisation: weight of the squared norms, above 0.
        steps: of conjugate gradients.
        gramian: (width, width) of the whole other side, where `other` holds only the rows that are interacted with.

    Returns:
        (n, width) table, zero beyond the sizes.
    """
    width = other.shape[1]
    gramian = other.T @ other if gramian is None else gramian
    gramian = gramian + regularisation * torch.eye(width)
    closer = torch.zeros_like(table)
    count = max(1, _NUMBERS_IN_A_BLOCK // width)
    for start in range(0, len(table), count):
        block = slice(start, start + count)
        pattern = _pattern(interactions[block], other)
        mask = (pattern.crow_indices().diff() > 0)[:, None].float()
        if sizes is not None:
            mask = mask * prefix_mask(sizes[block], width)
        closer[block] = _descended(table[block], pattern, other, gramian, mask, alpha, steps)
    return closer


def _pattern(interactions: csr_array, other: Tensor) -> Tensor:
    """(b, n_other) sparse CSR tensor of ones, where the other side's table is."""
    ones = np.ones(interactions.nnz, dtype=np.float32)
    pattern = csr_array((ones, interactions.indices, interactions.indptr), shape=interactions.shape)
    return sparse_tensor(pattern)


def _descended(
    rows: Tensor, pattern: Tensor, other: Tensor, gramian: Tensor, mask: Tensor, alpha: float, steps: int
) -> Tensor:
    """(b, width) rows after some steps, by a pattern (b, n_other) of which of the other side's they have to do with."""

    def image(of: Tensor) -> Tensor:
        scores: Tensor = torch.sparse.sampled_addmm(pattern, of, other.T, beta=0.0)
        return mask * (of @ gramian + alpha * (scores @ other))

    rows = rows * mask
    residual = (1 + alpha) * (pattern @ other) * mask - image(rows)
    direction, energy = residual, residual.square().sum(1, keepdim=True)
    for _ in range(steps):
        moved = image(direction)
        # A row that is solved stands still.
        step = torch.nan_to_num(energy / (direction * moved).sum(1, keepdim=True), 0.0, 0.0)
        rows, residual = rows + step * direction, residual - step * moved
        energy, before = residual.square().sum(1, keepdim=True), energy
        direction = residual + torch.nan_to_num(energy / before, 0.0, 0.0) * direction
    return rows
