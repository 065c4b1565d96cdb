"""Sizes by popularity: a rule of three numbers, found by a small search on validation.

Ginart et al., Mixed Dimension Embeddings with Application to Memory-Efficient Recommendation Systems, 2019
(arXiv 1909.11810), give a row a size ∝ popularity^α. Here users and items have an exponent each, and a third number
sets how the budget is shared between them.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ciess.methods.problem import Candidate, Problem, SearchResult


class Rule(NamedTuple):
    """A user of typical popularity gets exp(`share`) times the size of such an item; exponents of popularity."""

    share: float
    user_exponent: float
    item_exponent: float


EQUAL = Rule(0.0, 0.0, 0.0)
_LOWEST, _HIGHEST = np.array([-3.5, -0.4, -0.2]), np.array([1.0, 0.6, 1.2])
_APART = 1.0
"""Rules whose shares differ by this are of different kinds."""


@dataclass(frozen=True)
class Popularity:
    """Sizes ∝ popularity^α, the exponents and the sides' share found by the cross-entropy method.

    Attributes:
        rounds: of measuring and drawing nearer to the best.
        plans: measured a round, for each budget.
        elite: plans of all rounds that the next one is drawn around.
        finalists: candidates returned for each budget: the best, and the best of other kinds, since a short measurement
            undervalues plans that cut one side much shorter, which come up late in a finish.
        seed: of everything random.
    """

    cheap: ClassVar[bool] = True

    rounds: int = 3
    plans: int = 6
    elite: int = 3
    finalists: int = 2
    seed: int = 0

    def search(self, problem: Problem) -> SearchResult:
        """Find rules for every budget; each starts from what was found for the one before it."""
        result, rng, start = SearchResult(best={}), np.random.default_rng(self.seed), [EQUAL]
        for number, budget in enumerate(problem.budgets):
            measured: dict[Rule, Candidate] = {}
            for _ in range(self.rounds):
                for rule in self._drawn(measured, start, rng):
                    found = problem.measure(problem.project(desired_sizes(problem, rule), budget))
                    measured[rule] = Candidate(found.plan, found.quality)
                    result.trace.append(
                        {"kind": "popularity", "budget": str(budget), "quality": found.quality, **rule._asdict()}
                    )
                    problem.progress(
                        "popularity",
                        number * self.rounds * self.plans + len(measured),
                        len(problem.budgets) * self.rounds * self.plans,
                        f"{budget} best {max(each.quality for each in measured.values()):.4f}",
                    )
            best = _best_first(measured)
            result.best[budget] = [measured[rule] for rule in _of_different_kinds(best)[: self.finalists]]
            start = [EQUAL, *best[:1]]
        return result

    def _drawn(self, measured: dict[Rule, Candidate], start: list[Rule], rng: np.random.Generator) -> list[Rule]:
        """The rules of the next round: at first `start` and all over the range, then around the elite."""
        if not measured:
            spread = rng.uniform(_LOWEST, _HIGHEST, (self.plans - len(start), 3))
            return [*start, *(Rule(*each) for each in spread.tolist())]
        elite = np.array(_best_first(measured)[: self.elite])
        # A floor keeps it from settling where the first few happened to lie.
        spread = np.maximum(elite.std(axis=0), 0.04 * (_HIGHEST - _LOWEST))
        drawn = rng.normal(elite.mean(axis=0), spread, (self.plans, 3)).clip(_LOWEST, _HIGHEST)
        return [Rule(*each) for each in drawn.tolist()]


def desired_sizes(problem: Problem, rule: Rule) -> NDArray[np.float64]:
    """(n_users + n_items,) sizes before they are scaled onto a budget."""
    users, items = (_relative(popularity) for popularity in problem.popularity)
    return np.concatenate([np.exp(rule.share) * users**rule.user_exponent, items**rule.item_exponent])


def _relative(popularity: NDArray[np.int64]) -> NDArray[np.float64]:
    """Popularity over its geometric mean; who has no interactions counts as having one."""
    logarithm = np.log(np.maximum(popularity, 1))
    return np.asarray(np.exp(logarithm - logarithm.mean()))


def _best_first(measured: dict[Rule, Candidate]) -> list[Rule]:
    return sorted(measured, key=lambda rule: -measured[rule].quality)


def _of_different_kinds(rules: list[Rule]) -> list[Rule]:
    """The first rule, and each later one whose share is apart from all those before it."""
    kinds: list[Rule] = []
    for rule in rules:
        if all(abs(rule.share - kind.share) >= _APART for kind in kinds):
            kinds.append(rule)
    return kinds
