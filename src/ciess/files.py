"""Files that are whole or not there."""

import os
from collections.abc import Callable
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
