import numpy as np
import pytest
import torch
from planted import POPULAR, RARE, contrasting

from ciess.methods.autoemb import AutoEmb, Mixture


@pytest.mark.parametrize("seed", [0, 1])
def test_controllers_learn_whom_large_sizes_serve(seed: int) -> None:
    problem = contrasting(seed)
    sizes = AutoEmb(candidates=(2, 16), controller_rate=0.2, steps=100).sizes(problem)
    assert (sizes[:POPULAR] == 16).all()
    assert (sizes[POPULAR : POPULAR + RARE] == 2).all()


def test_rows_are_weighed_sums_of_normalised_candidates() -> None:
    side = mixture([1, 5, 30, 30, 2], [1, 2])
    with torch.no_grad():
        side.output.copy_(torch.linspace(-2, 2, 6).view(2, 3))
    expected = torch.zeros(5, 4)
    for number, (table, transform) in enumerate(zip(side.tables, side.transforms, strict=True)):
        full = table @ transform.T
        normal = (full - full.mean(0)) / (full.var(0, unbiased=False) + 1e-5).sqrt()
        expected += side.weights()[:, number, None] * torch.tanh(normal)
    torch.testing.assert_close(side.mixed(), 0.1 * expected)
    torch.testing.assert_close(side.weights().sum(1), torch.ones(5))
    assert side.weights()[0, 0] != side.weights()[2, 0]
    assert (side.weights()[2] == side.weights()[3]).all(), "equally popular rows are weighed alike"


def test_rows_of_one_popularity_are_no_obstacle() -> None:
    assert torch.isfinite(mixture([4, 4, 4], [1, 4]).mixed()).all()


def test_what_comes_out_is_measured_as_published_and_scaled_onto_budgets() -> None:
    problem = contrasting()
    result = AutoEmb(candidates=(1, 4, 16), steps=3).search(problem)
    [published] = [row for row in result.trace if row["kind"] == "published"]
    assert 0 < float(published["quality"]) < 1
    assert list(result.best) == list(problem.budgets)


def test_controllers_start_even() -> None:
    torch.testing.assert_close(mixture([1, 5, 30], [1, 2]).weights(), torch.full((3, 2), 0.5))


def mixture(popularity: list[int], sizes: list[int]) -> Mixture:
    return Mixture(np.array(popularity), sizes, dim=4, hidden=3, generator=torch.Generator().manual_seed(0))
