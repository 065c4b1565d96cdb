"""Rules of a few parameters that size every entity, found by the cross-entropy method.

Rubinstein, The Cross-Entropy Method for Combinatorial and Continuous Optimization, 1999: draw rules, keep the best, and
draw the next ones around these.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ciess.methods.problem import Candidate, Problem, seed_for
from ciess.tables.budget import Budget

_NARROWEST = 0.04
"""The least spread of draws, as a share of the range: else they settle where the first few happened to lie."""

R = TypeVar("R", bound=NamedTuple)


class _Settings(Protocol):
    """Of a search: rounds, plans that each measures for a budget, the elite that draws gather around, and the seed."""

    @property
    def rounds(self) -> int: ...
    @property
    def plans(self) -> int: ...
    @property
    def elite(self) -> int: ...
    @property
    def seed(self) -> int: ...


def rules_found(
    problem: Problem, settings: _Settings, name: str, bounds: tuple[R, R], sizes: Callable[[R], NDArray[np.float64]]
) -> tuple[dict[Budget, dict[R, Candidate]], list[dict[str, float | str]]]:
    """For each budget the rules that were measured, the best first; and all of them in order, a row each.

    Args:
        problem: what is searched.
        settings: of the method.
        name: of the method, in traces and progress.
        bounds: least and largest parameters of a rule; all 0 is equal sizes, which are measured first.
        sizes: (n_users + n_items,) sizes that a rule wants, before they are scaled onto a budget.
    """
    found, trace = {}, list[dict[str, float | str]]()
    for number, budget in enumerate(problem.budgets):
        rng, measured = np.random.default_rng(seed_for(budget, settings.seed)), dict[R, Candidate]()
        for turn in range(settings.rounds):
            for place, drawn in enumerate(_drawn(settings, bounds, measured, rng), 1):
                rule = type(bounds[0])(*drawn.tolist())
                plan = problem.project(sizes(rule), budget)
                told = problem.told(plan)
                measured[rule] = Candidate(plan, told["quality"])
                trace.append({"kind": name, "budget": str(budget), **told, **rule._asdict()})
                problem.progress(
                    name,
                    (number * settings.rounds + turn) * settings.plans + place,
                    len(problem.budgets) * settings.rounds * settings.plans,
                    f"{budget} best {max(each.quality for each in measured.values()):.4f}",
                )
        found[budget] = {rule: measured[rule] for rule in _best_first(measured)}
    return found, trace


def _drawn(
    settings: _Settings, bounds: tuple[R, R], measured: Mapping[R, Candidate], rng: np.random.Generator
) -> NDArray[np.float64]:
    """(plans, parameters) of the next round: at first all over the range, then around the elite."""
    lowest, highest = map(np.array, bounds)
    if not measured:
        return np.vstack([np.zeros(len(lowest)), rng.uniform(lowest, highest, (settings.plans - 1, len(lowest)))])
    elite: NDArray[np.float64] = np.array(_best_first(measured)[: settings.elite])
    spread = np.maximum(elite.std(axis=0), _NARROWEST * (highest - lowest))
    return rng.normal(elite.mean(axis=0), spread, (settings.plans, len(lowest))).clip(lowest, highest)


def _best_first(measured: Mapping[R, Candidate]) -> list[R]:
    return sorted(measured, key=lambda rule: -measured[rule].quality)


def centred_log(numbers: NDArray[np.float64] | NDArray[np.int64]) -> NDArray[np.float64]:
    """Logarithms about their mean."""
    logarithm = np.log(numbers)
    return np.asarray(logarithm - logarithm.mean())
