"""Masks that cut rows to prefixes."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


def prefix_mask(sizes: NDArray[Any] | Tensor, width: int, device: torch.device | str = "cpu") -> Tensor:
    """(n, width) float mask: 1 in the first `sizes[n]` columns of row n, 0 after."""
    kept = torch.as_tensor(sizes, device=device)[:, None]
    return (torch.arange(width, device=device) < kept).float()
