"""Distillation, held against plain formulas and against what it is for."""

import numpy as np
import pytest
import torch

from ciess.data import Split
from ciess.models import Training, backbone_named
from ciess.models.base import Represented
from ciess.models.mf import MFModel
from ciess.tables.encoding import Encoding
from ciess.tables.packed import rounded
from ciess.tables.plan import SizePlan, TableShape
from ciess.tables.precision import Precision
from ciess.tables.taper import Taper
from ciess.train import losses
from ciess.train.finish import Finish, finish
from ciess.train.fit import fit
from ciess.train.losses import BPR, Distillation
from ciess.train.truncate import truncated


@pytest.mark.parametrize(("name", "network"), [("ncf", True), ("mf", False)])
def test_network_l2_weighs_what_is_learned_beside_the_tables(name: str, network: bool, split: Split) -> None:
    model = backbone_named(name, dim=4).build(split.train)
    tables = model.user_table.detach(), model.item_table.detach()
    plain, decayed = (
        float(BPR(model, split.train, Training(network_l2=weight), seed=0)(model.vectors(), *tables).detach())
        for weight in (0.0, 0.5)
    )
    norms = sum(float(weights.detach().square().sum()) for weights in model.network.values())
    assert norms > 1 if network else norms == 0
    assert decayed - plain == pytest.approx(0.25 * norms, rel=1e-4)


