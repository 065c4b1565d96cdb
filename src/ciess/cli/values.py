"""How values are read from the command line, so that a wrong one is refused in a sentence."""

import math
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from ciess.checks import choice
from ciess.errors import InputError, shortened
from ciess.files import given_path

_KINDS: dict[Any, type[int] | type[float]] = {int: int, int | None: int, float: float, float | None: float}
_DASHED = "\0"
"""Stands before a value that begins with a dash, since the parser would take it for an option."""


def values() -> ConstructorRegistry:
    """Rules for numbers, whether or not they may be left out, for words among several, and for lists of values."""
    registry = ConstructorRegistry()
    registry.primitive_rule(_spec)
    return registry


def dashed_values(args: list[str], option: str, known: set[str]) -> list[str]:
    """Arguments in which the values of an option may begin with a dash.

    Args:
        args: as typed.
        option: whose values those are.
        known: the options of the command, long and short; no value begins with two dashes.
    """
    found, inside = list[str](), False
    for each in args:
        short = any(each.startswith(name) and each[len(name) :].isdigit() for name in known if len(name) == 2)
        if each in known or each.startswith("--") or short:
            inside = each == option
        found.append(_DASHED + each if inside and each.startswith("-") and each != option else each)
    return found


def separated(values: tuple[str, ...]) -> tuple[str, ...]:
    """Values of a list that is written with spaces, with commas or with both."""
    return tuple(part.strip() for value in values for part in value.split(",") if part.strip())


def _spec(wanted: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    if wanted.type == tuple[str, ...]:
        return _listed(lambda given: tuple(each.removeprefix(_DASHED) for each in given))
    if wanted.type == tuple[int, ...]:
        return _listed(lambda given: tuple(_number(each, int) for each in separated(tuple(given))))
    if words := _words(wanted.type):
        return _single(lambda given: _word(given, words), str)
    if wanted.type in (Path, Path | None):
        return _single(_path, Path)
    if wanted.type in _KINDS:
        kind = _KINDS[wanted.type]
        return _single(lambda given: _number(given, kind), kind)
    return None


def _listed(read: Any) -> PrimitiveConstructorSpec[Any]:
    return PrimitiveConstructorSpec(
        nargs="*",
        metavar="N ...",
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: [str(each) for each in value],
    )


def _single(read: Any, kind: type) -> PrimitiveConstructorSpec[Any]:
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="N",
        instance_from_str=lambda given: read(given[0]),
        is_instance=lambda value: value is None or isinstance(value, kind),
        str_from_instance=lambda value: [str(value)],
    )


def _number(given: str, kind: type[int] | type[float]) -> int | float:
    what = "a whole number" if kind is int else "a number"
    try:
        found = kind(given)
        if math.isfinite(found):
            return found
    except ValueError:
        pass
    except OverflowError:
        what = "a number that fits"
    raise ValueError(f"'{shortened(given)}' is not {what}")


def _path(given: str) -> Path:
    return given_path("the path", given) if given else Path()


def _words(kind: Any) -> tuple[str, ...]:
    """The words of a `Literal`, whether or not it may be left out; none of another type."""
    kinds = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    return tuple(word for each in kinds if get_origin(each) is Literal for word in get_args(each))


def _word(given: str, allowed: tuple[str, ...]) -> str:
    try:
        return choice("the value", given, allowed)
    except InputError as error:
        raise ValueError(str(error)) from None
