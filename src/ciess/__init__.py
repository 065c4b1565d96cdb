"""Small recommenders: an embedding size for every user and every item, under a memory budget.

All that is public is here, and imported when it is first used: `import ciess` by itself is light. Type checkers read
the first list, where `as` says that a name is public.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ciess.data import Interactions as Interactions
    from ciess.data import Split as Split
    from ciess.data import read as read
    from ciess.data import split_by_time as split_by_time
    from ciess.data import split_given as split_given
    from ciess.data import split_last as split_last
    from ciess.data import split_random as split_random
    from ciess.data import synthetic as synthetic
    from ciess.data.convert import convert as convert
    from ciess.data.describe import describe as describe
    from ciess.data.prepared import prepare as prepare
    from ciess.data.prepared import prepared as prepared
    from ciess.errors import InputError as InputError
    from ciess.evaluation.metrics import Evaluation as Evaluation
    from ciess.experiment.apply import apply as apply
    from ciess.experiment.compare import compare as compare
    from ciess.experiment.comparison import Comparison as Comparison
    from ciess.experiment.compress import compress as compress
    from ciess.experiment.distribute import distribute as distribute
    from ciess.experiment.outcome import Outcome as Outcome
    from ciess.experiment.pipeline import search as search
    from ciess.experiment.stream import stream as stream
    from ciess.exports import export as export
    from ciess.methods.autoemb import AutoEmb as AutoEmb
    from ciess.methods.bet import BET as BET
    from ciess.methods.ciess.budgeted import Ciess as Ciess
    from ciess.methods.ciess.noise import Noise as Noise
    from ciess.methods.ciess.td3 import TD3Settings as TD3Settings
    from ciess.methods.cross_entropy import CrossEntropy as CrossEntropy
    from ciess.methods.dnis import DNIS as DNIS
    from ciess.methods.equal import EqualSizes as EqualSizes
    from ciess.methods.esapn import ESAPN as ESAPN
    from ciess.methods.magnitude import Magnitude as Magnitude
    from ciess.methods.mixed import MixedRandom as MixedRandom
    from ciess.methods.optembed import OptEmbed as OptEmbed
    from ciess.methods.pep import PEP as PEP
    from ciess.methods.policy import SizePolicy as SizePolicy
    from ciess.methods.popularity import Popularity as Popularity
    from ciess.methods.problem import Candidate as Candidate
    from ciess.methods.problem import Problem as Problem
    from ciess.methods.problem import SearchResult as SearchResult
    from ciess.methods.scall import SCALL as SCALL
    from ciess.methods.shared.sac import SACSettings as SACSettings
    from ciess.models.als import ALS as ALS
    from ciess.models.base import Backbone as Backbone
    from ciess.models.base import BackboneConfig as BackboneConfig
    from ciess.models.base import InnerProduct as InnerProduct
    from ciess.models.base import Represented as Represented
    from ciess.models.base import Solver as Solver
    from ciess.models.base import Training as Training
    from ciess.models.factors import Factors as Factors
    from ciess.models.lightgcn import LightGCN as LightGCN
    from ciess.models.mf import MF as MF
    from ciess.models.ncf import NCF as NCF
    from ciess.models.ngcf import NGCF as NGCF
    from ciess.progress import LoggingProgress as LoggingProgress
    from ciess.serve.embedding import PackedEmbedding as PackedEmbedding
    from ciess.serve.model import CompressedModel as CompressedModel
    from ciess.serve.model import evaluate as evaluate
    from ciess.serve.saved import load as load
    from ciess.tables.budget import Budget as Budget
    from ciess.tables.plan import SizePlan as SizePlan
    from ciess.tables.precision import Precision as Precision
    from ciess.tables.taper import Taper as Taper
    from ciess.train.finish import Finish as Finish

    __version__: str

_ROOMS = {
    "ALS": "models.als",
    "BET": "methods.bet",
    "DNIS": "methods.dnis",
    "ESAPN": "methods.esapn",
    "MF": "models.mf",
    "NCF": "models.ncf",
    "NGCF": "models.ngcf",
    "PEP": "methods.pep",
    "SCALL": "methods.scall",
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
    "SACSettings": "methods.shared.sac",
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
    "distribute": "experiment.distribute",
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
__all__ = [*_ROOMS]


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
