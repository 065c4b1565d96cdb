"""Changes that make a hostile folder of a valid model's: see `hostile.py`, which tries thousands."""

import json
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import ciess
from ciess.models import backbone_named as named
from ciess.models import backbone_names, backbone_settings
from ciess.serve.folder import NETWORK, SETTINGS, TABLES, settings_sum
from ciess.tables.plan import SizePlan
from ciess.tables.taper import read_encoding

DEEP = "@deep@"
ODD: list[Any] = [
    *(None, True, False, -1, 0, 1, 2, 7, 31, 2**16, 2**16 + 1, 2**31 - 1, -(2**31)),
    *(2**31, 2**63, 2**64, 10**12, 10**400),
    *(0.5, -1.5, 1e308, float("nan"), float("inf"), "", "6", "x" * 10_000, "\x1b]0;x\x07", "a\nb", "é\u202e", "\ud800"),
    *("../../secret", "/dev/zero", "/etc/hostname", [], {}, [[]], [1, 2], {"name": "mf"}, [0] * 1000, DEEP),
]
DTYPES = ["U64", "I64", "F64", "F32", "U32", "I32", "F16", "U16", "I16", "I8", "U8", "BOOL", "BF16", "", None, 3, []]
NUMPY = {"I64": "<i8", "F32": "<f4", "I32": "<i4", "F16": "<f2", "U16": "<u2", "U32": "<u4", "I8": "i1", "U8": "u1"}
Rng = np.random.Generator


def valid_models(root: Path) -> list[Path]:
    """Models of all backbones, in all kinds of precision and ids; users have items that nobody learned."""
    given = ciess.synthetic(users=40, items=30, mean_count=8).interactions
    numbered = ciess.data.Interactions(
        given.matrix, given.user_ids.str.slice(1).cast(int), given.item_ids.str.slice(1).cast(int)
    )
    learned = given.matrix.copy()
    learned.data[::3] = 0
    learned.eliminate_zeros()
    folders = []
    kinds = [("mf", "float32"), ("lightgcn", "int8"), ("ncf", "int4-shared"), ("ngcf", "int6"), ("als", "float16")]
    kinds.append(("als", "tapered:5,3,2x2,1x2"))
    for seed, (name, precision) in enumerate(kinds):
        config, rng = named(name, dim=6), np.random.default_rng(seed)
        plan = SizePlan(rng.integers(1, 7, 40), rng.integers(1, 7, 30), 6, read_encoding(precision))
        has = numbered if name in ("mf", "ncf") else given
        part = ciess.data.Interactions(learned, has.user_ids, has.item_ids)
        about = {"seed": seed, "inner": [1, {"some": 2}]}
        model = ciess.CompressedModel.pack(config, config.build(part, seed), plan, part, about, has)
        folders.append(model.save(root / str(seed)))
    return folders


def pick(rng: Rng, values: Any) -> Any:
    values = list(values)
    return values[int(rng.integers(len(values)))]


class Folder:
    """A copy of a model's folder that is changed, and sealed again."""

    def __init__(self, path: Path, rng: Rng, others: list[Path], outside: Path) -> None:
        self.path, self.rng, self.others, self.outside = path, rng, others, outside
        self.settings: Any = json.loads((path / SETTINGS).read_text())
        self.files = sorted(each.name for each in path.glob("*.safetensors"))
        self.raw: bytes | None = None
        self.done = False

    def seal(self) -> None:
        """Write the settings, with checksums of what the files hold now."""
        if self.done:
            return
        if self.raw is not None:
            (self.path / SETTINGS).write_bytes(self.raw)
            return
        settings = self.settings
        if isinstance(settings, dict):
            sums = settings.get("checksums")
            for name in self.files if isinstance(sums, dict) else ():
                file = self.path / name
                if name in sums and isinstance(sums[name], str) and file.is_file() and not file.is_symlink():
                    sums[name] = f"{zlib.crc32(file.read_bytes()):08x}"
            settings.pop("checksum", None)
            settings["checksum"] = settings_sum(settings)
        text = json.dumps(settings).replace(json.dumps(DEEP), "[" * 3000 + "]" * 3000)
        (self.path / SETTINGS).write_text(text, encoding="utf-8")

    def opened(self, name: str) -> tuple[dict[str, Any], bytearray]:
        """Header and bytes of a safetensors file."""
        content = (self.path / name).read_bytes()
        start = 8 + struct.unpack("<Q", content[:8])[0]
        return json.loads(content[8:start]), bytearray(content[start:])

    def closed(self, name: str, header: Any, body: bytes | bytearray) -> None:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        text = text.replace(json.dumps(DEEP).encode(), b"[" * 3000 + b"]" * 3000)
        text += b" " * (-len(text) % 8)
        (self.path / name).write_bytes(struct.pack("<Q", len(text)) + text + body)


