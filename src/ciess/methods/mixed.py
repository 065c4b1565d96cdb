"""Mixed random sizes, the papers' baseline MR."""

from dataclasses import dataclass

import numpy as np

from ciess.checks import Checked, Positive, Seed
from ciess.methods.problem import Problem, SearchResult, seed_for


@dataclass(frozen=True)
class MixedRandom(Checked):
    """Every entity's size is drawn uniformly from 1..dim; all are then scaled onto the budget.

    Attributes:
        draws: plans measured for each budget; the best on validation comes first.
        seed: of the draws.
    """

    draws: Positive = 1
    seed: Seed = 0

    def search(self, problem: Problem) -> SearchResult:
        """Draw and measure."""
        result = SearchResult(best={})
        for budget in problem.budgets:
            rng = np.random.default_rng(seed_for(budget, self.seed))
            desired = rng.integers(1, problem.shape.dim + 1, (self.draws, problem.shape.rows)).astype(np.float64)
            result.measure(problem, budget, *(problem.project(sizes, budget) for sizes in desired))
        return result
