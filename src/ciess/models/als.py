"""Alternating least squares for implicit feedback (Hu, Koren, Volinsky, ICDM 2008).

Minimises Σ c (p − x·y)² + λ (Σ‖x‖² + Σ‖y‖²) over all pairs of a user x and an item y, where p is 1 and c is 1 + alpha
for interactions, and p is 0 and c is 1 for all other pairs.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from ciess.checks import AboveZero, NotNegative
from ciess.data import Interactions
from ciess.errors import InputError
from ciess.models.base import DESCENT, LEARNING_ALONE, BackboneConfig, Solver, Training, TwoTables, normal_table
from ciess.tables.plan import SizePlan

_NUMBERS_IN_A_CHUNK = 4_000_000
"""The most numbers of a chunk's gathered rows, and of its Gramians, unless one row alone has more."""


@dataclass(frozen=True)
class ALS(BackboneConfig):
    """Alternating least squares; the steps of its training are sweeps over users and then items.

    Attributes:
        alpha: how much more an interaction weighs than a pair without one.
        regularisation: λ, the weight of the squared norms, in interactions a row: the geometric mean of how many a
            user has and an item has. What weight is best grows with them.

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
        return dataclasses.replace(self, regularisation=self.regularisation * _a_row(before) / _a_row(data))

    def build(self, train: Interactions, seed: int = 0) -> "ALSModel":
        """Rows drawn from N(0, 0.1²)."""
        return ALSModel(train.n_users, train.n_items, self, seed)


def _a_row(data: Interactions) -> float:
    """Interactions a row: the geometric mean of how many a user has and an item has."""
    return float(len(data) / (data.n_users * data.n_items) ** 0.5)


class ALSModel(TwoTables):
    """Two tables, scored by inner products; each row is solved for, the other side's given."""

    def __init__(self, n_users: int, n_items: int, config: ALS, seed: int) -> None:
        super().__init__()
        self._config = config
        generator = torch.Generator().manual_seed(seed)
        self.user_table = normal_table(n_users, config.dim, 0.1, generator)
        self.item_table = normal_table(n_items, config.dim, 0.1, generator)

    def solver(self, train: Interactions, plan: SizePlan | None = None) -> Solver:
        """Sweeps of alternating least squares."""
        return _Sweep(self._config, train, plan)


class _Sweep(Solver):
    """Users given items, then items given users."""

    def __init__(self, config: ALS, train: Interactions, plan: SizePlan | None) -> None:
        self._alpha = config.alpha
        self._regularisation = config.regularisation * _a_row(train)
        self._sides = (train.matrix, csr_array(train.matrix.T))
        self._sizes = (None, None) if plan is None else (plan.user_sizes, plan.item_sizes)

    def __call__(self, user_table: Tensor, item_table: Tensor) -> tuple[Tensor, Tensor]:
        """See `Solver`. The user table given does not matter."""
        users = self._solved(0, item_table)
        return users, self._solved(1, users)

    def _solved(self, side: int, other: Tensor) -> Tensor:
        return solve_rows(self._sides[side], other, self._sizes[side], self._alpha, self._regularisation)


