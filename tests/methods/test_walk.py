import torch

from ciess.methods.ciess.walk import RandomWalk


def test_transitions_follow_the_formula() -> None:
    """From 3 in 1..8 with threshold 2: sizes 1, 2, 4, 5 with weights 1/2, 1, 1, 1/2."""
    walk = RandomWalk(dim=8, threshold=2, length=1)
    torch.testing.assert_close(walk.transition[2], torch.tensor([1 / 6, 1 / 3, 0, 1 / 3, 1 / 6, 0, 0, 0]))
    torch.testing.assert_close(walk.transition[0], torch.tensor([0, 2 / 3, 1 / 3, 0, 0, 0, 0, 0]))


def test_frequencies_of_a_walk_match_the_powers_of_its_transitions() -> None:
    walk, n = RandomWalk(dim=12, threshold=5, length=3), 60_000
    visited = walk.visit(torch.full((n,), 4), torch.Generator().manual_seed(0))
    assert visited.shape == (n, 4)
    assert (visited[:, 0] == 4).all()
    for step in range(1, 4):
        expected = torch.linalg.matrix_power(walk.transition, step)[3]
        frequency = torch.bincount(visited[:, step], minlength=13)[1:] / n
        # Five standard deviations of a frequency.
        assert (frequency - expected).abs().max() < 5 * (expected.max() / n) ** 0.5


def test_a_walk_stays_within_sizes_and_threshold() -> None:
    visited = RandomWalk(dim=6, threshold=9, length=20).visit(
        torch.randint(1, 7, (500,), generator=torch.Generator().manual_seed(1)), torch.Generator().manual_seed(2)
    )
    assert visited.min() == 1
    assert visited.max() == 6
    assert (visited.diff(dim=1) != 0).all()
    short = RandomWalk(dim=50, threshold=3, length=20).visit(torch.full((500,), 25), torch.Generator().manual_seed(2))
    assert short.diff(dim=1).abs().max() == 3


def test_a_single_size_has_nowhere_to_go() -> None:
    visited = RandomWalk(dim=1, threshold=5, length=5).visit(torch.ones(3), torch.Generator().manual_seed(0))
    assert visited.tolist() == [[1], [1], [1]]
