"""Models from strangers: what their files hold is checked, whatever their checksums say. More: `test_hostile.py`."""

import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile_changes import Folder

import ciess
from ciess.data import Interactions
from ciess.errors import InputError
from ciess.models import backbone_named
from ciess.tables.plan import SizePlan

DATA = ciess.synthetic(users=40, items=30, mean_count=8).interactions
TABLES, IDS, SEEN = (f"{name}.safetensors" for name in ("tables", "ids", "interactions"))


def saved(folder: Path, name: str = "mf", precision: str = "float32", numbers: bool = False) -> Path:
    """A model whose users have items that it has not learned."""
    ids = [side.str.slice(1).cast(int) if numbers else side for side in (DATA.user_ids, DATA.item_ids)]
    learned = DATA.matrix.copy()
    learned.data[::3] = 0
    learned.eliminate_zeros()
    part, config = Interactions(learned, *ids), backbone_named(name, dim=6)
    plan = SizePlan(np.arange(40) % 6 + 1, np.arange(30) % 6 + 1, 6, ciess.Precision(precision))
    has = Interactions(DATA.matrix, *ids)
    return ciess.CompressedModel.pack(config, config.build(part), plan, part, {}, has).save(folder)


def changed(folder: Path, change: Callable[[Folder], None]) -> None:
    """Change a folder, and make its checksums anew."""
    opened = Folder(folder, np.random.default_rng(), [], folder)
    change(opened)
    opened.seal()


def refusal(folder: Path, **settings: Any) -> str:
    with pytest.raises(InputError) as error:
        ciess.load(folder, **settings).recommend("u0")
    told = str(error.value)
    assert told.isprintable()
    assert len(told) < 400
    return told


def numbers(file: str, name: str, dtype: str, change: Callable[[Any], Any]) -> Callable[[Folder], None]:
    """Changes the numbers of an array in place."""

    def of(folder: Folder) -> None:
        header, body = folder.opened(file)
        begin, end = header[name]["data_offsets"]
        array = np.frombuffer(bytes(body[begin:end]), dtype).copy()
        change(array)
        body[begin:end] = array.tobytes()
        folder.closed(file, header, body)

    return of


def put(place: int, value: Any) -> Callable[[Any], None]:
    return lambda array: array.__setitem__(place, value)


def swap(array: Any) -> None:
    array[[0, 1]] = array[[1, 0]]


WRONG_NUMBERS = {
    "an offset below 0": numbers(SEEN, "offsets", "<i4", put(5, -1)),
    "an offset far below 0": numbers(SEEN, "offsets", "<i4", put(5, -(2**31))),
    "an offset beyond the end": numbers(SEEN, "offsets", "<i4", put(5, 2**31 - 1)),
    "a falling offset": numbers(SEEN, "offsets", "<i4", put(20, 0)),
    "a first offset that is not 0": numbers(SEEN, "offsets", "<i4", put(0, 1)),
    "a popular item that does not exist": numbers(SEEN, "popular", "u1", put(3, 255)),
    "a popular item twice": numbers(SEEN, "popular", "u1", put(3, 0)),
    "an item that does not exist": numbers(SEEN, "items", "u1", put(3, 30)),
    "items that fall": numbers(SEEN, "items", "u1", swap),
    "an order beyond the rows": numbers(IDS, "users.order", "<i4", put(0, 40)),
    "an order below 0": numbers(IDS, "items.order", "<i4", put(0, -1)),
    "the last row counted from the end": numbers(
        IDS, "users.order", "<i4", lambda array: put(array.argmax(), -1)(array)
    ),
    "a row twice in the order": numbers(IDS, "users.order", "<i4", lambda array: put(1, array[0])(array)),
    "an order that is none": numbers(IDS, "items.order", "<i4", swap),
    "letters that are not UTF-8": numbers(IDS, "users.letters", "u1", put(0, 255)),
    "ends that fall": numbers(IDS, "users.ends", "<i8", put(3, 0)),
    "an end below 0": numbers(IDS, "users.ends", "<i8", put(0, -5)),
    "an end beyond the letters": numbers(IDS, "items.ends", "<i8", put(3, 2**40)),
    "a number that is none": numbers(TABLES, "users.values", "<f4", put(3, np.nan)),
    "an infinite number": numbers(TABLES, "items.values", "<f4", put(0, np.inf)),
}


@pytest.mark.parametrize("wrong", WRONG_NUMBERS)
@pytest.mark.parametrize("name", ["mf", "lightgcn"])
def test_numbers_that_no_model_consists_of_are_refused(name: str, wrong: str, tmp_path: Path) -> None:
    changed(saved(tmp_path, name), WRONG_NUMBERS[wrong])
    assert "is damaged or was not written by ciess: save the model again" in refusal(tmp_path)
    with pytest.raises(InputError):
        _ = ciess.load(tmp_path).interactions
    with pytest.raises(InputError):
        ciess.load(tmp_path, verify=True)


