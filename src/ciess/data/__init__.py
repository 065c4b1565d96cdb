"""What comes in: interactions, readers, splits, sampling, a synthetic set."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ciess.data.generated import Synthetic, synthetic
    from ciess.data.interactions import Interactions
    from ciess.data.readers import interactions_of, read
    from ciess.data.split import Split, split_by_time, split_given, split_last, split_random

__all__ = [
    "Interactions",
    "Split",
    "Synthetic",
    "interactions_of",
    "read",
    "split_by_time",
    "split_given",
    "split_last",
    "split_random",
    "synthetic",
]

_MODULES = {
    "Interactions": "interactions",
    "Split": "split",
    "Synthetic": "generated",
    "interactions_of": "readers",
    "read": "readers",
    "split_by_time": "split",
    "split_given": "split",
    "split_last": "split",
    "split_random": "split",
    "synthetic": "generated",
}


def __getattr__(name: str) -> Any:
    """Import on first use: serving needs ids alone, and neither polars nor SciPy."""
    if name not in _MODULES:
        raise AttributeError(f"module 'ciess.data' has no attribute '{name}'")
    return getattr(importlib.import_module(f"ciess.data.{_MODULES[name]}"), name)
