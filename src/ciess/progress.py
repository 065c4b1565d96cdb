"""How long work tells what it does: a callable that is given each step."""

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TaskID
from rich.progress import Progress as Bars
from rich.text import Text

_ROOM_FOR_A_BAR = 100
"""Characters of a terminal's line beyond which there is room for a bar, too."""


class Progress(Protocol):
    """Told after each step of a long phase."""

    def __call__(self, phase: str, done: int, total: int, note: str = "") -> None:
        """Step `done` of `total` of `phase` is over; `note` says how well it goes."""


def silent(phase: str, done: int, total: int, note: str = "") -> None:
    """Say nothing."""


class _Phases:
    """Tells where a phase begins: at another name, and where one of the same name counts from the start again."""

    def __init__(self) -> None:
        self._phase, self._done = "", 0

    def begins(self, phase: str, done: int) -> bool:
        """Whether this step is the first one told of its phase."""
        begins = phase != self._phase or done < self._done
        self._phase, self._done = phase, done
        return begins


class LineProgress:
    """A plain line now and then, with the time left.

    Args:
        say: given each line.
        seconds_between_lines: at least.
    """

    def __init__(self, say: Callable[[str], None], seconds_between_lines: float = 10.0) -> None:
        self._say, self._between = say, seconds_between_lines
        self._phases, self._started, self._said = _Phases(), 0.0, time.monotonic()

    def __call__(self, phase: str, done: int, total: int, note: str = "") -> None:
        """See `Progress`."""
        now = time.monotonic()
        if self._phases.begins(phase, done):
            self._started = now
        elif now - self._said >= self._between:
            left = (now - self._started) / done * (total - done)
            self._say(f"{phase}: {done}/{total}, at most {left:.0f} s left" + (f", {note}" if note else ""))
            self._said = now


class LoggingProgress(LineProgress):
    """Lines of level INFO, of the logger `ciess` unless another is given."""

    def __init__(self, logger: logging.Logger | None = None, seconds_between_lines: float = 10.0) -> None:
        super().__init__((logger or logging.getLogger("ciess")).info, seconds_between_lines)


class _Told(ProgressColumn):
    """Phase, steps, time left and note on one line, cut at its end where the terminal is narrow."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """See `ProgressColumn`."""
        left = "" if task.time_remaining is None else f"{timedelta(seconds=int(task.time_remaining))} left"
        done = f"{int(task.completed)}/{int(task.total or 0)}"
        parts = (task.description, done, left, task.fields["note"])
        return Text("  ".join(filter(None, parts)), no_wrap=True, overflow="ellipsis")


class ConsoleProgress:
    """One live line for the phase at work, with time left; plain lines where there is no terminal.

    Used as a context manager, since a live line must be closed.
    """

    def __init__(self, console: Console, seconds_between_lines: float = 10.0) -> None:
        self._console = console
        self._lines = LineProgress(console.print, seconds_between_lines)
        columns = [_Told()] if console.width < _ROOM_FOR_A_BAR else [BarColumn(bar_width=20), _Told()]
        self._bars = Bars(*columns, console=console)
        self._phases, self._task = _Phases(), TaskID(0)

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
        if not self._console.is_terminal:
            self._lines(phase, done, total, note)
            return
        if self._phases.begins(phase, done):
            for task in self._bars.task_ids:
                self._bars.remove_task(task)
            self._task = self._bars.add_task(phase, total=total, note="")
        self._bars.update(self._task, completed=done, note=note)
