"""A model of one's own, in about ten lines, goes the whole way."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import ciess
from ciess.data import Interactions, Split
from ciess.errors import InputError
from ciess.experiment.settings import described
from ciess.methods.ciess.td3 import TD3Settings
from ciess.models import Backbone, BackboneConfig, InnerProduct, Represented, Training
from ciess.models.base import normal_table
from ciess.train.finish import Finish

QUICK = ciess.Ciess(episodes=2, steps=1, finish_steps=5, updates=1, td3=TD3Settings(batch_size=64, hidden=16))
FINISH = Finish(training=Training(steps=10, batch_size=64, lr=0.05, eval_every=5))
TRAINING = Training(steps=60, batch_size=1_000, lr=0.03, eval_every=20)


@dataclass(frozen=True)
class Biased(BackboneConfig):
    distillation = FINISH.training

    def build(self, train: Interactions, seed: int = 0) -> Backbone:
        return BiasedModel(train.n_users, train.n_items, self.dim, seed)


class BiasedModel(InnerProduct):
    """Inner products and a bias of every item: the first number of its row, which no plan cuts."""

    def __init__(self, n_users: int, n_items: int, dim: int, seed: int) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        self.user_table, self.item_table = (normal_table(n, dim, random) for n in (n_users, n_items))

    def represent(self, user_table: Tensor, item_table: Tensor) -> Represented:
        return Represented(torch.cat([torch.ones_like(user_table[:, :1]), user_table[:, 1:]], dim=1), item_table)


@pytest.fixture(scope="module")
def outcome(split: Split) -> ciess.Outcome:
    backbone = Biased(dim=8, training=TRAINING)
    return ciess.search(split, backbone=backbone, budgets=["60%"], method=QUICK)


def test_its_plans_are_finished_as_it_says(outcome: ciess.Outcome) -> None:
    assert outcome.settings["finishing"] == described(FINISH)


def test_its_small_model_keeps_most_of_its_quality(outcome: ciess.Outcome) -> None:
    assert outcome.row("search", "60%").kept > 0.7


def test_its_outputs_are_packed_too(split: Split) -> None:
    """Also where an output is a table itself."""
    backbone = Biased(dim=8, training=TRAINING.lasting(5))
    found = ciess.search(split, backbone=backbone, budgets=["60%"], method="equal", target="output", finishing=FINISH)
    assert found.row("search", "60%").kept > 0.5


def test_it_is_saved_and_loaded_with_its_settings(outcome: ciess.Outcome, split: Split, tmp_path: Path) -> None:
    [(budget, folder)] = outcome.save(tmp_path).items()
    loaded = ciess.load(folder, backbone=Biased(dim=8))
    users = split.train.user_ids.to_list()
    for found, expected in zip(loaded.recommend(users), outcome.models[budget].recommend(users), strict=True):
        np.testing.assert_array_equal(found, expected)
    # The bias is at work: without it, scores are others.
    plain = loaded.users.dense() @ loaded.items.dense().T
    assert not np.allclose(loaded.score(loaded.user_ids), plain)
    assert json.loads((folder / "model.json").read_text())["backbone"]["name"] == "biased"


def test_without_its_settings_it_is_refused_with_a_sentence(outcome: ciess.Outcome, tmp_path: Path) -> None:
    [folder] = outcome.save(tmp_path).values()
    with pytest.raises(InputError, match="backbone 'biased', which is not one of ciess: load it with backbone="):
        ciess.load(folder)
    with pytest.raises(InputError, match="backbone 'biased', not 'mf'"):
        ciess.load(folder, backbone=ciess.MF())


@dataclass(frozen=True)
class Apart(BackboneConfig):
    def build(self, train: Interactions, seed: int = 0) -> Backbone:
        return ApartModel(train.n_users, train.n_items, self.dim, seed)


class ApartModel(BiasedModel):
    """A bias of every item beside the tables, where packing does not find it."""

    def __init__(self, n_users: int, n_items: int, dim: int, seed: int) -> None:
        super().__init__(n_users, n_items, dim, seed)
        self.biases = torch.nn.Parameter(torch.zeros(n_items))

    def represent(self, user_table: Tensor, item_table: Tensor) -> Represented:
        users, items = super().represent(user_table, item_table)
        return Represented(users, items + torch.nn.functional.pad(self.biases[:, None], (0, items.shape[1] - 1)))


def test_what_packing_would_mix_up_is_refused(split: Split) -> None:
    backbone = Apart(dim=8, training=TRAINING)
    with pytest.raises(InputError, match="ApartModel scores rows by where they lie"):
        ciess.search(split, backbone=backbone, budgets=["60%"], method=QUICK, finishing=FINISH)
