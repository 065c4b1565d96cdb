"""How numbers are read from the command line, so that what is none is refused as a person would."""

from typing import Any

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

_KINDS: dict[Any, type[int] | type[float]] = {int: int, int | None: int, float: float, float | None: float}


def numbers() -> ConstructorRegistry:
    """Rules for whole numbers and others, whether or not they may be left out."""
    registry = ConstructorRegistry()
    registry.primitive_rule(_spec)
    return registry


def _spec(wanted: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    if wanted.type == tuple[int, ...]:
        return PrimitiveConstructorSpec(
            nargs="*",
            metavar="N ...",
            instance_from_str=lambda given: tuple(_read(each, int) for each in given),
            is_instance=lambda value: isinstance(value, tuple),
            str_from_instance=lambda value: [str(each) for each in value],
        )
    if wanted.type not in _KINDS:
        return None
    kind = _KINDS[wanted.type]
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="N",
        instance_from_str=lambda given: _read(given[0], kind),
        is_instance=lambda value: value is None or isinstance(value, kind),
        str_from_instance=lambda value: [str(value)],
    )


def _read(given: str, kind: type[int] | type[float]) -> int | float:
    try:
        return kind(given)
    except ValueError:
        raise ValueError(f"'{given}' is not a {'whole ' if kind is int else ''}number") from None
