from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from planted import of_two_lengths

import ciess
from ciess.data import Split
from ciess.errors import InputError
from ciess.evaluation.metrics import Evaluator
from ciess.methods.ciess.td3 import TD3Settings
from ciess.methods.fidelity import Truncate
from ciess.methods.marginal import Marginal
from ciess.methods.problem import Problem
from ciess.methods.sample import Sampled, sample
from ciess.models import BackboneConfig
from ciess.tables.budget import Budget
from ciess.tables.layout import equal_bytes
from ciess.tables.plan import TableShape
from ciess.tables.precision import Precision


def problem_of(config: BackboneConfig, split: Split, *budgets: str) -> Problem:
    valid = Evaluator(split.train.matrix, split.valid.matrix)
    return Problem(config.build(split.train), config, split.train, valid, [*map(Budget.parse, budgets)], Truncate())


def test_a_sample_holds_some_users_and_the_items_that_they_touch(split: Split) -> None:
    problem = problem_of(ciess.MF(dim=4), split, "60%")
    some = sample(problem, 0.2, 3)
    stands_for = some.stands_for
    assert stands_for is not None
    users = [split.train.user_ids.to_list().index(each) for each in some.train.user_ids]
    items = [split.train.item_ids.to_list().index(each) for each in some.train.item_ids]
    assert len(users) == 30
    assert sorted(items) == sorted(set(split.train.matrix[users].indices))
    assert some.train.matrix.sum() == split.train.matrix[users].sum()
    assert torch.equal(some.full_model.user_table, problem.full_model.user_table[users])
    assert torch.equal(some.full_model.item_table, problem.full_model.item_table[items])
    assert some.full_model.learned is some.train
    assert (some.popularity[1] == split.train.item_counts[items]).all(), "as popular as they are in all"
    assert stands_for[:30].tolist() == [5] * 30
    # An item of one user is in one sample of five, one of two in 1 − .8².
    counts = split.train.item_counts[items]
    assert stands_for[30:][counts == 2] == pytest.approx(1 / 0.36)
    samples = [sample(problem, 0.2, seed).rows - 150 for seed in range(40)]
    assert np.mean(samples) == pytest.approx((split.train.item_counts > 0).sum(), rel=0.05)


def test_a_sample_is_of_users_who_have_interactions(split: Split) -> None:
    train = split.train.take(split.train.users < 40)
    some = sample(problem_of(ciess.MF(dim=4), Split(train, split.valid), "60%"), 0.25, 0)
    assert len(some.train.user_ids) == 10
    assert (some.train.user_counts > 0).all()
    assert some.stands_for is not None
    assert some.stands_for[:10].tolist() == [4] * 10


@pytest.mark.parametrize("seed", range(8))
def test_the_least_budget_holds_a_number_for_each_row_of_a_sample(seed: int, split: Split) -> None:
    shape = TableShape(split.train.n_users, split.train.n_items, 8)
    problem = problem_of(ciess.MF(dim=8), split, f"{equal_bytes(shape, 1, Precision.FLOAT32)} B")
    [budget] = problem.budgets
    assert sample(problem, 0.15, seed).equal(budget).sizes.max() == 1
    [[found]] = Sampled(ciess.Magnitude(), 0.15, seed).search(problem).best.values()
    assert found.plan.sizes.max() == 1


def test_sizes_for_all_rows_fill_the_budget(split: Split) -> None:
    problem = problem_of(ciess.MF(dim=8), split, "60%", "40%")
    quick = ciess.Ciess(
        episodes=1, steps=1, finish_steps=3, updates=2, start=None, td3=TD3Settings(batch_size=64, hidden=8)
    )
    result = Sampled(quick, 0.3).search(problem)
    for budget, [found] in result.best.items():
        assert budget.limit(problem.shape) >= 4 * found.plan.numbers
        assert len(np.unique(found.plan.sizes)) > 1


@dataclass(frozen=True)
class Kept:
    """A method whose plans stay."""

    cheap: ClassVar[bool] = True
    search = ciess.EqualSizes.search


def test_all_rows_follow_as_the_method_does(split: Split) -> None:
    before, after = (of_two_lengths(split, seed)[0] for seed in (0, 1))
    plan = before.equal(before.budgets[0])
    method = Marginal(steps=5)
    followed = Sampled(method, 0.3).followed(plan, before, after)
    assert followed == method.followed(plan, before, after) != plan
    assert Sampled(Kept(), 0.3).followed(plan, before, after) == plan


def test_a_graph_has_no_such_samples(split: Split) -> None:
    with pytest.raises(InputError, match="use mf, als or ncf"):
        sample(problem_of(ciess.LightGCN(dim=4), split, "60%"), 0.5, 0)


def test_a_sample_holds_something_to_learn_and_to_choose_on(split: Split) -> None:
    alone = Split(split.train, split.valid.take(split.valid.users == 7))
    problem = problem_of(ciess.MF(dim=4), alone, "60%")
    assert len(sample(problem, 1, 0).valid_positives) == len(alone.valid)
    with pytest.raises(InputError, match="a sample of 1 users holds nothing to learn or to choose on: take a larger"):
        sample(problem, 1e-9, 0)
