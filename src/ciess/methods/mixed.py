"""Mixed random: sizes drawn at random, the papers' baseline MR."""

from dataclasses import dataclass

import numpy as np

from ciess.methods.problem import Problem, SearchResult


@dataclass(frozen=True)
class MixedRandom:
    """Every row's size is drawn uniformly from 1..dim; all are then scaled onto the budget.

    Attributes:
        draws: plans measured for each budget; the best on validation comes first.
        seed: of the draws.
    """

    draws: int = 1
    seed: int = 0

    def search(self, problem: Problem) -> SearchResult:
        """Draw and measure."""
        rng, result = np.random.default_rng(self.seed), SearchResult(best={})
        for budget in problem.budgets:
            desired = rng.integers(1, problem.shape.dim + 1, (self.draws, problem.shape.rows)).astype(np.float64)
            result.measure(problem, budget, *(problem.project(sizes, budget) for sizes in desired))
        return result
