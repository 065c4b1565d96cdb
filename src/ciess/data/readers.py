"""Readers of interaction files, chosen by name and content."""

from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import polars as pl
from scipy.sparse import load_npz

from ciess.data.adjacency import read_adjacency
from ciess.data.catalogue import CATALOGUE, located
from ciess.data.interactions import Interactions
from ciess.data.synthetic import synthetic
from ciess.errors import InputError

_USUAL_FILES = ("ratings.dat", "u.data", "ratings.csv", "user_artists.dat")
_ENDINGS = (".inter", ".parquet", ".npz", ".csv", ".tsv", ".txt")
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r"))
"""Bytes that no text holds."""
_MOVIELENS_COLUMNS = ["user", "item", "rating", "time"]


def read(
    path: str | Path,
    *,
    user: str | None = None,
    item: str | None = None,
    rating: str | None = None,
    time: str | None = None,
    min_rating: float | None = None,
) -> Interactions:
    """Read interactions from a file or a folder.

    Known are LightGCN's lines (`user item item …`), MovieLens (`ratings.dat`, `u.data`, `ratings.csv`), Last.fm of
    HetRec (`user_artists.dat`), RecBole's `.inter`, `.csv`, `.tsv` and `.parquet` with named columns, and sparse
    matrices of `scipy.sparse.save_npz`, whose rows and columns are numbered. In a folder, LightGCN's `train.txt` and
    `test.txt` are put together; else the one file of a known kind is read.

    Args:
        path: file or folder; else a name of the catalogue that was fetched (`ciess data list`), or `synthetic`, the
            embedded set.
        user: column of user ids, where it has no usual name; the other columns likewise.
        item: column of item ids.
        rating: column of ratings.
        time: column of times.
        min_rating: leave out interactions rated below this.

    Raises:
        InputError: what is wrong with which file, and what to do.
    """
    path = Path(path)
    if not path.exists() and str(path) == "synthetic":
        _refuse_ratings(path, min_rating)
        return synthetic().interactions
    if not path.exists():
        path = _named(str(path))
    if path.is_dir():
        halves = [path / "train.txt", path / "test.txt"]
        if all(half.is_file() for half in halves):
            _refuse_ratings(path, min_rating)
            for half in halves:
                _content(half)
            return read_adjacency(*halves)
        path = _only_file(path)
    if path.suffix == ".npz":
        _refuse_ratings(path, min_rating)
        return _matrix(path)
    if path.suffix == ".parquet":
        table = _parquet(path)
    else:
        content = _content(path)
        if path.name != "u.data" and path.suffix not in (".csv", ".tsv", ".inter", ".dat"):
            _refuse_ratings(path, min_rating)
            return read_adjacency(path)
        table = _text_table(path, content)
    try:
        return Interactions.from_frame(table, user=user, item=item, rating=rating, time=time, min_rating=min_rating)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _named(name: str) -> Path:
    if name not in CATALOGUE:
        raise InputError(f"{name} does not exist: check the path, or name a set of `ciess data list`")
    found = located(name)
    if found is None:
        raise InputError(f"{name} is not on this machine: fetch it with `ciess data fetch {name}`")
    return found


def _only_file(folder: Path) -> Path:
    usual = [folder / name for name in _USUAL_FILES if (folder / name).is_file()]
    found = usual or [
        file for file in sorted(folder.iterdir()) if file.suffix in _ENDINGS and "readme" not in file.name.lower()
    ]
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise InputError(f"{folder} should hold one file of interactions, found {names}: name the file itself")
    return found[0]


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check its permissions") from error
    if not content.strip():
        raise InputError(f"{path} is empty: name a file with interactions")
    if len(content.translate(None, _CONTROLS)) < len(content):
        raise InputError(f"{path} is binary: name a text file, or a Parquet file that ends in .parquet")
    return content


def _refuse_ratings(path: Path, min_rating: float | None) -> None:
    if min_rating is not None:
        raise InputError(f"{path} holds no ratings: leave the rating threshold out")


def _matrix(path: Path) -> Interactions:
    try:
        matrix = load_npz(path)
    except (ValueError, OSError, KeyError, BadZipFile) as error:
        raise InputError(f"{path} holds no sparse matrix: write it with scipy.sparse.save_npz") from error
    return Interactions.from_matrix(matrix)


def _parquet(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{path} cannot be read as Parquet: check that it is whole") from error


def _text_table(path: Path, content: bytes) -> pl.DataFrame:
    """A table with named columns from a text file."""
    first = content.split(b"\n", 1)[0]
    options: dict[str, Any] = {"infer_schema_length": 10_000}
    if path.suffix == ".dat":
        # Polars separates by one byte only.
        content = content.replace(b"::", b"\t")
    headless = path.name == "u.data" or (path.suffix == ".dat" and b"::" in first)
    options["separator"] = "," if b"," in first and path.suffix not in (".tsv", ".inter") else "\t"
    if headless:
        options |= {"has_header": False, "new_columns": _MOVIELENS_COLUMNS}
    try:
        content.decode()
        table = pl.read_csv(BytesIO(content), **options)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8") from error
    except pl.exceptions.PolarsError as error:
        reason = str(error).split("\n", 1)[0]
        raise InputError(f"{path} cannot be read as a table ({reason}): mend it") from error
    if path.suffix == ".inter":
        table = table.rename(lambda name: name.split(":", 1)[0])
    if not headless and all(name.replace(".", "").isdigit() for name in table.columns):
        raise InputError(f"{path} has no line of column names: add one, such as user,item,rating,time")
    return table
