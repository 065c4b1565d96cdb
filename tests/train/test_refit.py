import numpy as np
import pytest
import torch

from ciess.data import Interactions, Split
from ciess.models.lightgcn import LightGCN
from ciess.models.mf import MF
from ciess.tables.mask import prefix_mask
from ciess.tables.plan import SizePlan
from ciess.train.refit import refit


def some_plan(split: Split, dim: int) -> SizePlan:
    rng = np.random.default_rng(0)
    return SizePlan(rng.integers(1, dim + 1, split.train.n_users), rng.integers(1, dim, split.train.n_items), dim)


def test_enough_steps_solve_the_least_squares_problem(split: Split) -> None:
    model = LightGCN(dim=4).build(split.train)
    plan = some_plan(split, 4)
    users, items = refit(model, plan, steps=400)
    n = split.train.n_users + split.train.n_items
    one = torch.eye(n)
    to_vectors = torch.cat(model.represent(one[: split.train.n_users], one[split.train.n_users :])).double()
    mask = prefix_mask(plan.sizes, 4)
    target = torch.cat(model.vectors()).double()
    found = torch.cat([users, items])
    assert torch.equal(found * mask, found)
    for column in range(4):
        kept = mask[:, column].bool()
        best = torch.linalg.lstsq(to_vectors[:, kept], target[:, column : column + 1]).solution
        error = (to_vectors[:, kept] @ best - target[:, column : column + 1]).square().sum()
        ours = (to_vectors @ found[:, column].double() - target[:, column]).square().sum()
        torch.testing.assert_close(ours, error, rtol=1e-3, atol=1e-8)


def test_every_step_comes_closer(split: Split) -> None:
    model = LightGCN(dim=6).build(split.train)
    plan = some_plan(split, 6)
    target = torch.cat(model.vectors())[:, : plan.max_size]
    errors = [
        float((torch.cat(model.represent(*refit(model, plan, steps))) - target).square().sum()) for steps in range(5)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.9 * errors[0]


def test_as_many_steps_as_rows_that_are_kept_solve_it(tiny: Interactions) -> None:
    """As conjugate gradients do; of the second column three rows are kept."""
    model = LightGCN(dim=2).build(tiny)
    plan = SizePlan(np.array([2, 1, 2]), np.array([1, 2, 1, 1]), 2)
    for found, solved in zip(refit(model, plan, steps=3), refit(model, plan, steps=100), strict=True):
        torch.testing.assert_close(found, solved, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("steps", [0, 3])
def test_without_a_graph_rows_are_simply_cut(split: Split, steps: int) -> None:
    model = MF(dim=6).build(split.train)
    plan = some_plan(split, 6)
    full = torch.cat([model.user_table, model.item_table])[:, : plan.max_size]
    assert torch.equal(torch.cat(refit(model, plan, steps)), full * prefix_mask(plan.sizes, plan.max_size))
