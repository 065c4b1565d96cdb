"""The folder of a run: checked and held before the work; what a former run left there makes room for the new files."""

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from ciess.errors import InputError, shortened
from ciess.experiment.cells import UNFINISHED
from ciess.files import check_folder, given_path, missing_folders, open_regular, parsed_json, remove_empty
from ciess.report.rendering import FIGURES, MARKDOWN, PAGE
from ciess.serve.folder import MODEL_FILES
from ciess.tables.budget import Budget
from ciess.tables.files import POLICY_FILES

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_log = logging.getLogger(__name__)
RESULT, COMPARISON, STREAM = "result.json", "comparison.json", "stream.json"
LATEX, CELLS = "comparison.tex", "cells"
_KEYS = {
    RESULT: {"shown", "rows", "settings"},
    COMPARISON: {"shown", "lines", "settings"},
    STREAM: {"methods", "segments", "settings"},
}


_LOCK = ".ciess-run"
"""A file that a run holds locked, and in which it says who it is."""


@contextmanager
def run_folder(folder: Path, record: str, command: str, overwrite: bool) -> Iterator[None]:
    """Have a folder for a run alone. What is kept of the run while it is unfinished is removed where it ends well.

    Args:
        folder: see `check_run_folder`.
        record: see there.
        command: of this run; what the same command left is replaced.
        overwrite: replace the result of another command, too.

    Raises:
        InputError: the folder is refused, holds another run's result, or another run is at work in it.
    """
    check_run_folder(folder, record)
    made = missing_folders(folder)
    try:
        with _alone(folder):
            former: dict[str, Any] | None = None
            if not overwrite and (former := _settings(folder / record)) is not None:
                other = str(former.get("command", "in Python")) if former else "of another program"
                if other != command:
                    raise InputError(
                        f"{folder} holds the result of another run ({shortened(other)}): "
                        "add --overwrite to replace it, or choose another folder"
                    )
            yield
            shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
            before, after = ((each or {}).get("data") or {} for each in (former, _settings(folder / record)))
            if any(after.get(key, value) != value for key, value in before.items()):
                _log.warning("the data have changed since the result that %s held: it is replaced", folder)
    finally:
        remove_empty(made)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder's run. Windows and some network file systems have none; there, nothing is held.

    Raises:
        InputError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _LOCK
    if fcntl is None:
        yield
        return
    with _locked(path) as file:
        file.truncate(0)
        file.write(f"process {os.getpid()} since {datetime.now():%Y-%m-%d %H:%M:%S}".encode())
        file.flush()
        try:
            yield
        finally:
            # As long as it is locked: whoever opened it before sees that it is not this folder's any more.
            path.unlink(missing_ok=True)


def _locked(path: Path) -> BinaryIO:
    while True:
        file = path.open("a+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with file:
                file.seek(0)
                who = file.read(100).decode(errors="replace") or "another process"
            raise InputError(f"{path.parent} is at work for {who}: wait for it, or choose another folder") from None
        except OSError:
            return file
        with suppress(OSError):
            if os.path.samestat(path.stat(), os.fstat(file.fileno())):
                return file
        file.close()


def check_run_folder(folder: str | Path, record: str) -> None:
    """Refuse a folder that a run must not write into: one that cannot be written, or that holds other files.

    Args:
        folder: new, empty, or of a former run of the same kind, which is going to be replaced.
        record: `RESULT`, `COMPARISON` or `STREAM`, the document that a run of this kind leaves.

    Raises:
        InputError: the folder is refused.
    """
    folder = given_path("folder", folder)
    check_folder(folder)
    # Hidden files, such as a file manager's, are nobody's results.
    held = {path.name for path in folder.glob("*") if not path.name.startswith(".")}
    stopped = {CELLS} if record == COMPARISON else set()
    if held <= stopped or _read(folder / record) is not None:
        return
    other = next((each for each in _KEYS if _read(folder / each) is not None), None)
    whose = f"another kind of run ({other})" if other else "something else"
    raise InputError(f"{folder} holds files of {whose}: choose a new folder, or empty this one")


def former_files(folder: Path) -> set[str]:
    """The names of the files of models and reports that former runs wrote; others, and a comparison's cells, stay."""
    result, comparison = (_read(folder / record) for record in (RESULT, COMPARISON))
    if result is None and comparison is None:
        return set()
    rows = (result or {}).get("rows", [])
    models = {_folder(row) for row in (rows if isinstance(rows, list) else [])} - {""}
    names = {f"{model}/{name}" for model in models for name in (*MODEL_FILES, *POLICY_FILES)}
    figures = {f"{FIGURES}/{path.name}" for path in (folder / FIGURES).glob("*.svg")}
    return {PAGE, MARKDOWN, LATEX, COMPARISON, RESULT, *names, *figures}


def _folder(row: Any) -> str:
    """The folder of a result row's model; empty for the full model, which is not saved."""
    try:
        return Budget.parse(row["budget"]).folder
    except (InputError, KeyError, TypeError):
        return ""


def _settings(path: Path) -> dict[str, Any] | None:
    """Those in a run's document, empty where it is another program's; None where there is no document."""
    found = _read(path)
    if found is None:
        return None
    settings = found["settings"]
    return settings if isinstance(settings, dict) else {}


def _read(path: Path) -> dict[str, Any] | None:
    """A run's document; None where there is none, or another program's of the same name."""
    try:
        with open_regular(path) as file:
            told = parsed_json(file.read())
    except (OSError, ValueError):
        return None
    return told if _KEYS[path.name] <= told.keys() else None
