"""Sizes by what numbers are worth to the teacher's loss; validation data is not used to find them.

A budget is spent best when the last number of every row is worth the same (marginal allocation: Fox, Discrete
Optimization via Marginal Analysis, Management Science, 1966). That worth is the price of a number: at it each row takes
by itself the size that gains most (Everett, Generalized Lagrange Multiplier Method, Operations Research, 1963).
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from ciess.checks import Checked, Positive, Seed
from ciess.methods.popularity import EQUAL, Rule, desired_sizes
from ciess.methods.problem import Candidate, Problem, SearchResult, seed_for
from ciess.methods.shared.gains import Gains
from ciess.methods.shared.student import Begun, Student
from ciess.methods.shared.worth import worth_of_numbers
from ciess.tables.budget import Budget
from ciess.tables.plan import SizePlan

_RATIOS = (4.0, 1.0, 1 / 4, 1 / 16)
"""Of users' sizes to items', where the search may begin: with a graph, users can do with next to nothing if items keep
more, but moving numbers does not lead there from equal sizes."""
_EXPONENTS = (("item_exponent", 0.5), ("user_exponent", 0.25))
"""Of popularity, tried one after the other with the best ratio: rows change by half a round, and the largest are
many times as long as the smallest."""
STARTS = len(_RATIOS) + len(_EXPONENTS)
"""How many plans are tried to begin from."""
FOLLOWING = 4
"""Rounds in which a plan follows a full model that has learned more."""


@dataclass(frozen=True)
class Marginal(Checked):
    """Sizes by what numbers are worth: each row takes the size that gains most at the price that fills the budget.

    It begins from the best of a few plans: one size for users and one for items, or sizes by popularity. In each round
    the worth of every row's numbers, and of those that would follow, is estimated, rows take new sizes within reach,
    and the small model learns on for some steps, numbers that are new starting as the full model's. The plan of the
    round with the lowest loss is kept. Each budget has a search of its own.

    Attributes:
        rounds: of new sizes; more follow once the full model has learned more, see `followed`.
        steps: of distillation after each round; a half of them for each plan to begin from.
        looks: samples of the score matrix in which each row occurs, for each of two estimates of the gradient.
        seed: of everything random.
    """

    cheap: ClassVar[bool] = True

    rounds: Positive = 3
    steps: Positive = 60
    looks: Positive = 2
    seed: Seed = 0

    def search(self, problem: Problem) -> SearchResult:
        """Find a plan for every budget."""
        result = SearchResult(best={})
        for number, budget in enumerate(problem.budgets):
            losses: list[tuple[float, SizePlan]] = []
            search = _Descent(self, problem, budget)
            search.student.begin(search.simple())
            for turn in range(self.rounds):
                loss = search.round()
                losses.append((loss, search.student.plan))
                about: dict[str, float | str] = {"kind": "marginal", "budget": str(budget), "round": turn}
                result.trace.append({**about, "loss": loss, **problem.told_of(search.student.small)})
                done, total = number * self.rounds + turn + 1, len(problem.budgets) * self.rounds
                problem.progress("marginal", done, total, f"{budget} loss {loss:.4f}")
            best = min(losses, key=lambda each: each[0])[1]
            result.best[budget] = [Candidate(best, problem.quality_of(best))]
        return result

    def followed(self, plan: SizePlan, before: Problem, after: Problem) -> SizePlan:
        """A plan after some rounds more, with a full model that has learned more, or the same one."""
        search = _Descent(self, after, after.budgets[0])
        search.student.begin(search.tried(plan))
        return min(((search.round(), search.student.plan) for _ in range(FOLLOWING)), key=lambda each: each[0])[1]


class _Descent:
    """The search for one budget."""

    def __init__(self, settings: Marginal, problem: Problem, budget: Budget) -> None:
        self.settings, self.problem, self.budget = settings, problem, budget
        self.student = Student(problem, "marginal", seed_for(budget, settings.seed))

    def simple(self) -> Begun:
        """The simple rule that leads to the lowest loss."""

        def begun(rule: Rule) -> Begun:
            return self.tried(self.problem.project(desired_sizes(self.problem, rule), self.budget))

        # One by one: each holds tables of its own.
        tried = ((rule := EQUAL._replace(share=math.log(ratio)), begun(rule)) for ratio in _RATIOS)
        rule, best = min(tried, key=lambda each: each[1].loss)
        for exponent, value in _EXPONENTS:
            changed = rule._replace(**{exponent: value})
            if (found := begun(changed)).loss < best.loss:
                rule, best = changed, found
        return best

    def tried(self, plan: SizePlan) -> Begun:
        """A plan, learned for half as long as a round."""
        return self.student.tried(plan, -(-self.settings.steps // 2))

    def round(self) -> float:
        """Choose sizes, let the small model learn on, and measure its loss on fresh draws."""
        plan = self.student.plan
        gains = Gains(plan, worth_of_numbers(plan, self.student.slopes(self.settings.looks)), self.problem.stands_for)
        best = gains.best(gains.price(gains.cost(gains.now)))
        return self.student.learn(self.problem.project(best, self.budget), self.settings.steps)
