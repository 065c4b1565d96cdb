"""Magnitude pruning: keep what is largest in the full model (Han et al., NeurIPS 2015, arXiv 1506.02626, Sec. 3).

In the form of prefixes: each row is cut where the sum of squares of what is cut off falls below one threshold for all
rows.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ciess.checks import Checked, Share
from ciess.methods.problem import Problem, SearchResult
from ciess.methods.shared.pruning import most_important, relative
from ciess.models.base import Backbone


@dataclass(frozen=True)
class Magnitude(Checked):
    """Each row is cut where the energy of its tail, the sum of squares of what is cut off, falls below a threshold.

    One threshold serves all rows of both tables; it is whatever fills the budget. Departures: rows' dimensions are in
    order of importance, so a prefix takes the place of the largest numbers, whose places would have to be stored;
    numbers count in root mean squares of their table; and what is kept is trained by the common finish.

    Attributes:
        least: numbers that every row keeps, as shares of equal sizes; each is tried, and the best on validation comes
            first.

    Raises:
        InputError: no share, or one that is not in 0..1.
    """

    cheap: ClassVar[bool] = True

    least: tuple[Share, ...] = (0.0, 0.25, 0.5, 0.75)

    def search(self, problem: Problem) -> SearchResult:
        """Measure a plan of each budget for each share."""
        result, energy = SearchResult(best={}), tail_energy(problem.full_model)
        for budget in problem.budgets:
            equal = problem.numbers[budget] / problem.rows
            plans = [most_important(problem, energy, budget, least=max(1, int(share * equal))) for share in self.least]
            result.measure(problem, budget, *plans)
        return result


def tail_energy(model: Backbone) -> Tensor:
    """(n_users + n_items, dim) the sum of squares of each number of a row and all after it, see `relative`."""
    squares = relative(model.user_table, model.item_table).square()
    return squares.flip(1).cumsum(1).flip(1)
