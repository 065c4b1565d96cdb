"""Rules of a few parameters that size every entity, found by the cross-entropy method.

Rubinstein, The Cross-Entropy Method for Combinatorial and Continuous Optimization, 1999: draw rules, keep the best, and
draw the next ones around these.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ciess.methods.problem import Candidate, Problem, seed_for
from ciess.tables.budget import Budget

_NARROWEST = 0.04
"""The least spread of draws, as a share of the range: else they settle where the first few happened to lie."""

R = TypeVar("R", bound=NamedTuple)


@dataclass(frozen=True)
class CrossEntropyMethod(Generic[R]):
    """Finds the best rule for each budget, each by itself.

    Attributes:
        name: of the method, in traces and progress.
        lowest: least parameters of a rule.
        highest: largest parameters of a rule.
        equal: the rule that gives every entity the same size; it is measured first.
        sizes: (n_users + n_items,) sizes that a rule wants, before they are scaled onto a budget.
        rounds: of measuring and drawing nearer to the best.
        plans: measured a round, for each budget.
        elite: rules of all rounds that the next one is drawn around.
        seed: of all draws.
    """

    name: str
    lowest: R
    highest: R
    equal: R
    sizes: Callable[[R], NDArray[np.float64]]
    rounds: int
    plans: int
    elite: int
    seed: int

    def search(self, problem: Problem) -> tuple[dict[Budget, dict[R, Candidate]], list[dict[str, float | str]]]:
        """For each budget the rules that were measured, the best first; and all of them in order, a row each."""
        found, trace = {}, list[dict[str, float | str]]()
        for number, budget in enumerate(problem.budgets):
            rng, measured = np.random.default_rng(seed_for(budget, self.seed)), dict[R, Candidate]()
            for turn in range(self.rounds):
                for place, rule in enumerate(self._drawn(measured, rng), 1):
                    plan = problem.project(self.sizes(rule), budget)
                    told = problem.told(plan)
                    measured[rule] = Candidate(plan, told["quality"])
                    trace.append({"kind": self.name, "budget": str(budget), **told, **rule._asdict()})
                    problem.progress(
                        self.name,
                        (number * self.rounds + turn) * self.plans + place,
                        len(problem.budgets) * self.rounds * self.plans,
                        f"{budget} best {max(each.quality for each in measured.values()):.4f}",
                    )
            found[budget] = {rule: measured[rule] for rule in _best_first(measured)}
        return found, trace

    def _drawn(self, measured: Mapping[R, Candidate], rng: np.random.Generator) -> list[R]:
        """The rules of the next round: at first all over the range, then around the elite."""
        lowest, highest = np.array(self.lowest), np.array(self.highest)
        if not measured:
            return [self.equal, *map(self._rule, rng.uniform(lowest, highest, (self.plans - 1, len(lowest))))]
        elite: NDArray[np.float64] = np.array(_best_first(measured)[: self.elite])
        spread = np.maximum(elite.std(axis=0), _NARROWEST * (highest - lowest))
        drawn = rng.normal(elite.mean(axis=0), spread, (self.plans, len(lowest))).clip(lowest, highest)
        return list(map(self._rule, drawn))

    def _rule(self, parameters: NDArray[np.float64]) -> R:
        return type(self.equal)(*parameters.tolist())


def _best_first(measured: Mapping[R, Candidate]) -> list[R]:
    return sorted(measured, key=lambda rule: -measured[rule].quality)


def centred_log(numbers: NDArray[np.float64] | NDArray[np.int64]) -> NDArray[np.float64]:
    """Logarithms about their mean."""
    logarithm = np.log(numbers)
    return np.asarray(logarithm - logarithm.mean())
