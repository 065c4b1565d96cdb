"""How commands show what they found."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from ciess.cli.options import command_line
from ciess.progress import ConsoleProgress
from ciess.stopping import stopping

if TYPE_CHECKING:
    from ciess.data import Interactions, Split
    from ciess.experiment.outcome import Outcome
    from ciess.results.outcome import Row


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
    from ciess.report.forms import in_bytes
    from ciess.report.wording import on_sample, spent
    from ciess.results.outcome import KEPT

    told = dataclasses.replace(outcome, settings={"command": command_line(command), **outcome.settings})
    saved = told.save(command.out)
    if command.printing.json:
        print((command.out / "result.json").read_text(), end="")
    console.print(_table(outcome, console))
    show_tuned({"tuned": outcome.settings["tuning"]}, console)
    console.print(f"wall time: {spent(outcome.seconds)}", highlight=False)
    if outcome.settings["sample"]:
        console.print(f"sizes searched on {on_sample(outcome.settings)}", highlight=False)
    show_cautions(outcome.cautions, console)
    for budget, folder in saved.items():
        found_by = outcome.row(KEPT, budget).found_by
        # A graph or a network is needed too, though no budget counts it.
        whole = in_bytes(sum(path.stat().st_size for path in folder.iterdir()))
        console.print(
            f"saved {folder} (sizes by {found_by}): {whole} with ids, interactions and all",
            highlight=False,
            soft_wrap=True,
        )
    console.print(f"saved {command.out / 'report.html'}", highlight=False, soft_wrap=True)
    return list(saved.values())


def show_cautions(cautions: Iterable[str], console: Console) -> None:
    """Print what a result may be worth."""
    for caution in cautions:
        console.print(f"[bold yellow]Caution:[/] {escape(caution)}", highlight=False)


def show_tuned(tunings: Mapping[str, dict[str, Any]], console: Console) -> None:
    """Print which settings of full models were chosen, each tuning by its name."""
    from ciess.report.wording import tuned

    for name, tuning in tunings.items():
        if tuning:
            console.print(f"{name}: {tuned(tuning)}", highlight=False)


_NEEDED_LEAST = ("seconds", "stored", "item\nsize", "user\nsize")
"""Columns that are left out, in this order, where a terminal is too narrow; `result.json` has them."""


def _table(outcome: "Outcome", console: Console) -> Table:
    left_out = list[str]()
    table = _table_without(left_out, outcome)
    wide = console.options.update(width=10_000)
    for heading in _NEEDED_LEAST:
        if Measurement.get(console, wide, table).maximum <= console.width:
            break
        left_out.append(heading)
        table = _table_without(left_out, outcome)
    return table


def _table_without(left_out: list[str], outcome: "Outcome") -> Table:
    from ciess.results.outcome import tails_kept

    rows = [_cells(row, tail) for row, tail in zip(outcome.rows, tails_kept(outcome.rows), strict=True)]
    table = Table(title=f"Measured on {outcome.shown}; sizes: mean dimensions", box=None, padding=(0, 1, 0, 0))
    headings = [heading for heading in rows[0] if heading not in left_out]
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("model", "found by") else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(row[heading] for heading in headings))
    return table


def _cells(row: "Row", tail: float | None) -> dict[str, str]:
    """A row's cells by their headings, with the share of the full model's tail recall that is kept."""
    return {
        "model": row.method,
        "found by": row.found_by if row.budget else "",
        "budget": row.budget,
        "Recall\n@20": f"{row.metrics['recall@20']:.4f}",
        "NDCG\n@20": f"{row.metrics['ndcg@20']:.4f}",
        "kept": f"{row.kept:.1%}",
        "tail\nkept": "" if tail is None else f"{tail:.1%}",
        "bytes": f"{row.table_bytes:,}",
        "stored": row.precision,
        "user\nsize": f"{row.user_size:.1f}",
        "item\nsize": f"{row.item_size:.1f}",
        "seconds": f"{row.seconds:.0f}",
    }
