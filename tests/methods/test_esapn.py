import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from known import problem_of
from torch import nn

from ciess.data import Split
from ciess.errors import InputError
from ciess.methods.esapn import ESAPN, Policy, Side
from ciess.methods.problem import Problem
from ciess.models import Training
from ciess.models.mf import MF


def side(rows: int = 3, sizes: tuple[int, ...] = (1, 2, 4)) -> Side:
    table = nn.Parameter(torch.arange(1.0, 4 * rows + 1).view(rows, 4))
    return Side(table, [*sizes], ESAPN(memory=2), first_chance=0.1, seed=0)


@pytest.mark.parametrize("first_chance", [1e-9, 0.3, 0.7, 1 - 1e-9])
def test_who_has_the_last_size_never_grows(first_chance: float) -> None:
    policy = Policy(levels=4, first_chance=first_chance, lr=0.01, seed=0)
    levels = torch.arange(4).repeat(200)
    counts = torch.randint(0, 10**6, (800,), generator=torch.Generator().manual_seed(0))
    drawn = policy.drawn(counts, levels)
    assert not drawn[levels == 3].any()
    assert drawn[levels < 3].float().mean() == pytest.approx(first_chance, abs=0.06)
    assert (policy.best(counts, levels) == ((levels < 3) & (first_chance > 0.5))).all()


def test_growth_keeps_numbers_and_maps_them_to_new_ones() -> None:
    """Of three rows with one number the last two grow, then the last again, through maps of twos and threes."""
    grows = side()
    with torch.no_grad():
        grows.maps[0].copy_(torch.tensor([[1.0], [2.0]]))
        grows.maps[1].copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 0.0], [0.0, 3.0]]))
    assert grows.grown(grows.table, torch.zeros(3, dtype=torch.bool)).tolist() == [
        [1, 0, 0, 0],
        [5, 0, 0, 0],
        [9, 0, 0, 0],
    ]
    grows.keep(torch.tensor([False, True, True]))
    assert grows.sizes.tolist() == [1, 2, 2]
    grows.keep(torch.tensor([False, False, True]))
    assert grows.sizes.tolist() == [1, 2, 4]
    cut = grows.grown(grows.table, torch.zeros(3, dtype=torch.bool))
    assert cut.tolist() == [[1, 0, 0, 0], [5, 10, 0, 0], [9, 18, 27, 54]]


def test_what_grows_on_trial_teaches_its_map() -> None:
    grows = side()
    grows.grown(grows.table.detach(), torch.tensor([False, True, False])).sum().backward()
    assert grows.maps[0].grad is not None
    assert grows.maps[0].grad.flatten().tolist() == [5, 5]
    assert grows.maps[1].grad is None
    assert grows.table.grad is None


def test_rewards_are_losses_below_the_mean_of_the_latest() -> None:
    """The first remembers 4 and 2 (not 9), the second 1; they lose 1 and 2: rewards are 2 and −1, about their mean."""
    rewarded = side()
    rows, once = torch.tensor([0, 1]), torch.tensor([1, 1])
    rewarded.remember(torch.tensor([0]), torch.tensor([9.0]), torch.tensor([3]))
    rewarded.remember(torch.tensor([0]), torch.tensor([4.0]), torch.tensor([2]))
    rewarded.remember(rows, torch.tensor([2.0, 1.0]), once)
    assert rewarded.counts.tolist() == [6, 1, 0]
    found = rewarded.advantage(torch.tensor([0, 1, 2]), torch.tensor([1.0, 2.0, 7.0]))
    assert found.tolist() == [1.5, -1.5, 0]


def test_nothing_is_rewarded_before_there_were_losses() -> None:
    assert side().advantage(torch.tensor([0, 1]), torch.tensor([1.0, 2.0])).tolist() == [0, 0]


