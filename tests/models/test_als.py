"""ALS is held against its normal equations, written row by row and dense in numpy."""

import dataclasses

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

import ciess
import ciess.models.als as als
from ciess.data import Interactions, Split
from ciess.errors import InputError
from ciess.evaluation.metrics import Evaluator
from ciess.methods.ciess.td3 import TD3Settings
from ciess.methods.fidelity import Scratch
from ciess.models.als import ALS, closer_rows
from ciess.tables.mask import prefix_mask
from ciess.tables.plan import SizePlan, TableShape
from ciess.train.finish import Finish, finish
from ciess.train.fit import fit

Matrix = NDArray[np.float64]
DENSE = ALS(dim=16, alpha=10.0, regularisation=4.0)
"""For data of which every tenth pair is an interaction."""


def plain_rows(interactions: Matrix, other: Matrix, sizes: NDArray[np.int32], alpha: float, lam: float) -> Matrix:
    """Hu et al., equation 4, each row with its own confidence matrix and the first columns only."""
    solved = np.zeros((len(interactions), other.shape[1]))
    for row, size in enumerate(sizes):
        near = other[:, :size]
        confidence = np.diag(1 + alpha * interactions[row])
        system = near.T @ confidence @ near + lam * np.eye(size)
        solved[row, :size] = np.linalg.solve(system, near.T @ confidence @ interactions[row])
    return solved


def cost(interactions: Matrix, users: Matrix, items: Matrix, alpha: float, lam: float) -> float:
    error = (1 + alpha * interactions) * (interactions - users @ items.T) ** 2
    return float(error.sum() + lam * ((users**2).sum() + (items**2).sum()))


@pytest.mark.parametrize("block", [1, 300, 8_000_000])
@pytest.mark.parametrize("sized", [False, True])
def test_rows_solve_their_normal_equations(sized: bool, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(als, "_NUMBERS_IN_A_BLOCK", block)
    rng = np.random.default_rng(0)
    interactions = (rng.random((40, 30)) < rng.random((40, 1)) * 0.7).astype(float)
    interactions[7] = 0
    other = rng.normal(size=(30, 6)) * prefix_mask(rng.integers(1, 7, 30), 6).numpy()
    sizes = rng.integers(1, 7, 40).astype(np.int32)
    found = closer_rows(
        csr_array(interactions),
        torch.from_numpy(rng.normal(size=(40, 6))).float(),
        torch.from_numpy(other).float(),
        sizes if sized else None,
        alpha=3.0,
        regularisation=0.5,
        steps=12,
    )
    expected = plain_rows(interactions, other, sizes if sized else np.full(40, 6, dtype=np.int32), 3.0, 0.5)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-3, atol=1e-5)
    assert not found[7].any()
    assert not (found * (1 - prefix_mask(sizes, 6))).any() or not sized


