"""Adam is held against PyTorch's class, which does the same and imports a compiler."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from ciess.train.adam import Adam


@pytest.mark.parametrize("epsilon", [1e-8, 0.1])
def test_steps_are_those_of_pytorchs_class(epsilon: float) -> None:
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=generator) for shape in ((5, 3), (4,), ())]
    ours, theirs = ([nn.Parameter(each.clone()) for each in start] for _ in range(2))
    adam = Adam(ours, epsilon)
    optimiser = torch.optim.Adam([{"params": [each]} for each in theirs], eps=epsilon, fused=True)
    for step in range(5):
        rates = [0.1 / (1 + step), 0.02, 0.3]
        slopes: list[Tensor | None] = [torch.randn(each.shape, generator=generator) for each in start]
        if step == 1:
            # No gradient: a parameter stays as it is, and does not count the step.
            slopes[1] = None
        for ours_, theirs_, slope in zip(ours, theirs, slopes, strict=True):
            ours_.grad, theirs_.grad = (None if slope is None else slope.clone() for _ in range(2))
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate
        adam.step(rates)
        optimiser.step()
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    adam.zero_grad()
    assert all(each.grad is None for each in ours)


def test_one_rate_is_every_parameters() -> None:
    parameters = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(3))]
    for each in parameters:
        each.grad = torch.ones_like(each)
    Adam(parameters).step(0.5)
    # Adam's first step is its rate.
    assert all(torch.allclose(each, torch.tensor(-0.5)) for each in parameters)


def test_a_step_imports_no_compiler() -> None:
    told = (
        "import sys, torch; from ciess.train.adam import Adam; p = torch.nn.Parameter(torch.zeros(2)); "
        "p.sum().backward(); Adam([p]).step(0.1); print('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True).stdout == "False\n"
