"""Parquet parts split without reading them all: the same as in memory, and damage is refused."""

import json
import mmap
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ciess.data import prepared as module
from ciess.data import read, split_random
from ciess.data.prepared import prepare, prepared, split_or_interactions_of
from ciess.errors import InputError

KINDS = {
    "numbers": lambda x: x * 7 - 20,
    "texts": lambda x: f"u{x}",
    "mixed": lambda x: x if x < 5 else f"u{x}",
}


def write(folder: Path, rows: list[tuple[int, int, float]], parts: int, kind: str, timed: bool) -> None:
    """Parts as Spark writes them; with mixed ids one part may hold numbers, the other texts."""
    columns = {"user_id": [KINDS[kind](user) for user, *_ in rows], "item": [f"i{item}" for _, item, _ in rows]}
    if timed:
        columns["time"] = [time for *_, time in rows]
    where = [n % parts for n in range(len(rows))]
    if kind == "mixed":
        where = [int(isinstance(user, str)) for user in columns["user_id"]]
    for part in sorted(set(where)):
        target = folder / f"day={part % 2}" / f"part-{part:05}.snappy.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        held = {
            key: [each for each, n in zip(values, where, strict=True) if n == part] for key, values in columns.items()
        }
        pl.DataFrame(held).write_parquet(target)
    (folder / "_SUCCESS").touch()


def same(one: Any, other: Any) -> None:
    for name in ("user_ids", "item_ids"):
        assert getattr(one, name).equals(getattr(other, name))
    for mine, theirs in [
        (one.times, other.times),
        *((getattr(one.matrix, n), getattr(other.matrix, n)) for n in NAMES),
    ]:
        assert (mine is None) == (theirs is None)
        if mine is not None:
            assert mine.dtype == theirs.dtype
            np.testing.assert_array_equal(mine, theirs)


NAMES = ("data", "indices", "indptr")
ROWS = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 6), st.sampled_from([1.0, 2.5, 3.0, 4.0])), min_size=4, max_size=60
)


@settings(max_examples=20)
@given(ROWS, st.integers(1, 3), st.sampled_from([*KINDS]), st.booleans(), st.integers(1, 30), st.integers(0, 3))
def test_the_split_is_that_of_a_table_in_memory(
    rows: list[tuple[int, int, float]], parts: int, kind: str, timed: bool, at_once: int, seed: int
) -> None:
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as name:
        folder = Path(name)
        patch.setattr(module, "_ROWS_AT_ONCE", at_once)
        write(folder / "in", rows, parts, kind, timed)
        try:
            expected = split_random(read(folder / "in"), seed=seed)
        except InputError as error:
            with pytest.raises(InputError, match=str(error)):
                prepare(folder / "in", folder / "out", seed=seed)
            return
        prepare(folder / "in", folder / "out", seed=seed)
        found = prepared(folder / "out")
        assert len(found.parts) == len(expected.parts)
        for one, other in zip(found.parts, expected.parts, strict=True):
            same(one, other)


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    rows = [(int(u), int(i), 1.0) for u, i in random.integers(0, [30, 20], (400, 2))]
    write(tmp_path / "in", rows, 3, "texts", True)
    return tmp_path / "in"


def test_arrays_are_mapped_and_a_second_preparation_takes_the_place_of_the_first(parts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / ".ciess-0123.part").mkdir(parents=True)
    prepare(parts, out)
    train = prepared(out).train
    for array in (train.matrix.indices, train.matrix.data, train.times):
        while isinstance(array, np.ndarray):
            array = array.base
        assert isinstance(array, mmap.mmap)
    for file in parts.rglob("*.parquet"):
        pl.read_parquet(file).drop("time").write_parquet(file)
    prepare(parts, out, seed=1)
    same(prepared(out).train, split_random(read(parts), seed=1).train)
    assert not [path.name for path in out.iterdir() if path.name.startswith(".") or "times" in path.name]


def test_a_prepared_folder_is_searched_and_not_read(parts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(parts, out)
    for taken in (out, str(out), prepared(out)):
        same(split_or_interactions_of(taken).train, prepared(out).train)
    assert len(split_or_interactions_of(parts)) == len(read(parts))
    with pytest.raises(InputError, match="out is prepared, a split for search, compare and apply alone: name the data"):
        read(out)
    with pytest.raises(InputError, match="out is prepared already: name the Parquet parts"):
        prepare(out, tmp_path / "again")


def test_what_cannot_be_prepared_is_refused(parts: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    with pytest.raises(InputError, match=r"full holds other files, such as mine.txt"):
        prepare(parts, tmp_path / "full")
    (tmp_path / "a.csv").write_text("user,item\n1,2\n")
    with pytest.raises(InputError, match=r"a.csv is no Parquet file"):
        prepare(tmp_path / "a.csv", tmp_path / "out")
    with pytest.raises(InputError, match="column 'x'"):
        prepare(parts, tmp_path / "out", user="x")
    with pytest.raises(InputError, match=r"in holds no prepared.json"):
        prepared(parts)
    with pytest.raises(InputError, match=r"out is within .*in, whose files are read: choose another folder"):
        prepare(parts, parts / "out")
    [*_, last] = sorted(parts.rglob("*.parquet"))
    last.write_bytes(last.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"parquet cannot be read as Parquet"):
        prepare(parts, tmp_path / "out")
    assert not [*(tmp_path / "out").glob("*")]


def _record(**changes: Any) -> Any:
    def change(out: Path) -> None:
        path = out / "prepared.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def _array(name: str, place: int, value: int) -> Any:
    def change(out: Path) -> None:
        array = np.fromfile(out / name, np.int32)
        array[place] = value
        array.tofile(out / name)

    return change


def _overlapping(out: Path) -> None:
    for kind in ("indices", "indptr", "times"):
        (out / f"valid-{kind}.bin").write_bytes((out / f"train-{kind}.bin").read_bytes())
    record = json.loads((out / "prepared.json").read_text())
    _record(parts=record["parts"] | {"valid": record["parts"]["train"]})(out)


def _linked(out: Path) -> None:
    (out / "train-indices.bin").rename(out.parent / "elsewhere.bin")
    (out / "train-indices.bin").symlink_to(out.parent / "elsewhere.bin")


DAMAGES = {
    "no record": lambda out: (out / "prepared.json").write_text("[]"),
    "a column beyond the items": _array("train-indices.bin", 3, 10**6),
    "a negative column": _array("valid-indices.bin", 0, -1),
    "falling offsets": _array("train-indptr.bin", 2, 10**6),
    "a cut array": lambda out: (out / "test-indices.bin").write_bytes(b"1234"),
    "a missing array": lambda out: (out / "train-times.bin").unlink(),
    "a link": _linked,
    "other ids": lambda out: pl.DataFrame({"id": [1, 2]}).write_parquet(out / "user-ids.parquet"),
    "ids that come twice": lambda out: pl.DataFrame({"id": ["i0"] * 20}).write_parquet(out / "item-ids.parquet"),
    "another type of times": _record(times="<U9"),
    "negative lengths": _record(parts={"train": -4, "valid": 10}),
    "lengths that are none": _record(parts={"train": "x", "valid": 10}),
    "no parts": _record(parts=[]),
    "another format": _record(format=99),
    "what is learned is held out": _overlapping,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_refused(damage: str, parts: Path, tmp_path: Path) -> None:
    prepare(parts, tmp_path / "out")
    DAMAGES[damage](tmp_path / "out")
    with pytest.raises(InputError):
        prepared(tmp_path / "out")
