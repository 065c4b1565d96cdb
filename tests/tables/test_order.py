import torch

from ciess.tables.order import importance_rotation


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