@pytest.mark.parametrize("scale", [np.nan, np.inf, 0, -1, 1e30])
def test_shared_scales_that_are_none_are_refused(scale: float, tmp_path: Path) -> None:
    changed(saved(tmp_path, precision="int4-shared"), numbers(TABLES, "users.scales", "<f4", put(0, scale)))
    assert "is damaged" in refusal(tmp_path)


def test_whole_ids_twice_are_refused(tmp_path: Path) -> None:
    same = numbers(IDS, "users.numbers", "<i4", lambda array: put(1, array[0])(array))
    changed(saved(tmp_path, numbers=True), same)
    assert "is damaged" in refusal(tmp_path)


def entry(file: str, name: str, **told: Any) -> Callable[[Folder], None]:
    def of(folder: Folder) -> None:
        header, body = folder.opened(file)
        header[name] |= told
        folder.closed(file, header, body)

    return of


def shared_bytes(folder: Folder) -> None:
    header, body = folder.opened(TABLES)
    header["items.groups"]["data_offsets"] = header["users.groups"]["data_offsets"]
    header["items.groups"]["shape"] = header["users.groups"]["shape"]
    folder.closed(TABLES, header, body)


def with_a_gap(folder: Folder) -> None:
    header, body = folder.opened(SEEN)
    last = max(header.keys() - {"__metadata__"}, key=lambda name: header[name]["data_offsets"])
    header[last]["data_offsets"] = [end + 4 for end in header[last]["data_offsets"]]
    folder.closed(SEEN, header, body + bytes(4))


def metadata(told: Any) -> Callable[[Folder], None]:
    def of(folder: Folder) -> None:
        header, body = folder.opened(TABLES)
        header["__metadata__"] = {"ciess": told}
        folder.closed(TABLES, header, body)

    return of


def header(content: bytes) -> Callable[[Folder], None]:
    return lambda folder: folder.closed(IDS, content, b"")


WRONG_HEADERS = {
    "bytes of two arrays": shared_bytes,
    "bytes of none": with_a_gap,
    "a length to be guessed": entry(SEEN, "offsets", shape=[-1]),
    "a negative range": entry(SEEN, "offsets", data_offsets=[-4, 160]),
    "a range in halves": entry(SEEN, "offsets", data_offsets=[0, 164.0]),
    "more entries than bytes": entry(SEEN, "items", shape=[2**40, 2**40]),
    "floats for offsets": entry(SEEN, "offsets", dtype="F32"),
    "truth values for offsets": entry(IDS, "users.order", dtype="BOOL", shape=[160]),
    "a width of terabytes": metadata("float32 100000000000"),
    "no width": metadata("float32 0"),
    "a width below the sizes": metadata("float32 5"),
    "a precision of other bytes": metadata("int8 6"),
    "metadata that are no text": metadata([1]),
    "a deep header": header(b"[" * 100_000),
    "a header of nested objects": header(b'{"a":' * 90 + b"1" + b"}" * 90),
    "a header that is a list": header(b"[]"),
}


@pytest.mark.parametrize("wrong", WRONG_HEADERS)
def test_headers_that_lie_are_refused_when_a_model_is_opened(wrong: str, tmp_path: Path) -> None:
    changed(saved(tmp_path), WRONG_HEADERS[wrong])
    with pytest.raises(InputError, match=r"save the model again$"):
        ciess.load(tmp_path)


def told(**values: Any) -> Callable[[Folder], None]:
    return lambda folder: folder.settings.update(values)


def backbone(**values: Any) -> Callable[[Folder], None]:
    return lambda folder: folder.settings["backbone"].update(values)


def names(change: Callable[[dict[str, str]], Any]) -> Callable[[Folder], None]:
    return lambda folder: change(folder.settings["checksums"])


WRONG_SETTINGS = {
    "a device as a file": names(lambda sums: sums.update({"/dev/zero": "00000000"})),
    "a file outside": names(lambda sums: sums.update({"../secret": "00000000"})),
    "a file less": names(lambda sums: sums.pop(SEEN)),
    "a checksum that is a number": names(lambda sums: sums.update({SEEN: 7})),
    "checksums as a list": told(checksums=[]),
    "endless layers": backbone(layers=10**12),
    "no number of layers": backbone(layers=float("nan")),
    "another width": backbone(dim=7),
    "a width of no model": backbone(dim=10**9),
    "a truth value as a width": backbone(dim=True),
    "a setting of no backbone": backbone(evil=1),
    "training of no backbone": backbone(training={"evil": 1}),
    "training as a list": backbone(training=[1]),
    "a name that speaks to terminals": backbone(name="\x1b]0;x\x07"),
    "a name with a line break": backbone(name="a\nb"),
    "a name that is a list": backbone(name=["mf"]),
    "a format that is a list": told(format=[3]),
    "a format with a line break": told(format="3\n4"),
    "text for a truth value": told(rows_stand_alone="no"),
    "deep settings": told(about={"a": json.loads("[" * 200 + "]" * 200)}),
}


