"""Models as other programs read them, one file a target. A new file here is found by itself."""

import importlib
import pkgutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

from ciess.checks import nearest
from ciess.errors import InputError
from ciess.files import check_folder, given_path
from ciess.serve.model import CompressedModel


@cache
def _targets() -> dict[str, Callable[[CompressedModel, str | Path], list[Path]]]:
    """The function `export_<name>` of every file `<name>.py` in this package."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        function = f"export_{module.name}"
        room = importlib.import_module(f"{__name__}.{module.name}")
        if hasattr(room, function):
            found[module.name] = getattr(room, function)
    return found


def target_names() -> list[str]:
    """The names of all targets."""
    return sorted(_targets())


def check_target(target: str, out: str | Path) -> None:
    """Refuse a target that does not exist, and a folder that cannot be written, before a model is read.

    Raises:
        InputError: either is refused.
    """
    if target not in _targets():
        near = nearest(target, _targets())
        raise InputError(f"'{target}' is not a target of exports{near}: use one of {', '.join(target_names())}")
    check_folder(given_path("out", out))


def export(model: CompressedModel, target: str, out: str | Path) -> list[Path]:
    """Write a model as another program reads it.

    Args:
        model: the model.
        target: one of `target_names()`; what it writes is told by `export_<target>` in this package.
        out: a folder, made if need be. No target overwrites another's files, or those of a saved model.

    Returns:
        the files written.

    Raises:
        InputError: no such target, a library that is not installed, a model that the target cannot hold, or a folder
            that cannot be written.
    """
    if not isinstance(model, CompressedModel):
        raise InputError(f"model is of type {type(model).__name__}: give a CompressedModel, as ciess.load opens it")
    check_target(target, out)
    model.verify()
    return _targets()[target](model, out)
