"""PEP: numbers are pruned by thresholds that are learned with them.

Liu et al., Learnable Embedding Sizes for Recommender Systems, ICLR 2021 (arXiv 2101.07577).
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from ciess.checks import AboveZero, Checked, NotNegative, Positive, Seed
from ciess.methods.problem import Problem, SearchResult
from ciess.methods.shared.joint import Learner, Start
from ciess.methods.shared.pruning import most_important, root_mean_square
from ciess.tables.budget import Budget
from ciess.train.checkpoint import State


@dataclass(frozen=True)
class PEP(Checked):
    """Tables are trained as sign(v) · relu(|v| − g(s)), g(s) a sigmoid, and the thresholds' s with them (Eq. 5 to 7).

    Thresholds start near zero and rise. As soon as the numbers that are left fit a budget, their counts are its plan
    (Alg. 1); the largest of the pruned ones fill what room is left. Adapted to users and items: BPR is the loss, and
    the features are the rows of both tables. Departures:

    - A plan keeps prefixes of rows: a row is as long as its numbers that are left are many. Published masks are
      unstructured, and their memory is counted without indices. A row keeps one number at least.
    - Retraining from the same initial weights is left to the common finish, which starts from the full model.
    - Thresholds count in root mean squares of the full model's tables, which may be far from the paper's.
    - They rise by a weight decay that draws s towards 0. The paper has none, but the published program's optimiser
      decays all that it trains; without, the loss lets no threshold rise far.
    - A budget that training does not reach gets what its last step left furthest above the thresholds.

    Attributes:
        thresholds: one for every `number`, `row`, `dimension` of a table, or `table`.
        start: where tables start; `new` as in the paper.
        reach: the largest threshold, in root mean squares of the full model's table.
        threshold_start: s before training.
        threshold_rate: how far s would rise if only the decay moved it, in multiples of −threshold_start.
        threshold_decay: weight in the loss of the sum of s², over the number of rows.
        steps: of training; None for all of the backbone's own recipe.
        seed: of new tables and of triplets.
    """

    thresholds: Literal["number", "row", "dimension", "table"] = "number"
    start: Start = "new"
    reach: AboveZero = 30.0
    threshold_start: float = -10.0
    threshold_rate: NotNegative = 1.5
    threshold_decay: NotNegative = 0.1
    steps: Positive | None = None
    seed: Seed = 0

    def search(self, problem: Problem) -> SearchResult:
        """Train once; measure the plan of each budget."""
        result = SearchResult(best={})
        margins = self._margins(problem, result.trace)
        for budget, each in margins.items():
            result.measure(problem, budget, most_important(problem, each, budget))
        return result

    def _margins(self, problem: Problem, trace: list[dict[str, float | str]]) -> dict[Budget, Tensor]:
        """(n_users + n_items, dim) by how much numbers exceeded their thresholds when they first fitted each budget."""
        learner = Learner(problem, self.start, self.seed, self.steps)
        thresholds = _Thresholds(self, learner, problem)
        found, waiting = dict[Budget, Tensor](), sorted(problem.budgets, key=lambda budget: -problem.numbers[budget])
        last = learner.training.steps
        for step in learner.steps({"reached": _Reached(found, waiting, trace)}, lambda: not waiting):
            learner.learn(step, learner.loss(*thresholds.applied()) + thresholds.penalty())
            margins = thresholds.margins()
            left = int((margins > 0).sum(1).clamp(min=1).sum())
            problem.progress("pep", step, last, f"{left:,} numbers left")
            while waiting and (left <= problem.numbers[waiting[0]] or step == last):
                budget = waiting.pop(0)
                found[budget] = margins
                trace.append({"kind": "reached", "budget": str(budget), "step": step, "numbers": left})
        return {budget: found[budget] for budget in problem.budgets}


class _Reached(NamedTuple):
    """The budgets that were reached, with their margins, those that were not, and the trace of it: a part of a loop."""

    found: dict[Budget, Tensor]
    waiting: list[Budget]
    trace: list[dict[str, float | str]]

    def state(self) -> State:
        """See `Resumable`."""
        return State({"trace": self.trace}, {str(at): each for at, each in enumerate(self.found.values())})

    def restore(self, state: State) -> None:
        """See `Resumable`: budgets are reached in the order in which they wait."""
        self.trace[:] = state.told["trace"]
        for at in range(len(state.tensors)):
            self.found[self.waiting.pop(0)] = state.tensors[str(at)]


class _Thresholds:
    """The thresholds of both tables, and what they leave."""

    def __init__(self, settings: PEP, learner: Learner, problem: Problem) -> None:
        self._tables, self._decay = learner.tables, settings.threshold_decay / problem.shape.rows
        full = (problem.full_model.user_table, problem.full_model.item_table)
        self._scales = [settings.reach * root_mean_square(table) for table in full]
        self._raw = []
        for table in learner.tables:
            rows, dim = table.shape
            shape = {"number": (rows, dim), "row": (rows, 1), "dimension": (1, dim), "table": (1, 1)}
            raw = torch.full(shape[settings.thresholds], settings.threshold_start)
            self._raw.append(nn.Parameter(raw))
        way = sum(map(learner.training.rate, range(1, learner.training.steps + 1)))
        learner.join(self._raw, settings.threshold_rate * abs(settings.threshold_start) / way)

    def applied(self) -> list[Tensor]:
        """Both tables, pruned."""
        return [soft_threshold(*each) for each in zip(self._tables, self._raw, self._scales, strict=True)]

    def penalty(self) -> Tensor:
        """What draws thresholds up."""
        return self._decay / 2 * torch.stack([raw.square().sum() for raw in self._raw]).sum()

    @torch.no_grad()
    def margins(self) -> Tensor:
        """(n_users + n_items, dim) by how much numbers exceed their thresholds, in the scale of their table."""
        sides = zip(self._tables, self._raw, self._scales, strict=True)
        return torch.cat([table.abs() / scale - raw.sigmoid() for table, raw, scale in sides])


def soft_threshold(numbers: Tensor, raw: Tensor, scale: float = 1.0) -> Tensor:
    """What is left of numbers v above thresholds g = scale · sigmoid(raw): sign(v) · relu(|v| − g) (Eq. 5)."""
    return numbers.sign() * (numbers.abs() - scale * raw.sigmoid()).relu()
