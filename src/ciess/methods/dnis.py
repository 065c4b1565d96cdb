"""DNIS: a soft selection of dimensions for each block of popularity, learned on validation.

Cheng, Shen, Huang, Differentiable Neural Input Search for Recommender Systems, 2020 (arXiv 2006.04466).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ciess.checks import Checked, NotNegative, Positive, Seed
from ciess.data.describe import like_groups
from ciess.methods.problem import Problem, SearchResult
from ciess.methods.shared.joint import Learner, Start
from ciess.methods.shared.pruning import most_important, relative
from ciess.train.checkpoint import Part

_SMALLEST = 1e-12
"""Keeps gradients that are all zero from being divided by zero."""


@dataclass(frozen=True)
class DNIS(Checked):
    """Rows are multiplied by α in 0..1, one number for each dimension of each block of rows of like popularity.

    Steps take turns: the tables descend on train, α on validation, each with the other as it stands (Sec. 3; the
    first-order form of the bi-level problem). α's gradient is divided by its block's mean absolute one, since popular
    blocks have larger ones. At the end the numbers of α ∘ table that are largest fill each budget. Adapted to users
    and items: BPR is the loss, and each side has blocks of its own. Departures:

    - A plan keeps prefixes of rows: a row is as long as its numbers that are kept are many. Published tables are
      sparse, and their memory is counted without indices; what they come to, as many numbers kept and trained no
      further, is `published` in the trace. A row keeps one number at least.
    - Numbers count in root mean squares of their table.
    - The kept numbers are not used as they are: the common finish trains them, from the full model.

    Attributes:
        blocks: of users, and of items, each of as many rows (L).
        rate: by how much a step moves α, on average over a block.
        start: where tables start; `new` as in the paper.
        steps: of training; None for all of the backbone's own recipe.
        seed: of new tables and of triplets.
    """

    name: ClassVar[str] = "dnis"

    blocks: Positive = 10
    rate: NotNegative = 0.01
    start: Start = "new"
    steps: Positive | None = None
    seed: Seed = 0

    def search(self, problem: Problem) -> SearchResult:
        """Train once; measure the plan of each budget."""
        learner = Learner(problem, self.start, self.seed, self.steps)
        users, items = self.selected(learner, problem)
        importance = relative(users, items).abs()
        result = SearchResult(best={})
        for budget in problem.budgets:
            kept = torch.zeros(importance.numel(), dtype=torch.bool)
            kept[importance.flatten().topk(problem.numbers[budget]).indices] = True
            masks = kept.view_as(importance).split([len(users), len(items)])
            told = problem.told_of(learner.backbone, users * masks[0], items * masks[1])
            result.trace.append({"kind": "published", "budget": str(budget), **told})
            result.measure(problem, budget, most_important(problem, importance, budget))
        return result

    def selected(self, learner: Learner, problem: Problem) -> tuple[Tensor, Tensor]:
        """The users' and the items' tables times their α, (n, dim) each, when both are learned."""
        users, items = (
            Selection(table, torch.from_numpy(like_groups(-popularity, min(self.blocks, len(popularity)))))
            for table, popularity in zip(learner.tables, problem.popularity, strict=True)
        )
        last = learner.training.steps
        parts: dict[str, Part] = {"users": users.weights, "items": items.weights, "unseen": learner.unseen.generator}
        for step in learner.steps(parts):
            loss = learner.valid_loss(users.selected(), items.selected())
            gradients = torch.autograd.grad(loss, [users.weights, items.weights])
            for side, gradient in zip((users, items), gradients, strict=True):
                side.move(gradient, self.rate)
            learner.learn(step, learner.loss(users.selected(), items.selected()))
            problem.progress("dnis", step, last)
        return users.selected().detach(), items.selected().detach()


class Selection:
    """The soft selection of one table's dimensions.

    Args:
        table: (n, dim) as it learns.
        block_of: (n,) the block of each row.

    Attributes:
        weights: (blocks, dim) α, ones at first.
    """

    def __init__(self, table: nn.Parameter, block_of: Tensor) -> None:
        self._table, self._block_of = table, block_of
        shape = int(block_of.max()) + 1, table.shape[1]
        self.weights = torch.ones(shape, requires_grad=True)

    def selected(self) -> Tensor:
        """(n, dim) rows as the model sees them."""
        return self._table * self.weights[self._block_of]

    @torch.no_grad()
    def move(self, gradient: Tensor, rate: float) -> None:
        """Down the gradient, each block's divided by its mean absolute one, and back into 0..1."""
        self.weights -= rate * gradient / gradient.abs().mean(1, keepdim=True).clamp(min=_SMALLEST)
        self.weights.clamp_(0, 1)
