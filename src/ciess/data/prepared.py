"""Parquet parts that memory does not hold, as a split in a folder: matrices that are mapped, not read."""

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_array

from ciess.checks import Seed, check
from ciess.data.columns import one_type, rows_of
from ciess.data.foreign import panics_untold
from ciess.data.frames import Rows, Wanted, have_times
from ciess.data.interactions import Interactions, InteractionsLike
from ciess.data.pairs import merged
from ciess.data.readers import RECORD, interactions_of, is_prepared, parquet_parts, rows_of_parquet
from ciess.data.split import Split, parts_at_random
from ciess.errors import InputError, refused
from ciess.files import Content, check_folder, given_path, locked, open_regular, parsed_json, reading, write_together
from ciess.progress import Progress, silent

FORMAT = 1
ONES = "ones.bin"
_PARTS = ("train", "valid", "test")
_SIDES = ("user", "item")
_ROWS_AT_ONCE = 4_000_000
"""Interactions of one range of users, which are sorted in memory."""
_MOST_RANGES = 400
"""Files that are open at once."""


def prepare(
    folder: str | Path,
    out: str | Path,
    *,
    user: str | None = None,
    item: str | None = None,
    rating: str | None = None,
    time: str | None = None,
    min_rating: float | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> None:
    """Split the Parquet parts of a table at random, one part in memory at a time, into a folder that `prepared` opens.

    The split is `split_random(read(folder), seed=seed)`, bit for bit.

    Args:
        folder: as Spark and Hive write them: `*.parquet` in folders, named `key=value` or not; or one file.
        out: a new folder, or one that was prepared before.
        user: column of user ids, where it has no usual name; the other columns as `read` takes them.
        item: column of item ids.
        rating: column of ratings.
        time: column of times.
        min_rating: leave out interactions rated below this.
        seed: of the split.
        progress: told every part.

    Raises:
        InputError: other files than Parquet, what `read` and `split_random` refuse, or a folder that cannot be written.
    """
    folder, out = given_path("folder", folder), given_path("out", out)
    seed = check("seed", seed, Seed)
    check("progress", progress, Callable)
    wanted = Wanted(user, item, rating, time, min_rating)
    _check_out(out)
    if is_prepared(folder):
        raise InputError(f"{folder} is prepared already: name the Parquet parts that it was made of")
    if folder.resolve() in out.resolve().parents:
        raise InputError(f"{out} is within {folder}, whose files are read: choose another folder")
    files = parquet_parts(folder)
    parts = partial(_parts_of, files, folder, wanted, progress)
    ids, counts, times = _ids(parts("ids"))
    with _aside(out) as aside:
        ranges = _ranges(counts)
        _sort_into(aside, parts("ranges"), ids, ranges, times)
        told = _split_ranges(aside, ids, ranges, times, seed, progress)
        for side, each in zip(_SIDES, ids, strict=True):
            each.to_frame("id").write_parquet(aside / _ids_name(side))
        record = {"format": FORMAT, "seed": seed, "times": "" if times is None else times.str, "parts": told}
        names = [name for name in (*_array_names(times), *map(_ids_name, _SIDES)) if (aside / name).exists()]
        moved: dict[str, Content] = {name: partial(os.replace, aside / name) for name in names}
        # The record comes first: the files count as soon as it is in place.
        write_together(out, {RECORD: json.dumps(record) + "\n", **moved}, _array_names(np.dtype(np.int64)))


def split_or_interactions_of(data: "InteractionsLike | Split") -> Split | Interactions:
    """What is to be searched: a split as it is, that of a prepared folder, or interactions, see `interactions_of`.

    Raises:
        InputError: as `prepared` and `interactions_of` do.
    """
    if isinstance(data, Split):
        return data
    if isinstance(data, str | os.PathLike) and is_prepared(given_path("data", data)):
        return prepared(data)
    return interactions_of(data)


def prepared(folder: str | os.PathLike[str]) -> Split:
    """The split in a folder that `prepare` made, over arrays that are mapped into memory and read when they are used.

    Everything is checked once, as it would be if it were in memory: the folder may be a stranger's.

    Raises:
        InputError: it is no such folder, or damaged.
    """
    folder = given_path("folder", folder)
    if not is_prepared(folder):
        raise InputError(f"{folder} holds no {RECORD}: name a folder of `ciess data prepare`")
    with reading(folder) as place, refused(f"{folder} is damaged", "prepare it anew"), panics_untold():
        with open_regular(place(RECORD)) as file:
            record = parsed_json(file.read())
        if record["format"] != FORMAT:
            raise InputError(f"{folder} is of format {record['format']}, this ciess reads {FORMAT}: prepare it anew")
        ids = []
        for side in _SIDES:
            with open_regular(place(_ids_name(side))) as file:
                ids.append(pl.read_parquet(file)["id"])
        times = {"": None, "<i8": np.dtype(np.int64), "<f8": np.dtype(np.float64)}[record["times"]]
        found = [_opened(place, name, ids, record["parts"][name], times) for name in _PARTS if name in record["parts"]]
        return Split(*found)


def _opened(
    place: Callable[[str], Path], part: str, ids: list[pl.Series], n: int, times: np.dtype[Any] | None
) -> Interactions:
    users, items = ids
    arrays = [
        _mapped(place(name), np.dtype(kind), length)
        for name, kind, length in (
            (ONES, np.float32, n),
            (f"{part}-indices.bin", np.int32, n),
            (f"{part}-indptr.bin", np.int32, len(users) + 1),
        )
    ]
    known = None if times is None else _mapped(place(f"{part}-times.bin"), times, n)
    ones, indices, indptr = arrays
    return Interactions(csr_array((ones, indices, indptr), shape=(len(users), len(items))), users, items, known)


def _mapped(path: Path, kind: np.dtype[Any], length: int) -> NDArray[Any]:
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if type(length) is not int or not 0 < length * kind.itemsize <= size:
            raise ValueError(f"{path.name} is too short")
        # Private to this process: PyTorch warns of arrays that cannot be written.
        return np.memmap(file, kind, "c", shape=(length,))


def _ids_name(side: str) -> str:
    return f"{side}-ids.parquet"


def _array_names(times: np.dtype[Any] | None) -> list[str]:
    kinds = ("indices", "indptr", *(() if times is None else ("times",)))
    return [ONES, *(f"{part}-{kind}.bin" for part in _PARTS for kind in kinds)]


def _check_out(out: Path) -> None:
    check_folder(out)
    known = {RECORD, *_array_names(np.dtype(np.int64)), *map(_ids_name, _SIDES)}
    if others := sorted(path.name for path in out.glob("[!.]*") if path.name not in known):
        raise InputError(f"{out} holds other files, such as {others[0]}: choose a new folder, or empty this one")


@contextmanager
def _aside(out: Path) -> Iterator[Path]:
    """A folder on the same disk; if this process is killed, the next writer removes it."""
    out.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix=".ciess-", suffix=".part", dir=out) as folder,
        locked(Path(folder)),
        refused(f"{out} cannot be written", "make room, or choose another place"),
    ):
        yield Path(folder)


