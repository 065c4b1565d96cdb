"""Wall time by phase."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Clock:
    """Adds up the wall time of phases. A phase within another counts for itself alone, so that all add up to the whole.

    Args:
        now: tells the time in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now, self._phases, self._since = now, ["other"], now()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count what is done within for a phase."""
        self._count()
        self._phases.append(name)
        try:
            yield
        finally:
            self._count()
            self._phases.pop()

    def seconds(self) -> dict[str, float]:
        """Of each phase so far, in the order in which they began; what belongs to none is `other`, and comes last."""
        self._count()
        other = self._seconds["other"]
        return {**{name: each for name, each in self._seconds.items() if name != "other"}, "other": other}

    def _count(self) -> None:
        now = self._now()
        # Phases are listed from their beginning on, even if another one within them ends first.
        for name in self._phases:
            self._seconds.setdefault(name, 0.0)
        self._seconds[self._phases[-1]] += now - self._since
        self._since = now
