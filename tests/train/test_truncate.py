import dataclasses

import numpy as np
import pytest
import torch

from ciess.data import Split
from ciess.models import backbone_named
from ciess.tables.plan import SizePlan
from ciess.tables.precision import Precision
from ciess.train.finish import Finish, finish
from ciess.train.truncate import truncated


@pytest.mark.parametrize("precision", [Precision.FLOAT32, Precision.INT4])
@pytest.mark.parametrize(("name", "steps"), [("mf", 0), ("mf", 3), ("lightgcn", 2), ("ncf", 0), ("ngcf", 0)])
def test_it_is_what_a_finish_without_training_comes_to(
    split: Split, name: str, steps: int, precision: Precision
) -> None:
    full = backbone_named(name, dim=6).build(split.train)
    before = {key: value.clone() for key, value in full.state_dict().items()}
    rng = np.random.default_rng(0)
    plan = SizePlan(rng.integers(1, 5, split.train.n_users), rng.integers(1, 5, split.train.n_items), 6, precision)
    small = truncated(full, plan, steps)
    expected = finish(full, plan, dataclasses.replace(Finish(), refit_steps=steps).lasting(0), seed=0)[0]
    users = torch.arange(9)
    torch.testing.assert_close(small.score_all(small.vectors(), users), expected.score_all(expected.vectors(), users))
    for key, value in full.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)
    shared = {id(each) for each in (*full.network.values(), *full.buffers())}
    assert {id(each) for each in (*small.network.values(), *small.buffers())} == shared
    assert {id(small.user_table), id(small.item_table)}.isdisjoint({id(each) for each in full.parameters()})
