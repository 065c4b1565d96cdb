"""What all reports say in the same words: names of methods, what was measured on what, how to repeat it."""

from collections.abc import Iterator, Sequence
from typing import Any

from ciess.report.forms import whole
from ciess.report.parts import Column, Section, Table

_LABELS = {"full": "full model", "equal": "equal sizes", "ciess": "CIESS"}


def label(method: str) -> str:
    """A method as people call it."""
    return _LABELS.get(method, method)


def listed(names: Sequence[str]) -> str:
    """Names in a sentence: a, b and c."""
    return " and ".join([*([", ".join(names[:-1])] if names[:-1] else []), *names[-1:]])


def facts(settings: dict[str, Any], shown: str, seeds: str, cautions: Sequence[str]) -> list[str]:
    """What was measured on what, and what must be said about it."""
    data = settings["data"]
    return [
        f"backbone {settings['backbone']['name']}",
        f"{whole(data['users'])} users, {whole(data['items'])} items",
        f"{whole(data['train'] + data['valid'] + data['test'])} interactions",
        f"measured on {shown}",
        seeds,
        *(f"caution: {each}" for each in cautions),
    ]


def trained(converged: bool) -> str:
    """How training ended."""
    return "levelled off" if converged else "still gaining"


def again(settings: dict[str, Any], same: str) -> Section:
    """The command or call that repeats a run, and every setting; `same` says what comes out the same."""
    flat = list(_flat({name: value for name, value in settings.items() if name not in ("call", "command")}))
    table = Table("All settings and versions", [Column("Setting"), Column("Value")], flat, folded=True)
    text = f"The same seed, versions and threads on the same data give the same {same}."
    return Section("again", "Repeat this run", [text], tables=[table], code=settings.get("command") or settings["call"])


def _flat(settings: dict[str, Any], within: str = "") -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{within}{name}.")
        else:
            yield f"{within}{name}", ", ".join(map(str, value)) if isinstance(value, list) else str(value)
