"""Commands and options that do not exist: refused in a sentence, with the nearest one that does."""

import dataclasses
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import tyro

from ciess.checks import nearest
from ciess.errors import InputError


def check_words(args: Iterable[str], commands: Mapping[str, type], program: str = "ciess") -> None:
    """Refuse a command, or an option of the command that is given, which does not exist.

    Raises:
        InputError: there is no such command or option.
    """
    given = [*args]
    name, *rest = [*given, ""]
    if not given or name.startswith("-"):
        _check_options([name, *rest], {"--version"} if program == "ciess" else set(), program)
        return
    if name not in commands:
        raise InputError(f"'{name}' is not a command{nearest(name, commands)}: use one of {', '.join(commands)}")
    program = f"{program} {name}"
    if below := subcommands(commands[name]):
        check_words(rest[:-1], below, program)
    else:
        _check_options(rest, set(options_of(commands[name])), program)


def boxed(text: str) -> str:
    """What the argument parser says in a box is wrong, as one sentence without its help."""
    # In colour on a terminal, and drawn with dashes where its encoding has no lines. The first line is a title.
    _, *lines = re.sub(r"\x1b\[[\d;]*m", "", text).splitlines()
    body = itertools.dropwhile(_is_rule, (line.strip("│ ") for line in lines))
    said = " ".join(itertools.takewhile(lambda line: not _is_rule(line), body))
    return " ".join(said.split()).removeprefix("Error parsing ").rstrip(".")


def _is_rule(line: str) -> bool:
    return not line.strip("─-╰╯ ")


def subcommands(command: type) -> dict[str, type]:
    """The commands below one, by their names."""
    hint = get_type_hints(command, include_extras=True).get("command")
    union = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return {get_args(each)[1].name: get_args(each)[0] for each in get_args(union)}


def options_of(command: type) -> Iterator[str]:
    """The options of a command, long and short."""
    yield from ("-h", "--help")
    hints = get_type_hints(command, include_extras=True)
    for field in dataclasses.fields(command):
        kind, extras = _plain(hints[field.name]), getattr(hints[field.name], "__metadata__", ())
        if tyro.conf.Positional in extras:
            continue
        if dataclasses.is_dataclass(kind):
            yield from options_of(kind)  # type: ignore[arg-type]
        else:
            # What is on unless it is said otherwise can only be turned off.
            yield f"--{'no-' if field.default is True else ''}{field.name.replace('_', '-')}"
        for extra in extras:
            yield from getattr(extra, "aliases", None) or ()


def _plain(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _check_options(args: list[str], known: set[str], program: str) -> None:
    for each in args:
        name = each.partition("=")[0]
        # Options may be written with underscores as well.
        if name.startswith("--") and name.replace("_", "-") not in {*known, "--help"}:
            raise InputError(f"{program} has no option {name}{nearest(name, known)}: see {program} --help")
