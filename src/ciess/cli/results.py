"""How commands show what they found."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from ciess.cli.options import command_line

if TYPE_CHECKING:
    from ciess.data import Interactions, Split
    from ciess.experiment.outcome import Outcome


def search_and_show(command: Any, data: "Interactions | Split", console: Console, **settings: Any) -> list[Path]:
    """Search as `ciess.search` does, save, and print the table.

    Args:
        command: what asks for it; `command.out` is the folder.
        data: as `ciess.search` takes it.
        console: where it prints.
        settings: as `ciess.search` takes them.
    """
    from ciess.experiment.pipeline import search
    from ciess.progress import ConsoleProgress

    with ConsoleProgress(console) as progress:
        outcome = search(data, progress=progress, **settings)
    return show(command, outcome, console)


def show(command: Any, outcome: "Outcome", console: Console) -> list[Path]:
    """Save the models and the report, print the table and where they are; `command` as in `search_and_show`."""
    from ciess.report.forms import in_bytes
    from ciess.results.outcome import KEPT

    told = dataclasses.replace(outcome, settings={"command": command_line(command), **outcome.settings})
    saved = told.save(command.out)
    if command.printing.json:
        print((command.out / "result.json").read_text(), end="")
    console.print(_table(outcome))
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


def _table(outcome: "Outcome") -> Table:
    table = Table(title=f"Measured on {outcome.shown}; sizes are means", box=None, padding=(0, 1, 0, 0))
    for heading in (
        "model",
        "found by",
        "budget",
        "Recall@20",
        "NDCG@20",
        "kept",
        "bytes",
        "stored",
        "users'",
        "items'",
        "seconds",
    ):
        table.add_column(heading, justify="left" if heading in ("model", "found by") else "right", no_wrap=True)
    for row in outcome.rows:
        table.add_row(
            row.method,
            row.found_by if row.budget else "",
            row.budget,
            f"{row.metrics['recall@20']:.4f}",
            f"{row.metrics['ndcg@20']:.4f}",
            f"{row.kept:.1%}",
            f"{row.table_bytes:,}",
            row.precision,
            f"{row.user_size:.1f}",
            f"{row.item_size:.1f}",
            f"{row.seconds:.0f}",
        )
    return table
