"""Files that are whole or not there, and folders that can be written."""

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ciess.errors import InputError


def write_whole(path: Path, content: str | bytes | Callable[[Path], object]) -> None:
    """Write aside, then rename; the folder is made if need be.

    Args:
        path: where to.
        content: what the file holds, or what writes it to a path.

    Raises:
        InputError: it cannot be written.
    """
    aside = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(aside)
        else:
            aside.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(aside, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): choose another folder") from error


def check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be made or written. It is not there afterwards, unless it was before.

    Raises:
        InputError: it cannot be written.
    """
    if folder.is_file():
        raise InputError(f"{folder} cannot be written (it is a file): choose another folder")
    missing: list[Path] = []
    try:
        missing = [each for each in (folder, *folder.parents) if not each.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror}): choose another folder") from error
    finally:
        for each in missing:
            with suppress(OSError):
                each.rmdir()