def change_of_json(folder: Folder) -> str:
    """A value somewhere in the settings becomes another one, goes, or gets company."""
    rng, place, path = folder.rng, folder.settings, []
    while isinstance(place, dict | list) and place:
        parent, key = place, pick(rng, place.keys() if isinstance(place, dict) else range(len(place)))
        path.append(str(key))
        place = parent[key]
        if rng.random() < 0.3:
            break
    how = pick(rng, ["other", "other", "other", "gone", "more"])
    value = pick(rng, ODD)
    if how == "gone":
        del parent[key]
    elif how == "more" and isinstance(parent, dict):
        parent[pick(rng, ["dim", "layers", "more", "../x", "\x1b[2J", key + " "])] = value
    else:
        parent[key] = value
    return f"{'.'.join(path)}: {how} {value!r:.30}"


def change_of_backbone(folder: Folder) -> str:
    """Settings of a backbone, of another width, depth or kind."""
    rng = folder.rng
    name = pick(rng, [*backbone_names(), "gpt", folder.settings["backbone"]["name"]])
    if name in backbone_names():
        settings = backbone_settings(named(name, dim=6))
        folder.settings["backbone"] = {**settings, "training": dict(settings["training"])}
    settings = folder.settings["backbone"]
    settings["name"] = name
    changed = {"dim": pick(rng, [6, 6, *ODD]), "layers": pick(rng, [3, *ODD])}
    for key in ("users", "items", "user_ids"):
        changed[key] = pick(rng, [str(folder.outside / "secret.npy"), "/dev/zero"])
    for key in changed.keys() & settings.keys():
        if rng.random() < 0.6:
            settings[key] = changed[key]
    folder.settings["rows_stand_alone"] = bool(rng.random() < 0.5)
    folder.settings["learns"] = bool(rng.random() < 0.5)
    return f"backbone {name}, dim {settings.get('dim')!s:.20}, layers {settings.get('layers')!s:.20}"


def change_of_names(folder: Folder) -> str:
    """The list of files names others."""
    sums, rng = folder.settings["checksums"], folder.rng
    name = pick(
        rng, ["/dev/zero", "/dev/random", "../outside/secret.npy", "/etc/hostname", "model.json", ".", "", "a\0b"]
    )
    how = pick(rng, ["more", "instead", "network"])
    if how == "instead":
        sums.pop(pick(rng, sums))
    if how == "network":
        sums[NETWORK] = "00000000"
    else:
        sums[name] = pick(rng, ["00000000", 0, None, "x"])
    return f"files: {how} {name!r}"


def change_of_numbers(folder: Folder) -> str:
    """Numbers of an array become others of its type."""
    rng, file = folder.rng, pick(folder.rng, folder.files)
    header, body = folder.opened(file)
    name = pick(rng, header.keys() - {"__metadata__"})
    begin, end = header[name]["data_offsets"]
    array = np.frombuffer(bytes(body[begin:end]), NUMPY[header[name]["dtype"]]).copy()
    if not len(array):
        return "nothing"
    low, high = (-np.inf, np.inf) if array.dtype.kind == "f" else (np.iinfo(array.dtype).min, np.iinfo(array.dtype).max)
    how = pick(rng, ["one", "one", "one", "some", "all", "shuffled", "reversed", "sorted", "moved", "bits"])
    with np.errstate(all="ignore"):
        places = rng.integers(len(array), size={"one": 1, "some": 3}.get(how, 0))
        near = [array.max(), array.min(), len(array), 0, 1, 29, 30, 39, 40]
        extreme = [low, high, *(each for each in near if low <= each <= high)]
        if array.dtype.kind == "f":
            extreme += [np.nan, 3e38, -3e38, 1e-40]
        else:
            extreme += [each for each in (-1, -(2**20), 2**30) if low <= each <= high]
        if how in ("one", "some"):
            for place in places:
                array[place] = pick(rng, [*extreme, array[place] + np.array(1, array.dtype)])
        elif how == "all":
            array[:] = pick(rng, extreme)
        elif how == "bits":
            flipped = bytearray(array.tobytes())
            flipped[int(rng.integers(len(flipped)))] ^= 1 << int(rng.integers(8))
            array = np.frombuffer(bytes(flipped), array.dtype)
        else:
            array = {
                "shuffled": rng.permutation(array),
                "reversed": array[::-1],
                "sorted": np.sort(array),
                "moved": np.roll(array, 1),
            }[how]
    body[begin:end] = np.ascontiguousarray(array).tobytes()
    folder.closed(file, header, body)
    return f"{name}: {how}"


