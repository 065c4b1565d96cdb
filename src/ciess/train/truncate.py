"""A full model cut to a size plan, without training."""

import copy

import torch
from torch import Tensor, nn

from ciess.models.base import Backbone, Rotatable
from ciess.tables.packed import rounded
from ciess.tables.plan import SizePlan
from ciess.tables.precision import Precision
from ciess.train.refit import cut_tables, refit


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
    if isinstance(full, Rotatable):
        tables = refit(full, plan, refit_steps)
    else:
        tables = cut_tables(full, plan, plan.max_size if full.separable else plan.dim)
    tables = rounded_tables(*tables, plan)
    shared: dict[int, object] = {id(each): each for each in (*full.parameters(), *full.buffers(), full.learned)}
    for table, short in zip((full.user_table, full.item_table), tables, strict=True):
        shared[id(table)] = nn.Parameter(short, requires_grad=table.requires_grad)
    return copy.deepcopy(full, shared).eval()


def rounded_tables(users: Tensor, items: Tensor, plan: SizePlan) -> tuple[Tensor, Tensor]:
    """Both tables, which are zero beyond a plan's sizes, rounded to its precision."""
    if plan.precision is Precision.FLOAT32:
        return users, items
    sides = ((users, plan.user_sizes), (items, plan.item_sizes))
    near = [torch.from_numpy(rounded(table.detach().numpy(), sizes, plan.precision)) for table, sizes in sides]
    return near[0], near[1]
