"""Training is held against plain PyTorch: dense matrices, gathers, Adam with nothing left out."""

import dataclasses

import pytest
import torch
from torch.nn.functional import softplus

from ciess.backbones import Training, backbone_named
from ciess.backbones.lightgcn import normalised_adjacency
from ciess.data import Interactions, Split
from ciess.data.sampling import TripletSampler
from ciess.evaluation import Evaluator
from ciess.losses import BPR
from ciess.tables.plan import SizePlan, TableShape, prefix_mask
from ciess.training import fit

RECIPE = Training(steps=8, batch_size=64, lr=0.05, lr_decay=0.5, lr_every=3, lr_floor=0.02, l2=0.01)


def plain_training(name: str, train: Interactions, recipe: Training, plan: SizePlan | None) -> torch.Tensor:
    """Both tables after training, users first."""
    model = backbone_named(name, dim=6).build(train, seed=2)
    table = torch.cat([model.user_table, model.item_table]).detach().requires_grad_()
    graph = normalised_adjacency(train.matrix).to_dense()
    mask = torch.ones_like(table) if plan is None else prefix_mask(plan.sizes, 6)
    sampler = TripletSampler(train, seed=5)
    optimiser = torch.optim.Adam([table])
    for step in range(recipe.steps):
        optimiser.param_groups[0]["lr"] = max(recipe.lr_floor, recipe.lr * recipe.lr_decay ** (step // recipe.lr_every))
        rows = table * mask
        vectors = rows
        if name == "lightgcn":
            vectors = (rows + graph @ rows + graph @ graph @ rows + graph @ graph @ graph @ rows) / 4
        triplets = sampler.sample(recipe.batch_size)
        user, positive, negative = (
            triplets.users,
            triplets.positives + train.n_users,
            triplets.negatives + train.n_users,
        )
        margin = (vectors[user] * (vectors[positive] - vectors[negative])).sum(1)
        norms = sum(rows[who].square().sum(1) for who in (user, positive, negative))
        loss = softplus(-margin).mean() + recipe.l2 / 2 * norms.mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return (table * mask).detach()


@pytest.mark.parametrize("sized", [False, True])
@pytest.mark.parametrize("name", ["mf", "lightgcn"])
def test_training_follows_the_reference_trajectory(name: str, sized: bool, split: Split) -> None:
    train = split.train
    sizes = torch.arange(train.n_users + train.n_items).numpy() % 5 + 1
    plan = SizePlan(sizes[: train.n_users], sizes[train.n_users :], dim=6) if sized else None
    model = backbone_named(name, dim=6).build(train, seed=2)
    fit(model, BPR(model, train, RECIPE, seed=5), RECIPE, plan=plan)
    expected = plain_training(name, train, RECIPE, plan)
    torch.testing.assert_close(torch.cat([model.user_table, model.item_table]).detach(), expected, rtol=1e-3, atol=1e-5)


def test_the_best_state_on_validation_is_kept(split: Split) -> None:
    evaluator = Evaluator(split.train.matrix, split.valid.matrix)
    model = backbone_named("mf", dim=16).build(split.train, seed=0)
    overfit = dataclasses.replace(RECIPE, steps=600, l2=0.0, eval_every=20, patience=4)
    told: list[tuple[int, int]] = []
    fitted = fit(
        model,
        BPR(model, split.train, overfit, seed=0),
        overfit,
        valid=evaluator,
        progress=lambda _, done, total, __: told.append((done, total)),
    )
    vectors = model.vectors()
    assert float(evaluator(lambda users: model.score_all(vectors, users)).quality.mean()) == fitted.quality
    assert 0 < fitted.steps < 600, "overfitting should be stopped"
    assert told[-1] == (fitted.steps + 4 * 20 - 1, 600)


def test_fine_tuning_never_ends_below_its_start(split: Split) -> None:
    evaluator = Evaluator(split.train.matrix, split.valid.matrix)
    model = backbone_named("mf", dim=8).build(split.train, seed=0)
    fit(model, BPR(model, split.train, RECIPE, seed=0), dataclasses.replace(RECIPE, steps=200))
    vectors = model.vectors()
    start = float(evaluator(lambda users: model.score_all(vectors, users)).quality.mean())
    plan = SizePlan.equal(TableShape(split.train.n_users, split.train.n_items, 8), 8)
    harmful = dataclasses.replace(RECIPE, lr=5.0, steps=5, eval_every=1)
    fitted = fit(model, BPR(model, split.train, harmful, seed=0), harmful, valid=evaluator, plan=plan)
    assert fitted.steps == 0
    assert fitted.quality == start
