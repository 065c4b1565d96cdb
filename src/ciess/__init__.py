"""ciess: small recommenders. An embedding size for every user and every item, under a memory budget."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ciess.backbones.als import ALS
    from ciess.backbones.factors import Factors
    from ciess.backbones.lightgcn import LightGCN
    from ciess.backbones.mf import MF
    from ciess.backbones.ncf import NCF
    from ciess.backbones.ngcf import NGCF
    from ciess.comparison import Comparison, compare
    from ciess.compressing import compress
    from ciess.data import Interactions, Split, read, split_random, synthetic
    from ciess.errors import InputError
    from ciess.methods.ciess import Ciess
    from ciess.methods.equal import EqualSizes
    from ciess.model import CompressedModel
    from ciess.outcome import Outcome
    from ciess.pipeline import search
    from ciess.progress import LoggingProgress
    from ciess.saved import load
    from ciess.tables.budget import Budget
    from ciess.tables.plan import SizePlan

__all__ = [
    "ALS",
    "MF",
    "NCF",
    "NGCF",
    "Budget",
    "Ciess",
    "Comparison",
    "CompressedModel",
    "EqualSizes",
    "Factors",
    "InputError",
    "Interactions",
    "LightGCN",
    "LoggingProgress",
    "Outcome",
    "SizePlan",
    "Split",
    "compare",
    "compress",
    "load",
    "read",
    "search",
    "split_random",
    "synthetic",
]

_ROOMS = {
    "ALS": "backbones.als",
    "MF": "backbones.mf",
    "NCF": "backbones.ncf",
    "NGCF": "backbones.ngcf",
    "Budget": "tables.budget",
    "Ciess": "methods.ciess",
    "Comparison": "comparison",
    "CompressedModel": "model",
    "EqualSizes": "methods.equal",
    "Factors": "backbones.factors",
    "InputError": "errors",
    "Interactions": "data",
    "LightGCN": "backbones.lightgcn",
    "LoggingProgress": "progress",
    "Outcome": "outcome",
    "SizePlan": "tables.plan",
    "Split": "data",
    "compare": "comparison",
    "compress": "compressing",
    "load": "saved",
    "read": "data",
    "search": "pipeline",
    "split_random": "data",
    "synthetic": "data",
}


def __getattr__(name: str) -> Any:
    """Import on first use: `import ciess` stays fast, since torch and polars are not."""
    if name not in _ROOMS:
        raise AttributeError(f"module 'ciess' has no attribute '{name}'")
    return getattr(importlib.import_module(f"ciess.{_ROOMS[name]}"), name)
