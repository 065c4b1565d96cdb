"""Equal sizes, the papers' baseline ES."""

from dataclasses import dataclass
from typing import ClassVar

from ciess.methods.problem import Candidate, Problem, SearchResult


@dataclass(frozen=True)
class EqualSizes:
    """Every user and item gets the same size: the largest whole one that fits the budget."""

    name: ClassVar[str] = "equal"

    def search(self, problem: Problem) -> SearchResult:
        """Measure the one plan of each budget."""
        result = SearchResult(best={})
        for budget in problem.budgets:
            plan = problem.equal(budget)
            told = problem.told(plan)
            result.best[budget] = [Candidate(plan, told["quality"])]
            result.trace.append({"budget": str(budget), **told})
        return result
