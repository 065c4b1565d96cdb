"""How long work tells what it does: a callable that is given each step."""

import time
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars


class Progress(Protocol):
    """Told after each step of a long phase."""

    def __call__(self, phase: str, done: int, total: int, note: str = "") -> None:
        """Step `done` of `total` of `phase` is over; `note` says how well it goes."""


def silent(phase: str, done: int, total: int, note: str = "") -> None:
    """Say nothing."""


class ConsoleProgress:
    """One live line for the phase at work, with time left; plain lines where there is no terminal.

    Used as a context manager, since a live line must be closed.
    """

    def __init__(self, console: Console, seconds_between_lines: float = 10.0) -> None:
        self._console = console
        self._between = seconds_between_lines
        self._bars = Bars(
            TextColumn("{task.description:<24}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        )
        self._phase, self._task, self._started, self._said = "", TaskID(0), 0.0, time.monotonic()

    def __enter__(self) -> "ConsoleProgress":
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._bars.stop()

    def __call__(self, phase: str, done: int, total: int, note: str = "") -> None:
        """See `Progress`."""
        if phase != self._phase:
            self._begin(phase, total)
        if self._console.is_terminal:
            self._bars.update(self._task, completed=done, note=note)
        elif (now := time.monotonic()) - self._said >= self._between:
            left = (now - self._started) / done * (total - done)
            self._console.print(f"{phase}: {done}/{total}, at most {left:.0f} s left, {note}", highlight=False)
            self._said = now

    def _begin(self, phase: str, total: int) -> None:
        self._phase = phase
        self._started = time.monotonic()
        if self._console.is_terminal:
            for task in self._bars.task_ids:
                self._bars.remove_task(task)
            self._task = self._bars.add_task(phase, total=total, note="")
