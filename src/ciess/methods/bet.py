"""BET: plans for the whole table that meet the budget exactly; a network says which are worth measuring.

Qu et al., Budgeted Embedding Table For Recommender Systems, WSDM 2024 (arXiv 2310.14884).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from ciess.checks import Checked, Count, Positive, Seed
from ciess.methods.fidelity import FineTune, Scratch, Truncate
from ciess.methods.problem import Candidate, Problem, SearchResult, seed_for
from ciess.methods.shared.fitness import FitnessPredictor
from ciess.tables.budget import Budget
from ciess.tables.plan import SizePlan

N = TypeVar("N", np.float64, np.int32)

LEAST = 1e-6
"""The smallest number drawn, of 1: a size must not be 0."""


@dataclass(frozen=True)
class BET(Checked):
    """BET (Qu et al., Sec. 3): rounds of drawing plans, choosing the promising ones, measuring these and learning.

    A plan gives users a share of the numbers drawn from U(0, 1); each side draws a number for each of its rows from a
    distribution of its own, and the rows get them in order of popularity, scaled onto their share: so every plan fills
    the budget to the number. The predictor (`FitnessPredictor`) ranks many plans. Of these, those it finds best, some
    at random and the nearest to the best so far are measured; then it learns from all that were.

    Departures: plans are measured as everywhere here, by cutting the full model or by distilling it for some steps,
    where the paper trains it on for ten epochs; the parameters of the power law and the truncated normal, and what is
    near, are our reading (`draw`, Euclidean distance of sizes); the first round is at random, since nothing is known.

    Attributes:
        rounds: of drawing and measuring (T), for each budget.
        candidates: plans drawn a round (m).
        greedy: of these, measured because the predictor finds them best.
        random: measured at random.
        nearest: measured because they are nearest to the best so far.
        predicted: ask the predictor; else all that are measured are drawn at random, the paper's ablation.
        finalists: candidates returned for each budget.
        fidelity: how plans are measured; None for the problem's own.
        seed: of everything random.
    """

    cheap: ClassVar[bool] = True

    rounds: Positive = 6
    candidates: Positive = 100
    greedy: Positive = 3
    random: Count = 1
    nearest: Count = 1
    predicted: bool = True
    finalists: Positive = 5
    fidelity: Truncate | FineTune | Scratch | None = None
    seed: Seed = 0

    @classmethod
    def paper(cls) -> "BET":
        """The published settings: 50 rounds; plans are measured after some steps of distillation, not of training."""
        return cls(rounds=50, fidelity=FineTune())

    def search(self, problem: Problem) -> SearchResult:
        """Find plans for every budget, each from nothing."""
        result = SearchResult(best={})
        for number, budget in enumerate(problem.budgets):
            rng = np.random.default_rng(seed_for(budget, self.seed))
            predictor = FitnessPredictor(problem.popularity, problem.shape.dim, seed=self.seed)
            measured: dict[SizePlan, float] = {}
            for turn in range(self.rounds):
                for plan in self._chosen(problem, budget, measured, predictor, rng):
                    told = problem.told(plan, self.fidelity)
                    measured[plan] = told["quality"]
                    result.trace.append({"kind": "bet", "budget": str(budget), "round": turn, **told})
                    best = max(measured.values())
                problem.progress(
                    "bet",
                    number * self.rounds + turn + 1,
                    len(problem.budgets) * self.rounds,
                    f"{budget} best {best:.4f}",
                )
            found = sorted(measured, key=lambda plan: -measured[plan])
            result.best[budget] = [Candidate(plan, measured[plan]) for plan in found[: self.finalists]]
        return result

    def _chosen(
        self,
        problem: Problem,
        budget: Budget,
        measured: dict[SizePlan, float],
        predictor: FitnessPredictor,
        rng: np.random.Generator,
    ) -> list[SizePlan]:
        """Draw plans, and choose which to measure."""
        wanted = self.greedy + self.random + self.nearest
        if not (self.predicted and measured):
            return [draw(problem, budget, rng) for _ in range(wanted)]
        drawn = [draw(problem, budget, rng) for _ in range(max(self.candidates, wanted))]
        predictor.learn(list(measured), list(measured.values()))
        best = max(measured, key=lambda plan: measured[plan]).sizes.astype(np.float64)
        distance = np.array([np.square(plan.sizes - best).sum() for plan in drawn])
        orders = (
            (np.argsort(-predictor.predict(drawn).numpy(), kind="stable"), self.greedy),
            (np.argsort(distance, kind="stable"), self.nearest),
            (rng.permutation(len(drawn)), self.random),
        )
        chosen: list[int] = []
        for order, count in orders:
            chosen += [each for each in order.tolist() if each not in chosen][:count]
        return [drawn[each] for each in chosen]


def draw(problem: Problem, budget: Budget, rng: np.random.Generator) -> SizePlan:
    """A plan that fills the budget: its numbers shared at random between the sides, on each larger for who has more."""
    users, items = (by_popularity(_numbers(len(side), rng), side) for side in problem.popularity)
    return problem.project_sides(users, items, rng.random(), budget)


def _numbers(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(n,) positive numbers from a distribution drawn at random, its parameters too."""
    drawn = DISTRIBUTIONS[rng.integers(len(DISTRIBUTIONS))](n, rng)
    return np.asarray(np.maximum(drawn, LEAST * drawn.max()))


def by_popularity(numbers: NDArray[N], popularity: NDArray[np.int64]) -> NDArray[N]:
    """The same numbers, the largest for the most popular; of equals, the earlier entity gets the larger."""
    given = np.empty_like(numbers)
    given[np.argsort(-popularity, kind="stable")] = np.sort(numbers)[::-1]
    return given


def _power_law(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """On 0..1 with density ∝ x^(β − 1), β from U(0, 1)."""
    return np.asarray(rng.power(1 - rng.random(), n))


def _truncated_exponential(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """On 0..1 with density ∝ exp(−β x), β from U(0, 5)."""
    rate = 5 * (1 - rng.random())
    return np.asarray(-np.log1p(rng.random(n) * np.expm1(-rate)) / rate)


def _truncated_normal(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """On 0..1, mean and deviation from U(0, 1)."""
    mean, deviation = rng.random(), 1 - rng.random()
    low, high = ndtr(-mean / deviation), ndtr((1 - mean) / deviation)
    return np.asarray(mean + deviation * ndtri(low + (high - low) * rng.random(n)))


def _log_normal(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """The exponential of normal numbers, whose deviation β is from U(0, 0.5)."""
    return np.asarray(rng.lognormal(0, 0.5 * (1 - rng.random()), n))


DISTRIBUTIONS: tuple[Callable[[int, np.random.Generator], NDArray[np.float64]], ...] = (
    _power_law,
    _truncated_exponential,
    _truncated_normal,
    _log_normal,
)
"""What numbers are drawn from (Qu et al., Sec. 3.2)."""
