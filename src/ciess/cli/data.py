"""`ciess data`: the catalogue, and what interactions look like."""

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from ciess.cli.options import AsJson, Columns, Count, Filters, Flag, Flat, option
from ciess.errors import InputError


@dataclass(frozen=True)
class List:
    """Show the data sets that can be fetched, and which are here."""

    def run(self, console: Console) -> None:
        """Print a line for each set."""
        from ciess.data.catalogue import CATALOGUE, located

        table = Table(box=None, padding=(0, 1, 0, 0))
        for heading in ("name", "users", "items", "interactions", "MB", "what", "here"):
            table.add_column(heading, justify="left" if heading in ("name", "what", "here") else "right")
        for name, entry in CATALOGUE.items():
            counts = (f"{count:,}" for count in (entry.users, entry.items, entry.interactions))
            table.add_row(name, *counts, f"{entry.megabytes:.0f}", entry.about, "yes" if located(name) else "")
        console.print(table)
        console.print("`synthetic` is embedded. After `ciess data fetch NAME` a name stands for a path.")


@dataclass(frozen=True)
class Fetch:
    """Download a data set from its publisher, or the rest of it, once."""

    name: tyro.conf.Positional[str]
    """A name of `ciess data list`"""
    accept_terms: Flag = False
    """You have read the publisher's terms, and keep them; without it you are asked"""
    offline: Flag = False
    """Do not download: fail if the set is not here"""

    def run(self, console: Console) -> None:
        """Show the terms, download, print where it lies."""
        from ciess.data.catalogue import fetch, located, named
        from ciess.progress import ConsoleProgress

        entry = named(self.name)
        accepted = self.accept_terms
        if located(self.name) is None and not self.offline:
            console.print(f"{self.name}: {entry.terms}\nIn full: {entry.terms_url}", soft_wrap=True)
            accepted = accepted or _agreed(console)
            if not accepted:
                raise InputError("the terms are not accepted: read them and add --accept-terms")
        with ConsoleProgress(console) as progress:
            folder = fetch(self.name, accept_terms=accepted, offline=self.offline, progress=progress)
        console.print(f"{self.name} is in {folder}", soft_wrap=True)
        if not all(source.md5_beside for source in entry.sources):
            console.print("Its publisher offers no checksum: later downloads are compared with the first one.")


@dataclass(frozen=True)
class Describe:
    """Count users, items and interactions; tell what sizes could gain."""

    data: tyro.conf.Positional[Path]
    """Interactions: a file, a folder, or a name of `ciess data list`"""
    json: AsJson = False
    filters: Flat[Filters] = field(default_factory=Filters)

    def run(self, console: Console) -> None:
        """Print a small table and the hint."""
        from ciess.data.describe import describe

        found = describe(self.filters.read(self.data))
        if self.json:
            print(json.dumps(asdict(found), indent=1))
            return
        console.print(f"{found.interactions:,} interactions, {found.density:.3%} of all pairs")
        table = Table(box=None, padding=(0, 2, 0, 0))
        for heading in ("", "count", "mean", "median", "most", "Gini", "top 1 %", "top 10 %"):
            table.add_column(heading, justify="right" if heading else "left")
        for side, summary in (("users", found.users), ("items", found.items)):
            table.add_row(
                side,
                f"{summary.count:,}",
                f"{summary.mean:,.1f}",
                f"{summary.median:,.0f}",
                f"{summary.most:,}",
                f"{summary.gini:.2f}",
                f"{summary.top_1:.0%}",
                f"{summary.top_10:.0%}",
            )
        console.print(table)
        console.print(found.hint)


@dataclass(frozen=True)
class Convert:
    """Write interactions in another format, each pair once."""

    data: tyro.conf.Positional[Path]
    """Interactions: a file, a folder, or a name of `ciess data list`"""
    out: tyro.conf.Positional[Path]
    """File to write: .parquet, .csv, or .txt for LightGCN's lines"""
    filters: Flat[Filters] = field(default_factory=Filters)

    def run(self, console: Console) -> None:
        """Read, write, print where."""
        from ciess.data.convert import check_converted, convert

        check_converted(self.out, self.data)
        written = convert(self.filters.read(self.data), self.out)
        console.print(f"wrote {written}", soft_wrap=True)


@dataclass(frozen=True)
class Prepare:
    """Split Parquet parts that memory does not hold, for `ciess search`."""

    data: tyro.conf.Positional[Path]
    """A folder of Parquet parts, as Spark and Hive write them"""
    out: tyro.conf.Positional[Path]
    """Folder to write, to be named as DATA afterwards"""
    min_rating: Annotated[float | None, option("N")] = None
    """Keep interactions rated at least this"""
    seed: Count[int] = 0
    """Of the split: 50/25/25 for each user at random"""
    columns: Flat[Columns] = field(default_factory=Columns)

    def run(self, console: Console) -> None:
        """Prepare, print what there is."""
        from ciess.data.prepared import prepare, prepared
        from ciess.progress import ConsoleProgress

        if self.columns.layout is not None:
            raise InputError("--layout is of text files: leave it out")
        named = self.columns.named()
        with ConsoleProgress(console) as progress:
            prepare(self.data, self.out, **named, min_rating=self.min_rating, seed=self.seed, progress=progress)
        parts = [f"{name} {len(part):,}" for name, part in vars(prepared(self.out)).items() if part is not None]
        console.print(f"wrote {self.out}: {', '.join(parts)}", soft_wrap=True)


@dataclass(frozen=True)
class Data:
    """Data sets by name, what interactions look like, and other formats for them."""

    command: Annotated[
        Annotated[List, tyro.conf.subcommand(name="list")]
        | Annotated[Fetch, tyro.conf.subcommand(name="fetch")]
        | Annotated[Describe, tyro.conf.subcommand(name="describe")]
        | Annotated[Convert, tyro.conf.subcommand(name="convert")]
        | Annotated[Prepare, tyro.conf.subcommand(name="prepare")],
        tyro.conf.arg(name=""),
    ]

    def run(self, console: Console) -> None:
        """Run what was named."""
        self.command.run(console)


def _agreed(console: Console) -> bool:
    """Ask, where somebody can answer."""
    if not (sys.stdin.isatty() and console.is_terminal):
        return False
    try:
        answer = console.input("Do you accept these terms? Type yes or no: ")
    except EOFError:
        return False
    return answer.strip().lower() in ("yes", "y")
