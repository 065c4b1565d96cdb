from pathlib import Path

import pytest
import torch

import ciess
from ciess.data import Interactions, Split
from ciess.models import Represented
from ciess.train.checkpoint import Kept
from ciess.train.fit import Fitted, fitted_once


class Dropping(ciess.InnerProduct):
    """Drops out where it scores, too."""

    def __init__(self, n_users: int, n_items: int) -> None:
        super().__init__()
        self.user_table, self.item_table = (torch.nn.Parameter(torch.randn(n, 4)) for n in (n_users, n_items))
        self.drop = torch.nn.Dropout(0.5)
        self.draws, self.generator = 0, torch.Generator().manual_seed(0)

    def score_all(self, vectors: Represented, users: torch.Tensor) -> torch.Tensor:
        return super().score_all(Represented(self.drop(vectors.users), vectors.items), users)


def test_what_is_read_again_is_measured_as_what_was_trained(split: Split, tmp_path: Path) -> None:
    def train(model: Dropping) -> Fitted:
        model.eval()
        model.draws, _ = 3, torch.rand(7, generator=model.generator)
        return Fitted(1, 0.5, 0.1)

    first, again = (Dropping(split.train.n_users, split.train.n_items) for _ in range(2))
    # Named as what is kept beside parameters might be.
    first.attributes, again.attributes = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    trained = fitted_once(Kept(tmp_path, "full"), first, lambda: train(first), always=True)
    assert fitted_once(Kept(tmp_path, "full"), again, lambda: train(again)) == trained
    users = torch.arange(5)
    assert torch.equal(again.score_all(again.vectors(), users), first.score_all(first.vectors(), users))
    assert torch.equal(again.attributes.weight, first.attributes.weight)
    assert again.draws == 3, "later draws of dropout are those that would have followed"
    assert torch.equal(torch.rand(3, generator=again.generator), torch.rand(3, generator=first.generator))


class DroppingConfig(ciess.BackboneConfig):
    """Draws its tables and its dropout from PyTorch's global generator."""

    def build(self, train: Interactions, seed: int = 0) -> Dropping:
        return Dropping(train.n_users, train.n_items)


def test_draws_of_ones_own_module_follow_the_seed_and_nothing_else() -> None:
    data = ciess.synthetic(users=40, items=30, mean_count=12).interactions
    few = ciess.split_random(data, seed=0)
    training = ciess.Training(steps=4, batch_size=64, eval_every=2, nested=True)
    finishing = ciess.Finish(training=ciess.Training(steps=2, batch_size=64))

    def row(seed: int, before: int) -> tuple[float, float]:
        torch.manual_seed(before)
        state = torch.random.get_rng_state()
        outcome = ciess.search(
            few,
            backbone=DroppingConfig(dim=4, training=training),
            budgets=["60%"],
            method="equal",
            finishing=finishing,
            seed=seed,
        )
        assert torch.equal(torch.random.get_rng_state(), state), "the caller's draws are left alone"
        return outcome.row("full").valid_quality, outcome.row("full").metrics["recall@20"]

    assert row(0, before=1) == row(0, before=2)
    assert row(0, before=1) != row(1, before=1)


class Elsewhere(DroppingConfig):
    def build(self, train: Interactions, seed: int = 0) -> Dropping:
        return super().build(train).to("meta")


def test_a_module_on_another_device_is_refused_before_it_is_trained(split: Split) -> None:

    with pytest.raises(ciess.InputError, match="the tables of Dropping are on 'meta': build them on the CPU"):
        ciess.search(split, backbone=Elsewhere(dim=4), budgets=["60%"])
