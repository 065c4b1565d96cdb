"""Sizes by popularity: a rule of three parameters, found by a small search on validation.

Ginart et al., Mixed Dimension Embeddings with Application to Memory-Efficient Recommendation Systems, 2019
(arXiv 1909.11810), give an entity a size ∝ popularity^α. Here users and items have an exponent each, and a third
parameter sets how the budget is shared between them.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ciess.checks import Checked, Positive, Seed
from ciess.methods.policy import SizePolicy
from ciess.methods.problem import Problem, SearchResult
from ciess.methods.shared.rules import centred_log, rules_found
from ciess.tables.plan import SizePlan


class Rule(NamedTuple):
    """A user of typical popularity gets exp(`share`) times the size of such an item; exponents of popularity."""

    share: float
    user_exponent: float
    item_exponent: float


EQUAL = Rule(0.0, 0.0, 0.0)
_LOWEST, _HIGHEST = Rule(-3.5, -0.4, -0.2), Rule(1.0, 0.6, 1.2)
_APART = 1.0
"""Rules whose shares differ by this, a factor of e between the sides, are of different kinds."""


@dataclass(frozen=True)
class Popularity(Checked):
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

    rounds: Positive = 5
    plans: Positive = 6
    elite: Positive = 3
    finalists: Positive = 2
    seed: Seed = 0

    def search(self, problem: Problem) -> SearchResult:
        """Find rules for every budget, each by itself."""
        sizes = partial(desired_sizes, problem)
        found, trace = rules_found(problem, self, "popularity", (_LOWEST, _HIGHEST), sizes)
        best = {
            budget: [measured[rule] for rule in _of_different_kinds(list(measured))[: self.finalists]]
            for budget, measured in found.items()
        }
        return SearchResult(best, trace)

    def followed(self, plan: SizePlan, before: Problem, after: Problem) -> SizePlan:
        """The rule's sizes by what users and items have now; each side keeps its share, since a rule compares rows."""
        sizes = SizePolicy.of_plan(plan, before.popularity).sizes(after.popularity)
        users, items = np.split(sizes, [plan.shape.n_users])
        return after.project_sides(users, items, plan.user_sizes.sum() / plan.sizes.sum(), after.budgets[0])


def desired_sizes(problem: Problem, rule: Rule) -> NDArray[np.float64]:
    """(n_users + n_items,) sizes before they are scaled onto a budget."""
    # Over the geometric mean; who has no interactions counts as having one.
    users, items = (np.exp(centred_log(np.maximum(popularity, 1))) for popularity in problem.popularity)
    return np.concatenate([np.exp(rule.share) * users**rule.user_exponent, items**rule.item_exponent])


def _of_different_kinds(rules: list[Rule]) -> list[Rule]:
    """The first rule, and each later one whose share is apart from all those before it."""
    kinds: list[Rule] = []
    for rule in rules:
        if all(abs(rule.share - kind.share) >= _APART for kind in kinds):
            kinds.append(rule)
    return kinds
