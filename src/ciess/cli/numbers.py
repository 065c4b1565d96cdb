"""How numbers are read from the command line, so that what is none is refused as a person would."""

import functools
from collections.abc import Callable
from typing import Any

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

_KINDS: dict[Any, tuple[type[int] | type[float], str]] = {
    int: (int, "a whole number"),
    int | None: (int, "a whole number"),
    float: (float, "a number"),
    float | None: (float, "a number"),
}


def numbers() -> ConstructorRegistry:
    """Rules for whole numbers and others, whether or not they may be left out."""
    registry = ConstructorRegistry()
    registry.primitive_rule(_spec)
    return registry


def _spec(wanted: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    if wanted.type not in _KINDS:
        return None
    kind, called = _KINDS[wanted.type]
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="N",
        instance_from_str=functools.partial(_read, kind, called),
        is_instance=lambda value: value is None or isinstance(value, kind),
        str_from_instance=lambda value: [str(value)],
    )


def _read(kind: Callable[[str], Any], called: str, given: list[str]) -> Any:
    try:
        return kind(given[0])
    except ValueError:
        raise ValueError(f"'{given[0]}' is not {called}") from None
