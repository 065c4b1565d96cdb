import pytest
import torch
from torch import Tensor

from ciess.data import Interactions, Split
from ciess.errors import InputError
from ciess.models import (
    Backbone,
    BackboneConfig,
    Represented,
    Training,
    backbone_from_settings,
    backbone_named,
    backbone_settings,
    backbone_with,
)
from ciess.models.als import ALS
from ciess.models.base import Rotatable
from ciess.models.graph import averaging_adjacency, hop, normalised_adjacency
from ciess.models.lightgcn import LightGCN
from ciess.models.mf import MF
from ciess.models.ncf import NCF, NCFModel
from ciess.models.ngcf import NGCF, NGCFModel

NAMES = ["mf", "lightgcn", "als", "ncf", "ngcf"]


def build(name: str, train: Interactions, dim: int = 8) -> Backbone:
    model = backbone_named(name, dim=dim).build(train, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.network.values():
            # Biases begin at zero, where mistakes with them would not show.
            parameter += torch.randn(parameter.shape, generator=generator) * 0.1
    return model


@pytest.mark.parametrize("name", NAMES)
def test_pairs_and_all_items_are_scored_alike(name: str, split: Split) -> None:
    model = build(name, split.train)
    users, items = torch.tensor([0, 0, 3, 149]), torch.tensor([[1, 2], [99, 0], [5, 5], [7, 1]])
    vectors = model.vectors()
    torch.testing.assert_close(
        model.score(vectors, users, items), model.score_all(vectors, users).gather(1, items), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("repeats", [1, 4_000], ids=["few pairs", "more pairs than there are different ones"])
@pytest.mark.parametrize("name", ["mf", "lightgcn", "ngcf"])
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
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_ordering_dimensions_leaves_scores_unchanged(name: str, split: Split) -> None:
    model = build(name, split.train)
    everyone = torch.arange(split.train.n_users)
    before = model.score_all(model.vectors(), everyone)
    model.order_dimensions()
    torch.testing.assert_close(model.score_all(model.vectors(), everyone), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["mf", "lightgcn"])
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


def plain_ncf(model: NCFModel, users: Tensor, items: Tensor) -> Tensor:
    """Scores of pairs, (b,) users and items each, by He et al.'s equation 12."""
    user, item = model.user_table[users], model.item_table[items]
    inputs = torch.cat([user[:, 1::2], item[:, 1::2]], 1)
    hidden = (inputs @ torch.cat([model.user_hidden, model.item_hidden], 1).T + model.hidden_bias).relu()
    features = torch.cat([user[:, ::2] * item[:, ::2], hidden], 1)
    return features @ torch.cat([model.gmf_output, model.mlp_output])


@pytest.mark.parametrize("dim", [8, 7, 2])
@pytest.mark.parametrize("signs", [(-1, 1), (1, 1), (-1, -1), (0, 0)])
def test_ncf_scores_and_gradients_by_the_plain_formula(dim: int, signs: tuple[int, int], split: Split) -> None:
    model = build("ncf", split.train, dim)
    assert isinstance(model, NCFModel)
    with torch.no_grad():
        model.mlp_output.abs_()
        model.mlp_output[::2] *= signs[0]
        model.mlp_output[1::2] *= signs[1]
    users, items = torch.tensor([0, 0, 3, 149]), torch.arange(100)
    weights = torch.randn(4, 100, generator=torch.Generator().manual_seed(0))
    learned = [p for name, p in model.named_parameters() if signs != (0, 0) or name != "mlp_output"]
    found = []
    for score in (
        lambda vectors: model.score(vectors, users, items.expand(4, -1)),
        lambda vectors: model.score_all(vectors, users),
        lambda _: plain_ncf(model, users.repeat_interleave(100), items.repeat(4)).view(4, 100),
    ):
        scores = score(model.represent(model.user_table, model.item_table))
        gradients = torch.autograd.grad((scores * weights).sum(), learned, materialize_grads=True, allow_unused=True)
        found.append([scores, *gradients])
    for pairs, everything, expected in zip(*found, strict=True):
        torch.testing.assert_close(pairs, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(everything, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dim", [12, 7])
def test_ncf_columns_fall_in_importance_within_each_branch(dim: int, tiny: Interactions, split: Split) -> None:
    for train in (tiny, split.train):
        model = build("ncf", train, dim)
        everyone = torch.arange(train.n_users)
        before = model.score_all(model.vectors(), everyone)
        model.order_dimensions()
        torch.testing.assert_close(model.score_all(model.vectors(), everyone), before, rtol=1e-4, atol=1e-5)
        for table in (model.user_table, model.item_table):
            for branch in (0, 1):
                energy = table[:, branch::2].square().sum(0)
                assert (energy.diff() <= 1e-6).all()
        ordered = [parameter.clone() for parameter in model.parameters()]
        model.order_dimensions()
        if train is split.train:  # With fewer rows than columns, the last ones are zero and of no order.
            for parameter, kept in zip(model.parameters(), ordered, strict=True):
                torch.testing.assert_close(parameter, kept, rtol=1e-3, atol=1e-4)


def test_ncf_needs_a_number_for_each_branch(tiny: Interactions) -> None:
    with pytest.raises(InputError, match="dim is 1: NCF needs at least 2"):
        NCF(dim=1).build(tiny)


def test_averaging_adjacency_by_hand(tiny: Interactions) -> None:
    edges = torch.zeros(7, 7)
    for user, item in ((0, 3), (0, 4), (1, 4), (2, 3), (2, 5), (2, 6)):
        edges[user, item] = edges[item, user] = 1
    expected = (edges + torch.eye(7)) / torch.tensor([3, 2, 4, 3, 3, 2, 2])[:, None]
    matrix, transposed, mirror = averaging_adjacency(tiny.matrix)
    torch.testing.assert_close(matrix.to_dense(), expected)
    torch.testing.assert_close(transposed.to_dense(), expected.T)
    assert matrix.col_indices().dtype == mirror.dtype == torch.int32


def plain_ngcf(model: NGCFModel, adjacency: Tensor) -> Tensor:
    """Vectors of users and items by Wang et al.'s equation 7, the self-loop in the matrix."""
    rows = torch.cat([model.user_table, model.item_table]) @ model.turn
    outputs = [rows]
    for w1, w2, bias in zip(model.of_means, model.of_products, model.biases, strict=True):
        inner = adjacency @ rows @ w1 + ((adjacency @ rows) * rows) @ w2 + bias
        rows = torch.where(inner > 0, inner, 0.2 * inner)
        outputs.append(rows / rows.norm(dim=1, keepdim=True))
    return torch.cat(outputs, 1)


def test_ngcf_by_dense_formulas(tiny: Interactions) -> None:
    model = build("ngcf", tiny, dim=5)
    assert isinstance(model, NGCFModel)
    expected = plain_ngcf(model, averaging_adjacency(tiny.matrix)[0].to_dense())
    assert expected.shape == (7, 20)
    torch.testing.assert_close(torch.cat(model.vectors()), expected)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(0))
    found = torch.cat(model.represent(model.user_table, model.item_table))
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = [torch.autograd.grad((vectors * weights).sum(), learned) for vectors in (found, expected)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_ngcf_rotates_rows_so_that_the_first_columns_hold_the_most_they_can(split: Split) -> None:
    model = build("ngcf", split.train, dim=6)
    values = torch.linalg.svdvals(torch.cat([model.user_table, model.item_table]).detach().double())
    model.order_dimensions()
    energy = torch.cat([model.user_table, model.item_table]).detach().double().square().sum(0)
    torch.testing.assert_close(energy, values**2, rtol=1e-4, atol=1e-4)


def test_ngcf_drops_only_while_it_trains(split: Split) -> None:
    def trained(model: Backbone) -> Represented:
        return model.train().represent(model.user_table, model.item_table)

    model, again = (build("ngcf", split.train) for _ in range(2))
    still = model.vectors()
    first, second = trained(model), trained(model)
    assert not torch.equal(first.users, second.users)
    assert torch.equal(first.users, trained(again).users)
    assert torch.equal(model.vectors().users, still.users), "vectors() drops nothing in any mode"
    assert model.training


@pytest.mark.parametrize("wrong", [1.0, -0.5, float("nan")])
@pytest.mark.parametrize("name", ["message_dropout", "edge_dropout"])
def test_dropout_leaves_something(name: str, wrong: float) -> None:
    with pytest.raises(InputError, match=name):
        backbone_named("ngcf", **{name: wrong})


@pytest.mark.parametrize("dropout", [0.1, 0.6])
def test_dropped_edges_are_dropped_both_ways_and_made_up_for(dropout: float, split: Split) -> None:
    matrix = averaging_adjacency(split.train.matrix)[0].to_dense()
    model = NGCF(dim=1, layers=1, message_dropout=0.0, edge_dropout=dropout).build(split.train)
    seen: list[tuple[Tensor, Tensor]] = []

    def spy(adjacency: Tensor, transposed: Tensor, layer: Tensor) -> Tensor:
        seen.append((adjacency.to_dense(), transposed.to_dense()))
        return hop(adjacency, transposed, layer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ciess.models.ngcf.hop", spy)
        model.train().represent(model.user_table, model.item_table)
    [(forward, backward)] = seen
    assert torch.equal(forward.T, backward)
    kept = forward != 0
    torch.testing.assert_close(forward[kept], matrix[kept] / (1 - dropout))
    assert float(kept.sum() / (matrix != 0).sum()) == pytest.approx(1 - dropout, abs=0.03)


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_fixes_all_that_is_learned(name: str, tiny: Interactions) -> None:
    first, again, other = (list(backbone_named(name, dim=4).build(tiny, seed=seed).parameters()) for seed in (0, 0, 1))
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    # Biases start as zeros, NCF's h as ones and NGCF's turn as the identity, whatever the seed.
    for one, two in zip(first, other, strict=True):
        assert not torch.equal(one, two) or set(one.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("config", [MF(dim=16), LightGCN(layers=2), ALS(alpha=3.0), NCF(), NGCF(edge_dropout=0.2)])
def test_settings_survive_json(config: BackboneConfig) -> None:
    assert backbone_from_settings(backbone_settings(config)) == config


def test_unknown_names_and_settings_are_refused() -> None:
    with pytest.raises(InputError, match="'gpt' is not a backbone: use one of als, factors, lightgcn, mf, ncf, ngcf"):
        backbone_named("gpt")
    with pytest.raises(InputError, match="it has dim, training, layers"):
        backbone_named("LightGCN", hops=2)


def test_settings_that_no_model_has_are_refused() -> None:
    for config in (MF, ALS):
        with pytest.raises(InputError, match="dim is 0: give a number from 1 to 65536"):
            config(dim=0)
    for name, value in (("l2", float("nan")), ("network_l2", -0.1), ("lr", float("inf"))):
        with pytest.raises(InputError, match=f"{name} is {value:g}: give a (finite )?number"):
            Training(**{name: value})


@pytest.mark.parametrize(
    ("name", "setting"),
    [("als", {"l2": 0.5}), ("als", {"nested": True}), ("mf", {"network_l2": 0.5}), ("lightgcn", {"network_l2": 1.0})],
)
def test_a_setting_of_training_that_does_nothing_is_refused(name: str, setting: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"(?i){next(iter(setting))} does nothing with {name}: leave it out"):
        backbone_named(name, training=Training(**setting))  # type: ignore[arg-type]
    assert backbone_named("ncf", training=Training(network_l2=0.5)).training.network_l2 == 0.5


def test_settings_find_their_place() -> None:
    config = backbone_with("als", dim=8, alpha=3.0, steps=2)
    assert (config.dim, config.alpha, config.training.steps, config.training.patience) == (8, 3.0, 2, 3)  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="no such setting"):
        backbone_with("als", layers=2)


def test_more_interactions_are_learned_with_the_same_prior(split: Split) -> None:
    """A loss over all interactions, not its mean, adds the same weight of squares whatever is known of a row."""
    config, more = NCF().changed(l2=0.3, network_l2=0.2), split.train_valid()
    grown = config.on_more(more, split.train)
    for name in ("l2", "network_l2"):
        assert grown.setting(name) * len(more) == pytest.approx(config.setting(name) * len(split.train))
    assert grown.changed(l2=0.3, network_l2=0.2) == config