def _parts_of(files: list[Path], table: Path, wanted: Wanted, progress: Progress, phase: str) -> Iterator[Rows]:
    for number, file in enumerate(files, 1):
        yield rows_of_parquet(file, table, wanted)
        progress(phase, number, len(files))


def _ids(parts: Iterator[Rows]) -> tuple[tuple[pl.Series, pl.Series], NDArray[np.int64], np.dtype[Any] | None]:
    """The ids of both sides in rising order, each user's rows, and the type of times where all parts have them."""
    known: list[pl.DataFrame] = []
    kinds: list[Rows] = []
    for rows in parts:
        if not len(rows.users):
            continue
        few = None if rows.times is None else rows.times[:1].copy()
        kinds.append(replace(rows, users=rows.users.clear(), items=rows.items.clear(), times=few))
        here = [side.alias("id").to_frame().group_by("id").len("n") for side in (rows.users, rows.items)]
        known = [_summed(*each) for each in zip(known, here, strict=True)] if known else here
    if not known:
        raise InputError("there are no interactions: check the data and the rating threshold")
    users, items = (each.sort("id") for each in known)
    timed = [each.times for each in kinds if each.times is not None]
    times = np.result_type(*timed) if have_times(kinds) else None
    return (users["id"], items["id"]), users["n"].to_numpy().astype(np.int64), times


