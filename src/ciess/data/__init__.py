"""What comes in: interactions, readers, splits, sampling, a synthetic set."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ciess.data.generated import synthetic as synthetic
    from ciess.data.interactions import Interactions as Interactions
    from ciess.data.readers import interactions_of as interactions_of
    from ciess.data.readers import read as read
    from ciess.data.split import Split as Split
    from ciess.data.split import split_by_time as split_by_time
    from ciess.data.split import split_given as split_given
    from ciess.data.split import split_last as split_last
    from ciess.data.split import split_random as split_random

_MODULES = {"Interactions": "interactions", "interactions_of": "readers", "read": "readers", "synthetic": "generated"}
_MODULES |= dict.fromkeys(("Split", "split_by_time", "split_given", "split_last", "split_random"), "split")


def __getattr__(name: str) -> Any:
    """Import on first use: serving needs ids alone, and neither polars nor SciPy."""
    if name not in _MODULES:
        raise AttributeError(f"module 'ciess.data' has no attribute '{name}'")
    return getattr(importlib.import_module(f"ciess.data.{_MODULES[name]}"), name)
