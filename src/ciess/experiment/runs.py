"""The folder of a run: checked before the work; what a former run left there makes room for the new files."""

import json
from pathlib import Path
from typing import Any

from ciess.errors import InputError
from ciess.files import check_folder
from ciess.report.rendering import FIGURES, MARKDOWN, PAGE
from ciess.serve.folder import MODEL_FILES
from ciess.tables.budget import Budget

RESULT, COMPARISON, LATEX, CELLS = "result.json", "comparison.json", "comparison.tex", "cells"
_KEYS = {RESULT: {"shown", "rows", "settings"}, COMPARISON: {"shown", "lines", "settings"}}


def check_run_folder(folder: str | Path, record: str) -> None:
    """Refuse a folder that a run must not write into: one that cannot be written, or that holds other files.

    Args:
        folder: new, empty, or of a former run of the same kind, which is going to be replaced.
        record: `RESULT` or `COMPARISON`, the document that a run of this kind leaves.

    Raises:
        InputError: the folder is refused.
    """
    folder = Path(folder)
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
    models = {_folder(row) for row in (result or {}).get("rows", [])} - {""}
    names = {f"{model}/{name}" for model in models for name in MODEL_FILES}
    figures = {f"{FIGURES}/{path.name}" for path in (folder / FIGURES).glob("*.svg")}
    return {PAGE, MARKDOWN, LATEX, COMPARISON, RESULT, *names, *figures}


def _folder(row: Any) -> str:
    """The folder of a result row's model; empty for the full model, which is not saved."""
    try:
        return Budget.parse(row["budget"]).folder
    except (InputError, KeyError, TypeError):
        return ""


def _read(path: Path) -> dict[str, Any] | None:
    """A run's document; None where there is none, or another program's of the same name."""
    try:
        told = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) and _KEYS[path.name] <= told.keys() else None
