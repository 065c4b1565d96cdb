"""Methods that find size plans, one file each. A new file here is found, and so is one of your own when it is named.

A method is a dataclass of settings, all with defaults, that has a `search(problem)`. Its name is its class' in
kebab-case, or what its class variable `name` says. A class variable `cheap` says whether `auto` tries it: whether it
needs no more than measurements of plans; `by_default = False` leaves it out of comparisons that name no methods; with
`from_scratch = True` its candidates are trained from scratch instead of distilled. A field `seed`, if there is one, is
set to the seed of the run.
"""

import dataclasses
import hashlib
import importlib
import importlib.util
import pkgutil
import re
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ciess.checks import literal, nearest
from ciess.errors import InputError
from ciess.files import given_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ciess.methods.problem import Method

_APART = r",(?![^(]*\))"
"""Commas within brackets belong to a value."""


def method_names(*, by_default: bool = False) -> list[str]:
    """The names of all methods of this package, or of those that are compared by default."""
    return sorted(name for name, found in _classes().items() if not by_default or getattr(found, "by_default", True))


def cheap_methods() -> "dict[str, Method]":
    """The methods of this package that `auto` tries, by their names."""
    return {name: found() for name, found in _classes().items() if getattr(found, "cheap", False)}


def separated_methods(text: str) -> list[str]:
    """Methods that are written with commas between them; a `name=value` is a setting of the one before it."""
    return [each.strip() for each in re.split(rf"{_APART}(?!\s*\w+=)", text) if each.strip()] or [text]


def methods_named(text: str) -> "dict[str, Method]":
    """Methods by what people write: a name, or a Python file of their own, and settings behind it.

    `popularity`, `popularity:rounds=5,plans=10`, `mine.py:Mine`, or `mine.py` for all methods of the file. Case and
    hyphens of names do not matter. What has settings of its own is called as it was written.

    Raises:
        InputError: no such method, file, class or setting, or a file that does not run.
    """
    written, colon, settings = text.rpartition(":")
    if "=" not in settings:
        return _with_defaults(text)
    changes = dict(_setting(each, text) for each in re.split(_APART, settings))
    found = {}
    for name, method in _with_defaults(written).items():
        try:
            found[name + colon + settings] = dataclasses.replace(method, **changes)  # type: ignore[type-var]
        except TypeError as error:
            known = ", ".join(field.name for field in dataclasses.fields(method))  # type: ignore[arg-type]
            raise InputError(f"{name} has no such setting as in '{text}': it has {known or 'none'}") from error
    return found


def _with_defaults(text: str) -> "dict[str, Method]":
    path, colon, wanted = text.partition(":")
    if path.endswith(".py"):
        found = _methods_of(_module(given_path("method", path)))
        if colon:
            found = {name: each for name, each in found.items() if each.__name__ == wanted}
        if not found:
            raise InputError(
                f"{path} holds no method{f' {wanted}' if colon else ''}: "
                "it must be a dataclass whose fields have defaults, with a search(problem)"
            )
        return {name: each() for name, each in found.items()}
    for name, each in _classes().items():
        if _plain(name) == _plain(text):
            return {name: each()}
    near = nearest(text.lower(), method_names())
    raise InputError(
        f"'{text}' is not a method{near}: use one of {', '.join(method_names())}, or a .py file of your own"
    )


def _setting(text: str, within: str) -> tuple[str, Any]:
    """A setting such as `rounds=5`: a number, True, False, None, or else a word."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise InputError(f"'{text}' in '{within}' is no setting: write it like rounds=5")
    try:
        return name, literal(value)
    except ValueError:
        return name, value


def method_named(text: str) -> "Method":
    """One method by what people write, see `methods_named`.

    Raises:
        InputError: no such method, or several.
    """
    [*found] = methods_named(text).values()
    if len(found) > 1:
        raise InputError(f"{text} holds {len(found)} methods: name one, as {text}:{type(found[0]).__name__}")
    return found[0]


def methods_under(names: "Mapping[str, str | Method]") -> "dict[str, Method]":
    """Methods by names of one's own, each given as it is or by what people write.

    Raises:
        InputError: a name that is no text, or none; no such method, or several.
    """
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise InputError(f"a method is named {name!r}: names are text, and not empty")
    return {name: method_named(each) if isinstance(each, str) else each for name, each in names.items()}


def method_name(method: "Method | type[Method]") -> str:
    """The name that a method goes by."""
    kind = method if isinstance(method, type) else type(method)
    if isinstance(given := vars(kind).get("name"), str):
        return given
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", kind.__name__).lower()


@cache
def _classes() -> "dict[str, type[Method]]":
    found = {}
    for module in pkgutil.walk_packages(__path__, prefix=f"{__name__}."):
        found.update(_methods_of(importlib.import_module(module.name)))
    return found


def _methods_of(module: ModuleType) -> "dict[str, type[Method]]":
    return {method_name(value): value for value in vars(module).values() if _is_method(value, module)}


def _is_method(value: Any, module: ModuleType) -> bool:
    return (
        isinstance(value, type)
        and value.__module__ == module.__name__
        and dataclasses.is_dataclass(value)
        and callable(getattr(value, "search", None))
        and all(
            field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
            for field in dataclasses.fields(value)
        )
    )


@cache
def _module(path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError(f"{path} does not exist: name a Python file with a method")
    # Files of one name that hold different code are two modules, on any machine the same.
    held = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(f"ciess_own_{path.stem}_{held}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Where dataclasses look for what a class' annotations mean.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise InputError(f"{path} does not run ({type(error).__name__}: {error}): correct it first") from error
    return module


def _plain(name: str) -> str:
    return re.sub(r"[-_ ]", "", name).lower()