@pytest.mark.parametrize("sized", [False, True])
def test_sweeps_follow_the_dense_trajectory(sized: bool, split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """With as many steps as solve each row, which is no more than it has dimensions but for rounding."""
    monkeypatch.setattr(als, "STEPS", 12)
    train = split.train
    config = ALS(dim=6, alpha=5.0, regularisation=2.0)
    model = config.build(train, seed=2)
    plan = None
    if sized:
        sizes = np.arange(train.n_users + train.n_items) % 5 + 1
        plan = SizePlan(sizes[: train.n_users], sizes[train.n_users :], dim=6)
    user_sizes, item_sizes = (
        (np.full(n, 6, dtype=np.int32) for n in (train.n_users, train.n_items))
        if plan is None
        else (plan.user_sizes, plan.item_sizes)
    )
    dense = train.matrix.toarray().astype(float)
    items = model.item_table.detach().double().numpy().copy() * prefix_mask(item_sizes, 6).numpy()
    # In interactions a row: the geometric mean of a user's and an item's.
    lam = 2.0 * (dense.sum(1).mean() * dense.sum(0).mean()) ** 0.5
    costs = []
    for _ in range(4):
        users = plain_rows(dense, items, user_sizes, 5.0, lam)
        items = plain_rows(dense.T, users, item_sizes, 5.0, lam)
        costs.append(cost(dense, users, items, 5.0, lam))
    assert costs == sorted(costs, reverse=True)
    told: list[int] = []
    recipe = dataclasses.replace(config.training, steps=4)
    fit(model, model.solver(train, plan), recipe, plan=plan, progress=lambda _, done, *__: told.append(done))
    assert told == [1, 2, 3, 4]
    np.testing.assert_allclose(model.user_table.detach(), users, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(model.item_table.detach(), items, rtol=1e-3, atol=1e-4)


def test_every_sweep_lowers_the_cost_though_rows_are_not_solved(split: Split) -> None:
    train = split.train
    model = ALS(dim=24, alpha=5.0, regularisation=2.0).build(train)
    sweep, dense = model.solver(train), train.matrix.toarray().astype(float)
    lam = 2.0 * (dense.sum(1).mean() * dense.sum(0).mean()) ** 0.5
    users, items = model.user_table.data, model.item_table.data
    costs = []
    for _ in range(30):
        users, items = sweep(users, items)
        costs.append(cost(dense, users.double().numpy(), items.double().numpy(), 5.0, lam))
    assert costs == sorted(costs, reverse=True)
    solved = users.double().numpy(), items.double().numpy()
    for _ in range(3):
        rows = plain_rows(dense, solved[1], np.full(train.n_users, 24, dtype=np.int32), 5.0, lam)
        solved = rows, plain_rows(dense.T, rows, np.full(train.n_items, 24, dtype=np.int32), 5.0, lam)
    assert costs[-1] < 1.002 * cost(dense, *solved, 5.0, lam)


def test_finishing_keeps_the_plan_and_the_best(split: Split) -> None:
    train, evaluator = split.train, Evaluator(split.train.matrix, split.valid.matrix)
    config = DENSE
    full = config.build(train)
    fit(full, full.solver(train), config.training, valid=evaluator)
    full.order_dimensions()
    before = full.user_table.detach().clone()
    rng = np.random.default_rng(1)
    plan = SizePlan(rng.integers(1, 5, train.n_users), rng.integers(1, 5, train.n_items), 16)
    cut, start = finish(full, plan, Finish().lasting(0), seed=0, valid=evaluator)
    small, kept = finish(full, plan, Finish(), seed=0, valid=evaluator)
    assert start.quality is not None
    assert kept.quality is not None
    assert kept.quality >= start.quality
    assert torch.equal(full.user_table, before)
    for table, sizes in ((small.user_table, plan.user_sizes), (small.item_table, plan.item_sizes)):
        assert not (table * (1 - prefix_mask(sizes, 16))).any()
    torch.testing.assert_close(cut.user_table.detach(), before * prefix_mask(plan.user_sizes, 16))


def test_a_new_model_of_a_plan_is_solved_within_it(split: Split) -> None:
    train = split.train
    config = ALS(dim=8)
    full = config.build(train)
    plan = SizePlan.equal(TableShape(train.n_users, train.n_items, 8), 3)
    found = Scratch(epochs=2).model(full, config, plan, train, seed=0)
    solve, tables = (
        full.solver(train, plan),
        (full.user_table, full.item_table.detach() * prefix_mask(plan.item_sizes, 8)),
    )
    for _ in range(2):
        tables = solve(*tables)
    torch.testing.assert_close(found.user_table.detach(), tables[0], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.item_table.detach(), tables[1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("settings", [{"alpha": -1.0}, {"regularisation": 0.0}, {"regularisation": float("nan")}])
def test_settings_without_a_solution_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"number (of 0 or more|above 0)|finite number"):
        ALS(**settings)  # type: ignore[arg-type]


def test_a_full_fit_is_good(split: Split) -> None:
    """Better than popular items, which is what a broken solver would come to at best."""
    train, evaluator = split.train, Evaluator(split.train.matrix, split.valid.matrix)
    config = DENSE
    model = config.build(train)
    fitted = fit(model, model.solver(train), config.training, valid=evaluator)
    popular = torch.from_numpy(train.item_counts).float()
    popularity = float(evaluator(lambda users: popular.expand(len(users), -1)).quality.mean())
    assert fitted.quality is not None
    assert fitted.quality > 1.05 * popularity


def test_interactions_are_what_is_stored(tiny: Interactions) -> None:
    table = torch.eye(4)
    start = torch.zeros(tiny.n_users, 4)
    found = closer_rows(3 * tiny.matrix, start, table, None, alpha=1.0, regularisation=1.0, steps=3)
    # Identity factors: each row is its interactions, (1 + alpha) / (1 + alpha + λ) each.
    torch.testing.assert_close(found, torch.from_numpy(tiny.matrix.toarray()) * (2 / 3))


def test_the_whole_way(split: Split) -> None:
    phases: dict[str, int] = {}
    outcome = ciess.search(
        split,
        backbone=dataclasses.replace(DENSE, dim=8),
        budgets=["60%"],
        method=ciess.Ciess(episodes=2, steps=1, finish_steps=5, updates=1, td3=TD3Settings(batch_size=64, hidden=16)),
        progress=lambda phase, _, total, __: phases.update({phase: total}),
    )
    assert outcome.row("search", "60%").kept > 0.7
    assert phases["full model"] == 15
    assert phases["full model, all data"] <= 5


@pytest.mark.parametrize("alpha", [0.001, 15.0, 1000.0])
def test_little_regularisation_does_not_lead_astray(alpha: float, split: Split) -> None:
    """Of more dimensions than items, λ alone makes the systems definite, and float32 does not see so little of it."""
    train = split.train
    model = ALS(dim=128, regularisation=1e-9, alpha=alpha).build(train)
    sweep, dense = model.solver(train), train.matrix.toarray().astype(float)
    users, items = model.user_table.data, model.item_table.data
    costs = []
    for _ in range(15):
        users, items = sweep(users, items)
        costs.append(cost(dense, users.double().numpy(), items.double().numpy(), alpha, 0.0))
    assert max(costs[1:]) < costs[0]
    assert costs[-1] < 1.1 * min(costs)


def test_more_interactions_are_learned_with_the_same_weight(split: Split) -> None:
    """λ stands for a prior: it does not grow with what is known of a row."""
    config, more = ALS(regularisation=2.0), split.train_valid()

    def weight(data: Interactions, settings: ALS) -> float:
        return settings.regularisation * len(data) / (data.n_users * data.n_items) ** 0.5

    assert weight(more, config.on_more(more, split.train)) == pytest.approx(weight(split.train, config))
    assert config.on_more(split.train, split.train) == config
