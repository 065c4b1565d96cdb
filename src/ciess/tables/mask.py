"""Masks that cut rows to prefixes."""

import math
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


def prefix_mask(sizes: NDArray[Any] | Tensor, width: int) -> Tensor:
    """(n, width) float mask: 1 in the first `sizes[n]` columns of row n, 0 after."""
    return (torch.arange(width) < torch.as_tensor(sizes)[:, None]).float()


def random_prefix_mask(table: Tensor, generator: torch.Generator) -> Tensor:
    """(n, width) mask that cuts every row of a table to a size drawn log-uniformly from 1..width."""
    rows, width = table.shape
    drawn = torch.exp(torch.rand(rows, generator=generator) * math.log(width + 1)).int()
    # Rounding can lift the largest draw to width + 1.
    return prefix_mask(drawn.clamp(max=width), width)
