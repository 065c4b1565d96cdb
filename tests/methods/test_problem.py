import numpy as np
import pytest

from ciess.data import Split
from ciess.evaluation.metrics import Evaluator
from ciess.methods.fidelity import Scratch, Truncate
from ciess.methods.problem import Problem
from ciess.models import backbone_named
from ciess.tables.mask import prefix_mask
from ciess.tables.plan import SizePlan


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


def test_plans_are_measured_once_and_counted(split: Split) -> None:
    config = backbone_named("mf", dim=8)
    model = config.build(split.train)
    valid = Evaluator(split.train.matrix, split.valid.matrix)
    problem = Problem(model, config, split.train, valid, [], Truncate())
    for size in (2, 3, 2):
        problem.measure(SizePlan.equal(problem.shape, size))
    assert (problem.measurements, problem.trainings) == (2, 0)
    problem.measure(SizePlan.equal(problem.shape, 2), Scratch(steps=1))
    assert (problem.measurements, problem.trainings) == (3, 1), "what trains a model is counted as a training too"
    assert problem.quality(model) == pytest.approx(problem.full.quality)
    cut = [table * 0.5 for table in (model.user_table, model.item_table)]
    assert problem.quality(model, *cut) == pytest.approx(problem.full.quality), "half of every score ranks the same"
    assert (problem.valid_positives.matrix != split.valid.matrix).nnz == 0