def change_of_header(folder: Folder) -> str:
    """An entry of a file's header says something else."""
    rng, file = folder.rng, pick(folder.rng, folder.files)
    header, body = folder.opened(file)
    name = pick(rng, header.keys() - {"__metadata__"})
    entry = header[name]
    how = pick(rng, ["offsets", "offsets", "shape", "shape", "dtype", "name", "gone", "twin", "odd", "cast", "order"])
    if how == "offsets":
        begin, end = entry["data_offsets"]
        wild = [begin, end, 0, len(body), -1, -8, begin + 4, end + 8, 2**63, 10**30, 0.5, True, "0", None]
        entry["data_offsets"] = pick(rng, [[pick(rng, wild), pick(rng, wild)], [begin], [begin, end, end], 0, None, {}])
    elif how == "shape":
        length = entry["shape"][0]
        wild = [
            [-1],
            [length, -1],
            [length, 1],
            [1, length],
            [],
            [length + 1],
            [length - 1],
            [0],
            [0, 2**62],
            [2**40, 2**40],
        ]
        entry["shape"] = pick(rng, [*wild, [float(length)], [str(length)], [True], None, "5", [[length]], {}])
    elif how == "dtype":
        entry["dtype"] = pick(rng, DTYPES)
    elif how == "cast":
        # The same bytes as another type of the same length.
        entry["dtype"] = pick(rng, DTYPES[:12])
        size = {"6": 8, "3": 4, "1": 2}.get(str(entry["dtype"])[1:2], 1)
        begin, end = entry["data_offsets"]
        entry["shape"] = [(end - begin) // size]
    elif how == "name":
        other = pick(rng, [*header, "users.", "users.more", "", "a" * 1000, "\x1b[2J"])
        header[name], header[other] = header.get(other, entry), entry
    elif how == "gone":
        del header[name]
    elif how == "twin":
        header[pick(rng, ["twin", f"{name}2", "users.scales", "learned", "numbers", "users.letters"])] = dict(entry)
    elif how == "order":
        header = dict(
            rng.permutation([json.dumps(each) for each in header.items()]).tolist() and reversed(header.items())
        )
    else:
        header[name] = pick(rng, [*ODD, {}])
    folder.closed(file, header, body)
    return f"{file}, {name}: {how}"


def change_of_metadata(folder: Folder) -> str:
    """The tables are of another precision or width."""
    header, body = folder.opened(TABLES)
    rng = folder.rng
    precision = pick(rng, [*ciess.Precision, "int2", ""])
    dim = pick(rng, [6, 5, 7, 0, -1, 64, 2**16, 2**16 + 1, 2**31, 10**11, 10**30, "x", "6.0", ""])
    kept = header["__metadata__"]["ciess"]
    told = pick(
        rng, [f"{precision} {dim}", f"{kept.split()[0]} {dim}", f"{precision} 6", kept * 1000, 5, None, [], DEEP]
    )
    header["__metadata__"] = pick(rng, [{"ciess": told}] * 5 + [told, {}, {"other": "x"}])
    folder.closed(TABLES, header, body)
    if rng.random() < 0.5:
        folder.settings["backbone"]["dim"] = dim
    return f"metadata {told!r:.40}"


def change_of_bytes(folder: Folder) -> str:
    """A file is cut, longer, empty, or its first bytes lie."""
    rng, name = folder.rng, pick(folder.rng, [*folder.files, SETTINGS])
    path = folder.path / name
    content = path.read_bytes()
    how = pick(rng, ["cut", "longer", "empty", "length", "deep", "twice", "bytes", "utf"])
    if how == "cut":
        content = content[: int(rng.integers(len(content)))]
    elif how == "longer":
        content += bytes(int(rng.integers(1, 100)))
    elif how == "empty":
        content = b""
    elif how == "length":
        wild = [0, 1, 8, len(content), len(content) - 8, 2**31, 2**63, 2**64 - 1, 2**64 - 8]
        content = struct.pack("<Q", pick(rng, wild)) + content[8:]
    elif how == "deep":
        inner = b'{"a":' * 20_000 if rng.random() < 0.5 else b"[" * 100_000
        content = struct.pack("<Q", len(inner)) + inner if name != SETTINGS else inner
    elif how == "twice":
        content *= 2
    elif how == "bytes":
        changed = bytearray(content)
        changed[int(rng.integers(len(content)))] = int(rng.integers(256))
        content = bytes(changed)
    else:
        content = content[:40] + b"\xff\xfe" + content[42:]
    if name == SETTINGS:
        folder.raw = content
    else:
        path.write_bytes(content)
    return f"{name}: {how}"


def change_of_files(folder: Folder) -> str:
    """A file changes places with another, or comes from another model."""
    rng, other = folder.rng, pick(folder.rng, folder.others)
    one, two = pick(rng, folder.files), pick(rng, folder.files)
    if rng.random() < 0.5 or not (other / one).exists():
        first, second = ((folder.path / name).read_bytes() for name in (one, two))
        (folder.path / one).write_bytes(second)
        (folder.path / two).write_bytes(first)
        return f"{one} and {two} swapped"
    shutil.copy(other / one, folder.path / one)
    if rng.random() < 0.5:
        folder.settings["backbone"] = json.loads((other / SETTINGS).read_text())["backbone"]
    return f"{one} of another model"


def change_of_place(folder: Folder) -> str:
    """In the place of a file there is a link, a device, a pipe, a folder, or nothing."""
    rng, name = folder.rng, pick(folder.rng, [*folder.files, SETTINGS])
    path = folder.path / name
    how = pick(rng, ["outside", "zero", "pipe", "folder", "gone", "itself", "relative"])
    if name == SETTINGS:
        folder.seal()
    kept = folder.outside / f"{folder.path.name}-{name}"
    path.rename(kept)
    if how == "outside":
        path.symlink_to(kept)
    elif how == "relative":
        path.symlink_to(Path("..") / folder.outside.name / kept.name)
    elif how == "zero":
        path.symlink_to("/dev/zero")
    elif how == "pipe":
        os.mkfifo(path)
    elif how == "folder":
        path.mkdir()
    elif how == "itself":
        path.symlink_to(name)
    if name != SETTINGS:
        folder.seal()
    folder.done = True
    return f"{name}: {how}"


def change_of_pending(folder: Folder) -> str:
    """The folder looks as if a writer had been stopped in it."""
    rng, name = folder.rng, pick(folder.rng, folder.files)
    committed = folder.path / ".ciess-committed"
    how = pick(rng, ["link", "file", "plan is a pipe", "no plan", "plan", "plan", "plan"])
    if how == "link":
        shutil.copytree(folder.path, folder.outside / f"{folder.path.name}-all")
        committed.symlink_to(folder.outside / f"{folder.path.name}-all")
        return how
    if how == "file":
        committed.write_text("x")
        return how
    committed.mkdir()
    if how == "plan is a pipe":
        os.mkfifo(committed / "plan.json")
        return how
    stale = pick(rng, [[], [name], ["../outside/secret.npy"], ["/etc/hostname"], [SETTINGS], 3, [[1]], ODD])
    first = pick(rng, ["gone", name, "../x", "/x", 1, None, DEEP])
    (committed / name).write_bytes(pick(rng, [b"", (folder.path / pick(rng, folder.files)).read_bytes(), b"x" * 100]))
    if how == "plan":
        told = json.dumps({"first": first, "stale": stale}).replace(json.dumps(DEEP), "[" * 3000 + "]" * 3000)
        (committed / "plan.json").write_text(told)
    return f"pending {name}: {first!r:.20} {stale!r:.30}"


CHANGES: list[Callable[[Folder], str]] = [
    *(change_of_json, change_of_json, change_of_backbone, change_of_names),
    *(change_of_numbers, change_of_numbers, change_of_numbers, change_of_header, change_of_header),
    *(change_of_metadata, change_of_bytes, change_of_files, change_of_place, change_of_pending),
]


def made(number: int, models: list[Path], root: Path) -> tuple[Path, str, str]:
    """The hostile folder of a number; the kind of its first change, and what was changed."""
    rng = np.random.default_rng(number)
    path, outside = root / f"case-{number}", root / "outside"
    shutil.rmtree(outside, ignore_errors=True)
    outside.mkdir()
    np.save(outside / "secret.npy", np.ones((40, 6), dtype=np.float32))
    shutil.copytree(pick(rng, models), path)
    folder = Folder(path, rng, models, outside)
    first = CHANGES[number % len(CHANGES)]
    told = [first(folder)]
    # What no longer has its files cannot be changed again.
    if folder.raw is None and not folder.done and rng.random() < 0.25:
        try:
            told.append(pick(rng, CHANGES[:10])(folder))
        except (KeyError, ValueError, TypeError, AttributeError, IndexError, RecursionError, struct.error):
            told.append("no second change")
    try:
        folder.seal()
    except (TypeError, ValueError, RecursionError):
        told.append("not sealed")
        folder.raw = json.dumps(folder.settings).encode()
        folder.seal()
    return path, first.__name__.removeprefix("change_of_"), "; ".join(told)
