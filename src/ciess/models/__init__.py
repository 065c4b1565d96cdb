"""Recommenders whose tables can be sized, one file each. A new file here is found by itself."""

import dataclasses
import importlib
import pkgutil
from functools import cache
from typing import Any

from ciess.checks import nearest
from ciess.errors import InputError
from ciess.models.base import Backbone as Backbone
from ciess.models.base import BackboneConfig as BackboneConfig
from ciess.models.base import InnerProduct as InnerProduct
from ciess.models.base import Represented as Represented
from ciess.models.base import Training as Training

_TRAINING = frozenset(each.name for each in dataclasses.fields(Training))


@cache
def _config_classes() -> dict[str, type[BackboneConfig]]:
    """The settings class of every backbone in this package, by its name in lower case."""
    found = {}
    for module in pkgutil.iter_modules(__path__, prefix=f"{__name__}."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and issubclass(value, BackboneConfig) and value is not BackboneConfig:
                found[value.__name__.lower()] = value
    return found


def _config_class(name: str) -> type[BackboneConfig]:
    classes = _config_classes()
    if name.lower() not in classes:
        raise InputError(
            f"'{name}' is not a backbone{nearest(name.lower(), classes)}: use one of {', '.join(backbone_names())}"
        )
    return classes[name.lower()]


def backbone_names() -> list[str]:
    """The names of all backbones of this package, in lower case."""
    return sorted(_config_classes())


def backbone_named(name: str, **settings: Any) -> BackboneConfig:
    """A backbone's settings by its name, upper or lower case: `backbone_named("lightgcn", layers=2)`.

    Raises:
        InputError: no such backbone, or no such setting.
    """
    config = _config_class(name)
    try:
        return config(**settings)
    except TypeError as error:
        known = ", ".join(setting.name for setting in dataclasses.fields(config))
        raise InputError(f"{name} has no such setting ({error}): it has {known}") from error


def backbone_with(name: str, **settings: Any) -> BackboneConfig:
    """A backbone by its name, with settings that are its own or its training's: `backbone_with("mf", dim=64, l2=0.1)`.

    Raises:
        InputError: no such backbone, or no such setting.
    """
    own = {each.name for each in dataclasses.fields(_config_class(name))}
    of_training = {each: settings.pop(each) for each in settings.keys() - own if each in _TRAINING}
    return backbone_named(name, **settings).changed(**of_training)


def backbone_uses(name: str) -> frozenset[str]:
    """The settings that a backbone of this package uses, its own and those of its training, by their names.

    Raises:
        InputError: no such backbone.
    """
    config = _config_class(name)
    own = frozenset(each.name for each in dataclasses.fields(config)) - {"training"}
    return (own | _TRAINING) - config.unused


def backbone_settings(config: BackboneConfig) -> dict[str, Any]:
    """Settings as JSON keeps them, the backbone's name among them."""
    return {"name": type(config).__name__.lower(), **dataclasses.asdict(config)}


def backbone_from_settings(settings: dict[str, Any]) -> BackboneConfig:
    """The inverse of `backbone_settings`.

    Raises:
        InputError: no such backbone, or no such setting.
    """
    settings = dict(settings)
    if isinstance(settings.get("training"), dict):
        try:
            settings["training"] = Training(**settings["training"])
        except TypeError as error:
            raise InputError(
                f"training has no such setting ({error}): it has {', '.join(sorted(_TRAINING))}"
            ) from error
    return backbone_named(settings.pop("name"), **settings)