@torch.no_grad()
def solve_rows(
    interactions: csr_array,
    other: Tensor,
    sizes: NDArray[np.int32] | None,
    alpha: float,
    regularisation: float,
) -> Tensor:
    """The rows of one side that are best for the other side's (Hu et al., equation 4), each with its own size.

    A row of size d solves the d × d system of the other table's first d columns, so it is the best of its size and
    not the best full row cut short.

    Args:
        interactions: (n, n_other) CSR; what is stored is an interaction.
        other: (n_other, width) the other side's table, zero beyond its own sizes.
        sizes: (n,) numbers to keep of each row, at most width; None: all.
        alpha: how much more an interaction weighs.
        regularisation: weight of the squared norms, above 0.

    Returns:
        (n, width) table, zero beyond the sizes.
    """
    device, width = other.device, other.shape[1]
    counts = np.diff(interactions.indptr)
    starts, columns, found = (
        torch.from_numpy(a).to(device) for a in (interactions.indptr, interactions.indices, counts)
    )
    kept = None if sizes is None else torch.as_tensor(sizes, device=device)
    gramian = other.T @ other + regularisation * torch.eye(width, dtype=other.dtype, device=device)
    # One more row, of zeros, for rows with fewer interactions than the longest of their chunk.
    padded = torch.cat([other, other.new_zeros(1, width)])
    # By the Gramian: what each row of the other table would come to if it stood alone.
    alone = torch.cholesky_solve(padded.T, _cholesky(gramian)).T
    solved = other.new_zeros(len(counts), width)
    for rows, longest in _chunks(counts, width):
        rows = rows.to(device)
        place = torch.arange(longest, device=device)
        stored = (starts[rows, None] + place).clamp(max=len(columns) - 1)
        theirs = torch.where(place < found[rows, None], columns[stored], len(other))
        if kept is not None:
            size = int(kept[rows].max())
            mask = (torch.arange(size, device=device) < kept[rows, None]).to(other.dtype)
            solved[rows, :size] = _solve_wide(padded[:, :size][theirs], gramian[:size, :size], mask, alpha)
        elif longest < width:
            solved[rows] = _solve_few(padded[theirs], alone[theirs], alpha)
        else:
            solved[rows] = _solve_wide(padded[theirs], gramian, other.new_ones(len(rows), width), alpha)
    return solved


def _solve_wide(factors: Tensor, gramian: Tensor, mask: Tensor, alpha: float) -> Tensor:
    """(b, size) rows by a system of their size: factors (b, n, size) of their interactions, mask (b, size)."""
    systems = torch.baddbmm(gramian, factors.mT, factors, alpha=alpha)
    # Beyond a row's size stands the identity against zeros: those numbers come out as zero.
    systems = systems * mask[:, :, None] * mask[:, None, :] + torch.diag_embed(1 - mask)
    wanted = (1 + alpha) * factors.sum(1) * mask
    return torch.cholesky_solve(wanted[:, :, None], _cholesky(systems))[:, :, 0]


def _solve_few(factors: Tensor, alone: Tensor, alpha: float) -> Tensor:
    """(b, width) rows by a system of as many unknowns as interactions, which are fewer (Woodbury's identity).

    With G the Gramian and F a row's factors, (G + α FᵀF)⁻¹ Fᵀ = G⁻¹ Fᵀ (I + α F G⁻¹ Fᵀ)⁻¹; `alone` is F G⁻¹.
    """
    systems = torch.baddbmm(torch.eye(factors.shape[1]).to(factors), factors, alone.mT, alpha=alpha)
    weights = torch.cholesky_solve(torch.ones_like(factors[:, :, :1]), _cholesky(systems))
    return (1 + alpha) * (weights * alone).sum(1)


def _cholesky(systems: Tensor) -> Tensor:
    """Lower triangular factors of one or more symmetric systems, (…, size, size).

    Where λ is less than what rounding takes from a system, the system is not positive definite as it is stored: its
    diagonal is then raised by as much as rounding can have taken.

    Raises:
        InputError: that is not enough.
    """
    factors: Tensor
    factors, failed = torch.linalg.cholesky_ex(systems)
    if not failed.any():
        return factors
    diagonal = systems.diagonal(dim1=-2, dim2=-1)
    lost = systems.shape[-1] * torch.finfo(systems.dtype).eps * diagonal.amax(-1)
    raised = systems + torch.diag_embed(torch.where(failed > 0, lost, 0.0)[..., None].expand_as(diagonal))
    factors, failed = torch.linalg.cholesky_ex(raised)
    if failed.any():
        raise InputError("ALS cannot be solved with so little regularisation: raise it, to 0.01 for example")
    return factors


def _chunks(counts: NDArray[np.integer], width: int) -> Iterator[tuple[Tensor, int]]:
    """Rows of similar counts together, as many as memory allows, and the largest count among them."""
    order = np.argsort(-counts, kind="stable")
    start = 0
    while start < len(order):
        longest = int(counts[order[start]])
        end = start + max(1, _NUMBERS_IN_A_CHUNK // (max(longest, width) * width))
        yield torch.from_numpy(order[start:end]), longest
        start = end
