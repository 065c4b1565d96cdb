"""A problem whose best sizes are known, and which measures in no time."""

from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch

from ciess.methods.fidelity import Fidelity
from ciess.methods.problem import Measurement, Problem
from ciess.models.lightgcn import LightGCN
from ciess.tables.budget import Budget
from ciess.tables.plan import SizePlan, TableShape
from ciess.tables.precision import Precision


class Bandit(Problem):
    """Entities whose quality grows by one for each dimension up to a need that popularity decides.

    Unpopular users need 2 dimensions and popular ones 10; unpopular items 1, popular ones 13. The first budget has room
    for just these, so that exactly they are the best plan.
    """

    def __init__(self, dim: int = 16) -> None:
        self.shape = TableShape(n_users=60, n_items=40, dim=dim)
        self.config = LightGCN(dim=dim)
        self.popularity = (np.repeat([5, 50], 30), np.repeat([3, 90], 20))
        self.needs = torch.from_numpy(np.repeat([2, 10, 1, 13], [30, 30, 20, 20])).float()
        self.numbers = {Budget.parse("40%"): int(self.needs.sum()), Budget.parse("80%"): 1300}
        self.precision = dict.fromkeys(self.numbers, Precision.FLOAT32)
        self.stands_for = None
        self.progress = lambda *_: None
        self.measured: list[SizePlan] = []

    def filled(self, plan_of: Callable[[int], SizePlan], budget: Budget) -> SizePlan:
        return plan_of(self.numbers[budget])

    @cached_property
    def full(self) -> Measurement:
        return self.measure(SizePlan.equal(self.shape, self.shape.dim))

    def quality_of(self, plan: SizePlan, fidelity: Fidelity | None = None) -> float:
        return self.measure(plan, fidelity).quality

    def told(self, plan: SizePlan, fidelity: Fidelity | None = None) -> dict[str, float]:
        """See `Problem`."""
        return {"quality": self.quality_of(plan, fidelity), "standard_error": 0.0}

    def measure(self, plan: SizePlan, fidelity: Fidelity | None = None) -> Measurement:
        self.measured.append(plan)
        filled = torch.minimum(torch.from_numpy(plan.sizes).float(), self.needs)
        return Measurement(plan, filled[:60], float(filled.sum()) / 100)

    def item_quality(self, user_quality: torch.Tensor) -> torch.Tensor:
        return torch.full((40,), float(user_quality.mean()))
