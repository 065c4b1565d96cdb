"""Bytes that a stranger may have written: unpacked within bounds, arrays whose headers do not lie."""

import gzip
import math
import os
import struct
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from ciess.errors import InputError

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_TIMES, _FLOOR = 250, 64 * 2**20
_ZSTD_BLOCK = 2**17
_stderr = threading.Lock()
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def most_unpacked(size: int) -> int:
    """Bytes that a packed file of a size may hold: 250 times its own, or 64 MiB where that is more.

    Interactions, each pair once, are never packed so tightly; what only fills memory is.
    """
    return max(_TIMES * size, _FLOOR)


def check_unpacked(path: Path, unpacked: int) -> None:
    """Refuse a file that holds far more bytes than it takes.

    Raises:
        InputError: more than `most_unpacked`.
    """
    if unpacked > most_unpacked(path.stat().st_size):
        raise InputError(
            f"{path} holds more than {most_unpacked(path.stat().st_size):,} bytes when it is unpacked, "
            f"over {_TIMES} times its size: unpack it by hand, and look what it is"
        )


def ungzipped(path: Path, content: bytes) -> bytes:
    """What gzip has packed.

    Raises:
        InputError: too much, see `check_unpacked`.
    """
    with gzip.GzipFile(fileobj=BytesIO(content)) as file:
        found = file.read(most_unpacked(len(content)) + 1)
    check_unpacked(path, len(found))
    return found


def zstd_bound(content: bytes) -> int:
    """The most bytes that a file packed by zstd may hold: those of its blocks, which are told by their headers alone.

    Source: RFC 8878, sections 3.1.1 and 3.1.2.

    Raises:
        ValueError: it is cut or something else.
        struct.error: the same.
    """
    place = bound = 0
    while place < len(content):
        (magic,) = struct.unpack_from("<I", content, place)
        if magic >> 4 == 0x184D2A5:
            place += 8 + struct.unpack_from("<I", content, place + 4)[0]
            continue
        if content[place : place + 4] != ZSTD:
            raise ValueError("it is not all packed by zstd")
        told = struct.unpack_from("<B", content, place + 4)[0]
        single = told >> 5 & 1
        # The window's byte, the dictionary's id, the size of the content.
        place += 5 + (not single) + (0, 1, 2, 4)[told & 3] + (single, 2, 4, 8)[told >> 6]
        last = 0
        while not last:
            low, high = struct.unpack_from("<HB", content, place)
            header = low | high << 16
            last, kind, size = header & 1, header >> 1 & 3, header >> 3
            bound += _ZSTD_BLOCK if kind == 2 else size
            # A repeated byte stands there once.
            place += 3 + (1 if kind == 1 else size)
        place += 4 * (told >> 2 & 1)
    return bound


@contextmanager
def panics_untold() -> Iterator[None]:
    """Keep from stderr what polars writes there before it raises a panic; all else that is written comes afterwards.

    One thread at a time: the descriptor is the whole process'.
    """
    with _stderr, tempfile.TemporaryFile() as told:
        try:
            kept = os.dup(2)
        except OSError:
            # There is no stderr.
            yield
            return
        panic = False
        try:
            os.dup2(told.fileno(), 2)
            yield
        except BaseException as error:
            panic = type(error).__name__ == "PanicException"
            raise
        finally:
            os.dup2(kept, 2)
            if not panic and told.seek(0, os.SEEK_END):
                told.seek(0)
                os.write(kept, told.read())
            os.close(kept)


def array_in(path: Path) -> NDArray[Any]:
    """The array in a .npy file.

    Raises:
        Exception: whatever NumPy raises where there is none of numbers or texts.
    """
    with path.open("rb") as file:
        return _array(file, path.stat().st_size)


def arrays_in(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays in a .npz file by their names.

    Raises:
        InputError: it holds far more than it takes, see `check_unpacked`.
        Exception: whatever zip and NumPy raise where the file is damaged.
    """
    with ZipFile(path) as archive:
        entries = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
        check_unpacked(path, sum(entry.file_size for entry in entries))
        found = {}
        for entry in entries:
            with archive.open(entry) as file:
                found[entry.filename.removesuffix(".npy")] = _array(file, entry.file_size)
                # The checksum is compared where the member ends.
                file.read(1)
        return found


def _array(file: IO[bytes], size: int) -> NDArray[Any]:
    """An array whose header is looked at before there is room made for what it promises."""
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"version {version[0]} of the format")
    shape, _, dtype = _HEADERS[version](file)
    if dtype.kind not in "biufcSUmM" or not dtype.itemsize:
        raise ValueError(f"it holds {dtype}")
    if min(shape, default=0) < 0 or math.prod(map(int, shape)) * dtype.itemsize != size - file.tell():
        raise ValueError("it is not as long as its header says")
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)
