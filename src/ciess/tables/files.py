"""Arrays in safetensors files: written whole, read by memory mapping, checked by checksums."""

import json
import math
import mmap
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from ciess.errors import InputError

Arrays = Mapping[str, NDArray[Any]]
Layout = Mapping[str, tuple[np.dtype[Any], list[int]]]
"""Type and shape of each array, by name."""

_DTYPES: dict[str, type[np.generic]] = {
    "I64": np.int64,
    "F32": np.float32,
    "U32": np.uint32,
    "I32": np.int32,
    "F16": np.float16,
    "U16": np.uint16,
    "I8": np.int8,
    "U8": np.uint8,
}
"""Of a file's arrays, in the order in which they lie."""
_BYTES_READ_AT_ONCE = 1 << 20


def write_arrays(path: Path, arrays: Arrays, about: str) -> None:
    """Write arrays of any of `_DTYPES` into one file, and a line about them into its header."""
    path.write_bytes(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, _metadata(about)))


def file_bytes(layout: Layout, about: str) -> int:
    """The size of what `write_arrays` writes: 8 bytes, a JSON header filled up to a multiple of 8, the arrays."""
    names = {np.dtype(dtype): (place, name) for place, (name, dtype) in enumerate(_DTYPES.items())}
    header: dict[str, Any] = {"__metadata__": _metadata(about)}
    end = 0
    for _, dtype, name, shape in sorted((*names[dtype], name, shape) for name, (dtype, shape) in layout.items()):
        start, end = end, end + math.prod(shape) * np.dtype(_DTYPES[dtype]).itemsize
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    return 8 + -(-len(json.dumps(header, separators=(",", ":"))) // 8) * 8 + end


def map_file(path: Path) -> NDArray[np.uint8]:
    """The bytes of a file, read when they are used. They stay what they are if another file takes its name.

    Raises:
        InputError: the file is missing or empty.
    """
    try:
        with path.open("rb") as file:
            return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype=np.uint8)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): save the model again") from error
    except ValueError as error:
        raise damaged(path) from error


def arrays_in(path: Path, file: NDArray[np.uint8]) -> tuple[dict[str, NDArray[Any]], str]:
    """The arrays in the bytes of a file that `write_arrays` wrote, and the line about them.

    Args:
        path: of the file, for messages.
        file: as `map_file` gives it.

    Raises:
        InputError: the file is damaged or holds something else.
    """
    try:
        start = 8 + int(file[:8].view(np.uint64)[0])
        header = json.loads(file[8:start].tobytes())
        about = str(header.pop("__metadata__")["ciess"])
        arrays, end = {}, 0
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            arrays[name] = file[start + begin : start + end].view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
        if start + end != len(file):
            raise ValueError("the file is not as long as its header says")
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise damaged(path) from error
    return arrays, about


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


def checksum_of(content: bytes | NDArray[np.uint8]) -> str:
    """The same of bytes, of a mapped file for example; empty if it was cut since, so that reading it would crash."""
    if isinstance(content, np.ndarray) and isinstance(content.base, memoryview):
        mapping = content.base.obj
        if isinstance(mapping, mmap.mmap) and mapping.size() < len(content):
            return ""
    return f"{zlib.crc32(content if isinstance(content, bytes) else content.data):08x}"


def _metadata(about: str) -> dict[str, str]:
    # One entry: safetensors writes several in any order.
    return {"ciess": about}
