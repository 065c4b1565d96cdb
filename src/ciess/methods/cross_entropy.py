"""Search over a small policy: sizes by popularity and row norm, found by the cross-entropy method.

No published method, but a baseline: a policy that learns a size for each entity should be worth more than seven
parameters found by a general optimiser (Rubinstein, 1999; de Boer et al., A Tutorial on the Cross-Entropy Method,
2005).
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ciess.checks import Checked, Positive, Seed
from ciess.methods.problem import Problem, SearchResult
from ciess.methods.shared.rules import centred_log, rules_found


class Policy(NamedTuple):
    """The logarithm of an entity's size is a weighted sum of features, each with mean 0 and deviation 1 on its side.

    A typical user gets exp(`share`) times the size of a typical item. Popularity and norm, the length of the full
    model's row, are logarithms; `curve` weighs the square of popularity's, so that sizes may grow faster or slower for
    the most popular.
    """

    share: float
    user_popularity: float
    user_curve: float
    user_norm: float
    item_popularity: float
    item_curve: float
    item_norm: float


_LOWEST = Policy(-3.5, -0.4, -0.2, -0.4, -0.2, -0.2, -0.4)
_HIGHEST = Policy(1.0, 0.6, 0.2, 0.4, 1.2, 0.2, 0.4)


@dataclass(frozen=True)
class CrossEntropy(Checked):
    """Seven parameters decide all sizes; the cross-entropy method finds them on validation.

    Attributes:
        rounds: of measuring and drawing nearer to the best.
        plans: measured a round, for each budget.
        elite: plans of all rounds that the next one is drawn around.
        finalists: candidates returned for each budget.
        seed: of everything random.
    """

    cheap: ClassVar[bool] = True

    rounds: Positive = 5
    plans: Positive = 8
    elite: Positive = 5
    finalists: Positive = 2
    seed: Seed = 0

    def search(self, problem: Problem) -> SearchResult:
        """Find a policy for every budget, each by itself."""
        sizes = partial(_sizes, _features(problem))
        found, trace = rules_found(problem, self, "cross-entropy", (_LOWEST, _HIGHEST), sizes)
        best = {budget: list(measured.values())[: self.finalists] for budget, measured in found.items()}
        return SearchResult(best, trace)


def _features(problem: Problem) -> list[NDArray[np.float64]]:
    """(n_users, 3) and (n_items, 3): popularity, its square and row norm."""
    sides = []
    for popularity, table in zip(
        problem.popularity, (problem.full_model.user_table, problem.full_model.item_table), strict=True
    ):
        # Who has no interactions counts as having one, and a row of zeros as being short.
        popular = centred_log(np.maximum(popularity, 1))
        norms = table.detach().double().norm(dim=1).numpy()
        lengths = np.log(norms.clip(1e-3 * norms.max()))
        sides.append(np.stack([_standard(each) for each in (popular, np.square(popular), lengths)], axis=1))
    return sides


def _standard(feature: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean 0 and deviation 1; all 0 where all are the same."""
    about = feature - feature.mean()
    return np.asarray(about / (about.std() or 1.0))


def _sizes(features: list[NDArray[np.float64]], policy: Policy) -> NDArray[np.float64]:
    users, items = features
    return np.asarray(np.exp(np.concatenate([policy.share + users @ policy[1:4], items @ policy[4:]])))
