"""How commands show what they found."""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from ciess.cli.options import command_line
from ciess.progress import ConsoleProgress
from ciess.stopping import stopping

if TYPE_CHECKING:
    from ciess.data import Interactions, Split
    from ciess.experiment.outcome import Outcome
    from ciess.report import Table as ReportTable


def search_and_show(command: Any, data: "Interactions | Split", console: Console, **settings: Any) -> list[Path]:
    """Search as `ciess.search` does, which takes data and settings; save into `command.out`, and print the table."""
    from ciess.experiment.pipeline import search

    with at_work(console) as progress:
        outcome = search(data, progress=progress, kept=command.out, **settings)
    return show(command, outcome, console)


@contextmanager
def at_work(console: Console) -> Iterator[ConsoleProgress]:
    """Show progress, and let signals wait until what is at work has been kept."""
    with ConsoleProgress(console) as progress, stopping(at_safe_points=True):
        yield progress


def own_folder(command: Any, record: str) -> AbstractContextManager[None]:
    """Have `command.out` for this run alone, see `run_folder`."""
    from ciess.experiment.runs import run_folder

    return run_folder(command.out, record, command_line(command), command.printing.overwrite)


def show(command: Any, outcome: "Outcome", console: Console) -> list[Path]:
    """Save the models and the report, print the table and where they are; `command` as in `search_and_show`."""
    from ciess.report import outcome_table
    from ciess.report.forms import in_bytes
    from ciess.report.wording import label, on_sample, spent
    from ciess.results.outcome import EQUAL, KEPT

    told = dataclasses.replace(outcome, settings={"command": command_line(command), **outcome.settings})
    saved = told.save(command.out)
    if command.printing.json:
        print((command.out / "result.json").read_text(), end="")
    table = outcome_table(outcome).showing(
        f"Measured on {outcome.shown}; sizes: mean dimensions",
        *("Model", "Found by", "Budget", "Recall@20", "NDCG@20", "Kept", "Tail kept", "Bytes", "Stored"),
        *("User size", "Item size", "Seconds"),
    )
    console.print(drawn(table, console))
    show_tuned({"tuned": outcome.settings["tuning"]}, console)
    console.print(f"wall time: {spent(outcome.seconds)}")
    if outcome.settings["sample"]:
        console.print(f"sizes searched on {on_sample(outcome.settings)}")
    show_cautions(outcome.cautions, console)
    for budget, folder in saved.items():
        found_by = outcome.row(KEPT, budget).found_by
        # A graph or a network is needed too, though no budget counts it.
        whole = in_bytes(sum(path.stat().st_size for path in folder.iterdir()))
        sized = label(EQUAL) if found_by == EQUAL else f"sizes by {label(found_by)}"
        where = f"saved {folder} ({sized}): {whole} with ids, interactions and all"
        console.print(where, soft_wrap=True)
    console.print(f"saved {command.out / 'report.html'}", soft_wrap=True)
    return list(saved.values())


def show_cautions(cautions: Iterable[str], console: Console) -> None:
    """Print what a result may be worth."""
    for caution in cautions:
        console.print(Text.assemble(("Caution:", "bold yellow"), f" {caution}"))


def show_tuned(tunings: Mapping[str, dict[str, Any]], console: Console) -> None:
    """Print which settings of full models were chosen, each tuning by its name."""
    from ciess.report.wording import tuned

    for name, tuning in tunings.items():
        if tuning:
            console.print(f"{name}: {tuned(tuning)}")


_NEEDED_LEAST, _NEEDED_LESS = ("Seconds", "Stored", "Item size", "User size"), ("Tail kept", "Bytes", "NDCG@20")
"""Columns that are left out, in this order, where a terminal is too narrow, the latter ones where names that are broken
leave too little room; `result.json` has them."""
_NAME = 12
"""Characters of a name's line, at least."""
_STYLES = {1: "bold", 0: "", -1: "dim"}
"""Of a gain that is significant, is not, or is a significant loss."""


def drawn(table: "ReportTable", console: Console) -> Table:
    """A report's table in a terminal."""
    result = Table(title=table.caption, box=None, padding=(0, 1, 0, 0))
    for heading, number in zip(table.headings, table.numeric, strict=True):
        split = re.sub(r" |(?=@)", "\n", heading)
        # A cut number is another one, and a cut name may be that of another method: names are broken instead.
        result.add_column(split, justify="right" if number else "left", no_wrap=number, overflow="fold")
    for row, cells in zip(table.rows, table.cells, strict=True):
        styles = (_STYLES[getattr(value, "verdict", 0)] for value in row)
        result.add_row(*(Text(shown, style) for (_, shown), style in zip(cells, styles, strict=True)))
    wide = Measurement.get(console, console.options.update(width=10_000), result).maximum
    texts = ([cells[at][1] for cells in table.cells] for at, number in enumerate(table.numeric) if not number)
    broken = wide - sum(max((len(shown) - _NAME for shown in each if len(shown) > _NAME), default=0) for each in texts)
    for heading in (*_NEEDED_LEAST, *_NEEDED_LESS):
        if (wide if heading in _NEEDED_LEAST else broken) > console.width and heading in table.headings:
            kept = (each for each in table.headings if each != heading)
            return drawn(table.showing(table.caption, *kept), console)
    return result
