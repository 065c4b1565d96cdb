import gc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from ciess.data import Split, synthetic
from ciess.evaluation.metrics import Evaluator
from ciess.methods.fidelity import Scratch, Truncate
from ciess.methods.problem import Measurement, Problem, seed_for
from ciess.models import Training, backbone_named
from ciess.models.als import ALS
from ciess.models.mf import MF
from ciess.tables.budget import Budget, project
from ciess.tables.layout import stored_bytes
from ciess.tables.mask import prefix_mask
from ciess.tables.plan import SizePlan, TableShape
from ciess.tables.precision import Precision
from ciess.train.fit import Fitted


@pytest.mark.parametrize("name", ["mf", "lightgcn", "ncf", "ngcf"])
def test_a_measured_plan_is_the_model_with_its_rows_cut(name: str, split: Split) -> None:
    config = backbone_named(name, dim=8)
    model = config.build(split.train)
    valid = Evaluator(split.train.matrix, split.valid.matrix)
    rng = np.random.default_rng(0)
    plan = SizePlan(rng.integers(1, 5, split.train.n_users), rng.integers(1, 5, split.train.n_items), 8)
    vectors = model.vectors(
        model.user_table * prefix_mask(plan.user_sizes, 8), model.item_table * prefix_mask(plan.item_sizes, 8)
    )
    expected = valid(lambda users: model.score_all(vectors, users).detach()).quality.mean()
    measured = Problem(model, config, split.train, valid, [], Truncate()).measure(plan)
    assert measured.quality == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("users_share", [0.0, 0.5, 0.95])
def test_a_plan_by_shares_of_sides_fills_the_budget_however_few_rows_a_side_has(users_share: float) -> None:
    train = synthetic(users=20, items=300, mean_count=30).interactions
    config = MF(dim=8)
    valid = Evaluator(csr_array((train.n_users, train.n_items), dtype=np.float32), train.matrix)
    problem = Problem(config.build(train), config, train, valid, [budget := Budget.parse("50%")], Truncate())
    plan = problem.project_sides(np.ones(train.n_users), np.ones(train.n_items), users_share, budget)
    assert 0 <= budget.limit(problem.shape) - stored_bytes(plan) < 100


@given(st.integers(2, 300), st.integers(1, 300), st.integers(1, 8))
def test_rows_of_a_sample_of_size_1_are_what_is_least(rows: int, of: int, dim: int) -> None:
    """Each stands for a share of all rows, of which there is no sum without rounding."""
    weights = np.full(rows, of / rows)
    assert project(np.ones(rows), of, dim, weights).tolist() == [1] * rows


def test_plans_are_measured_once_and_counted(split: Split) -> None:
    config = backbone_named("mf", dim=8)
    model = config.build(split.train)
    valid = Evaluator(split.train.matrix, split.valid.matrix)
    problem = Problem(model, config, split.train, valid, [], Truncate())
    for size in (2, 3, 2):
        problem.measure(SizePlan.equal(problem.shape, size))
    assert (problem.measurements, problem.trainings) == (2, 0)
    problem.measure(SizePlan.equal(problem.shape, 2), Scratch(config.training.lasting(1)))
    assert (problem.measurements, problem.trainings) == (3, 1), "what trains a model is counted as a training too"
    assert problem.quality(model) == pytest.approx(problem.full.quality)
    cut = [table * 0.5 for table in (model.user_table, model.item_table)]
    assert problem.quality(model, *cut) == pytest.approx(problem.full.quality), "half of every score ranks the same"
    assert (problem.valid_positives.matrix != split.valid.matrix).nnz == 0


def test_a_plan_in_another_precision_is_another_plan(split: Split) -> None:
    config = backbone_named("mf", dim=8)
    valid = Evaluator(split.train.matrix, split.valid.matrix)
    problem = Problem(config.build(split.train), config, split.train, valid, [], Truncate())
    whole, rounded = (
        problem.measure(SizePlan.equal(problem.shape, 4, precision))
        for precision in (Precision.FLOAT32, Precision.INT4)
    )
    assert problem.measurements == 2
    assert whole.plan != rounded.plan
    assert not torch.equal(whole.user_quality, rounded.user_quality)


def test_every_budget_and_every_seed_draws_for_itself_and_again_the_same() -> None:
    five, ten = Budget.parse("5%"), Budget.parse("10%")
    assert len({seed_for(five, 0), seed_for(ten, 0), seed_for(five, 1), seed_for(Budget.parse("5 %"), 0)}) == 3


def test_what_is_remembered_of_a_plan_does_not_grow_with_its_rows(split: Split) -> None:
    config = backbone_named("mf", dim=32)
    valid = Evaluator(split.train.matrix, split.valid.matrix)
    problem = Problem(config.build(split.train), config, split.train, valid, [], Truncate())
    plans = [SizePlan.equal(problem.shape, size) for size in range(1, 31)]
    qualities = [problem.measure(plan).quality for plan in plans]
    whole = [each for each in gc.get_objects() if type(each) is Measurement and each.plan.shape == problem.shape]
    assert len(whole) < 15, "the latest ones"
    assert [problem.quality_of(plan) for plan in plans] == qualities
    assert problem.measurements == 30, "known by its quality alone, no plan is measured again"
    again = problem.measure(plans[0])
    assert again.quality == qualities[0]
    assert float(again.user_quality.nanmean()) == pytest.approx(qualities[0], abs=1e-6)


def test_from_scratch_trains_passes_over_the_interactions(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 1,456 interactions a batch of 500 takes three steps; a solver's step is a pass."""
    taken = []
    monkeypatch.setattr(
        "ciess.train.scratch.fit", lambda *given, **_: taken.append(given[2].steps) or Fitted(0, None, 0.0)
    )
    plan = SizePlan.equal(TableShape(split.train.n_users, split.train.n_items, 8), 2)
    for config in (MF(dim=8, training=Training(batch_size=500)), ALS(dim=8)):
        for epochs in (1, 5):
            Scratch(epochs=epochs).model(config.build(split.train), config, plan, split.train, 0)
    assert taken == [3, 15, 1, 5]
