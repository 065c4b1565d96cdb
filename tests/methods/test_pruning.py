import numpy as np
import pytest
import torch

import ciess
from ciess.data import Split
from ciess.errors import InputError
from ciess.evaluation.metrics import Evaluator
from ciess.methods.fidelity import Truncate
from ciess.methods.magnitude import Magnitude, tail_energy
from ciess.methods.pep import soft_threshold
from ciess.methods.problem import Problem
from ciess.tables.budget import Budget


def test_soft_thresholds_take_from_every_number_and_leave_none_below() -> None:
    """Thresholds are a half: 2 is left with 1.5, −1 with −0.5, 0.3 with nothing."""
    numbers = torch.tensor([2.0, -1.0, 0.3], dtype=torch.float64, requires_grad=True)
    raw = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    left = soft_threshold(numbers, raw)
    torch.testing.assert_close(left.detach(), torch.tensor([1.5, -0.5, 0.0], dtype=torch.float64))
    assert torch.autograd.gradcheck(soft_threshold, (numbers, raw))
    left.sum().backward()
    # A sigmoid's slope at 0 is a quarter; a threshold that rises shortens numbers of either sign.
    torch.testing.assert_close(raw.grad, torch.tensor([-0.25, 0.25, 0.0], dtype=torch.float64))


def test_magnitude_cuts_rows_where_little_energy_is_left(split: Split) -> None:
    """Rows whose energy lies in their first numbers are cut short, and those of equal numbers are not."""
    config = ciess.MF(dim=8)
    model = config.build(split.train)
    with torch.no_grad():
        model.user_table[:] = 0.01
        model.user_table[:, 0] = 1.0
        model.item_table[:] = 1.0
    # Mean squares are 1 / 8 of the sum for the users, 1 for the items: either table has 8 of energy a row.
    assert tail_energy(model)[[0, -1], 0].tolist() == pytest.approx([8, 8])
    assert tail_energy(model)[[0, -1], 7].tolist() == pytest.approx([8e-4 / (1 + 7e-4), 1])
    valid = Evaluator(split.train.matrix, split.valid.matrix)
    problem = Problem(model, config, split.train, valid, [Budget.parse("50%")], Truncate())
    [[found]] = Magnitude(least=(0.0,)).search(problem).best.values()
    assert np.all(found.plan.user_sizes == 1)
    assert found.plan.item_sizes.mean() > 7


def test_the_scale_between_the_tables_decides_nothing(split: Split) -> None:
    """Users eight times as large and items an eighth score the same."""
    config, valid = ciess.MF(dim=8), Evaluator(split.train.matrix, split.valid.matrix)
    plans = []
    for scale in (1.0, 8.0):
        model = config.build(split.train)
        with torch.no_grad():
            model.user_table *= scale
            model.item_table /= scale
        problem = Problem(model, config, split.train, valid, [Budget.parse("50%")], Truncate())
        plans.append([each.plan for found in Magnitude().search(problem).best.values() for each in found])
    assert plans[0] == plans[1]


def test_shares_that_are_none_are_refused() -> None:
    with pytest.raises(InputError, match=r"from 0 to 1|one value or more"):
        Magnitude(least=(1.5,))
