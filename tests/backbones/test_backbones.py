import pytest
import torch
from torch import Tensor

from ciess.backbones import (
    Backbone,
    BackboneConfig,
    Rotatable,
    backbone_from_settings,
    backbone_named,
    backbone_settings,
)
from ciess.backbones.als import ALS
from ciess.backbones.lightgcn import LightGCN, normalised_adjacency
from ciess.backbones.mf import MF
from ciess.data import Interactions, Split
from ciess.errors import InputError

NAMES = ["mf", "lightgcn", "als"]


def build(name: str, train: Interactions, dim: int = 8) -> Backbone:
    return backbone_named(name, dim=dim).build(train, seed=1)


@pytest.mark.parametrize("name", NAMES)
def test_pairs_and_all_items_are_scored_alike(name: str, split: Split) -> None:
    model = build(name, split.train)
    users, items = torch.tensor([0, 0, 3, 149]), torch.tensor([[1, 2], [99, 0], [5, 5], [7, 1]])
    vectors = model.vectors()
    torch.testing.assert_close(
        model.score(vectors, users, items), model.score_all(vectors, users).gather(1, items), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("repeats", [1, 4_000], ids=["few pairs", "more pairs than there are different ones"])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_pairs_equal_those_of_plain_gathers(name: str, repeats: int, split: Split) -> None:
    model = build(name, split.train)
    users, items = torch.tensor([0, 0, 3, 3, 149]), torch.tensor([[1, 2], [99, 0], [5, 5], [1, 2], [7, 1]])
    users, items = users.repeat_interleave(repeats), items.repeat_interleave(repeats, dim=0)
    weights = torch.randn(5 * repeats, 2, generator=torch.Generator().manual_seed(0))

    def gradients(score: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad((score * weights).sum(), [model.user_table, model.item_table]))

    vectors = model.represent(model.user_table, model.item_table)
    fast = gradients(model.score(vectors, users, items))
    vectors = model.represent(model.user_table, model.item_table)
    plain = gradients((vectors.users[users][:, None] * vectors.items[items]).sum(2))
    for one, other in zip(fast, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_ordering_dimensions_leaves_scores_unchanged(name: str, split: Split) -> None:
    model = build(name, split.train)
    everyone = torch.arange(split.train.n_users)
    before = model.score_all(model.vectors(), everyone)
    model.order_dimensions()
    torch.testing.assert_close(model.score_all(model.vectors(), everyone), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_columns_of_tables_reach_only_the_same_columns_of_vectors(name: str, split: Split) -> None:
    model = build(name, split.train)
    assert isinstance(model, Rotatable)
    narrow = model.represent(model.user_table[:, :3], model.item_table[:, :3])
    wide = model.vectors()
    torch.testing.assert_close(narrow.users, wide.users[:, :3])
    torch.testing.assert_close(narrow.items, wide.items[:, :3])


def test_adjacency_by_hand(tiny: Interactions) -> None:
    adjacency = normalised_adjacency(tiny.matrix)
    # Degrees: users 2, 1, 3; items 2, 2, 1, 1. An edge weighs 1 / sqrt(product of both degrees).
    expected = torch.zeros(7, 7)
    edges = {(0, 3): 4, (0, 4): 4, (1, 4): 2, (2, 3): 6, (2, 5): 3, (2, 6): 3}
    for (user, item), product in edges.items():
        expected[user, item] = expected[item, user] = product**-0.5
    torch.testing.assert_close(adjacency.to_dense(), expected)
    assert adjacency.crow_indices().dtype == torch.int32
    assert adjacency.col_indices().dtype == torch.int32


def test_lightgcn_is_the_mean_of_its_layers(tiny: Interactions) -> None:
    model = LightGCN(dim=5, layers=2).build(tiny)
    adjacency = normalised_adjacency(tiny.matrix).to_dense()
    rows = torch.cat([model.user_table, model.item_table])
    expected = (rows + adjacency @ rows + adjacency @ adjacency @ rows) / 3
    torch.testing.assert_close(torch.cat(model.vectors()), expected)


def test_a_seed_fixes_the_tables(tiny: Interactions) -> None:
    first, again, other = (MF(dim=4).build(tiny, seed=seed).user_table for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("config", [MF(dim=16), LightGCN(layers=2), ALS(alpha=3.0)])
def test_settings_survive_json(config: BackboneConfig) -> None:
    assert backbone_from_settings(backbone_settings(config)) == config


def test_unknown_names_and_settings_are_refused() -> None:
    with pytest.raises(InputError, match="'gpt' is not a backbone: use one of als, factors, lightgcn, mf"):
        backbone_named("gpt")
    with pytest.raises(InputError, match="it has dim, training, layers"):
        backbone_named("LightGCN", hops=2)
