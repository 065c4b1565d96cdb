"""Files that are whole or not there, several of them at once; folders that can be written; files that may be opened."""

import errno
import json
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ciess.errors import InputError, refused

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

Content = str | bytes | Callable[[Path], object]
"""What a file holds, or what writes it to a path."""

_OURS = ".ciess-"
_COMMITTED, _ASIDE, _PLAN = f"{_OURS}committed", f"{_OURS}{{}}.part", "plan.json"
_DEEPEST = 64
"""Levels of JSON that is read; what is written here has less than ten."""


def write_whole(path: Path, content: Content) -> None:
    """Write a file aside, then rename it; the folder is made if need be.

    Raises:
        InputError: it cannot be written.
    """
    write_together(path.parent, {path.name: content})


def write_together(folder: Path, files: Mapping[str, Content], stale: Iterable[str] = ()) -> None:
    """Write files all at once: whenever a writer is stopped, the old ones are whole, or the new ones.

    1. All are written, in their order, into a folder aside, `.ciess-….part`.
    2. That folder gets its lasting name, `.ciess-committed`. It does not count as long as its first file is in it.
    3. The first file is renamed to where it belongs: from here on the new files count.
    4. So are the others; stale ones are removed, and the folder aside, too.

    If a writer was stopped after 3, `reading` and the next writer know what counts. Writers of the same files do not
    disturb each other: the last to come to 2 leaves all of its files. Files get the mode that the process' umask gives.

    Args:
        folder: where to, made if need be.
        files: contents by name; names may lead into a subfolder, as `a/b` does.
        stale: names of files that do not belong to these, removed if they are there, and subfolders that this empties.

    Raises:
        InputError: a file cannot be written; what was there before is still whole.
    """
    aside = folder / _ASIDE.format(secrets.token_hex(8))
    made: list[Path] = []
    try:
        with ExitStack() as alive:
            with _writing(folder):
                made = missing_folders(folder)
                folder.mkdir(parents=True, exist_ok=True)
                # Who clears what writers have left takes the other lock: it does not see this folder before it is held.
                with locked(folder, shared=True):
                    aside.mkdir()
                    alive.enter_context(locked(aside))
            for name, content in files.items():
                with _writing(folder / name):
                    _write(aside / name, content)
            with _writing(folder):
                _put_in_place(folder, aside, list(files), sorted({*stale} - {*files}))
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        remove_empty(made)


def _put_in_place(folder: Path, aside: Path, names: list[str], stale: list[str]) -> None:
    """Steps 2 to 4 of `write_together`."""
    inner = sorted({(folder / name).parent for name in names})
    made = [each for each in inner if not each.exists()]
    committed, folders = folder / _COMMITTED, sorted({folder, *inner, *((folder / name).parent for name in stale)})
    try:
        for each in inner:
            each.mkdir(exist_ok=True)
            if each.stat().st_dev != aside.stat().st_dev:
                raise OSError(errno.EXDEV, f"{each.name} is on another disk")
        for each in (Path(os.path.realpath(folder)).parent, *folders):
            _settle(each)
        with ExitStack() as locks:
            for each in folders:
                locks.enter_context(locked(each))
            _clear(folder, aside)
            if len(names) + len(stale) > 1:
                _write(aside / _PLAN, json.dumps({"first": names[0], "stale": stale}))
                _sync(*sorted({(aside / name).parent for name in names}), aside)
            else:
                committed = aside
            try:
                if committed != aside:
                    os.replace(aside, committed)
                    _sync(folder)
                os.replace(committed / names[0], folder / names[0])
            finally:
                _finish(folder)
            _sync(*(each for each in folders if each.is_dir()))
    finally:
        remove_empty(made)


class _Plan(NamedTuple):
    """What is to be done with the files in a folder `.ciess-committed`, see `write_together`."""

    first: str
    stale: frozenset[str]


