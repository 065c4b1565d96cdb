"""Distillation, held against plain formulas and against what it is for."""

import pytest
import torch

from ciess.backbones import Training, backbone_named
from ciess.compress import Finish, finish
from ciess.data import Split
from ciess.evaluation import Evaluator
from ciess.losses import BPR, Distillation
from ciess.tables.plan import SizePlan, TableShape
from ciess.training import fit


def test_distillation_by_the_plain_formula(split: Split) -> None:
    full, small = (backbone_named("mf", dim=4).build(split.train, seed=seed) for seed in (0, 1))
    n_users = split.train.n_users
    loss = Distillation(small, full, Training(batch_size=10**6, l2=0.3), seed=0)
    found = loss(small.vectors(), small.user_table, small.item_table)
    teacher, student = (
        torch.softmax((model.user_table @ model.item_table.T).double(), dim=1) for model in (full, small)
    )
    norms = (small.user_table**2).sum() / n_users + (small.item_table**2).sum() / split.train.n_items
    expected = -(teacher * student.log()).sum() / n_users + 0.15 * norms
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_the_full_model_itself_is_the_best_small_one(split: Split) -> None:
    full = backbone_named("mf", dim=4).build(split.train, seed=0)
    loss = Distillation(full, full, Training(batch_size=10**6, l2=0.0), seed=0)
    vectors = full.represent(full.user_table, full.item_table)
    gradients = torch.autograd.grad(loss(vectors, full.user_table, full.item_table), [full.user_table, full.item_table])
    assert max(float(gradient.abs().max()) for gradient in gradients) < 1e-6


@pytest.mark.parametrize("name", ["mf", "lightgcn", "ncf", "ngcf"])
def test_a_cut_model_learns_to_rank_as_the_full_one(name: str, split: Split) -> None:
    recipe = Training(steps=150, batch_size=2_000, l2=0.02)
    full = backbone_named(name, dim=16).build(split.train, seed=0)
    fit(full, BPR(full, split.train, recipe, seed=0), recipe)
    full.order_dimensions()
    plan = SizePlan.equal(TableShape(split.train.n_users, split.train.n_items, 16), 2)

    def distance(steps: int) -> float:
        small, _ = finish(full, plan, Finish().lasting(steps), train=split.train, seed=0)
        loss = Distillation(small, full, Training(batch_size=10**6, l2=0.0), seed=0)
        return float(loss(small.vectors(), small.user_table, small.item_table).detach())

    # How close two numbers a row can come to sixteen is not known: only that the cut is not the best of them.
    assert distance(120) < distance(0) - 1e-3


def test_a_finish_goes_on_from_a_start(split: Split) -> None:
    full = backbone_named("mf", dim=8).build(split.train, seed=0)
    plan = SizePlan.equal(TableShape(split.train.n_users, split.train.n_items, 8), 3)
    first, _ = finish(full, plan, Finish().lasting(10), train=split.train, seed=0)
    again, _ = finish(full, plan, Finish().lasting(0), train=split.train, seed=0, start=first)
    assert torch.equal(again.user_table, first.user_table)
    valid = Evaluator(split.train.matrix, split.valid.matrix)
    better, fitted = finish(full, plan, Finish(), train=split.train, seed=0, start=first, valid=valid)
    vectors = first.vectors()
    start = float(valid(lambda users: first.score_all(vectors, users)).quality.mean())
    assert fitted.quality is not None
    assert fitted.quality >= start
    assert not torch.equal(better.user_table[:, :3], torch.zeros_like(better.user_table[:, :3]))
