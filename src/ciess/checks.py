"""Checks of settings where they enter: a word among several, a number within bounds, a value of the right type."""

import ast
import dataclasses
import difflib
import math
import types
import warnings
from collections.abc import Hashable, Iterable
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from ciess.errors import InputError, reason, shortened

_LONGEST_LITERAL = 1000


class Within(NamedTuple):
    """Bounds of a number, as metadata of an `Annotated` type.

    Attributes:
        low: the least value.
        high: the largest value.
        above: whether `low` itself is left out.
    """

    low: float = -math.inf
    high: float = math.inf
    above: bool = False


Count = Annotated[int, Within(0)]
"""A whole number of 0 or more."""
Positive = Annotated[int, Within(1)]
"""A whole number of 1 or more."""
NotNegative = Annotated[float, Within(0)]
"""A finite number of 0 or more."""
AboveZero = Annotated[float, Within(0, above=True)]
"""A finite number above 0."""
Seed = Annotated[int, Within(0, 2**32 - 1)]
"""What NumPy and PyTorch both take, and what is made of it."""
Dim = Annotated[int, Within(1, 2**16)]
"""Numbers of a full row."""
Layers = Annotated[int, Within(0, 64)]
"""Hops over a graph; their results are all kept while it is trained."""
Share = Annotated[float, Within(0, 1)]
"""A number from 0 to 1."""


class Checked:
    """Base of settings classes: a dataclass whose fields are checked against their annotations when it is made.

    Raises:
        InputError: a word that is none of its `Literal`, a number outside of its `Within`, or a value of another type.
    """

    def __post_init__(self) -> None:
        hints = _hints(type(self))
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            given = getattr(self, field.name)
            plain = check(field.name, given, hints.get(field.name, object))
            if plain is not given:
                object.__setattr__(self, field.name, plain)


def check(name: str, value: Any, kind: Any) -> Any:
    """A value, if it fits a type annotation; NumPy's scalars as Python's own.

    Args:
        name: of the setting, for the message.
        value: what was given.
        kind: `Literal`, `bool`, `int`, `float`, `str`, a class, a union of these, one with `Within`, or a tuple of
            one of them, `tuple[int, ...]`; other annotations are not checked.

    Raises:
        InputError: the value does not fit.
    """
    kinds = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    if hasattr(value, "dtype") and getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    if value is None and type(None) in kinds:
        return value
    kinds = tuple(each for each in kinds if each is not type(None))
    problems = [_problem(name, value, each) for each in kinds]
    if problems and all(problems):
        raise InputError(problems[0])
    return value


def parsed_share(name: str, value: float | str, above_zero: bool = False) -> float:
    """A share from 0 to 1, as a number or as people write it: 0.05, or `5%`.

    Args:
        name: of the setting, for the message.
        value: as it is written.
        above_zero: whether nothing is no share.

    Raises:
        InputError: it is none.
    """
    number: Any = value
    try:
        if isinstance(value, str):
            digits = value.strip()
            number = float(digits.removesuffix("%")) / (100 if digits.endswith("%") else 1)
        number = check(name, number, Annotated[float, Within(0, 1, above=above_zero)] if above_zero else Share)
    except ValueError as error:
        least = "above 0%, and to 100%" if above_zero else "from 0% to 100%"
        raise InputError(f"{name} is {shown(value)}: write a share {least}, such as 5%") from error
    return float(number)


def choice(name: str, value: str, allowed: Iterable[str]) -> str:
    """A word that must be one of several.

    Raises:
        InputError: it is none of them; the nearest is suggested.
    """
    words = list(allowed)
    if not _among(value, words):
        raise InputError(f"{name} is {shown(value)}: use {_listed(words)}{nearest(value, words)}")
    return value


def nearest(value: object, words: Iterable[str]) -> str:
    """` (did you mean 'X'?)` for the word that is written most like a value, or nothing."""
    found = difflib.get_close_matches(shortened(str(value)), list(words), n=1)
    return f" (did you mean '{found[0]}'?)" if found else ""


def literal(text: str) -> Any:
    """A number, a truth value, None, a text in quotes or a list of these, as Python writes them.

    Raises:
        ValueError: it is none.
    """
    if len(text) > _LONGEST_LITERAL:
        raise ValueError("too long")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError(reason(error)) from error


def shown(value: Any) -> str:
    """A value in a message; Python writes no numbers of many thousand digits."""
    try:
        return shortened(repr(value))
    except ValueError:
        return "far too large"


def _hints(settings: type) -> dict[str, Any]:
    try:
        return get_type_hints(settings, include_extras=True)
    except NameError:
        # Settings of a user's own may name types that exist for type checkers alone.
        return {}


def _problem(name: str, value: Any, kind: Any) -> str:
    """Why a value does not fit one annotation; empty where it does."""
    if get_origin(kind) is Annotated:
        plain, *extra = get_args(kind)
        bounds = next((each for each in extra if isinstance(each, Within)), Within())
        return _problem(name, value, plain) or _outside(name, value, bounds)
    if get_origin(kind) is Literal:
        words = get_args(kind)
        refusal = f"{name} is {shown(value)}: use {_listed(words)}{nearest(value, map(str, words))}"
        return "" if _among(value, words) else refusal
    if get_origin(kind) is tuple:
        if not isinstance(value, tuple) or not value:
            return f"{name} is {shown(value)}: give one value or more as a tuple, such as (1, 2)"
        return next(filter(None, (_problem(name, each, get_args(kind)[0]) for each in value)), "")
    if kind in (int, float):
        whole = isinstance(value, int) and not isinstance(value, bool)
        wanted = "a whole number" if kind is int else "a finite number"
        fits = whole if kind is int else (whole or isinstance(value, float)) and _finite(value)
        return "" if fits else f"{name} is {shown(value)}: give {wanted}"
    if isinstance(kind, type) and kind is not object and not isinstance(value, kind):
        return f"{name} is of type {type(value).__name__}: give {article(kind.__name__)}"
    return ""


def _outside(name: str, value: float, bounds: Within) -> str:
    low, high, above = bounds
    if (value > low if above else value >= low) and value <= high:
        return ""
    least = f"above {low:.12g}" if above else f"of {low:.12g} or more"
    between = f"above {low:.12g}, and to {high:.12g}" if above else f"from {low:.12g} to {high:.12g}"
    wanted = f"a number {least if math.isinf(high) else between}"
    return f"{name} is {shown(value) if isinstance(value, int) else f'{value:.12g}'}: give {wanted}"


def _finite(value: float) -> bool:
    """Whether a number is one as a float, too."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _among(value: Any, words: Iterable[Any]) -> bool:
    # An array would be compared with each word by its elements.
    return isinstance(value, Hashable) and value in list(words)


def _listed(words: Iterable[Any]) -> str:
    *first, last = [f"'{each}'" for each in words]
    return f"{', '.join(first)} or {last}" if first else last


def article(noun: str) -> str:
    """A noun with `a` or `an` before it."""
    return f"{'an' if noun[0].lower() in 'aeio' else 'a'} {noun}"