def _summed(one: pl.DataFrame, other: pl.DataFrame) -> pl.DataFrame:
    ids = one_type([one["id"], other["id"]])
    both = pl.concat([frame.with_columns(id=each) for frame, each in zip((one, other), ids, strict=True)])
    return both.group_by("id").agg(pl.col("n").sum())


def _ranges(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where ranges of users begin that have about as many rows, and the number of users."""
    total = counts.cumsum()
    n = min(math.ceil(total[-1] / _ROWS_AT_ONCE), _MOST_RANGES)
    starts = np.searchsorted(total, np.arange(1, n) * (total[-1] / n))
    return np.unique(np.concatenate([[0], starts, [len(counts)]]))


def _sort_into(
    aside: Path,
    parts: Iterator[Rows],
    ids: tuple[pl.Series, pl.Series],
    ranges: NDArray[np.int64],
    times: np.dtype[Any] | None,
) -> None:
    """Write the rows of each range of users into a file of its own."""
    kind = _row_type(times)
    for rows in parts:
        found = np.empty(len(rows.users), kind)
        found["user"], found["item"] = rows_of(ids[0], rows.users), rows_of(ids[1], rows.items)
        if times is not None and rows.times is not None:
            found["time"] = rows.times
        where = np.searchsorted(ranges, found["user"], side="right") - 1
        found, ends = found[np.argsort(where, kind="stable")], np.bincount(where, minlength=len(ranges) - 1).cumsum()
        for number, each in enumerate(np.split(found, ends[:-1])):
            if len(each):
                with (aside / f"range-{number}").open("ab") as file:
                    each.tofile(file)


def _row_type(times: np.dtype[Any] | None) -> np.dtype[Any]:
    return np.dtype([("user", np.int32), ("item", np.int32), *([] if times is None else [("time", times)])])


def _split_ranges(
    aside: Path,
    ids: tuple[pl.Series, pl.Series],
    ranges: NDArray[np.int64],
    times: np.dtype[Any] | None,
    seed: int,
    progress: Progress,
) -> dict[str, int]:
    """Write the arrays of all parts, range by range; how many interactions each part has."""
    random, n_items, done = np.random.default_rng(seed), len(ids[1]), dict.fromkeys(_PARTS, 0)
    for number, (start, end) in enumerate(pairwise(ranges)):
        path = aside / f"range-{number}"
        rows = np.fromfile(path, _row_type(times))
        path.unlink()
        shape = int(end - start), n_items
        matrix, when = merged(rows["user"] - start, rows["item"], shape, None if times is None else rows["time"])
        users = np.repeat(np.arange(shape[0]), np.diff(matrix.indptr))
        part = parts_at_random(matrix, random)
        for place, name in enumerate(_PARTS):
            mine = part == place
            arrays = {"indices": matrix.indices[mine].astype(np.int32)}
            ends = np.bincount(users[mine], minlength=shape[0]).cumsum() + done[name]
            arrays["indptr"] = np.concatenate([[0] if start == 0 else [], ends]).astype(np.int32)
            if when is not None:
                arrays["times"] = when[mine]
            for kind, array in arrays.items():
                with (aside / f"{name}-{kind}.bin").open("ab") as file:
                    array.tofile(file)
            done[name] += int(mine.sum())
            if done[name] >= 2**31:
                raise InputError("a part of the split has 2³¹ interactions or more: prepare fewer")
        progress("split", number + 1, len(ranges) - 1)
    for name, what in (("train", "train"), ("valid", "validation")):
        if not done[name]:
            raise InputError(f"{what} is empty: there are too few interactions for this split")
    with (aside / ONES).open("wb") as file:
        for begin in range(0, most := max(done.values()), _ROWS_AT_ONCE):
            np.ones(min(_ROWS_AT_ONCE, most - begin), np.float32).tofile(file)
    if not done["test"]:
        for path in aside.glob("test-*"):
            path.unlink()
    return {name: n for name, n in done.items() if n}
