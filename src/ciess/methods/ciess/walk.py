"""The random walk over sizes by which CIESS explores (CIESS, Sec. 3.3)."""

import torch
from torch import Tensor


class RandomWalk:
    """A walk on the integers 1..dim: an edge joins sizes at most `threshold` apart, probability ∝ 1/distance.

    Args:
        dim: the largest size.
        threshold: the largest step, t in the paper.
        length: how many steps a walk takes.
    """

    def __init__(self, dim: int, threshold: int, length: int) -> None:
        sizes = torch.arange(1, dim + 1)
        distance = (sizes[:, None] - sizes[None, :]).abs()
        joined = (distance > 0) & (distance <= threshold)
        weights = torch.where(joined, 1.0 / distance.clamp(min=1), 0.0)
        self.transition = weights / weights.sum(1, keepdim=True)
        # Only the sizes within reach of each size: a draw then costs 2·threshold numbers, not dim.
        self._reach = self.transition.topk(min(2 * threshold, dim - 1), dim=1)
        self.length = length

    def visit(self, start: Tensor, generator: torch.Generator) -> Tensor:
        """Walk from each start at once.

        Args:
            start: (n,) whole sizes in 1..dim.

        Returns:
            (n, length + 1) sizes visited, the start first.
        """
        at = start.long() - 1
        visited = [at]
        for _ in range(self.length):
            drawn = torch.multinomial(self._reach.values[at], 1, generator=generator)
            at = self._reach.indices[at].gather(1, drawn).squeeze(1)
            visited.append(at)
        return torch.stack(visited, dim=1) + 1
