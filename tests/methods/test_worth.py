"""What numbers are worth, against finite differences of the loss and values worked out by hand."""

import numpy as np
import pytest
import torch

from ciess.data import Split
from ciess.methods.shared.worth import Draw, Slopes, draws, slopes, smoothed, worth_of_numbers
from ciess.models import Backbone, Training, backbone_named
from ciess.tables.plan import SizePlan, TableShape
from ciess.train.losses import Distillation

DIM = 6


def models(name: str, split: Split) -> tuple[Backbone, Backbone, SizePlan]:
    """A full model, one whose rows are cut to sizes of 1 to 3, in float64, and the sizes."""
    full, small = (backbone_named(name, dim=DIM).build(split.train, seed).double().eval() for seed in (0, 1))
    shape = TableShape(split.train.n_users, split.train.n_items, DIM)
    plan = SizePlan.from_sizes(np.random.default_rng(0).integers(1, 4, shape.rows), shape)
    with torch.no_grad():
        for table, sizes in ((small.user_table, plan.user_sizes), (small.item_table, plan.item_sizes)):
            table *= torch.arange(DIM) < torch.from_numpy(sizes)[:, None]
        for parameter in small.network.values():
            # Away from zero, where NCF's hidden layer has its kink.
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2))
    return full, small, plan


def loss_at(small: Backbone, loss: Distillation, tables: list[torch.Tensor], half: list[Draw]) -> float:
    with torch.no_grad():
        vectors = small.represent(*tables)
        return float(np.mean([loss.on(vectors, draw.users, draw.items) for draw in half]))


