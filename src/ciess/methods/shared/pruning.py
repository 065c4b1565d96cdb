"""Plans that keep the most important numbers of both tables, wherever they stand in their rows."""

import torch
from torch import Tensor

from ciess.methods.problem import Problem
from ciess.tables.budget import Budget
from ciess.tables.plan import SizePlan

_SMALLEST = 1e-30
"""Keeps a table of zeros from being divided by zero."""


def most_important(problem: Problem, importance: Tensor, budget: Budget, least: int = 1) -> SizePlan:
    """The plan that keeps the most important numbers of both tables that a budget pays for.

    A row's size is how many of its numbers these are.

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

    paid = None if problem.stands_for is None else torch.from_numpy(problem.stands_for)[row_of].cumsum(0)

    def kept(numbers: int) -> SizePlan:
        count = numbers if paid is None else max(rows * least, int(torch.searchsorted(paid, numbers, right=True)))
        sizes = torch.bincount(row_of[:count], minlength=rows)
        return SizePlan.from_sizes(sizes.numpy(), problem.shape, problem.precision[budget])

    return problem.filled(kept, budget)


@torch.no_grad()
def relative(users: Tensor, items: Tensor) -> Tensor:
    """(n_users + n_items, dim) the numbers of both tables, each over its table's root mean square.

    Where scores are inner products, nothing says how large one table is against the other: doubling all users and
    halving all items changes no score, but would give every number to the users.
    """
    tables = [table.detach().double() for table in (users, items)]
    return torch.cat([table / max(root_mean_square(table), _SMALLEST) for table in tables])


def root_mean_square(table: Tensor) -> float:
    """Of all numbers of a table."""
    return float(table.detach().square().mean().sqrt())
