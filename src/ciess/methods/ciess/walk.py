"""Random walk over embedding sizes by which CIESS explores (CIESS, Eq. 12 and 13)."""

import torch
from torch import Tensor


class RandomWalk:
    """A walk on the integers 1..dim.

    Args:
        dim: the largest size.
        threshold: the largest step t: sizes are neighbours when they differ by at most t (Eq. 12).
        length: steps of a walk.

    Attributes:
        transition: (dim, dim) probability to go from size i + 1 to size j + 1, ∝ 1/|i − j| for neighbours (Eq. 13).
    """

    def __init__(self, dim: int, threshold: int, length: int) -> None:
        sizes = torch.arange(1, dim + 1)
        distance = (sizes[:, None] - sizes[None, :]).abs()
        neighbours = (distance > 0) & (distance <= threshold)
        weights = torch.where(neighbours, 1.0 / distance.clamp(min=1), 0.0)
        self.transition = weights / weights.sum(1, keepdim=True)
        # Only each size's neighbours: a draw then costs 2·threshold numbers, not dim.
        self._reach = self.transition.topk(min(2 * threshold, dim - 1), dim=1)
        # A single size has no neighbour to go to.
        self._length = length if dim > 1 else 0

    def visit(self, start: Tensor, generator: torch.Generator) -> Tensor:
        """Walk from each start at once.

        Args:
            start: (n,) whole sizes in 1..dim.
            generator: of the draws.

        Returns:
            (n, length + 1) sizes visited, the start first.
        """
        at = start.long() - 1
        visited = [at]
        for _ in range(self._length):
            drawn = torch.multinomial(self._reach.values[at], 1, generator=generator)
            at = self._reach.indices[at].gather(1, drawn).squeeze(1)
            visited.append(at)
        return torch.stack(visited, dim=1) + 1