@pytest.mark.parametrize("name", ["mf", "lightgcn", "ngcf", "ncf"])
def test_gradients_are_the_slopes_of_the_loss_where_numbers_are_and_where_there_are_none(
    name: str, split: Split
) -> None:
    full, small, plan = models(name, split)
    loss = Distillation(small, full, backbone_named(name).distillation, seed=0)
    halves = [draws(loss, plan.shape[:2], 1, torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    found = slopes(small, full, plan, loss, (halves[0], halves[1]))
    width, n_users = found.tables.shape[1], plan.shape.n_users
    rng = np.random.default_rng(3)
    for half, gradient in zip(halves, found.gradients, strict=True):
        for row in rng.integers(0, plan.shape.rows, 6):
            for column in range(width):
                both = []
                for step in (1e-5, -1e-5):
                    moved = found.tables.clone()
                    moved[row, column] += step
                    both.append(loss_at(small, loss, list(moved.split([n_users, len(moved) - n_users])), half))
                assert float(gradient[row, column]) == pytest.approx((both[0] - both[1]) / 2e-5, rel=1e-3, abs=5e-8)


def test_curvature_is_the_second_difference_of_the_loss(split: Split) -> None:
    """With inner products, scores are linear in a row, so that the Fisher information is the whole curvature."""
    full, small, plan = models("mf", split)
    loss = Distillation(small, full, backbone_named("mf").distillation, seed=0)
    halves = [draws(loss, plan.shape[:2], 60, torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    found = slopes(small, full, plan, loss, (halves[0], halves[1]))
    n_users, step = plan.shape.n_users, 1e-2
    tables = [found.tables[:n_users], found.tables[n_users:]]
    exact = torch.zeros_like(found.tables)
    few = halves[0][: 20 * loss.parts]
    middle = loss_at(small, loss, tables, few)
    for row in [*range(0, n_users, 30), *range(n_users, len(found.tables), 20)]:
        for column in range(found.tables.shape[1]):
            ends = []
            for by in (step, -step):
                moved = found.tables.clone()
                moved[row, column] += by
                ends.append(loss_at(small, loss, [moved[:n_users], moved[n_users:]], few))
            exact[row, column] = (sum(ends) - 2 * middle) / step**2
    for side in (slice(0, n_users), slice(n_users, None)):
        looked_at = exact[side].sum(1) > 0
        true, estimate = (each[side][looked_at].sum(1) for each in (exact, found.curvature))
        assert float(estimate.sum() / true.sum()) == pytest.approx(1, abs=0.1)
        assert np.corrcoef(true, estimate)[0, 1] > 0.7


def test_every_row_is_looked_at_as_often(split: Split) -> None:
    full, small, plan = models("mf", split)
    loss = Distillation(small, full, Training(batch_size=plan.shape.n_users * plan.shape.n_items // 9), seed=0)
    assert loss.parts == 3
    found = draws(loss, plan.shape[:2], 4, torch.Generator().manual_seed(0))
    assert len(found) == 12
    for rows, count in (([d.users for d in found], plan.shape.n_users), ([d.items for d in found], plan.shape.n_items)):
        assert torch.bincount(torch.cat(rows), minlength=count).tolist() == [4] * count
    assert {float(sign) for draw in found for side in draw.signs for sign in side} == {-1.0, 1.0}


@pytest.mark.parametrize("shape", [(1, 9), (9, 2), (1, 3)])
def test_no_draw_is_without_a_user_or_with_a_single_item(shape: tuple[int, int], split: Split) -> None:
    full, small, _ = models("mf", split)
    loss = Distillation(small, full, Training(batch_size=1), seed=0)
    assert loss.parts > 3
    found = draws(loss, shape, 2, torch.Generator().manual_seed(0))
    assert sum(len(draw.users) for draw in found) == 2 * shape[0]
    assert min(len(draw.users) for draw in found) >= 1
    assert min(len(draw.items) for draw in found) >= 2


def test_smoothing_keeps_the_sums_of_rows_and_columns() -> None:
    squares = torch.tensor([[1.0, 3.0], [0.0, 4.0]])
    torch.testing.assert_close(smoothed(squares), torch.tensor([[0.5, 3.5], [0.5, 3.5]]))
    assert smoothed(torch.zeros(2, 2)).tolist() == [[0, 0], [0, 0]]


def test_worth_is_what_second_order_says() -> None:
    """A user that has four numbers of six, and an item that has five."""
    plan = SizePlan(np.array([4]), np.array([5]), 6)
    tables = torch.tensor([[1.0, 1, 1, 3, 0, 0], [1, 1, 1, 2, 4, 0]])
    first = torch.tensor([[9.0, 9, 9, 9, 2, 9], [9, 9, 9, 9, 9, 3]])
    second = torch.tensor([[9.0, 9, 9, 9, 5, 1], [9, 9, 9, 9, 9, -1]])
    curvature = torch.tensor([[2.0] * 6, [0.5] * 6])
    # ½ · 2 · 3², then ½ · 2 · 5 / 2; estimates that disagree in sign are worth less than nothing.
    expected = [[1, 1, 1, 9, 2.5, 2.25], [0.25, 0.25, 0.25, 1, 4, -3]]
    torch.testing.assert_close(
        worth_of_numbers(plan, Slopes(tables, (first, second), curvature)), torch.tensor(expected)
    )


def test_a_column_that_nobody_has_is_worth_what_both_sides_would_gain_by_it(split: Split) -> None:
    """From equal sizes, no row has the next column: a mere gradient would say that it is worth nothing."""
    full = backbone_named("mf", dim=4).build(split.train, 0)
    small = backbone_named("mf", dim=4).build(split.train, 0)
    with torch.no_grad():
        small.user_table[:, 1:], small.item_table[:, 1:] = 0, 0
    plan = SizePlan.equal(TableShape(split.train.n_users, split.train.n_items, 4), 1)
    loss = Distillation(small, full, backbone_named("mf").distillation, seed=0)
    halves = [draws(loss, plan.shape[:2], 8, torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    last, following = worth_of_numbers(plan, slopes(small, full, plan, loss, (halves[0], halves[1])))[:, :2].T
    assert (following > 0).float().mean() > 0.8
    assert 0.01 < following.median() / last.median() < 10
