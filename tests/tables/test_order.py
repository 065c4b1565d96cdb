import pytest
import torch

from ciess.tables.order import balanced, importance_rotation


def test_scores_stay_and_columns_fall_in_energy() -> None:
    generator = torch.Generator().manual_seed(0)
    users, items = (torch.randn(n, 8, generator=generator) for n in (50, 30))
    rotation = importance_rotation(users)
    torch.testing.assert_close((users @ rotation) @ (items @ rotation).T, users @ items.T, rtol=1e-4, atol=1e-4)
    energy = (users @ rotation).square().sum(0)
    assert (energy.diff() <= 0).all()


def test_cutting_after_d_columns_is_the_best_approximation_of_rank_d() -> None:
    users = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
    ordered = users @ importance_rotation(users)
    singular_values = torch.linalg.svdvals(users)
    for d in range(1, 6):
        torch.testing.assert_close(ordered[:, d:].square().sum(), singular_values[d:].square().sum(), rtol=1e-4, atol=0)


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


@pytest.mark.parametrize("scale", [1.0, 100.0, 0.01])
def test_balanced_tables_cut_after_d_columns_are_the_best_scores_of_rank_d(scale: float) -> None:
    """By PyTorch's own decomposition of the scores, whatever basis and scale the tables come in."""
    users, items = drawn(40, 6) * torch.tensor([3.0, 0.1, 7, 1, 2, 0.5]), drawn(30, 6)
    items -= items.mean(0)
    left, values, right = torch.linalg.svd(users @ items.T)
    ordered = balanced(scale * users, items / scale)
    torch.testing.assert_close(ordered[0] @ ordered[1].T, users @ items.T)
    for d in range(1, 6):
        best = left[:, :d] * values[:d] @ right[:d]
        torch.testing.assert_close(ordered[0][:, :d] @ ordered[1][:, :d].T, best)
    for table in ordered:
        torch.testing.assert_close(table.T @ table, torch.diag(values[:6]), rtol=1e-6, atol=1e-6)


def test_columns_that_say_nothing_are_no_trouble() -> None:
    users, items = drawn(40, 4), drawn(30, 4)
    users[:, 3], items[:, 1] = users[:, 0], 0.0
    ordered = balanced(users, items)
    torch.testing.assert_close(ordered[0] @ ordered[1].T, users @ items.T)
    assert [table.abs().amax(0).gt(1e-6).tolist() for table in ordered] == [[True, True, False, False]] * 2


def test_there_may_be_fewer_rows_than_columns() -> None:
    users, items = drawn(3, 5), drawn(2, 5)
    ordered = balanced(users, items)
    assert [table.shape for table in ordered] == [(3, 5), (2, 5)]
    torch.testing.assert_close(ordered[0] @ ordered[1].T, users @ items.T)