def _plan(folder: Path) -> _Plan | None:
    """The plan of files that count although they are not all in place; None where there are none."""
    committed = folder / _COMMITTED
    if not os.path.isdir(committed) or os.path.islink(committed):
        return None
    try:
        with open_regular(committed / _PLAN) as file:
            told = parsed_json(file.read())
        plan = _Plan(told["first"], frozenset(told["stale"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    inside = all(isinstance(name, str) and _stays_inside(name) for name in (plan.first, *plan.stale))
    return plan if inside and not os.path.lexists(committed / plan.first) else None


def _stays_inside(name: str) -> bool:
    """Whether a name is that of a file in a folder, or in a folder of it."""
    parts = name.split("/")
    return len(parts) <= 2 and not {"", ".", ".."} & {*parts} and not {"\\", ":", "\0"} & {*name}


def _settle(folder: Path) -> None:
    """Finish what a writer that was stopped had committed, or forget what does not count yet."""
    if not (folder / _COMMITTED).is_dir():
        return
    with ExitStack() as locks:
        # Folders aside are locked by their writers as long as these live.
        inner = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(_OURS)]
        for each in (folder, *sorted(inner)):
            locks.enter_context(locked(each))
        _finish(folder)


def _finish(folder: Path) -> None:
    """Put all files that were committed in place, remove the stale ones; the caller holds the locks."""
    committed = folder / _COMMITTED
    if (plan := _plan(folder)) is not None:
        found = [path for path in (*committed.glob("*"), *committed.glob("*/*")) if path.is_symlink() or path.is_file()]
        for path in sorted(found):
            if path != committed / _PLAN:
                target = folder / path.relative_to(committed)
                target.parent.mkdir(exist_ok=True)
                os.replace(path, target)
        for name in plan.stale:
            parent = (folder / name).parent
            if not parent.is_symlink() or parent == folder:
                (folder / name).unlink(missing_ok=True)
        remove_empty({(folder / name).parent for name in plan.stale} - {folder})
    if committed.is_dir() and not committed.is_symlink():
        # Without its plan it counts for nothing, so that goes first.
        (committed / _PLAN).unlink(missing_ok=True)
        shutil.rmtree(committed, ignore_errors=True)


def _clear(folder: Path, mine: Path) -> None:
    """Remove what writers that were killed have left aside; those that live hold a lock."""
    for path in folder.glob(_ASIDE.format("*")):
        if fcntl is None or path == mine or path.is_symlink():
            continue
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(descriptor)


@contextmanager
def reading(folder: Path) -> Iterator[Callable[[str], Path]]:
    """Hold a folder's files as they are, and tell where each that counts is: a writer may have been stopped."""
    folder = Path(os.path.realpath(folder))
    with locked(folder, shared=True):
        # The folder of a model may be one of several that were written together.
        plans = [(each, under, _plan(each)) for each, under in ((folder, ""), (folder.parent, f"{folder.name}/"))]

        def place(name: str) -> Path:
            for each, under, plan in plans:
                committed = each / _COMMITTED / (under + name)
                if plan is None or committed.parent.is_symlink():
                    continue
                if under + name in plan.stale or os.path.lexists(committed):
                    return committed
            return folder / name

        yield place


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
            # A process that was forked meanwhile has the same descriptor, and closing it here would not free it.
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)


def _write(path: Path, content: Content) -> None:
    """Write a new file that survives a loss of power once it is renamed.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(exist_ok=True)
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


def _sync(*folders: Path) -> None:
    """Let the names in folders survive a loss of power; Windows does so by itself."""
    for folder in folders:
        with suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


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


def given_path(name: str, given: object) -> Path:
    """What somebody names as a file or folder; `~/` is the user's home, as shells have it.

    Raises:
        InputError: it is no path, or an empty one.
    """
    if not isinstance(given, str | os.PathLike):
        raise InputError(f"{name} is of type {type(given).__name__}: give a path")
    if not os.fspath(given):
        raise InputError(f"{name} is empty: give a path")
    path = Path(given)
    return path.expanduser() if path.parts[:1] == ("~",) else path


def check_file(path: Path, wanted: str) -> int:
    """Refuse what cannot be read to its end: nothing, a folder, and pipes and devices, of which some never end.

    Args:
        path: the file.
        wanted: what to name instead, such as `a file of ids`.

    Returns:
        the file's size in bytes. One of 0 must not be read: the system's own, which look like files, may wait for ever.

    Raises:
        InputError: it is refused.
    """
    if not there(path):
        raise InputError(f"{path} does not exist: name {wanted}")
    if not path.is_file():
        what = "a folder" if path.is_dir() else "a pipe or a device"
        raise InputError(f"{path} is {what}: name {wanted}")
    with refused(f"{path} cannot be read", "check its permissions"), path.open("rb") as file:
        return os.fstat(file.fileno()).st_size


def check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be made or written. It is not there afterwards, unless it was before.

    Raises:
        InputError: it cannot be written.
    """
    made: list[Path] = []
    with _writing(folder):
        if folder.is_file():
            raise OSError(errno.ENOTDIR, "it is a file")
        made = missing_folders(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        finally:
            remove_empty(made)


def missing_folders(folder: Path) -> list[Path]:
    """A folder and those above it that do not exist, the innermost first."""
    return [each for each in (folder, *folder.parents) if not each.exists()]


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove those of the folders that are empty."""
    for each in folders:
        with suppress(OSError):
            each.rmdir()


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read it; no link, which may lead anywhere, and no device or pipe, which may never end.

    Raises:
        OSError: it is not there, cannot be read, or is something else.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if path.is_symlink():
        raise OSError(errno.ELOOP, "it is a link")
    file = open(os.open(path, flags), "rb")  # noqa: SIM115 - the caller closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is no plain file")
    return file


def parsed_json(content: bytes | str) -> dict[str, Any]:
    """The object that a JSON document holds.

    Raises:
        ValueError: it holds something else, or is nested deeper than what is written here.
    """
    try:
        told = json.loads(content)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(told, dict):
        raise ValueError("it is no object")
    level: list[Any] = [told]
    for _ in range(_DEEPEST):
        level = [
            inner
            for each in level
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return told
    raise ValueError("it is nested too deeply")
