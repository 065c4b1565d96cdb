"""Settings, data and surroundings of a run as JSON keeps them."""

import dataclasses
import platform
from importlib.metadata import version
from typing import Any

import torch

from ciess.data import Split
from ciess.experiment.keys import canonical, digest
from ciess.methods.policy import SizePolicy


def described(settings: Any) -> Any:
    """Dataclasses as dictionaries of their fields, each with the name of its class."""
    if isinstance(settings, SizePolicy):
        return {"name": SizePolicy.__name__, **settings.about}
    if not dataclasses.is_dataclass(settings):
        return settings
    fields = {field.name: described(getattr(settings, field.name)) for field in dataclasses.fields(settings)}
    return {"name": type(settings).__name__, **fields}


def surroundings(split: Split) -> dict[str, Any]:
    """How much data there were, and what ran."""
    return {
        "data": {
            "users": split.train.n_users,
            "items": split.train.n_items,
            "train": len(split.train),
            "valid": len(split.valid),
            "test": len(split.test) if split.test is not None else 0,
            "digest": digest(canonical(split)),
        },
        "versions": versions("ciess", "torch", "numpy", "scipy", "polars"),
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
    }


def versions(*names: str) -> dict[str, str]:
    """The version of each installed package, by its name."""
    return {name: version(name) for name in names}
