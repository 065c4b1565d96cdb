"""Magnitude pruning: keep what is largest in the full model (Han et al., NeurIPS 2015, arXiv 1506.02626, Sec. 3).

Two forms. As a method, rows are cut to prefixes: where the energy of what is cut off falls below one threshold for all
rows. As a peer of whole methods, single numbers are kept wherever they stand, and their places count as well.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ciess.backbones.base import Backbone
from ciess.errors import InputError
from ciess.methods.problem import Candidate, Problem, SearchResult
from ciess.methods.pruning import most_important
from ciess.tables.packed import rounded
from ciess.tables.precision import Precision


@dataclass(frozen=True)
class Magnitude:
    """Each row is cut where the energy of its tail, the sum of squares of what is cut off, falls below a threshold.

    One threshold serves all rows of both tables; it is whatever fills the budget. Departures: rows' dimensions are in
    order of importance, so a prefix takes the place of the largest numbers, whose places would have to be stored; and
    what is kept is trained by the common finish.

    Attributes:
        least: numbers that every row keeps, as shares of equal sizes; each is tried, and the best on validation comes
            first.

    Raises:
        InputError: no share, or one that is not in 0..1.
    """

    cheap: ClassVar[bool] = True

    least: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75)

    def __post_init__(self) -> None:
        if not self.least or not all(0 <= share <= 1 for share in self.least):
            raise InputError(f"least is {self.least}: name one share or more, each in 0..1")

    def search(self, problem: Problem) -> SearchResult:
        """Measure a plan of each budget for each share."""
        result, energy = SearchResult(best={}), tail_energy(problem.full_model)
        for budget in problem.budgets:
            equal = problem.numbers[budget] / problem.shape.rows
            plans = [most_important(problem, energy, budget, least=max(1, int(share * equal))) for share in self.least]
            found = [Candidate(plan, problem.measure(plan).quality) for plan in dict.fromkeys(plans)]
            result.best[budget] = sorted(found, key=lambda candidate: -candidate.quality)
            result.trace += [{"kind": "magnitude", "budget": str(budget), "quality": each.quality} for each in found]
        return result


@torch.no_grad()
def tail_energy(model: Backbone) -> Tensor:
    """(n_users + n_items, dim) the sum of squares of each number of a row and all after it."""
    squares = torch.cat([model.user_table, model.item_table]).double().square().cpu()
    return squares.flip(1).cumsum(1).flip(1)


class Pruned(NamedTuple):
    """Tables that keep single numbers, (n, dim) with zeros between them, and the bytes that both take."""

    user_table: Tensor
    item_table: Tensor
    bytes: int


@torch.no_grad()
def unstructured_magnitude(
    model: Backbone, limit: int, least: int = 1, precision: Precision = Precision.FLOAT32
) -> Pruned:
    """Keep the largest numbers of both tables, by one threshold, that fit into so many bytes.

    Each table is stored as its numbers row by row, scales where the precision has them, and where the numbers stand:
    a bit for every place, or the column of every number and the length of every row, whichever is shorter. Columns and
    lengths take a byte where dim is below 256, else two. Headers are not counted.

    Args:
        model: its tables stay as they are.
        limit: of the bytes.
        least: numbers that every row keeps.
        precision: how numbers are stored.

    Raises:
        InputError: not even the least fits.
    """
    tables = [model.user_table.cpu(), model.item_table.cpu()]
    magnitude = torch.cat(tables).abs()
    rows, dim = magnitude.shape
    kept = magnitude.topk(min(least, dim), dim=1).indices
    order = magnitude.scatter(1, kept, torch.inf).flatten().argsort(descending=True, stable=True)
    of_users = torch.cat([torch.zeros(1), (order < len(tables[0]) * dim).cumsum(0)]).long().numpy()
    counts = np.arange(len(order) + 1)
    taken = _bytes(of_users, tables[0], precision) + _bytes(counts - of_users, tables[1], precision)
    numbers = int(np.searchsorted(taken, limit, side="right")) - 1
    if numbers < kept.numel():
        raise InputError(
            f"{limit:,} bytes cannot hold {least} of each row's numbers: use at least {taken[kept.numel()]:,}"
        )
    mask = torch.zeros(rows * dim, dtype=torch.bool)
    mask[order[:numbers]] = True
    sizes = np.full(rows, dim, dtype=np.int32)
    users, items = (
        torch.from_numpy(rounded((table * part).numpy(), sizes[: len(table)], precision))
        for table, part in zip(tables, mask.view(rows, dim).split([len(table) for table in tables]), strict=True)
    )
    return Pruned(users, items, int(taken[numbers]))


def _bytes(counts: NDArray[np.int64], table: Tensor, precision: Precision) -> NDArray[np.int64]:
    """Bytes that a table takes with so many numbers kept, for each of the counts."""
    rows, dim = table.shape
    index = 1 if dim < 256 else 2
    places = np.minimum(-(-rows * dim // 8), index * (counts + rows))
    scales = (rows if precision.scale_a_row else 4) if precision.whole else 0
    return np.asarray(-(-counts * precision.bits // 8) + places + scales)
