"""Ctrl-C and SIGTERM that wait for a safe point, where what is at work has been kept."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_noted: list[int] = []
"""The signal that asked to stop, while somebody waits for a safe point."""


class Stopped(KeyboardInterrupt):
    """A signal asked the program to stop.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def safe_point() -> None:
    """To be called where nothing is lost if the program ends here.

    Raises:
        Stopped: a signal has asked for it.
    """
    if _noted:
        raise Stopped(_noted.pop())


def asked() -> bool:
    """Whether a signal waits for a safe point."""
    return bool(_noted)


@contextmanager
def stopping(at_safe_points: bool = False) -> Iterator[None]:
    """Let SIGINT and SIGTERM raise `Stopped` inside: at once, or the first one at the next safe point.

    Other threads than the main one cannot be told of signals; there, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(number: int, _: FrameType | None) -> None:
        if not at_safe_points or _noted:
            _noted.clear()
            raise Stopped(number)
        _noted.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
        safe_point()
    finally:
        _noted.clear()
        for number, handler in before.items():
            signal.signal(number, handler)
