"""What the command line prints: no text of others, such as an id or a path, controls the terminal."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import IO, Any

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook
from rich.measure import Measurement
from rich.segment import Segment

from ciess.cli.options import Printing
from ciess.escapes import printable


def console_of(printing: Printing) -> Console:
    """Where a command prints: to stderr, if stdout is for JSON. One that is to be quiet does not warn, either."""
    if logging.lastResort is not None:
        logging.lastResort.setLevel(logging.ERROR if printing.quiet else logging.WARNING)
    console = _Console(stderr=printing.json, quiet=printing.quiet, markup=False, highlight=False)
    console.push_render_hook(_Hook())
    return console


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """See `Console`, which would end the program."""
        raise


class _Hook(RenderHook):
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """See `RenderHook`."""
        return [_Printable(each) for each in renderables]


class _Printable:
    """Something printable whose texts control nothing; what rich itself controls stays."""

    def __init__(self, content: ConsoleRenderable) -> None:
        self._content = content

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self._content, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement.get(console, options, self._content)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        return printable(super().format(record))


def prepare() -> None:
    """Make both outputs take any text, and warnings printable."""
    # Else the next file that is opened would take the place of an output that is closed, and what is printed with it.
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        # Letters that its encoding lacks, and halves of letters in names of files.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Formatter())


def say(text: str) -> None:
    """Print one line to stderr, if anybody can read it."""
    if sys.stderr is None:
        # `print` would take stdout.
        return
    with contextlib.suppress(OSError, ValueError):
        line = printable(text).replace("\n", "\\n")
        print(f"ciess: {line}", file=sys.stderr, flush=True)


def drop(stream: IO[str] | Any) -> None:
    """Let what is still to be written to an output go nowhere, as nobody reads it or there is no room."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