def test_policies_learn_whom_growth_serves() -> None:
    """Growth is rewarded for who came often and is small, and punished for all others."""
    policy = Policy(levels=3, first_chance=0.1, lr=3e-3, seed=0)
    generator = torch.Generator().manual_seed(0)
    counts = torch.randint(1, 2000, (400,), generator=generator)
    levels = torch.randint(0, 3, (400,), generator=generator)
    serves = (counts > 200) & (levels == 0)
    assert not policy.best(counts, levels).any(), "at first all keep their sizes"
    for _ in range(150):
        grown = policy.drawn(counts, levels)
        policy.learn(counts, levels, grown, torch.where(grown, torch.where(serves, 1.0, -1.0), 0.0))
    assert (policy.best(counts, levels) == serves).float().mean() > 0.97


def test_rewards_that_are_next_to_none_move_no_policy() -> None:
    policy = Policy(levels=3, first_chance=0.4, lr=3e-3, seed=0)
    counts, levels = torch.arange(1, 400), torch.zeros(399, dtype=torch.long)
    for _ in range(300):
        policy.learn(counts, levels, torch.ones(399, dtype=torch.bool), torch.full((399,), 1e-7))
    assert not policy.best(counts, levels).any()


@pytest.fixture
def problem(split: Split) -> Problem:
    return problem_of(MF(dim=16, training=Training(steps=40, batch_size=500)), split)


def test_sizes_only_grow_and_are_scaled_onto_each_budget(problem: Problem) -> None:
    # Half of all that come grow in every batch.
    result = ESAPN(sizes=(2, 4, 64), batches=6, first_chances=(0.500001,)).search(problem)
    batches = [row for row in result.trace if row["kind"] == "batch"]
    for name in ("user_size", "item_size"):
        sizes = [float(row[name]) for row in batches]
        assert sizes == sorted(sizes)
        assert 2 < sizes[0] < 4.1
        assert sizes[-1] > 10, "the full size comes last, though it is not named"
    [published] = [row for row in result.trace if row["kind"] == "published"]
    mean = np.average([batches[-1]["user_size"], batches[-1]["item_size"]], weights=problem.shape[:2])
    assert published["sparsity"] == pytest.approx(1 - mean / 16)
    assert problem.trainings == 1


def test_nobody_grows_without_a_reason(problem: Problem) -> None:
    result = ESAPN(batches=6, first_chances=(1e-4,), policy_lr=1e-12).search(problem)
    assert {row["user_size"] for row in result.trace if row["kind"] == "batch"} == {2.0}
    for budget, [found] in result.best.items():
        assert np.ptp(found.plan.sizes) <= 1, str(budget)


def test_each_first_chance_has_its_candidate(problem: Problem) -> None:
    result = ESAPN(batches=6, first_chances=(1e-4, 0.500001), policy_lr=1e-12).search(problem)
    assert problem.trainings == 2
    kept = [1 - float(row["sparsity"]) for row in result.trace if row["kind"] == "published"]
    assert kept == [pytest.approx(2 / 16), pytest.approx(1, abs=0.4)]
    for budget, found in result.best.items():
        qualities = [each.quality for each in found]
        assert qualities == sorted(qualities, reverse=True), str(budget)
        assert len({each.plan for each in found}) == len(found) == 2


def test_the_stream_is_in_order_of_time(problem: Problem) -> None:
    """The same interactions later in the stream come to something else."""
    train = problem.train
    rng = np.random.default_rng(0)
    found = []
    for times in (np.arange(len(train)), np.arange(len(train)), rng.permutation(len(train))):
        problem.train = dataclasses.replace(train, times=times)
        found.append([row["loss"] for row in ESAPN(batches=6).search(problem).trace if row["kind"] == "batch"])
    assert found[0] == found[1]
    assert found[0] != found[2]


@pytest.mark.parametrize(
    "settings",
    [
        {"sizes": (4, 2)},
        {"sizes": (0, 2)},
        {"first_chances": ()},
        {"first_chances": (0.1, 0.0)},
        {"first_chances": (1,)},
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"smallest first|between 0 and 1|1 or more|one value or more"):
        ESAPN(**settings)
