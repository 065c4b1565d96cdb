import io
import logging
import re

import pytest
from rich.console import Console

from ciess.progress import ConsoleProgress, LineProgress, LoggingProgress


def test_lines_come_now_and_then_and_tell_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("ciess.progress.time.monotonic", lambda: now)
    said: list[str] = []
    progress = LineProgress(said.append, seconds_between_lines=10)
    for step in range(1, 21):
        now = 1.5 * step
        progress("training", step, 40, f"best {step}")
    assert said == ["training: 7/40, at most 42 s left, best 7", "training: 14/40, at most 36 s left, best 14"]


def test_a_phase_that_starts_again_has_all_its_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter((0.0, 1.0, 5.0, 7.0, 9.0, 11.0, 13.0))
    monkeypatch.setattr("ciess.progress.time.monotonic", lambda: next(times))
    said: list[str] = []
    progress = LineProgress(said.append, seconds_between_lines=10)
    for step in (1, 20, 1, 2, 3, 4):
        progress("finish", step, 20)
    assert said == ["finish: 3/20, at most 23 s left"]


def test_progress_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    progress = LoggingProgress(seconds_between_lines=0)
    progress("training", 1, 2, "loss 0.5")
    progress("training", 2, 2, "loss 0.4")
    [record] = caplog.records
    assert (record.name, record.levelname) == ("ciess", "INFO")
    assert record.getMessage() == "training: 2/2, at most 0 s left, loss 0.4"


def test_a_console_that_is_no_terminal_gets_lines() -> None:
    out = io.StringIO()
    with ConsoleProgress(Console(file=out, width=200), seconds_between_lines=0) as progress:
        for step in (1, 2):
            progress("training", step, 2, "well")
    assert out.getvalue() == "training: 2/2, at most 0 s left, well\n"


def test_a_terminal_gets_one_live_line_for_the_phase_at_work() -> None:
    out = io.StringIO()
    with ConsoleProgress(Console(file=out, width=200, force_terminal=True, legacy_windows=False)) as progress:
        progress("training", 2, 2, "well")
        progress("searching", 1, 5, "best 0.2")
    last = [line for line in out.getvalue().splitlines() if "/" in line][-1]
    for told in ("searching", "1/5", "best 0.2"):
        assert told in last
    assert "training" not in last


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_of_80_columns_shows_all_of_it(width: int) -> None:
    """The longest phase and note that there are, in a comparison of many cells."""
    out = io.StringIO()
    now = 0.0
    console = Console(file=out, width=width, force_terminal=True, legacy_windows=False, get_time=lambda: now)
    with ConsoleProgress(console) as progress:
        for step in (1, 148):
            progress("14/39 finish, all data", step, 1_200, "best 0.2314 at step 1150")
            now += 1
    last = [line for line in out.getvalue().splitlines() if "/" in line][-1]
    told = re.sub(r"\x1b\[[\d;]*\w", "", last)
    assert re.search(r"14/39 finish, all data  148/1200  \d:\d\d:\d\d left  best 0.2314 at step 1150$", told.rstrip())
    assert len(told) <= width


def test_a_narrower_terminal_shows_the_beginning() -> None:
    out = io.StringIO()
    with ConsoleProgress(Console(file=out, width=40, force_terminal=True, legacy_windows=False)) as progress:
        progress("training", 148, 1_200, "best 0.2314 at step 1150")
    last = [line for line in out.getvalue().splitlines() if "/" in line][-1]
    assert "training  148/1200  " in last
    assert "…" in last
