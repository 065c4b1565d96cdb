import copy

import numpy as np
import pytest
import torch
from known import problem_of

import ciess
from ciess.data import Split
from ciess.methods.shared.joint import Learner
from ciess.models import BackboneConfig, Training
from ciess.models.mf import MF

OWN = Training(steps=7, batch_size=500)


def arrays(split: Split) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((split.train.n_users, 8)), rng.standard_normal((split.train.n_items, 8))


def test_new_tables_follow_the_backbones_recipe_and_full_ones_start_where_they_are(split: Split) -> None:
    problem = problem_of(MF(dim=8, training=OWN), split)
    new, full = Learner(problem, "new", seed=5), Learner(problem, "full", seed=5)
    assert new.training == full.training == OWN
    assert (full.tables[0] == problem.full_model.user_table).all()
    assert (new.tables[0] == problem.config.build(split.train, 5).user_table).all()
    assert Learner(problem, "new", seed=5, steps=3).training.steps == 3
    assert problem.trainings == 3


@pytest.mark.parametrize("kind", ["als", "factors"])
def test_what_gradients_do_not_train_starts_full_and_learns_as_matrix_factorisation(kind: str, split: Split) -> None:
    configs: dict[str, BackboneConfig] = {"als": ciess.ALS(dim=8), "factors": ciess.Factors.from_arrays(*arrays(split))}
    problem = problem_of(configs[kind], split)
    before = copy.deepcopy(problem.full_model.state_dict())
    learner = Learner(problem, "new", seed=0)
    assert learner.training == MF().training
    assert all((mine == theirs).all() for mine, theirs in zip(learner.tables, before.values(), strict=True))
    losses = []
    for step in range(1, 31):
        loss = learner.loss(*learner.tables)
        losses.append(float(loss.detach()))
        learner.learn(step, loss)
    assert losses[-1] < losses[0]
    after = problem.full_model.state_dict()
    assert all((after[name] == before[name]).all() for name in before)


def test_what_is_changed_on_the_way_learns_too_and_validation_moves_nothing(split: Split) -> None:
    problem = problem_of(ciess.NCF(dim=8, training=OWN), split)
    learner, factor = Learner(problem, "new", seed=0), torch.nn.Parameter(torch.ones(1))
    learner.join([factor])
    before = [each.detach().clone() for each in (*learner.tables, *learner.backbone.network.values())]
    gradient = torch.autograd.grad(learner.valid_loss(factor * learner.tables[0], learner.tables[1]), factor)
    assert gradient[0].abs() > 0
    assert all(each.grad is None for each in learner.tables)
    learner.learn(1, learner.loss(factor * learner.tables[0], learner.tables[1]))
    after = [*learner.tables, *learner.backbone.network.values()]
    assert all((now != then).any() for now, then in zip(after, before, strict=True))
    assert factor.item() != 1
