"""Plans that keep the most important numbers of both tables, wherever they stand in their rows."""

import torch
from torch import Tensor

from ciess.methods.problem import Problem
from ciess.tables.budget import Budget
from ciess.tables.plan import SizePlan


def most_important(problem: Problem, importance: Tensor, budget: Budget, least: int = 1) -> SizePlan:
    """The plan whose rows are as long as the most important numbers that fill the budget are many.

    Args:
        problem: the budget's.
        importance: (n_users + n_items, dim) of each number; of equals the earlier row's counts more.
        budget: to be filled.
        least: numbers that every row keeps, for which the budget has room.
    """
    rows, dim = importance.shape
    safe = torch.zeros_like(importance, dtype=torch.bool)
    safe.scatter_(1, importance.topk(least, dim=1).indices, True)
    order = importance.masked_fill(safe, torch.inf).flatten().argsort(descending=True, stable=True)
    row_of = order // dim

    def kept(numbers: int) -> SizePlan:
        sizes = torch.bincount(row_of[:numbers], minlength=rows)
        return SizePlan.from_sizes(sizes.numpy(), problem.shape, problem.precision[budget])

    return problem.filled(kept, budget)
