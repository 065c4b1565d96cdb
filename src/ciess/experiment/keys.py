"""What identifies a result: settings, arrays and data without loss, and the code that works on them."""

import ast
import dataclasses
import hashlib
import inspect
import json
import sys
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from functools import cache, partial
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import polars as pl
import torch
from scipy.sparse import sparray, spmatrix

from ciess.errors import InputError
from ciess.methods.policy import SizePolicy

PACKAGE = Path(__file__).parents[1]
_LIBRARIES = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")]


def digest(key: Any) -> str:
    """16 hexadecimal digits that identify what JSON can hold."""
    return _hashed(json.dumps(key, sort_keys=True).encode())[:16]


def code_of(*left_out: str) -> str:
    """What identifies the code of this package by its bytes: every search asks, and to parse all of it takes seconds.

    Args:
        left_out: folders of the package that have no part in the result.
    """
    names = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
    return digest([[name.as_posix(), _content(PACKAGE / name)] for name in names if name.parts[0] not in left_out])


def sources(paths: Iterable[Path]) -> str:
    """What identifies the code of Python files; comments, docstrings and layout do not count."""
    return digest([[path.name, _code(path)] for path in paths])


def canonical(value: Any, name: str = "setting") -> Any:
    """A value as JSON that differs where the value differs: types are told apart, arrays stand by all of their bytes.

    Classes and functions that are not of this package bring the code of the file in which they stand, and of the files
    of one's own that it imports.

    Args:
        value: None, a truth value, number, text, path, array, tensor, sparse matrix, series, enumeration, function or
            class; a list, tuple, set, mapping or dataclass of these.
        name: of the value, for the message.

    Raises:
        InputError: anything else, since nothing tells whether two such objects are the same.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Enum):
        return _of(value, value.name)
    if isinstance(value, bytes):
        return {"bytes": _hashed(value)}
    if isinstance(value, Path):
        return {"path": str(value), "content": _hashed(value.read_bytes()) if value.is_file() else None}
    if isinstance(value, np.ndarray | np.generic | torch.Tensor | pl.Series | sparray | spmatrix):
        return _of(value, _array(value, name))
    if isinstance(value, type | FunctionType | partial):
        return _callable(value, name)
    if isinstance(value, SizePolicy):
        return _of(value, canonical(value.files, name))
    if dataclasses.is_dataclass(value):
        fields = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
        return _of(value, {key: canonical(each, f"{name}.{key}") for key, each in fields.items()})
    if isinstance(value, Mapping):
        # In its order, which may matter.
        return _of(value, [[canonical(part, name) for part in pair] for pair in value.items()])
    if isinstance(value, AbstractSet):
        return _of(value, sorted((canonical(each, name) for each in value), key=json.dumps))
    if isinstance(value, Sequence):
        return _of(value, [canonical(each, name) for each in value])
    raise InputError(
        f"{name} is a {type(value).__name__}, by which kept results cannot be told apart: make it of numbers, text, "
        "arrays and dataclasses, or keep no cells"
    )


def _of(value: Any, content: Any) -> dict[str, Any]:
    """A content, and of which class it is."""
    kind = type(value)
    return {"of": f"{kind.__module__}.{kind.__qualname__}", "is": content, **_own_code(kind)}


def _array(value: Any, name: str) -> Any:
    """What identifies an array of any library by its type, shape and all of its values."""
    if isinstance(value, pl.Series):
        return [str(value.dtype), _hashed(json.dumps(value.to_list(), default=repr).encode())]
    if isinstance(value, sparray | spmatrix):
        rows = value.tocsr()
        return [
            list(rows.shape),
            *(_array(part, name) for part in (rows.indptr.astype(np.int64), rows.indices.astype(np.int64), rows.data)),
        ]
    if isinstance(value, torch.Tensor):
        plain = value.detach().cpu().to_dense().contiguous()
        return [str(value.dtype), list(plain.shape), _hashed(plain.flatten().view(torch.uint8).numpy().tobytes())]
    found = np.asarray(value)
    if found.dtype.hasobject:
        return ["object", list(found.shape), [canonical(each, name) for each in found.ravel().tolist()]]
    return [found.dtype.str, list(found.shape), _hashed(np.ascontiguousarray(found).tobytes())]


def _callable(value: Any, name: str) -> dict[str, Any]:
    """What identifies a class or function: its name and code, and what it was made with."""
    if isinstance(value, partial):
        return _of(value, [canonical(each, name) for each in (value.func, value.args, value.keywords)])
    known = {"of": f"{value.__module__}.{value.__qualname__}", **_own_code(value)}
    if isinstance(value, type):
        return known
    inner = inspect.getclosurevars(value).nonlocals
    made = canonical([value.__defaults__, value.__kwdefaults__, inner], name)
    return {**known, "made with": made, "text": _text(value)}


def _own_code(value: Any) -> dict[str, str]:
    """The code that a class or function of one's own may run, nothing for those of libraries and of this package."""
    found: dict[str, str] = {}
    kinds = value.__mro__ if isinstance(value, type) else (value,)
    left = [sys.modules.get(kind.__module__) for kind in kinds]
    for kind, module in zip(kinds, tuple(left), strict=True):
        if module is None or (kind.__module__ == "__main__" and not getattr(module, "__file__", None)):
            found[f"{kind.__module__}.{kind.__qualname__}"] = _text(kind)
    while left:
        module = left.pop()
        file = getattr(module, "__file__", None)
        if module is None or file is None or file in found or not _is_own(Path(file)):
            continue
        found[file] = _code(Path(file))
        left += [
            each if isinstance(each, ModuleType) else sys.modules.get(str(getattr(each, "__module__", None)))
            for each in vars(module).values()
        ]
    return {"code": digest(sorted(found.values()))} if found else {}


def _text(value: Any) -> str:
    try:
        return _hashed(inspect.getsource(value).encode())
    except (OSError, TypeError) as error:
        raise InputError(
            f"the code of {value.__qualname__} cannot be read, by which kept results are told apart: write it into a "
            "file, or keep no cells"
        ) from error


def _is_own(path: Path) -> bool:
    path = path.resolve()
    return path.suffix == ".py" and not any(path.is_relative_to(folder) for folder in (PACKAGE, *_LIBRARIES))


@cache
def _code(path: Path) -> str:
    """What identifies a file's code: its syntax tree without texts that stand alone."""
    source = path.read_bytes()
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return _hashed(source)
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            body[:] = [each for each in body if not _is_text(each)]
    return _hashed(ast.dump(tree).encode())


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


@cache
def _content(path: Path) -> str:
    """What identifies a file, which is read once in a process."""
    return _hashed(path.read_bytes())


def _hashed(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
