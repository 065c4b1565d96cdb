"""What makes one seed come to one result: draws from PyTorch's global generator, and sums in a fixed order."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.utils.deterministic

_FILLING: Any = torch.utils.deterministic
"""Has a setting that its types do not tell of."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed PyTorch's global generator inside, and have its operations come to the same bits however many threads run.

    Outside, both are as they were. Otherwise threads add up gradients of look-ups in any order. A module of one's own
    may need an operation that has no fixed order: PyTorch warns of it.
    """
    before = torch.get_deterministic_debug_mode()
    filled = _FILLING.fill_uninitialized_memory
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        # `torch.use_deterministic_algorithms` says the same to PyTorch's compiler, too, whose import takes two seconds.
        torch.set_deterministic_debug_mode("warn")
        # Nothing is read here that was not written, and filling it takes a tenth of a finish.
        _FILLING.fill_uninitialized_memory = False
        try:
            yield
        finally:
            torch.set_deterministic_debug_mode(before)
            _FILLING.fill_uninitialized_memory = filled
