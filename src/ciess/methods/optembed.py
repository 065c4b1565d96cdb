"""OptEmbed: a supernet whose rows are dropped by learned thresholds, and evolution of the sizes of what is left.

Lyu et al., OptEmbed: Learning Optimal Embedding Table for Click-through Rate Prediction, CIKM 2022 (arXiv 2208.04482).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ciess.checks import Checked, Count, NotNegative, Positive, Seed, Share, Within
from ciess.data.describe import like_groups
from ciess.methods.problem import Problem, SearchResult, seed_for
from ciess.methods.shared.joint import Learner, Start
from ciess.tables.budget import Budget
from ciess.tables.mask import prefix_mask, random_prefix_mask
from ciess.tables.plan import SizePlan

_DROPPED = 1e-3
"""What a dropped row wants, where the least size is 1: it keeps one dimension, and more only if room is left."""

Sizes = NDArray[np.float64]


@dataclass(frozen=True)
class OptEmbed(Checked):
    """OptEmbed (Lyu et al., Sec. 3) for users and items.

    A supernet learns with every row cut to a random prefix, and without the rows whose L1 norm is below their side's
    threshold; thresholds are learned too, and α Σ exp(−t) draws them up (Sec. 3.2). Then evolution looks for the sizes
    that the supernet does best with on validation, without training (Sec. 3.3).

    Adapted: BPR is the loss; the paper's fields, whose values share one size, are groups of like popularity among users
    and among items. A dropped row keeps one dimension, since every user and item needs a score, and gets more only when
    all other rows are full. The paper knows no budget: `aimed=False` evolves as it does, measures what comes out
    (`published` in the trace), and scales that onto each budget; otherwise sizes are scaled onto the budget before the
    supernet judges them, so that evolution aims at it. Departures:

    - A mask's gradient reaches the threshold alone. In the paper it reaches the row too; here rows would grow only to
      pass.
    - Norms count in the mean norm of their side, so that a threshold means the same for every backbone.
    - Prefixes and sizes are drawn log-uniformly: at tight budgets hardly a uniform draw is short enough.
    - Evolution starts with one size a side: sizes of its own for each group seldom come as close to the best by chance.
    - Retraining (Sec. 3.4) is left to the common finish, which starts from the full model.

    Attributes:
        generations: of evolution, for each budget.
        mutations: children of one parent a generation, each size drawn anew with probability `mutation_rate`.
        crossovers: children of two parents a generation, the first sizes of one and the last of the other.
        mutation_rate: see `mutations`.
        parents: the best so far, of which children are made.
        groups: of like popularity, a side; with 1, all users have one size and all items have one.
        aimed: evolve within each budget.
        threshold_price: what draws thresholds up (α).
        threshold_rate: how fast thresholds learn, in times the tables' rate.
        start: where the supernet's tables start; `new` as in the paper.
        steps: of the supernet's training; None for all of the backbone's own recipe.
        seed: of everything random.
    """

    name: ClassVar[str] = "optembed"

    generations: Positive = 8
    mutations: Positive = 10
    crossovers: Count = 10
    mutation_rate: Share = 0.1
    parents: Positive = 15
    groups: Annotated[int, Within(1, 10_000)] = 8
    aimed: bool = True
    threshold_price: NotNegative = 1e-3
    threshold_rate: NotNegative = 0.1
    start: Start = "new"
    steps: Positive | None = None
    seed: Seed = 0

    @classmethod
    def paper(cls) -> "OptEmbed":
        """The published settings: 30 generations; one size for each field, whatever the budget."""
        return cls(generations=30, groups=1, aimed=False)

    def search(self, problem: Problem) -> SearchResult:
        """Train the supernet once; evolve sizes, and measure what is best for each budget as all plans are measured."""
        supernet = Supernet(self, problem)
        left, sides = supernet.left(), [like_groups(popularity, self.groups) for popularity in problem.popularity]
        # Numbered through both sides.
        groups = np.concatenate([sides[0], self.groups + sides[1]])
        result = SearchResult(best={}, trace=[{"kind": "supernet", "rows left": float(left.mean())}])

        def free(sizes: Sizes) -> SizePlan:
            return SizePlan.from_sizes(np.where(left, np.rint(sizes[groups]), 1), problem.shape)

        def within(budget: Budget, sizes: Sizes) -> SizePlan:
            return problem.project(np.where(left, sizes[groups], _DROPPED), budget)

        if not self.aimed:
            result.measure_scaled(problem, self._evolved(problem, supernet, free, None, result.trace))
            return result
        for budget in problem.budgets:
            plan = self._evolved(problem, supernet, partial(within, budget), budget, result.trace)
            result.measure(problem, budget, plan)
        return result

    def _evolved(
        self,
        problem: Problem,
        supernet: "Supernet",
        plan_of: Callable[[Sizes], SizePlan],
        aim: Budget | None,
        trace: list[dict[str, float | str]],
    ) -> SizePlan:
        """The plan that an evolution comes to, aimed at a budget or at none, of plans made from sizes of all groups."""
        before, searches = (problem.budgets.index(aim), len(problem.budgets)) if aim else (0, 1)
        name = str(aim or "")

        def told(generation: int, quality: float) -> None:
            trace.append({"kind": "generation", "budget": name, "generation": generation, "quality": quality})
            done, total = before * self.generations + generation, searches * self.generations
            problem.progress("optembed", done, total, f"{name} best {quality:.4f}".lstrip())

        rng = np.random.default_rng(seed_for(aim, self.seed) if aim else self.seed)
        first = problem.shape.dim ** rng.random((self.mutations + self.crossovers, 2))
        return plan_of(
            evolve(
                self,
                lambda sizes: supernet.quality(plan_of(sizes)),
                first.repeat(self.groups, axis=1),
                problem.shape.dim,
                rng,
                told,
            )
        )


def evolve(
    settings: OptEmbed,
    quality: Callable[[Sizes], float],
    first: Sizes,
    dim: int,
    rng: np.random.Generator,
    told: Callable[[int, float], None],
) -> Sizes:
    """The best sizes in 1..dim that evolution finds (Lyu et al., Sec. 3.3).

    Args:
        settings: of evolution.
        quality: of sizes, to be maximised.
        first: (n, genes) the sizes of the first generation.
        dim: the largest size.
        rng: draws.
        told: the generation, from 1, and the best quality so far.
    """
    genes = first.shape[1]
    pool, qualities, children = np.empty((0, genes)), np.empty(0), first
    for generation in range(1, settings.generations + 1):
        pool = np.concatenate([pool, children])
        qualities = np.concatenate([qualities, [quality(child) for child in children]])
        best = np.argsort(-qualities, kind="stable")[: settings.parents]
        pool, qualities = pool[best], qualities[best]
        told(generation, float(qualities[0]))
        mutated = pool[rng.integers(len(pool), size=settings.mutations)]
        anew = rng.random(mutated.shape) < settings.mutation_rate
        mothers, fathers = pool[rng.integers(len(pool), size=(2, settings.crossovers))]
        early = np.arange(genes) < rng.integers(1, genes, size=(settings.crossovers, 1))
        drawn = dim ** rng.random(mutated.shape)
        children = np.concatenate([np.where(anew, drawn, mutated), np.where(early, mothers, fathers)])
    return np.asarray(pool[0])


class Supernet:
    """A model trained so that its rows can be cut to any size, without the rows that it can do without.

    Args:
        settings: of its training.
        problem: its full model stays as it is; measurements are counted there.

    Attributes:
        tables: the users' and the items', (n, dim).
        thresholds: of users and of items, in mean norms of their side.
    """

    def __init__(self, settings: OptEmbed, problem: Problem) -> None:
        self._problem = problem
        learner = Learner(problem, settings.start, settings.seed, settings.steps)
        self.tables = learner.tables
        self.thresholds = [nn.Parameter(torch.zeros(())) for _ in self.tables]
        learner.join(self.thresholds, settings.threshold_rate)
        generator = torch.Generator().manual_seed(settings.seed)
        for step in learner.steps({"cuts": generator}):
            cut = [
                table * random_prefix_mask(table, generator) * keep
                for table, keep in zip(self.tables, self._keeps(), strict=True)
            ]
            price = settings.threshold_price * torch.stack([torch.exp(-each) for each in self.thresholds]).sum()
            learner.learn(step, learner.loss(*cut) + price)
            problem.progress("supernet", step, learner.training.steps)
        self._model = learner.backbone

    def _keeps(self) -> list[Tensor]:
        """(n, 1) for each side: 1 for the rows that stay, 0 for those below the threshold."""
        return [row_mask(table, threshold) for table, threshold in zip(self.tables, self.thresholds, strict=True)]

    @torch.no_grad()
    def left(self) -> NDArray[np.bool_]:
        """(n_users + n_items,) which rows stay."""
        return torch.cat(self._keeps()).squeeze(1).bool().numpy()

    @torch.no_grad()
    def quality(self, plan: SizePlan) -> float:
        """Mean quality on validation of the supernet cut to a plan."""
        width = plan.max_size if self._model.separable else plan.dim
        sides = zip(self.tables, self._keeps(), (plan.user_sizes, plan.item_sizes), strict=True)
        cut = [table[:, :width] * prefix_mask(sizes, width) * keep for table, keep, sizes in sides]
        self._problem.measurements += 1
        return self._problem.quality(self._model, *cut)


def row_mask(table: Tensor, threshold: Tensor) -> Tensor:
    """(n, 1) 1 for rows whose L1 norm, in the mean norm of all, is above the threshold, 0 for others (Eq. 5).

    Its gradient reaches the threshold, by the long-tailed estimate of the step's (Eq. 7), and not the table.
    """
    norms = table.detach().abs().sum(1, keepdim=True)
    mask: Tensor = _Step.apply(norms / norms.mean() - threshold)  # type: ignore[no-untyped-call]
    return mask


class _Step(torch.autograd.Function):
    """1 above 0, else 0. Its gradient is estimated: 2 − 4|x| up to 0.4, 0.4 up to 1, 0 beyond (Xu and Cheung, 2019)."""

    @staticmethod
    def forward(ctx: Any, above: Tensor) -> Tensor:
        ctx.save_for_backward(above)
        return (above > 0).to(above.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (above,) = ctx.saved_tensors
        distance = above.abs()
        return gradient * torch.where(distance <= 0.4, 2 - 4 * distance, 0.4 * (distance <= 1))
