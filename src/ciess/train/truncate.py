"""A full model cut to a size plan, without training."""

import copy

import torch
from torch import Tensor, nn

from ciess.models.base import Backbone, Rotatable
from ciess.tables.mask import prefix_mask
from ciess.tables.packed import rounded
from ciess.tables.plan import SizePlan
from ciess.tables.precision import Precision
from ciess.train.refit import refit


@torch.no_grad()
def truncated(full: Backbone, plan: SizePlan, refit_steps: int = 0) -> Backbone:
    """A model whose rows are cut to a plan and rounded as it stores them; all else it shares with the full model.

    What `finish` comes to without a step of training, but the network is not copied, and tables whose columns are
    apart are no wider than the plan's largest size.

    Args:
        full: its dimensions in order; stays as it is.
        plan: sizes of the result.
        refit_steps: of the least-squares refit, see `refit`.
    """
    tables: tuple[Tensor, Tensor]
    if isinstance(full, Rotatable):
        tables = refit(full, plan, refit_steps)
    else:
        width = plan.max_size if full.separable else plan.dim
        sides = ((full.user_table, plan.user_sizes), (full.item_table, plan.item_sizes))
        users, items = (table[:, :width] * prefix_mask(sizes, width, table.device) for table, sizes in sides)
        tables = users, items
    if plan.precision is not Precision.FLOAT32:
        users, items = (
            torch.from_numpy(rounded(table.cpu().numpy(), sizes, plan.precision)).to(table.device)
            for table, sizes in zip(tables, (plan.user_sizes, plan.item_sizes), strict=True)
        )
        tables = users, items
    shared: dict[int, object] = {id(each): each for each in (*full.parameters(), *full.buffers(), full.learned)}
    for table, short in zip((full.user_table, full.item_table), tables, strict=True):
        shared[id(table)] = nn.Parameter(short, requires_grad=table.requires_grad)
    return copy.deepcopy(full, shared).eval()
