"""What all reports say in the same words: names of methods, what was measured on what, how to repeat it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ciess.escapes import printable
from ciess.report.forms import metric, percent, tenths, whole
from ciess.report.parts import Column, Section, Table

_PHASES = {
    "tuning": "Tuning the full model",
    "fit": "Training the full model",
    "precision": "Choosing precisions",
    "search": "Searching size plans",
    "finishes": "Finishing candidates on train",
    "builds": "Building models on train and validation",
    "test": "Measuring on test",
    "refit": "Building the saved models on all data",
    "other": "All else",
}
_LABELS = {"full": "full model", "equal": "equal sizes", "ciess": "CIESS"}


def label(method: str) -> str:
    """A method as people call it."""
    # Drawings know no control characters.
    return _LABELS.get(method, printable(method))


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
        *(["sizes searched on " + on_sample(settings)] if settings.get("sample") else []),
        *(f"caution: {each}" for each in cautions),
    ]


def on_sample(settings: Mapping[str, Any]) -> str:
    """On what sizes were searched, and how the others got theirs."""
    return (
        f"{100 * settings['sample']:.3g}% of the users and the items that they touch, and given to all rows by a policy"
    )


def trained(converged: bool) -> str:
    """How training ended."""
    return "levelled off" if converged else "still gaining"


def tuned(tuning: dict[str, Any]) -> str:
    """The settings that a tuning chose, and what it took: alpha 38.9, regularisation 30.7 (16 trials, 21 s)."""
    trials = tuning["trials"]
    chosen = ", ".join(f"{name} {value:g}" for name, value in tuning["chosen"].items())
    return f"{chosen} ({len(trials)} trials, {sum(each['seconds'] for each in trials):.0f} s)"


def tuning_sections(tunings: Mapping[str, dict[str, Any]]) -> list[Section]:
    """How full models were tuned, each by its name; nothing where none was."""
    found = {name: tuning for name, tuning in tunings.items() if tuning}
    if not found:
        return []
    text = (
        "Settings of the full model were tried on validation, on narrower models that train for a part of the steps; "
        "the best and the first once more at full width. What was found is taken where it is clearly better."
    )
    tables = [
        Table(
            f"{name}: {tuned(tuning)}",
            [
                *(Column(each, "{:g}".format) for each in tuning["chosen"]),
                Column("Dimensions", "{:.0f}".format),
                Column("Quality", metric),
                Column("Seconds", tenths),
            ],
            [
                (*(trial[each] for each in tuning["chosen"]), trial["dim"], trial["quality"], trial["seconds"])
                for trial in tuning["trials"]
            ],
        )
        for name, tuning in found.items()
    ]
    return [Section("tuning", "How the full model was tuned", [text], tables=tables)]


def time_sections(seconds: dict[str, float]) -> list[Section]:
    """Seconds of each phase; nothing where they were not counted."""
    total = sum(seconds.values())
    if not total:
        return []
    rows = [(_PHASES.get(phase, phase), each, each / total) for phase, each in seconds.items()]
    columns = [Column("Phase"), Column("Seconds", tenths), Column("Share", percent)]
    table = Table("Wall time of the run by phase", columns, [*rows, ("All", total, 1.0)], folded=True)
    return [Section("time", "Where the time went", tables=[table])]


def spent(seconds: dict[str, float]) -> str:
    """Wall time by phase in one line: fit 12.1, search 3.0, other 0.4: 15.5 s in all."""
    told = ", ".join(f"{phase} {each:.1f}" for phase, each in seconds.items())
    return f"{told}: {sum(seconds.values()):.1f} s in all"


def again(settings: dict[str, Any], same: str) -> Section:
    """The command or call that repeats a run, and every setting; `same` says what comes out the same."""
    flat = list(_flat({name: value for name, value in settings.items() if name not in ("call", "command", "tuning")}))
    table = Table("All settings and versions", [Column("Setting"), Column("Value")], flat, folded=True)
    text = f"The same seed, versions and threads on the same data give the same {same}."
    return Section("again", "Repeat this run", [text], tables=[table], code=settings.get("command") or settings["call"])


def _flat(settings: dict[str, Any], within: str = "") -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{within}{name}.")
        else:
            yield f"{within}{name}", ", ".join(map(str, value)) if isinstance(value, list) else str(value)
