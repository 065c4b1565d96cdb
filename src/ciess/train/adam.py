"""`Adam`: the optimiser of everything that learns by gradients."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam

from ciess.train.checkpoint import Composed, Part

_SETTINGS: dict[str, Any] = {
    "beta1": 0.9,
    "beta2": 0.999,
    "weight_decay": 0.0,
    "amsgrad": False,
    "maximize": False,
}


class Adam(Composed):
    """Adam (Kingma and Ba, ICLR 2015), each parameter at a learning rate of its own.

    It is PyTorch's function. PyTorch's class imports a compiler, which takes two seconds, though nothing is compiled.

    Args:
        parameters: what learns; those without a gradient stay as they are.
        epsilon: what is added to the root of the mean square that a mean is divided by.

    Attributes:
        means: of each parameter's gradients.
        squares: means of their squares.
        steps: how many each parameter has taken.
    """

    def __init__(self, parameters: Iterable[Tensor], epsilon: float = 1e-8) -> None:
        self._epsilon = epsilon
        self._parameters = list(parameters)
        self.means, self.squares = ([torch.zeros_like(each) for each in self._parameters] for _ in range(2))
        self.steps = [torch.zeros(()) for _ in self._parameters]

    @property
    def parts(self) -> Mapping[str, Part]:
        """All that steps change beside the parameters."""
        kinds = {"exp_avg": self.means, "exp_avg_sq": self.squares, "step": self.steps}
        return {f"{at}.{kind}": each for kind, all_ in kinds.items() for at, each in enumerate(all_)}

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, rates: float | Sequence[float]) -> None:
        """Take a step down the gradients, at one rate or at one for each parameter."""
        given = rates if isinstance(rates, Sequence) else [rates] * len(self._parameters)
        states = zip(self._parameters, self.means, self.squares, self.steps, given, strict=True)
        for parameter, mean, square, step, rate in states:
            if parameter.grad is not None:
                adam(
                    [parameter],
                    [parameter.grad],
                    [mean],
                    [square],
                    [],
                    [step],
                    fused=True,
                    lr=rate,
                    eps=self._epsilon,
                    **_SETTINGS,
                )
