"""Small recommenders: an embedding size for every user and every item, under a memory budget.

All that is public is here, and imported when it is first used: `import ciess` by itself is light.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ciess.data import Interactions, Split, read, split_by_time, split_given, split_last, split_random, synthetic
    from ciess.data.convert import convert
    from ciess.data.describe import describe
    from ciess.data.prepared import prepare, prepared
    from ciess.errors import InputError
    from ciess.evaluation.metrics import Evaluation
    from ciess.experiment.apply import apply
    from ciess.experiment.compare import compare
    from ciess.experiment.comparison import Comparison
    from ciess.experiment.compress import compress
    from ciess.experiment.outcome import Outcome
    from ciess.experiment.pipeline import search
    from ciess.experiment.stream import stream
    from ciess.exports import export
    from ciess.methods.autoemb import AutoEmb
    from ciess.methods.bet import BET
    from ciess.methods.ciess.budgeted import Ciess
    from ciess.methods.ciess.noise import Noise
    from ciess.methods.ciess.td3 import TD3Settings
    from ciess.methods.cross_entropy import CrossEntropy
    from ciess.methods.dnis import DNIS
    from ciess.methods.equal import EqualSizes
    from ciess.methods.esapn import ESAPN
    from ciess.methods.magnitude import Magnitude
    from ciess.methods.mixed import MixedRandom
    from ciess.methods.optembed import OptEmbed
    from ciess.methods.pep import PEP
    from ciess.methods.policy import SizePolicy
    from ciess.methods.popularity import Popularity
    from ciess.methods.problem import Candidate, Problem, SearchResult
    from ciess.models.als import ALS
    from ciess.models.base import Backbone, BackboneConfig, InnerProduct, Represented, Solver, Training
    from ciess.models.factors import Factors
    from ciess.models.lightgcn import LightGCN
    from ciess.models.mf import MF
    from ciess.models.ncf import NCF
    from ciess.models.ngcf import NGCF
    from ciess.progress import LoggingProgress
    from ciess.serve.embedding import PackedEmbedding
    from ciess.serve.model import CompressedModel, evaluate
    from ciess.serve.saved import load
    from ciess.tables.budget import Budget
    from ciess.tables.plan import SizePlan
    from ciess.tables.precision import Precision
    from ciess.tables.taper import Taper
    from ciess.train.finish import Finish

    __version__: str

__all__ = [
    "ALS",
    "BET",
    "DNIS",
    "ESAPN",
    "MF",
    "NCF",
    "NGCF",
    "PEP",
    "AutoEmb",
    "Backbone",
    "BackboneConfig",
    "Budget",
    "Candidate",
    "Ciess",
    "Comparison",
    "CompressedModel",
    "CrossEntropy",
    "EqualSizes",
    "Evaluation",
    "Factors",
    "Finish",
    "InnerProduct",
    "InputError",
    "Interactions",
    "LightGCN",
    "LoggingProgress",
    "Magnitude",
    "MixedRandom",
    "Noise",
    "OptEmbed",
    "Outcome",
    "PackedEmbedding",
    "Popularity",
    "Precision",
    "Problem",
    "Represented",
    "SearchResult",
    "SizePlan",
    "SizePolicy",
    "Solver",
    "Split",
    "TD3Settings",
    "Taper",
    "Training",
    "apply",
    "compare",
    "compress",
    "convert",
    "describe",
    "evaluate",
    "export",
    "load",
    "prepare",
    "prepared",
    "read",
    "search",
    "split_by_time",
    "split_given",
    "split_last",
    "split_random",
    "stream",
    "synthetic",
]

_ROOMS = {
    "ALS": "models.als",
    "BET": "methods.bet",
    "DNIS": "methods.dnis",
    "ESAPN": "methods.esapn",
    "MF": "models.mf",
    "NCF": "models.ncf",
    "NGCF": "models.ngcf",
    "PEP": "methods.pep",
    "AutoEmb": "methods.autoemb",
    "Backbone": "models.base",
    "BackboneConfig": "models.base",
    "Budget": "tables.budget",
    "Candidate": "methods.problem",
    "Ciess": "methods.ciess.budgeted",
    "Comparison": "experiment.comparison",
    "CompressedModel": "serve.model",
    "CrossEntropy": "methods.cross_entropy",
    "EqualSizes": "methods.equal",
    "Evaluation": "evaluation.metrics",
    "Factors": "models.factors",
    "Finish": "train.finish",
    "InnerProduct": "models.base",
    "InputError": "errors",
    "Interactions": "data",
    "LightGCN": "models.lightgcn",
    "LoggingProgress": "progress",
    "Magnitude": "methods.magnitude",
    "MixedRandom": "methods.mixed",
    "Noise": "methods.ciess.noise",
    "OptEmbed": "methods.optembed",
    "Outcome": "experiment.outcome",
    "PackedEmbedding": "serve.embedding",
    "Popularity": "methods.popularity",
    "Precision": "tables.precision",
    "Problem": "methods.problem",
    "Represented": "models.base",
    "SearchResult": "methods.problem",
    "SizePlan": "tables.plan",
    "SizePolicy": "methods.policy",
    "Solver": "models.base",
    "Split": "data",
    "TD3Settings": "methods.ciess.td3",
    "Taper": "tables.taper",
    "Training": "models.base",
    "apply": "experiment.apply",
    "compare": "experiment.compare",
    "compress": "experiment.compress",
    "convert": "data.convert",
    "describe": "data.describe",
    "evaluate": "serve.model",
    "export": "exports",
    "load": "serve.saved",
    "prepare": "data.prepared",
    "prepared": "data.prepared",
    "read": "data",
    "search": "experiment.pipeline",
    "split_by_time": "data",
    "split_given": "data",
    "split_last": "data",
    "split_random": "data",
    "stream": "experiment.stream",
    "synthetic": "data",
}


def __getattr__(name: str) -> Any:
    """Import on first use: `import ciess` stays fast, since torch and polars are not."""
    if name == "__version__":
        from importlib.metadata import version

        return version("ciess")
    if name not in _ROOMS:
        raise AttributeError(f"module 'ciess' has no attribute '{name}'")
    return getattr(importlib.import_module(f"ciess.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    """The whole public API."""
    return sorted([*__all__, "__version__"])
