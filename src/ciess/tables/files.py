"""Arrays in safetensors files: written whole, read by memory mapping, checked by checksums."""

import json
import math
import mmap
import os
import weakref
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ciess.errors import InputError
from ciess.files import open_regular, parsed_json


class Streamed(NamedTuple):
    """An array that is made block by block while it is written: its type, its shape, and its blocks in order."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    blocks: Iterable[NDArray[Any]]


Arrays = Mapping[str, NDArray[Any] | Streamed]
Layout = Mapping[str, tuple[np.dtype[Any], list[int]]]
"""Type and shape of each array, by name."""

POLICY_FILES = ("policy.json", "policy.safetensors")
"""What the policy beside a model consists of, see `SizePolicy`; who saves another model there removes them."""
_DTYPES: dict[str, type[np.generic]] = {
    "U64": np.uint64,
    "I64": np.int64,
    "F64": np.float64,
    "C64": np.complex64,
    "F32": np.float32,
    "U32": np.uint32,
    "I32": np.int32,
    "F16": np.float16,
    "U16": np.uint16,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
"""Of a file's arrays, in the order in which they lie."""
_BYTES_READ_AT_ONCE = 1 << 20


def write_arrays(path: Path, arrays: Arrays, about: str) -> None:
    """Write arrays of any of `_DTYPES` into one file, and a line about them into its header."""
    with path.open("wb") as file:
        file.writelines(_pieces(arrays, about))


def array_bytes(arrays: Arrays, about: str) -> bytes:
    """What `write_arrays` writes."""
    return b"".join(_pieces(arrays, about))


def _pieces(arrays: Arrays, about: str) -> Iterator[bytes | memoryview]:
    """Header and blocks, one after the other."""
    header, names = _header({name: (array.dtype, list(array.shape)) for name, array in arrays.items()}, about)
    yield len(header).to_bytes(8, "little") + header
    for name in names:
        array = arrays[name]
        for block in array.blocks if isinstance(array, Streamed) else [array]:
            yield np.ascontiguousarray(block).reshape(-1).view(np.uint8).data


def file_bytes(layout: Layout, about: str) -> int:
    """The size of what `write_arrays` writes: 8 bytes, a JSON header filled up to a multiple of 8, the arrays."""
    numbers = sum(math.prod(shape) * np.dtype(dtype).itemsize for dtype, shape in layout.values())
    return 8 + len(_header(layout, about)[0]) + numbers


def _header(layout: Layout, about: str) -> tuple[bytes, list[str]]:
    """The header as safetensors writes it, and the names of the arrays in the order in which they lie."""
    names = {np.dtype(dtype): (place, name) for place, (name, dtype) in enumerate(_DTYPES.items())}
    header: dict[str, Any] = {"__metadata__": _metadata(about)}
    end = 0
    lying = sorted((*names[dtype], name, shape) for name, (dtype, shape) in layout.items())
    for _, dtype, name, shape in lying:
        start, end = end, end + math.prod(shape) * np.dtype(_DTYPES[dtype]).itemsize
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return text + b" " * (-len(text) % 8), [name for _, _, name, _ in lying]


class MappedFile:
    """The bytes of a file, read when they are used. They stay what they are if another file takes its name.

    Args:
        path: of a plain file; links, devices and pipes are refused.

    Attributes:
        path: the same.
        content: (n,) uint8.

    Raises:
        InputError: the file is missing, empty or no plain file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = open_regular(path)
            weakref.finalize(self, self._file.close)
            mapping = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}): save the model again") from error
        except ValueError as error:
            raise damaged(path) from error
        self.content: NDArray[np.uint8] = np.frombuffer(mapping, dtype=np.uint8)

    @property
    def stamp(self) -> tuple[int, int]:
        """Its length, and when it was last changed: both as they were where nobody has written into it."""
        told = os.fstat(self._file.fileno())
        return told.st_size, told.st_mtime_ns

    def checksum(self) -> str:
        """CRC-32 of the content; empty if it was cut since, so that reading it would end the process."""
        return checksum_of(self.content.data) if self.stamp[0] >= len(self.content) else ""


def arrays_in(path: Path, file: NDArray[np.uint8]) -> tuple[dict[str, NDArray[Any]], str]:
    """The arrays in the bytes of a safetensors file, and the line that `write_arrays` wrote about them, if any.

    Args:
        path: of the file, for messages.
        file: its bytes. The arrays must fill them without gaps and without sharing any.

    Raises:
        InputError: the file is damaged or holds something else.
    """
    try:
        start = 8 + int(file[:8].view(np.uint64)[0])
        header = parsed_json(file[8:start].tobytes())
        about = header.pop("__metadata__", {}).get("ciess", "")
        arrays, end = {}, 0
        for name, entry in sorted(header.items(), key=lambda item: _range(item[1])):
            begin, stop = _range(entry)
            dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), [_count(length) for length in entry["shape"]]
            if begin != end or stop - begin != math.prod(shape) * dtype.itemsize:
                raise ValueError(f"{name} does not follow what comes before, or is not of its length")
            arrays[name] = np.ndarray(shape, dtype, file[start + begin : start + stop].data)
            end = stop
        if start + end != len(file):
            raise ValueError("the file is not as long as its header says")
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise damaged(path) from error
    return arrays, str(about)


def _range(entry: Any) -> tuple[int, int]:
    """Where an array begins and ends."""
    begin, end = entry["data_offsets"]
    return _count(begin), _count(end)


def _count(number: Any) -> int:
    if type(number) is not int or not 0 <= number < 2**48:
        raise ValueError(f"{number!r} is no number of bytes or entries")
    return number


@contextmanager
def read_record(path: Path, place: Path, folder: str, remedy: str) -> Iterator[dict[str, Any]]:
    """The JSON object in a file, for checks within the context: what they raise is told as damage of the file.

    Args:
        path: as people know the file.
        place: where it is read.
        folder: what to name where there is no such file, such as `a folder that ciess saved`.
        remedy: what to do where it cannot be read.

    Raises:
        InputError: there is no such file, or it cannot be read, is no JSON, or fails a check.
    """
    try:
        with open_regular(place) as file:
            found = parsed_json(file.read())
        yield found
    except FileNotFoundError as error:
        raise InputError(f"{path.parent} holds no {path.name}: name {folder} such as runs/…/budget-5") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): {remedy}") from error
    except InputError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(path) from error


def damaged(path: Path) -> InputError:
    """What to raise where a file holds something else than it should."""
    return InputError(f"{path} is damaged or was not written by ciess: save the model again")


def checksum(path: Path) -> str:
    """CRC-32 of a file, which any flipped bit changes; read piece by piece."""
    code = 0
    with path.open("rb") as file:
        while piece := file.read(_BYTES_READ_AT_ONCE):
            code = zlib.crc32(piece, code)
    return f"{code:08x}"


def checksum_of(content: bytes | memoryview) -> str:
    """The same of bytes."""
    return f"{zlib.crc32(content):08x}"


def _metadata(about: str) -> dict[str, str]:
    # One entry: safetensors writes several in any order.
    return {"ciess": about}
