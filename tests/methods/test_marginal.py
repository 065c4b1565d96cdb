"""Numbers move to where they are worth most, and a planted problem's sizes are found."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from planted import of_two_lengths

from ciess.data import Split
from ciess.evaluation.metrics import Evaluator
from ciess.methods.fidelity import Truncate
from ciess.methods.marginal import Marginal, moved
from ciess.methods.problem import Problem
from ciess.methods.shared.worth import Worth, quarter
from ciess.models import backbone_named
from ciess.tables.budget import Budget
from ciess.tables.plan import SizePlan
from ciess.train.fit import fit
from ciess.train.losses import BPR


def test_numbers_move_from_the_least_worth_to_the_most_until_the_two_meet() -> None:
    """Two users of 4 (quarters of 1), two items of 8 (of 2), which are as long as can be."""
    plan = SizePlan(np.array([4, 4]), np.array([8, 8]), 8)
    worth = Worth(np.array([1.0, 5, 2, 9]), np.array([7.0, 3, 0, 0]), quarter(plan.sizes))
    # The first user's last number costs 1 and comes back to it for 7; the items' cost 2, for the second user's 3.
    assert moved(plan, worth, 1).tolist() == [4, 4, 8, 8]
    assert moved(plan, worth, 2).tolist() == [4, 5, 7, 8]
    assert moved(plan, worth, 9).tolist() == [4, 5, 7, 8], "there is room for no more"
    dear = worth._replace(last=np.array([99.0, 99, 9, 9]))
    assert moved(plan, dear, 9).tolist() == [4, 4, 8, 8], "all cost more than any gains"


@given(seed=st.integers(0, 999), most=st.integers(0, 60))
def test_moving_keeps_the_sum_the_bounds_and_the_limit(seed: int, most: int) -> None:
    rng = np.random.default_rng(seed)
    plan = SizePlan(rng.integers(1, 13, 9), rng.integers(1, 13, 5), 12)
    values = [rng.integers(0, 4, 14).astype(float) for _ in range(2)]
    sizes = moved(plan, Worth(values[0], values[1], quarter(plan.sizes)), most)
    assert sizes.sum() == plan.numbers
    assert sizes.min() >= 1
    assert sizes.max() <= 12
    change = sizes - plan.sizes
    assert change.clip(0).sum() <= most
    assert (abs(change) <= quarter(plan.sizes)).all()
    assert (values[1][change > 0] > 0).all()


def test_rows_get_the_numbers_that_they_are_made_of(split: Split) -> None:
    problem, short = of_two_lengths(split)
    [[found]] = Marginal(rounds=8, steps=10).search(problem).best.values()
    sizes = found.plan.item_sizes
    assert np.median(sizes[short]) <= 2
    assert np.median(sizes[~short]) >= 5
    assert Budget.parse("60%").limit(problem.shape) >= 4 * found.plan.numbers


@pytest.mark.parametrize("name", ["lightgcn", "ncf"])
def test_the_loss_falls_and_the_plan_of_the_lowest_is_kept(name: str, split: Split) -> None:
    config = backbone_named(name, dim=8).changed(steps=100)
    full = config.build(split.train)
    fit(full, BPR(full, split.train, config.training, 0), config.training)
    full.order_dimensions()
    valid, budgets = Evaluator(split.train.matrix, split.valid.matrix), [Budget.parse("40%"), Budget.parse("60%")]
    problem = Problem(full, config, split.train, valid, budgets, Truncate())
    before = {name: each.clone() for name, each in full.state_dict().items() if each.layout is torch.strided}
    result = Marginal(rounds=3, steps=15).search(problem)
    losses = {str(budget): [row["loss"] for row in result.trace if row["budget"] == str(budget)] for budget in budgets}
    assert all(float(each[-1]) < float(each[0]) for each in losses.values())
    assert min(losses["60%"]) < min(losses["40%"]), "more numbers come closer to the full model"
    alone = Marginal(rounds=3, steps=15).search(Problem(full, config, split.train, valid, budgets[:1], Truncate()))
    assert alone.best[budgets[0]][0].plan == result.best[budgets[0]][0].plan, "whatever else is asked for"
    assert all(torch.equal(before[name], full.state_dict()[name]) for name in before), "the full model stays"