@pytest.mark.parametrize("wrong", WRONG_SETTINGS)
def test_settings_that_no_model_has_are_refused_when_it_is_opened(wrong: str, tmp_path: Path) -> None:
    changed(saved(tmp_path, "lightgcn"), WRONG_SETTINGS[wrong])
    with pytest.raises(InputError) as error:
        ciess.load(tmp_path)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("name", "settings"), [("ngcf", {"layers": 60}), ("ngcf", {"dim": 30_000}), ("ncf", {"dim": 60_000})]
)
def test_a_network_that_the_files_do_not_hold_is_not_built(name: str, settings: dict[str, int], tmp_path: Path) -> None:
    """Its weights would be many times the files."""
    saved(tmp_path, name)
    changed(tmp_path, backbone(**settings))
    changed(tmp_path, metadata(f"float32 {settings.get('dim', 6)}"))
    with pytest.raises(InputError, match="does not match the tables and the network"):
        ciess.load(tmp_path)


def test_tables_that_would_be_far_larger_than_their_files_are_refused(tmp_path: Path) -> None:
    rows = 10_000
    data = Interactions.from_pairs(
        np.arange(rows), np.zeros(rows, dtype=int), *(ciess.data.interactions.pl.Series(range(n)) for n in (rows, 2))
    )
    config = ciess.MF(dim=4)
    plan = SizePlan(np.ones(rows), np.ones(2), 4, ciess.Precision("int4"))
    ciess.CompressedModel.pack(config, config.build(data), plan, data).save(tmp_path)
    changed(tmp_path, metadata("int4 30000"))
    with pytest.raises(InputError, match=r"tables\.safetensors is damaged"):
        ciess.load(tmp_path)


def test_factors_that_name_files_read_none(tmp_path: Path) -> None:
    """With a width of 0, `Factors` would read its files: of these it would say that they are not there."""
    outside = str(tmp_path / "secret.npy")
    for dim, alone in itertools.product(({"dim": 0}, {"dim": 6}, {}), (True, False)):
        folder = saved(tmp_path / f"{dim}-{alone}")
        given = {"name": "factors", **dim, "users": outside, "items": outside, "user_ids": outside}
        changed(
            folder,
            lambda opened, given=given, alone=alone: opened.settings.update(backbone=given, rows_stand_alone=alone),
        )
        if dim == {"dim": 0}:
            assert "is damaged" in refusal(folder)
        else:
            model = ciess.load(folder)
            assert len(model.recommend("u0", k=3)[0]) == 3
            _ = model.backbone
            assert "tables" not in vars(model.config)


@pytest.mark.parametrize("name", [TABLES, IDS, SEEN, "network.safetensors", "model.json"])
def test_links_devices_and_pipes_are_not_opened(name: str, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    path = saved(tmp_path / "model", "ncf") / name
    path.rename(kept)
    path.symlink_to(kept)
    assert f"{name} cannot be read (it is a link): save the model again" in refusal(path.parent)
    path.unlink()
    path.symlink_to("/dev/zero")
    assert "it is a link" in refusal(path.parent)
    path.unlink()
    os.mkfifo(path)
    assert "it is no plain file" in refusal(path.parent)
    path.unlink()
    path.mkdir()
    assert "cannot be read" in refusal(path.parent)
    path.rmdir()
    kept.rename(path)
    assert len(ciess.load(path.parent).recommend("u0", k=3)[0]) == 3


def test_a_folder_may_be_a_link(tmp_path: Path) -> None:
    folder = saved(tmp_path / "version-7")
    (tmp_path / "current").symlink_to(folder)
    assert len(ciess.load(tmp_path / "current").recommend("u0", k=3)[0]) == 3


@pytest.mark.parametrize("where", ["own", "outer"])
def test_files_of_a_stopped_writer_are_not_taken_from_elsewhere(where: str, tmp_path: Path) -> None:
    """A link in the place of the folder in which a writer leaves them."""
    folder, other = saved(tmp_path / "run" / "model"), saved(tmp_path / "other" / "model", precision="int8")
    base, target = (folder, other) if where == "own" else (folder.parent, other.parent)
    (target / "plan.json").write_text(json.dumps({"first": "x", "stale": []}))
    (base / ".ciess-committed").symlink_to(target)
    assert ciess.load(folder).users.precision == "float32"
    if where == "outer":
        (base / ".ciess-committed").unlink()
        (base / ".ciess-committed").mkdir()
        (target / "plan.json").rename(base / ".ciess-committed" / "plan.json")
        (base / ".ciess-committed" / "model").symlink_to(other)
        assert ciess.load(folder).users.precision == "float32"
