import dataclasses

import pytest
from known import problem_of

from ciess.data import Split
from ciess.methods.pep import PEP
from ciess.methods.problem import Problem
from ciess.models import Training
from ciess.models.mf import MF

QUICK = PEP(threshold_rate=3.0)


@pytest.fixture
def problem(split: Split) -> Problem:
    return problem_of(MF(dim=16, training=Training(steps=60, batch_size=1_000)), split, ("40%", "60%", "80%"))


def test_each_budget_takes_the_first_step_that_fits_it(problem: Problem) -> None:
    left: list[int] = []
    problem.progress = lambda phase, done, total, note="": left.append(int(note.split()[0].replace(",", "")))
    result = QUICK.search(problem)
    assert left[-1] < left[len(left) // 2] < left[0]
    reached = {row["budget"]: row for row in result.trace if row["kind"] == "reached"}
    for budget in problem.budgets:
        first = [numbers <= problem.numbers[budget] for numbers in left].index(True)
        assert first > 0
        assert (reached[str(budget)]["step"], reached[str(budget)]["numbers"]) == (first + 1, left[first])
    assert len(left) == max(int(row["step"]) for row in reached.values()), "training stops when all are reached"
    assert problem.trainings == 1


def test_a_budget_out_of_reach_takes_the_last_step(problem: Problem) -> None:
    result = dataclasses.replace(QUICK, threshold_rate=0.0).search(problem)
    assert [row["step"] for row in result.trace if row["kind"] == "reached"] == [60, 60, 60]
    sizes = [result.best[budget][0].plan.sizes for budget in problem.budgets]
    assert (sizes[0] <= sizes[1]).all(), "smaller budgets keep the largest of what larger ones keep"
