"""ciess: small recommenders. An embedding size for every user and every item, under a memory budget."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ciess.data import Interactions, Split, read, split_random, synthetic
    from ciess.errors import InputError
    from ciess.experiment.compare import compare
    from ciess.experiment.comparison import Comparison
    from ciess.experiment.compress import compress
    from ciess.experiment.outcome import Outcome
    from ciess.experiment.pipeline import search
    from ciess.methods.ciess.budgeted import Ciess
    from ciess.methods.equal import EqualSizes
    from ciess.models.als import ALS
    from ciess.models.factors import Factors
    from ciess.models.lightgcn import LightGCN
    from ciess.models.mf import MF
    from ciess.models.ncf import NCF
    from ciess.models.ngcf import NGCF
    from ciess.progress import LoggingProgress
    from ciess.serve.model import CompressedModel
    from ciess.serve.saved import load
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
    "ALS": "models.als",
    "MF": "models.mf",
    "NCF": "models.ncf",
    "NGCF": "models.ngcf",
    "Budget": "tables.budget",
    "Ciess": "methods.ciess.budgeted",
    "Comparison": "experiment.comparison",
    "CompressedModel": "serve.model",
    "EqualSizes": "methods.equal",
    "Factors": "models.factors",
    "InputError": "errors",
    "Interactions": "data",
    "LightGCN": "models.lightgcn",
    "LoggingProgress": "progress",
    "Outcome": "experiment.outcome",
    "SizePlan": "tables.plan",
    "Split": "data",
    "compare": "experiment.compare",
    "compress": "experiment.compress",
    "load": "serve.saved",
    "read": "data",
    "search": "experiment.pipeline",
    "split_random": "data",
    "synthetic": "data",
}


def __getattr__(name: str) -> Any:
    """Import on first use: `import ciess` stays fast, since torch and polars are not."""
    if name not in _ROOMS:
        raise AttributeError(f"module 'ciess' has no attribute '{name}'")
    return getattr(importlib.import_module(f"ciess.{_ROOMS[name]}"), name)