@pytest.mark.parametrize("held", [losses._MOST_HELD, 0], ids=["held", "found anew"])
@pytest.mark.parametrize("block", [losses._BLOCK, 300], ids=["at once", "in blocks"])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_distillation_by_the_plain_formula(
    scale: float, block: int, held: int, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "_BLOCK", block)
    monkeypatch.setattr(losses, "_MOST_HELD", held)
    full, small = (backbone_named("mf", dim=4).build(split.train, seed=seed) for seed in (0, 1))
    with torch.no_grad():
        full.user_table.mul_(scale)
        small.user_table.mul_(scale)
    tables = [small.user_table, small.item_table]
    # However many scores a step may count, it draws a half of both sides.
    draws = torch.Generator().manual_seed(0)
    users, items = (torch.randperm(n, generator=draws)[: n // 2] for n in (split.train.n_users, split.train.n_items))
    teacher, student = ((model.user_table @ model.item_table.T).double() for model in (full, small))
    sharpness = 2 / teacher[::2, ::2].std(1).mean()
    taught, learned = (sharpness * scores[users][:, items] for scores in (teacher, student))
    expected = -(taught.softmax(1) * learned.log_softmax(1)).sum() / len(users)
    wanted = torch.autograd.grad(3 * expected, tables)
    for rounded_products, tolerance in ((False, 1e-3), (losses._BFLOAT16, 3e-2)):
        monkeypatch.setattr(losses, "_BFLOAT16", rounded_products)
        loss = Distillation(small, full, Training(batch_size=10**6), seed=0)
        slopes = torch.autograd.grad(3 * loss(small.represent(*tables), *tables), tables)
        for slope, each in zip(slopes, wanted, strict=True):
            assert float((slope - each).norm() / each.norm()) < tolerance
    loss = Distillation(small, full, Training(batch_size=10**6), seed=0)
    assert loss.measured(small.vectors()) == pytest.approx(float(expected.detach()), rel=1e-5)


@pytest.mark.parametrize("held", [losses._MOST_HELD, 0], ids=["held", "found anew"])
@pytest.mark.parametrize("block", [losses._BLOCK, 300], ids=["at once", "in blocks"])
@pytest.mark.parametrize("name", ["mf", "ncf"])
def test_what_is_known_is_left_out_of_both_softmaxes(
    name: str, block: int, held: int, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By masked scores in double precision; known items are far above the others, as where a model has learned them."""
    monkeypatch.setattr(losses, "_BLOCK", block)
    monkeypatch.setattr(losses, "_MOST_HELD", held)
    monkeypatch.setattr(losses, "_BFLOAT16", False)
    full, small = (backbone_named(name, dim=4).build(split.train, seed=seed) for seed in (0, 1))
    full.learned = split.train
    tables = [small.user_table, small.item_table]
    loss = Distillation(small, full, Training(batch_size=10**6), seed=0)
    draws = torch.Generator().manual_seed(0)
    users, items = (
        torch.randperm(n, generator=draws)[: n // 2].sort().values for n in (split.train.n_users, split.train.n_items)
    )
    known = torch.from_numpy(split.train.matrix.toarray() > 0)[users][:, items]
    assert 0 < known.sum() < known.numel()
    teacher, student = (
        loss._sharpness * model.score_all(model.represent(model.user_table, model.item_table), users)[:, items].double()
        for model in (full, small)
    )
    taught, learned = (scores.masked_fill(known, -torch.inf) for scores in (teacher, student))
    expected = -(taught.softmax(1) * learned.log_softmax(1).masked_fill(known, 0.0)).sum() / len(users)
    wanted = torch.autograd.grad(expected, tables)
    slopes = torch.autograd.grad(loss(small.represent(*tables), *tables), tables)
    for slope, each in zip(slopes, wanted, strict=True):
        assert each.abs().max() > 0
        torch.testing.assert_close(slope, each, rtol=1e-3, atol=1e-6)
    assert loss.on(small.vectors(), users, items) == pytest.approx(float(expected.detach()), rel=1e-4)


def test_users_who_know_all_that_is_drawn_teach_nothing(split: Split) -> None:
    full, small = (backbone_named("mf", dim=4).build(split.train, seed=seed) for seed in (0, 1))
    full.learned = split.train
    user = int(split.train.user_counts.argmax())
    items = torch.from_numpy(split.train.matrix[[user]].indices.astype("int64")).sort().values
    loss = Distillation(small, full, Training(batch_size=10**6), seed=0)
    assert loss.on(small.vectors(), torch.tensor([user]), items) == 0
    found = [scores.isfinite().all() for scores in loss.compared(small.vectors(), torch.tensor([user]), items)]
    assert all(found)


def test_a_teacher_that_has_learned_more_leaves_out_more(split: Split) -> None:
    """Though its parameters, by which probabilities are held, are the same."""
    model, small = (backbone_named("mf", dim=4).build(split.train, seed=seed) for seed in (0, 1))

    def loss() -> float:
        return Distillation(small, model, Training(batch_size=10**6), seed=0).measured(small.vectors())

    found = []
    for model.learned in (None, split.train, split.train.union(split.valid)):
        found.append(loss())
    assert len({round(each, 6) for each in found}) == 3


def test_a_copy_shares_what_was_learned(split: Split) -> None:
    model = backbone_named("mf", dim=4).build(split.train)
    model.learned = split.train
    assert model.copied().learned is split.train
    assert truncated(model, SizePlan.equal(TableShape(150, 100, 4), 2)).learned is split.train


class Moody(MFModel):
    """Each user's scores are stretched by a number of its own, which is no part of its vector."""

    def score_all(self, vectors: Represented, users: torch.Tensor) -> torch.Tensor:
        return super().score_all(vectors, users) * (1 + users[:, None])


def test_users_are_known_to_ones_own_scoring_by_their_rows(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "_BFLOAT16", False)
    full, small = (Moody(split.train.n_users, split.train.n_items, 4, seed) for seed in (0, 1))
    loss = Distillation(small, full, Training(batch_size=10**6), seed=0)
    users, items = torch.tensor([5, 140, 7]), torch.tensor([9, 0, 30])
    with torch.no_grad():
        taught, scores = (
            model.score_all(model.vectors(), users)[:, items].double() * loss._sharpness for model in (full, small)
        )
    expected = -(taught.softmax(1) * scores.log_softmax(1)).sum() / len(users)
    assert loss.on(small.vectors(), users, items) == pytest.approx(float(expected), rel=1e-5)


def test_a_teacher_that_learned_on_teaches_what_it_is(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    full, small = (backbone_named("mf", dim=4).build(split.train, seed=seed) for seed in (0, 1))

    def measured() -> float:
        return Distillation(small, full, Training(batch_size=10**6), seed=0).measured(small.vectors())

    before = measured()
    with torch.no_grad():
        # Its scores have the same spread.
        full.item_table.neg_()
    after = measured()
    monkeypatch.setattr(losses, "_MOST_HELD", 0)
    assert after == pytest.approx(measured(), rel=1e-6)
    assert after != pytest.approx(before, rel=1e-3)


def test_an_item_above_all_others_leaves_draws_without_it_something_to_learn(split: Split) -> None:
    """Its score is so far above the others that their probabilities are no float32 numbers any more."""
    users, items = torch.ones(4, 1), torch.zeros(10_001, 1)
    items[0] = 1.0
    full, small = (MFModel(len(users), len(items), 1, 0) for _ in range(2))
    with torch.no_grad():
        for model in (full, small):
            model.user_table[:], model.item_table[:] = users, items
    loss = Distillation(small, full, Training(batch_size=10**6), seed=0)
    assert loss.on(small.vectors(), torch.arange(4), torch.arange(1, 101)) == pytest.approx(np.log(100), rel=1e-5)


@pytest.mark.parametrize("scale", [1.0, 2.0**-5])
def test_a_finish_does_not_depend_on_the_scale_of_tables(scale: float, split: Split) -> None:
    plan = SizePlan.equal(TableShape(split.train.n_users, split.train.n_items, 8), 3)
    tables = []
    for factor in (1.0, scale):
        full = backbone_named("mf", dim=8).build(split.train, seed=0)
        with torch.no_grad():
            full.item_table.mul_(factor)
        small, _ = finish(full, plan, Finish().lasting(10), seed=0)
        tables.append(small.item_table.detach() / factor)
    torch.testing.assert_close(*tables, rtol=1e-3, atol=1e-4)


def test_the_full_model_itself_is_the_best_small_one(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "_BFLOAT16", False)
    full = backbone_named("mf", dim=4).build(split.train, seed=0)
    loss = Distillation(full, full, Training(batch_size=10**6), seed=0)
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
        small, _ = finish(full, plan, Finish().lasting(steps), seed=0)
        loss = Distillation(small, full, Training(batch_size=10**6), seed=0)
        return loss.measured(small.vectors())

    # How close two numbers a row can come to sixteen is not known: only that the cut is not the best of them.
    assert distance(120) < distance(0) - 1e-3


def test_steps_are_as_small_as_what_a_plan_loses(split: Split) -> None:
    full = backbone_named("mf", dim=16).build(split.train, seed=0)
    shape = TableShape(split.train.n_users, split.train.n_items, 16)

    def moved(plan: SizePlan) -> float:
        cut, small = (finish(full, plan, Finish().lasting(steps), seed=0)[0] for steps in (0, 1))
        return float((small.item_table - cut.item_table).abs().detach().max())

    # Random numbers: all columns count alike, and Adam's first step is the learning rate.
    half, most = moved(SizePlan.equal(shape, 8)), moved(SizePlan.equal(shape, 2))
    assert most / half == pytest.approx(7**0.5, rel=0.1)
    assert moved(SizePlan.equal(shape, 16)) == 0
    # Nor does rounding alone move anything: until then, the small model is the full one.
    assert moved(SizePlan.equal(shape, 16, Precision.INT8)) == 0
    assert moved(SizePlan.equal(shape, 16, Precision.INT4_SHARED)) > 0


@pytest.mark.parametrize(("name", "steps"), [("mf", 30), ("lightgcn", 10)])
def test_rows_that_stand_alone_are_drawn_as_often_when_there_are_many(name: str, steps: int, split: Split) -> None:
    full = backbone_named(name, dim=8).build(split.train, seed=0)
    shape = TableShape(split.train.n_users, split.train.n_items, 8)
    a_hundredth = Training(steps=10, batch_size=shape.n_users * shape.n_items // 100)
    taken = []
    finish(
        full,
        SizePlan.equal(shape, 3),
        Finish(training=a_hundredth, share=0.3),
        seed=0,
        progress=lambda phase, step, steps, note: taken.append(step),
    )
    assert taken[-1] == pytest.approx(steps, abs=1)


TAPER = Taper((4, 3, 2) + (1,) * 13)


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.INT6, Precision.INT4, Precision.INT4_SHARED, TAPER])
def test_rounded_tables_learn_and_stay_rounded(precision: Encoding, split: Split) -> None:
    recipe = Training(steps=150, batch_size=2_000, l2=0.02)
    full = backbone_named("mf", dim=16).build(split.train, seed=0)
    fit(full, BPR(full, split.train, recipe, seed=0), recipe)
    full.order_dimensions()
    # Sides of different widths.
    sizes = np.full(split.train.n_users, 3), np.full(split.train.n_items, 4)
    plan = SizePlan(*sizes, 16, precision)
    loss = Distillation(full, full, Training(batch_size=10**6), seed=0)
    distances = []
    for steps in (0, 120):
        small = finish(full, plan, Finish().lasting(steps), seed=0)[0]
        distances.append(loss.measured(small.vectors()))
        table = small.user_table.detach().numpy()
        np.testing.assert_array_equal(rounded(table, plan.user_sizes, precision), table)
    assert distances[1] < distances[0] - 0.1


@pytest.mark.parametrize(("count", "share", "rows"), [(2, 0.5, [0, 1]), (7, 0.4, [0, 2, 4, 6]), (1, 0.5, [0])])
def test_rows_that_tell_the_spread_of_scores_are_two_at_least(count: int, share: float, rows: list[int]) -> None:
    assert losses.spaced(count, share).tolist() == rows


def test_two_items_are_distilled() -> None:
    """Of one item alone, scores would have no standard deviation."""
    full = MFModel(3, 2, dim=4, seed=0)
    small, _ = finish(full, SizePlan.equal(TableShape(3, 2, 4), 2), Finish().lasting(3), seed=0)
    assert small.item_table.isfinite().all()
