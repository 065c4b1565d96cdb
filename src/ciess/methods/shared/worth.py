"""What numbers of a small model's rows are worth: how much the teacher's loss would change with one less or one more.

To second order, taking away a number w where the loss has curvature h raises it by ½ h w² (LeCun et al., Optimal Brain
Damage, NIPS 1989); for the curvature stands the Fisher information (Theis et al., Faster Gaze Prediction with Dense
Networks and Fisher Pruning, 2018). Giving an absent number its best value lowers the loss by ½ g² / h, g being its
gradient, by whose size RigL chooses where to grow (Evci et al., ICML 2020).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import softmax

from ciess.models.base import Backbone
from ciess.tables.plan import SizePlan
from ciess.train.losses import Distillation

_TRACE = 1e-3
"""What absent numbers next to a row's end have of the teacher's, so that gradients reach them."""
_PART = 4
"""Such numbers are as many as one in so many of the row's."""


class Draw(NamedTuple):
    """A sample of the score matrix.

    Attributes:
        users: rows of the user table, rising.
        items: rows of the item table, rising.
        signs: a random sign for each user and for each item.
    """

    users: Tensor
    items: Tensor
    signs: tuple[Tensor, Tensor]


class Slopes(NamedTuple):
    """Gradient and curvature of the teacher's loss in both tables, users first: (rows, width) each.

    Attributes:
        tables: where they were taken.
        gradients: two estimates, of draws of their own.
        curvature: diagonal of the Fisher information, each table's smoothed to row times column.
    """

    tables: Tensor
    gradients: tuple[Tensor, Tensor]
    curvature: Tensor


def quarter(sizes: NDArray[np.int32]) -> NDArray[np.int64]:
    """A quarter of each size, at least 1."""
    return -(-sizes.astype(np.int64) // _PART)


def draws(loss: Distillation, shape: tuple[int, int], looks: int, generator: torch.Generator) -> list[Draw]:
    """Samples in which every user and every item occurs as often: once for each look.

    Args:
        loss: says what share of users and items a sample has.
        shape: how many users and items there are.
        looks: at every row.
        generator: of the samples.
    """
    found, (n_users, n_items) = [], shape
    # Somebody in each part, and two items, since one alone has nothing to be ranked against.
    parts = max(1, min(loss.parts, n_users, n_items // 2))
    for _ in range(looks):
        groups = [
            [group.sort().values for group in torch.randperm(count, generator=generator).tensor_split(parts)]
            for count in shape
        ]
        for users, items in zip(*groups, strict=True):
            signs = [2.0 * torch.randint(2, rows.shape, generator=generator) - 1 for rows in (users, items)]
            found.append(Draw(users, items, (signs[0], signs[1])))
    return found


def slopes(
    small: Backbone, full: Backbone, plan: SizePlan, loss: Distillation, halves: tuple[Sequence[Draw], Sequence[Draw]]
) -> Slopes:
    """Gradient and curvature of the teacher's loss in every number, those included that rows do not have.

    Args:
        small: its tables are zero beyond the sizes; stays as it is.
        full: the teacher.
        plan: the sizes.
        loss: of the small model against the teacher.
        halves: the draws of each of the two gradients.
    """
    width = plan.dim if not small.separable else min(plan.dim, plan.max_size + int(quarter(plan.sizes).max()))
    tables = [
        _traced(table.detach()[:, :width], teacher.detach()[:, :width], sizes).requires_grad_()
        for table, teacher, sizes in (
            (small.user_table, full.user_table, plan.user_sizes),
            (small.item_table, full.item_table, plan.item_sizes),
        )
    ]
    small.eval()
    sums = [[torch.zeros_like(table) for table in tables] for _ in halves]
    squares = [torch.zeros_like(table) for table in tables]
    for gradient, half in zip(sums, halves, strict=True):
        for draw in half:
            scores, slope, probe = _compared(small, tables, loss, draw)
            for total, each in zip(
                gradient, torch.autograd.grad(scores, tables, slope, retain_graph=True), strict=True
            ):
                total += each / len(half)
            for total, each in zip(squares, torch.autograd.grad(scores, tables, probe), strict=True):
                total += each.square() / sum(map(len, halves))
    first, second = (torch.cat(each) for each in sums)
    return Slopes(torch.cat(tables).detach(), (first, second), torch.cat([smoothed(each) for each in squares]))


def _compared(small: Backbone, tables: list[Tensor], loss: Distillation, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
    """Scores of a draw; the gradient in them of the users' mean loss; and a random vector whose outer product with
    itself is on average their Hessian, diag(p) − p pᵀ for each user."""
    wanted, scores = loss.compared(small.represent(*tables), draw.users, draw.items)
    found, (users, items) = softmax(scores.detach(), dim=1), draw.signs
    probe = found.sqrt() * items
    probe = (probe - found * probe.sum(1, keepdim=True)) * users[:, None]
    return scores, (found - wanted) / len(found), probe / len(found) ** 0.5


def _traced(table: Tensor, teacher: Tensor, sizes: NDArray[np.int32]) -> Tensor:
    """A table with a trace of the teacher's numbers where each row would grow.

    Without it, a column that no row of either side has would have no gradient on the other. With it, g² and h are small
    alike, and g² / h is what the column would be worth if those that could have it next had it.
    """
    start = torch.from_numpy(sizes.astype(np.int64))[:, None]
    columns = torch.arange(table.shape[1])
    grown = (columns >= start) & (columns < start + torch.from_numpy(quarter(sizes))[:, None])
    return torch.where(grown, _TRACE * teacher, table)


def smoothed(squares: Tensor) -> Tensor:
    """The product of a row's and a column's number that has the same sums of rows and of columns."""
    total = squares.sum().clamp(min=torch.finfo(squares.dtype).tiny)
    return squares.sum(1, keepdim=True) * (squares.sum(0, keepdim=True) / total)


def worth_of_numbers(plan: SizePlan, slopes: Slopes) -> Tensor:
    """(rows, width) what each number is worth: one that a row has, if it were taken; one that it lacks, if given."""
    first, second = slopes.gradients
    kept = slopes.curvature * slopes.tables.square() / 2
    # A square would count a gradient's noise as worth; the product of two independent estimates does not.
    absent = first * second / (2 * slopes.curvature).clamp(min=torch.finfo(first.dtype).tiny)
    has = torch.arange(kept.shape[1]) < torch.from_numpy(plan.sizes)[:, None]
    return torch.where(has, kept, absent)
