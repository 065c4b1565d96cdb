"""Problems on a small split: one with any backbone, untrained, and one whose best plan is known."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ciess.data import Split
from ciess.evaluation.metrics import Evaluator
from ciess.methods.fidelity import Fidelity, Truncate
from ciess.methods.problem import Measurement, Problem
from ciess.models import BackboneConfig
from ciess.models.mf import MF
from ciess.tables.budget import Budget
from ciess.tables.plan import SizePlan

BUDGETS = ("25%",)


def problem_of(config: BackboneConfig, split: Split, budgets: Sequence[str] = ("60%", "40%")) -> Problem:
    """Of an untrained model, whose plans are measured by a cut."""
    valid = Evaluator(split.train.matrix, split.valid.matrix)
    wanted = [Budget.parse(each) for each in budgets]
    return Problem(config.build(split.train), config, split.train, valid, wanted, Truncate())


class Planted(Problem):
    """Quality is 1 less the mean squared difference of sizes' logarithms to those of what `wanted` is scaled to."""

    def __init__(self, split: Split, wanted: Callable[[Problem], NDArray[np.float64]]) -> None:
        config = MF(dim=16)
        model = config.build(split.train)
        with torch.no_grad():
            # Rows of different lengths.
            model.user_table *= torch.linspace(0.5, 2, split.train.n_users)[:, None]
        valid = Evaluator(split.train.matrix, split.valid.matrix)
        budgets = [Budget.parse(each) for each in BUDGETS]
        super().__init__(model, config, split.train, valid, budgets, Truncate())
        self.best = {budget: self.project(wanted(self), budget) for budget in budgets}

    def filled(self, plan_of: Callable[[int], SizePlan], budget: Budget) -> SizePlan:
        # To the last number takes long, and is tested elsewhere.
        return plan_of(self.numbers[budget])

    def measure(self, plan: SizePlan, fidelity: Fidelity | None = None) -> Measurement:
        closest = min(self.best.values(), key=lambda best: abs(best.numbers - plan.numbers))
        loss = np.square(np.log(plan.sizes) - np.log(closest.sizes)).mean()
        return Measurement(plan, torch.zeros(self.shape.n_users), 1 - float(loss))

    def equal_quality(self, budget: Budget) -> float:
        return self.measure(self.equal(budget)).quality
