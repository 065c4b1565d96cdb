"""Files that are whole or not there, and folders that can be written."""

import errno
import os
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from ciess.errors import InputError, refused

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
    try:
        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            with _writing(folder / name):
                _write(asides[name], content)
        with locked(folder):
            for name, aside in asides.items():
                with _writing(folder / name):
                    os.replace(aside, folder / name)
            for name in stale:
                with _writing(folder / name):
                    (folder / name).unlink(missing_ok=True)
    finally:
        for aside in asides.values():
            # Of a name that no file can have, there is nothing to remove.
            with suppress(OSError, ValueError):
                aside.unlink()


def _writing(path: Path) -> AbstractContextManager[None]:
    # Libraries that write by themselves tell of a full disk by errors of their own types.
    return refused(f"{path} cannot be written", "choose another folder")


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


def there(path: Path) -> bool:
    """Whether a path names something; a name that no file can have names nothing.

    Raises:
        InputError: it cannot be looked at.
    """
    with refused(f"{path} cannot be read", "check its permissions"):
        try:
            return path.exists()
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return False
            raise


def check_file(path: Path) -> None:
    """Refuse what cannot be read to its end: nothing, a folder, and pipes and devices, of which some never end.

    Raises:
        InputError: it is refused.
    """
    if not there(path):
        raise InputError(f"{path} does not exist: check the path")
    if not path.is_file():
        what = "a folder" if path.is_dir() else "a pipe or a device"
        raise InputError(f"{path} is {what}: name a file, and save there first what comes through a pipe")
    with refused(f"{path} cannot be read", "check its permissions"), path.open("rb") as file:
        # So are those of the system's that look like files, and may wait for ever.
        if os.fstat(file.fileno()).st_size == 0:
            raise InputError(f"{path} is empty: name a file that holds something")


def check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be made or written. It is not there afterwards, unless it was before.

    Raises:
        InputError: it cannot be written.
    """
    missing: list[Path] = []
    with _writing(folder):
        if folder.is_file():
            raise OSError(errno.ENOTDIR, "it is a file")
        missing = [each for each in (folder, *folder.parents) if not each.exists()]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        finally:
            for each in missing:
                with suppress(OSError, ValueError):
                    each.rmdir()
