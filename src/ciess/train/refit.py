"""Short rows that come closest to a full model, without training.

Where vectors are sums over a graph, a number cut from one row can partly be made up for by its neighbours' rows.
The rows that lose least squared error of the vectors solve a linear least-squares problem, column by column.
"""

import torch
from torch import Tensor

from ciess.models.base import Backbone, Rotatable
from ciess.tables.mask import prefix_mask
from ciess.tables.plan import SizePlan

_SOLVED = 1e-10
"""The share of a column's squared residual that is as good as none in float32."""


def refit(backbone: Rotatable, plan: SizePlan, steps: int = 3) -> tuple[Tensor, Tensor]:
    """Tables with the plan's sizes whose vectors come closest to those of the backbone's full tables.

    Conjugate gradients on the normal equations, all columns at once, from the rows simply cut: each step
    lowers the squared error of the vectors. Three steps are enough; without a graph the start is the answer.

    Args:
        backbone: its tables, ordered by importance, are the model to come close to.
        plan: sizes to keep.
        steps: steps of conjugate gradients.

    Returns:
        user and item tables, (n, plan.max_size).
    """
    width = plan.max_size
    if backbone.rows_stand_alone or not steps:
        return cut_tables(backbone, plan, width)
    n_users = len(plan.user_sizes)
    full = torch.cat([backbone.user_table, backbone.item_table]).detach()[:, :width]
    mask = prefix_mask(plan.sizes, width)
    rows = full * mask
    residual = mask * _normal(backbone, full - rows, n_users)
    direction, energy = residual, residual.square().sum(0)
    solved = energy * _SOLVED
    for _ in range(steps):
        image = mask * _normal(backbone, direction, n_users)
        # A solved column stands still: beyond the precision of its numbers, steps would lead away.
        unsolved = energy > solved
        step = torch.where(unsolved, energy / (direction * image).sum(0), 0.0)
        rows = rows + step * direction
        residual = residual - step * image
        energy, before = residual.square().sum(0), energy
        direction = residual + torch.where(unsolved, energy / before, 0.0) * direction
    users, items = rows.split([n_users, len(full) - n_users])
    return users, items


def _normal(backbone: Rotatable, rows: Tensor, n_users: int) -> Tensor:
    """AᵀA rows, where A takes tables to vectors: the gradient of half the vectors' squared norm."""
    with torch.enable_grad():
        rows = rows.detach().requires_grad_()
        users, items = backbone.represent(rows[:n_users], rows[n_users:])
        half_norm = (users.square().sum() + items.square().sum()) / 2
        (gradient,) = torch.autograd.grad(half_norm, rows)
    return gradient


@torch.no_grad()
def cut_tables(backbone: Backbone, plan: SizePlan, width: int) -> tuple[Tensor, Tensor]:
    """A model's tables, (n, width), zero beyond a plan's sizes."""
    sides = ((backbone.user_table, plan.user_sizes), (backbone.item_table, plan.item_sizes))
    users, items = (table[:, :width] * prefix_mask(sizes, width) for table, sizes in sides)
    return users, items
