"""A call as one would write it, so that a run can be repeated."""

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from typing import Any


def spelled_call(function: Callable[..., Any], data: str, /, **given: Any) -> str:
    """Python that calls a function of ciess with one positional argument and settings; defaults are left out.

    Settings that are dataclasses are spelled by the fields that are not their defaults, and imported.

    Args:
        function: what is called, by its name in `ciess`.
        data: the positional argument, as written.
        given: settings.
    """
    defaults = {name: each.default for name, each in inspect.signature(function).parameters.items()}
    told = {name: value for name, value in given.items() if value != defaults[name]}
    imports = {
        f"from {type(part).__module__} import {type(part).__name__}"
        for value in told.values()
        for part in _dataclasses_in(value)
    }
    arguments = [data, *(f"{name}={_spelled(value)}" for name, value in told.items())]
    call = f"outcome = ciess.{function.__name__}(\n" + "".join(f"    {each},\n" for each in arguments) + ")"
    return "\n".join(["import ciess", *sorted(imports), "", call])


def _spelled(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name!r}: {_spelled(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"({', '.join(map(_spelled, value))}{',' if len(value) == 1 else ''})"
    if not dataclasses.is_dataclass(value):
        return str.__repr__(value) if isinstance(value, str) else repr(value)
    fields = ", ".join(f"{name}={_spelled(each)}" for name, each in _told(value))
    return f"{type(value).__name__}({fields})"


def _told(settings: Any) -> Iterator[tuple[str, Any]]:
    """The fields that are not as their class has them by itself."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        made = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        if field.init and value != made:
            yield field.name, value


def _dataclasses_in(value: Any) -> Iterator[Any]:
    """The settings that are spelled within a value, itself among them."""
    if isinstance(value, dict | list | tuple):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _dataclasses_in(each)
    elif dataclasses.is_dataclass(value):
        yield value
        for _, each in _told(value):
            yield from _dataclasses_in(each)
