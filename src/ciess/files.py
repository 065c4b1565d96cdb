"""Files that are whole or not there, and folders that can be written."""

import os
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from ciess.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

Content = str | bytes | Callable[[Path], object]
"""What a file holds, or what writes it to a path."""


def write_whole(path: Path, content: Content) -> None:
    """Write a file aside, then rename it; the folder is made if need be.

    Raises:
        InputError: it cannot be written.
    """
    write_together(path.parent, {path.name: content})


def write_together(folder: Path, files: Mapping[str, Content], stale: Iterable[str] = ()) -> None:
    """Write files of one folder aside, in their order, then rename all of them.

    Writers of the same files do not disturb each other: each writes aside under names of its own, and the last to
    rename leaves all of its files. Files get the mode that the process' umask gives, whatever writes them.

    Args:
        folder: where to, made if need be.
        files: contents by name.
        stale: names of files that do not belong to these, removed if they are there.

    Raises:
        InputError: a file cannot be written.
    """
    asides = {name: folder / f".{name}.{secrets.token_hex(4)}.part" for name in files}
    path = folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            path = folder / name
            _write(asides[name], content)
        with locked(folder):
            for name, aside in asides.items():
                path = folder / name
                os.replace(aside, path)
            for name in stale:
                (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror or error}): choose another folder") from error
    finally:
        for aside in asides.values():
            with suppress(OSError):
                aside.unlink()


@contextmanager
def locked(folder: Path, shared: bool = False) -> Iterator[None]:
    """Hold the lock of a folder's files: alone to rename them, shared to open them.

    Windows and some network file systems have no such locks; there, nothing is held.
    """
    descriptor = -1
    try:
        if fcntl is not None:
            with suppress(OSError):
                descriptor = os.open(folder, os.O_RDONLY)
                fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _write(path: Path, content: Content) -> None:
    """Write a new file that survives a loss of power once it is renamed."""
    with path.open("xb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    if callable(content):
        content(path)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    # Some libraries replace the file by one that only its owner may read.
    path.chmod(mode)
    with path.open("rb") as file:
        os.fsync(file.fileno())


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
