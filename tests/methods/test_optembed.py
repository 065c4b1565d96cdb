import numpy as np
import pytest
import torch
from known import Planted, problem_of

from ciess.data import Split
from ciess.methods.optembed import OptEmbed, Supernet, evolve, row_mask
from ciess.methods.problem import Problem
from ciess.models import Training
from ciess.models.mf import MF


@pytest.fixture
def problem(split: Split) -> Problem:
    return problem_of(MF(dim=16, training=Training(steps=40, batch_size=500)), split)


def test_rows_below_the_threshold_are_masked_and_the_gradient_moves_the_threshold_alone() -> None:
    """Norms 1, 2, 3 are .5, 1, 1.5 of their mean, and −.3, .2, .7 above .8: slopes 2 − 4 · .3, 2 − 4 · .2 and .4."""
    table = torch.tensor([[0.5, -0.5], [2.0, 0.0], [-1.0, -2.0]], requires_grad=True)
    threshold = torch.tensor(0.8, requires_grad=True)
    mask = row_mask(table, threshold)
    assert mask.flatten().tolist() == [0, 1, 1]
    (mask * torch.tensor([[1.0], [10.0], [100.0]])).sum().backward()
    assert threshold.grad == pytest.approx(-(0.8 * 1 + 1.2 * 10 + 0.4 * 100))
    assert table.grad is None


def test_far_from_the_threshold_there_is_no_gradient() -> None:
    threshold = torch.tensor(-0.1, requires_grad=True)
    row_mask(torch.ones(3, 2), threshold).sum().backward()
    assert threshold.grad == 0


def test_evolution_reaches_a_known_optimum() -> None:
    wanted = np.array([1.0, 30.0, 4.0, 9.0, 2.0, 16.0])

    def quality(sizes: np.ndarray) -> float:
        assert sizes.min() >= 1
        assert sizes.max() <= 32
        return -float(np.square(np.log2(sizes / wanted)).mean())

    told: list[tuple[int, float]] = []
    settings = OptEmbed(generations=60)
    first = 32 ** np.random.default_rng(1).random((20, 6))
    found = evolve(settings, quality, first, 32, np.random.default_rng(0), lambda *each: told.append(each))
    assert quality(found) > -0.05
    assert [generation for generation, _ in told] == list(range(1, 61))
    best = [each for _, each in told]
    assert best == sorted(best)
    assert best[-1] == quality(found)
    drawn = 32 ** np.random.default_rng(0).random((60 * 20, 6))
    assert quality(found) > max(map(quality, drawn)), "as many at random do worse"


@pytest.mark.parametrize("aimed", [True, False])
def test_sizes_that_the_supernet_does_best_with_are_found(
    split: Split, aimed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = Planted(split, lambda problem: np.concatenate([np.ones(150), 1 + 0.5 * problem.popularity[1]]))
    monkeypatch.setattr(Supernet, "quality", lambda _, plan: planted.measure(plan).quality)
    result = OptEmbed(steps=2, generations=15, aimed=aimed).search(planted)
    [[found]] = result.best.values()
    [budget] = planted.budgets
    assert 1 - found.quality < 0.5 * (1 - planted.equal_quality(budget))
    assert sum(row["kind"] == "published" for row in result.trace) == (not aimed)


def test_dropped_rows_keep_one_number(problem: Problem) -> None:
    # A price that no loss can outweigh, and a rate that takes thresholds amid the norms.
    settings = OptEmbed(threshold_price=1e3, threshold_rate=1.0, generations=2)
    supernet = Supernet(settings, problem)
    left = supernet.left()
    assert 0.05 < left.mean() < 0.95
    for table, threshold, stays in zip(
        supernet.tables, supernet.thresholds, np.split(left, [problem.shape.n_users]), strict=True
    ):
        norms = table.detach().abs().sum(1)
        assert ((norms > threshold * norms.mean()).numpy() == stays).all()
    result = settings.search(problem)
    for budget, [found] in result.best.items():
        assert (found.plan.sizes[~left] == 1).all() or (found.plan.sizes[left] == 16).all(), str(budget)
        assert found.plan.sizes[left].mean() > 2


def test_the_supernet_is_trained_once_for_all_budgets(problem: Problem) -> None:
    OptEmbed(generations=2, mutations=3, crossovers=4).search(problem)
    assert problem.trainings == 1
    # Two generations and the plan itself, for each budget.
    assert problem.measurements == 2 * (2 * 7 + 1)
