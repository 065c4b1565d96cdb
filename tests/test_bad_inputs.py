"""Bad input of every kind: one sentence and exit code 2, or the right value where it is only unusual."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from bad_files import (
    BSR,
    COO,
    CSR,
    DIA,
    GZ,
    HEADERS,
    NPZ,
    TEXT,
    TIMES,
    Make,
    block,
    headed,
    npy,
    npz,
    parquet,
    refused_files,
    written,
    zst,
)
from scipy.sparse import coo_array, csc_array, csr_array

from ciess.cli import main
from ciess.data import Interactions, read, split_by_time, split_last, split_random
from ciess.errors import InputError

FILES = list(refused_files())


def refused(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    """The sentence with which the command ends, after nothing else was written."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    out, err = capfd.readouterr()
    assert (end.value.code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("ciess: ")
    assert ": " in err.removeprefix("ciess: "), "what is wrong, and what to do"
    return err


@pytest.mark.parametrize(("make", "options", "says"), [each[1:] for each in FILES], ids=[each[0] for each in FILES])
def test_files_that_are_refused(
    make: Make, options: list[str], says: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said = refused(["data", "describe", str(make(tmp_path)), *options], capfd)
    assert says in said


ACCEPTED: dict[str, tuple[Make, tuple[int, int, int]]] = {
    "a matrix": (npz(CSR), (2, 3, 3)),
    "a matrix by blocks": (npz(BSR), (2, 3, 3)),
    "a matrix of triplets": (npz(COO), (2, 3, 2)),
    "a matrix of diagonals": (npz(DIA), (2, 3, 2)),
    "a matrix with unsigned indices": (npz(CSR, indices=np.array([0, 1, 2], dtype=np.uint16)), (2, 3, 3)),
    "a matrix of truth values": (npz(CSR, data=np.ones(3, dtype=bool)), (2, 3, 3)),
    "a matrix whose format is text": (npz(CSR, format=np.array("csr")), (2, 3, 3)),
    "a number of 400 digits": (written("own.txt", "1 2 " + "9" * 400 + "\n3 2\n"), (2, 2, 3)),
    "an id of a million letters": (written("own.csv", "user,item\n" + "x" * 10**6 + ",1\n"), (1, 1, 1)),
    "ids in braces": (written("own.csv", "user,item\n1,{8f2a-aa}\n2,[Live]\n"), (2, 2, 2)),
    "paths of categories": (written("own.csv", "user,item\n1,1|12\n2,1|12|123\n"), (2, 2, 2)),
    "numbers of books": (written("own.csv", "user,item\n1,978 3 16 148410 0\n2,978 1 56 619909 4\n"), (2, 2, 2)),
    "users and items that are called so": (written("own.csv", "user,item\nuser,a\nb,item\n--,c\n"), (3, 3, 3)),
    "5000 other columns": (
        written("own.csv", ",".join(["user", "item", *(f"c{n}" for n in range(5000))]) + "\n1,2\n"),
        (1, 1, 1),
    ),
    "a quoted id of many lines": (written("own.csv", 'user,item\n"' + "a\n" * 1000 + '",1\n'), (1, 1, 1)),
    "text that only claims to be packed": (written("own.csv.gz", TEXT), (2, 2, 2)),
    "gzip in two pieces": (written("own.csv.gz", GZ + GZ[:0]), (2, 2, 2)),
    "zstd in blocks as they are": (written("own.csv.zst", zst(block(0, len(TEXT), TEXT, last=True))), (2, 2, 2)),
    "infinite ratings": (written("own.csv", "user,item,rating\n1,2,inf\n2,3,-inf\n"), (2, 2, 2)),
    "ids above 64 bits": (parquet(user=pl.Series([2**64 - 1, 1], dtype=pl.UInt64), item=[3, 4]), (2, 2, 2)),
    "ids that are dates": (parquet(user=["2024-01-01", "2024-01-02"], item=[3, 4]), (2, 2, 2)),
    "ids that are formulas": (written("own.csv", "user,item\n=1+1,@a\n-b,+c\n"), (2, 2, 2)),
    "a control character of one byte": (parquet(user=["\x1b[31m", "\x00"], item=[3, 4]), (2, 2, 2)),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_files_that_are_only_unusual(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make, expected = ACCEPTED[name]
    main(["data", "describe", str(make(tmp_path)), "--json"])
    told = json.loads(capfd.readouterr().out)
    assert (told["users"]["count"], told["items"]["count"], told["interactions"]) == expected


@pytest.mark.parametrize("name", TIMES)
def test_times_of_every_size_are_kept(name: str, tmp_path: Path) -> None:
    values, expected = TIMES[name]
    found = read(parquet(user=[1, 2], item=[3, 4], time=values)(tmp_path), time="time")
    assert found.times is not None
    assert found.times.tolist() == expected


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "x", "2024-13-45", ""])
def test_times_that_nobody_asked_for_and_are_none_are_left_out(value: str, tmp_path: Path) -> None:
    assert read(written("own.csv", f"user,item,time\n1,2,{value}\n2,3,5\n")(tmp_path)).times is None


FACTORS = {
    **{f"a header {name}": (written("own.npy", headed(header)), "is no .npy file") for name, header in HEADERS.items()},
    "version 2": (written("own.npy", headed(HEADERS["of a terabyte"], version=2)), "is not as long as its header says"),
    "version 9": (written("own.npy", headed(HEADERS["of a terabyte"], version=9)), "is no .npy file"),
    "nothing": (written("own.npy", b""), "it is empty"),
    "a pickle": (written("own.npy", b"\x80\x04K\x01."), "is no .npy file"),
    "an archive": (written("own.npy", NPZ), "is no .npy file"),
    "text": (written("own.npy", "1 2 3"), "is no .npy file"),
    "cut": (
        written("own.npy", headed("{'descr': '<f8', 'fortran_order': False, 'shape': (3, 2), }\n")),
        "is no .npy file",
    ),
    "a folder": (lambda folder: folder, "is a folder"),
    "nowhere": (lambda folder: folder / "none.npy", "does not exist"),
    "/dev/zero": (lambda _: Path("/dev/zero"), "is a pipe or a device"),
    "a list": (npy(np.ones(3)), "not a table of numbers"),
    "NaN": (npy(np.full((3, 2), np.nan)), "numbers that are not finite"),
    "1e300": (npy(np.full((3, 2), 1e300)), "numbers that are not finite"),
    "complex": (npy(np.ones((3, 2)) * 1j), "not a table of numbers"),
    "texts": (npy([["a", "b"]] * 3), "not a table of numbers"),
    "truth values": (npy(np.ones((3, 2), bool)), "not a table of numbers"),
    "dates": (npy(np.ones((3, 2), "M8[s]")), "not a table of numbers"),
    "no columns": (npy(np.ones((3, 0))), "not a table of numbers"),
    "another width": (npy(np.ones((3, 5))), "both need the same"),
}


@pytest.fixture
def tables(tmp_path: Path) -> list[str]:
    """Arguments of a compression of two good tables."""
    np.save(tmp_path / "good.npy", np.arange(6, dtype=np.float32).reshape(3, 2))
    (tmp_path / "good.csv").write_text("user,item\n0,0\n0,1\n1,1\n2,0\n2,2\n1,2\n")
    options = {"interactions": "good.csv", "users": "good.npy", "items": "good.npy", "out": "out"}
    command = [part for name, file in options.items() for part in (f"--{name}", str(tmp_path / file))]
    return ["compress", *command, "--budgets", "100%"]


@pytest.mark.parametrize("name", FACTORS)
def test_factors_that_are_refused(
    name: str, tables: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make, says = FACTORS[name]
    assert says in refused([*tables, "--users", str(make(tmp_path))], capfd)
    assert not (tmp_path / "out").exists()


IDS = {
    **{f"a header {name}": written("own.npy", headed(header)) for name, header in HEADERS.items()},
    "a table": npy(np.ones((3, 2))),
    "half ids": npy([0.5, np.nan, 2]),
    "complex": npy([1j, 1, 2]),
    "no text": npy(np.array([b"\xff", b"a", b"b"])),
    "truth values": npy([True, False, True]),
    "seconds": npy(np.ones(3, "M8[s]")),
    "durations": npy(np.ones(3, "m8[s]")),
    "too few": npy(np.arange(2)),
    "repeated": npy(np.ones(3, int)),
    "one": npy(np.array(1)),
    "structs": npy(np.zeros(3, dtype=[("a", "i4")])),
    "latin": written("own.txt", b"\xff\n1\n2\n"),
    "nothing": written("own.csv", ""),
    "quotes": written("own.csv", 'user\n1\n"2\n'),
    "two columns": written("own.csv", "a,b\n1,2\n"),
    "damaged parquet": written("own.parquet", b"PAR1" + bytes(30) + b"PAR1"),
    "lists": parquet(user=[[1], [2], [3]]),
    "/dev/zero": lambda _: Path("/dev/zero"),
    "a folder": lambda folder: folder,
}


@pytest.mark.parametrize("name", IDS)
def test_files_of_ids_that_are_refused(
    name: str, tables: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    refused([*tables, "--user-ids", str(IDS[name](tmp_path))], capfd)


OPTIONS = {
    "--seed 18446744073709551616": "from 0 to 4294967295",
    "--seed -1": "--seed is -1",
    "--seed 1.5": "is not a whole number",
    f"--seed {'9' * 400}": "is not a number that fits",
    f"--seed {'9' * 5000}": "is not a whole number",
    "--dim 1000000000": "from 1 to 65536",
    "--dim 0": "dim is 0",
    "--dim -1": "dim is -1",
    "--backbone ncf --dim 1": "NCF needs at least 2",
    "--method ciess --episodes -1": "--episodes is -1",
    "--method ciess --episodes 0": "--episodes is 0",
    "--method ciess:updates=-5": "updates is -5",
    "--method popularity:rounds=abc": "rounds is 'abc'",
    "--method popularity:rounds=-1": "rounds is -1",
    "--method popularity:rounds=1e400": "rounds is inf",
    "--method popularity:rounds=[": "rounds is '['",
    f"--method popularity:rounds={'(' * 3000}": "rounds is '(((",
    "--method popularity:seed=18446744073709551616": "from 0 to 4294967295",
    "--method popularity:none=1": "no such setting",
    "--method popularity:=": "is no setting",
    "--method marginal:steps=-1": "steps is -1",
    "--method none": "is not a method",
    "--method :": "is not a method",
    "--method none.py:X": "does not exist",
    "--method /dev/zero.py": "does not exist",
    f"--budgets {'9' * 400}%": "is more than the full tables",
    f"--budgets {'9' * 400}MB": "is more than the full tables",
    f"--budgets {'9' * 400}dims": "is more than the full tables",
    f"--budgets {'9' * 300}GiB": "is more than the full tables",
    f"--budgets 0.{'0' * 400}1%": "leaves no room",
    "--budgets nan%": "is not a budget",
    "--budgets inf%": "is not a budget",
    "--budgets -5%": "is not a budget",
    "--budgets 1e2%": "is not a budget",
    "--budgets ,": "no budgets are given",
    "--budgets 5% 5%": "is given twice",
    "--set lr_every=0": "lr_every is 0",
    "--set steps=-1": "steps is -1",
    "--set batch_size=0": "batch_size is 0",
    "--set batch_size=-1": "batch_size is -1",
    "--set eval_every=0": "eval_every is 0",
    "--set patience=-1": "patience is -1",
    "--set layers=-1": "layers is -1",
    "--set layers=1000000000000": "from 0 to 64",
    "--set layers=1.5": "layers is 1.5",
    "--set lr=1e400": "lr is inf",
    "--set lr=nan": "is no setting",
    "--set lr=-1": "lr is -1",
    f"--set lr=1{'0' * 400}": "give a finite number",
    "--set lr='x'": "lr is 'x'",
    "--set lr=[1]": "lr is [1]",
    "--set lr={}": "lr is {}",
    "--set lr=True": "lr is True",
    "--set lr=1j": "lr is 1j",
    "--set lr=b'a'": "lr is b'a'",
    "--set lr=": "is no setting",
    "--set lr": "is no setting",
    "--set =": "is no setting",
    f"--set lr={'(' * 5000}": "is no setting",
    f"--set lr={'-' * 100_000}1": "is no setting",
    f"--set lr={'-' * 900}1": "lr=--",
    f"--set lr={'9' * 5000}": "is no setting",
    "--set lr=\0": "is no setting",
    "--set lr='\\d'": "lr is '",
    "--set dim=3 --dim 4": "is given already",
    "--set __class__=1": "does nothing with lightgcn",
    "--l2 -1": "l2 is -1",
    "--l2 nan": "is not a number",
    "--l2 1e400": "is not a number",
    "--backbone none": "is not a backbone",
    "--backbone factors": "needs two tables",
    "--backbone als --set alpha=-1": "alpha is -1",
    "--backbone als --set regularisation=-1": "regularisation is -1",
    "--precision int5": "did you mean 'int8'",
    "--target x": "use 'input' or 'output'",
    "--tune x": "use 'on' or 'off'",
    "--columns x": "does not name columns",
    "--columns user=": "does not name columns",
    "--out FILE": "it is a file",
    "--out FILE/x": "Not a directory",
    "--out /dev/null": "cannot be written",
    "--out /dev/null/x": "cannot be written",
    "--out /proc/x": "cannot be written",
    "--out a\0b": "cannot be written",
    f"--out {'x' * 5000}": "cannot be written",
    "--seed": "Missing value for argument '--seed'",
    "--frob": "has no option --frob",
    "--train FILE": "are both given",
}


@pytest.mark.parametrize("text", OPTIONS, ids=[each[:50] for each in OPTIONS])
def test_options_that_are_refused(text: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = written("own.csv", TEXT)(tmp_path)
    options = text.replace("FILE", str(path)).split(" ")
    out = [] if "--out" in options else ["--out", str(tmp_path / "out")]
    assert OPTIONS[text] in refused(["search", str(path), *out, *options], capfd)
    assert [each.name for each in tmp_path.iterdir()] == ["own.csv"]


COMMANDS: dict[str, list[str]] = {
    "no command": ["frob"],
    "an empty command": [""],
    "no command of data": ["data", "frob"],
    "data alone": ["data"],
    "a set outside of the catalogue": ["data", "fetch", "../../etc"],
    "an unknown ending": ["data", "convert", "FILE", "OUT.frob"],
    "onto itself": ["data", "convert", "FILE", "FILE"],
    "into a folder": ["data", "convert", "FILE", "OUT.csv/"],
    "into a device": ["data", "convert", "FILE", "/dev/full"],
    "into nowhere": ["data", "convert", "FILE", "/proc/x/y.csv"],
    "a name with NUL": ["data", "convert", "FILE", "a\0.csv"],
    "no model": ["recommend", "OUT", "--users", "1"],
    "no items": ["recommend", "OUT", "--users", "1", "-k", "0"],
    "fewer items": ["recommend", "OUT", "--users", "1", "-k", "-1"],
    "a device of users": ["recommend", "OUT", "--users-from", "/dev/zero"],
    "no target": ["export", "OUT", "frob", "OUT"],
    "no model to export": ["export", "OUT", "arrays", "OUT"],
    "seeds below 0": ["compare", "FILE", "--seeds", "-1", "--out", "OUT"],
    "seeds above all": ["compare", "FILE", "--seeds", str(2**64), "--out", "OUT"],
    "words as seeds": ["compare", "FILE", "--seeds", "x", "--out", "OUT"],
    "no seeds": ["compare", "FILE", "--seeds", "--out", "OUT"],
    "seeds twice": ["compare", "FILE", "--seeds", "1", "1", "--out", "OUT"],
    "a method that is none": ["compare", "FILE", "--methods", "frob", "--out", "OUT"],
    "a demo of no seed": ["demo", "--seed", "-1", "--out", "OUT"],
    "a demo of a large seed": ["demo", "--seed", str(2**64), "--out", "OUT"],
    "1e300 users": ["estimate", "--no-time", "--users", "1e300", "--items", "5", "--interactions", "5"],
    "NaN users": ["estimate", "--no-time", "--users", "nan", "--items", "5", "--interactions", "5"],
    "half a user": ["estimate", "--no-time", "--users", "0.5", "--items", "5", "--interactions", "5"],
    "too few counts": ["estimate", "--no-time", "--users", "5"],
    "many dimensions": ["estimate", "FILE", "--no-time", "--dim", "1000000000"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_that_are_refused(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = written("own.csv", TEXT)(tmp_path)
    places = {"FILE": str(path), "OUT": str(tmp_path / "out")}
    (tmp_path / "out.csv").mkdir()
    arguments = [each if each == name else _placed(each, places) for each in COMMANDS[name]]
    refused(arguments, capfd)
    assert {each.name for each in tmp_path.iterdir()} == {"own.csv", "out.csv"}


def _placed(argument: str, places: dict[str, str]) -> str:
    for word, place in places.items():
        argument = argument.replace(word, place)
    return argument


ONE = pl.Series([7])
MATRIX = csr_array(np.eye(3))


def spoiled(**arrays: Any) -> csr_array:
    """A matrix whose arrays were changed after it was made."""
    matrix = csr_array(np.eye(3))
    for name, array in arrays.items():
        setattr(matrix, name, np.asarray(array))
    return matrix


def spoiled_csc() -> csc_array:
    matrix = csc_array(np.eye(3))
    matrix.indices = np.array([0, -9_999_999, 2], dtype=np.int32)
    return matrix


def spoiled_coo() -> coo_array:
    matrix = coo_array(np.eye(3))
    matrix.coords = (np.array([0, -9_999_999, 2]), matrix.coords[1])
    return matrix


ARRAYS: dict[str, Any] = {
    "falling offsets": lambda: Interactions.from_matrix(spoiled(indptr=[0, 3, 1, 3])),
    "offsets of floats": lambda: Interactions.from_matrix(spoiled(indptr=[0.0, 1, 2, 3])),
    "indices beyond": lambda: Interactions.from_matrix(spoiled(indices=[0, 1, 3])),
    "indices before": lambda: Interactions.from_matrix(spoiled_csc()),
    "coordinates before": lambda: Interactions.from_matrix(spoiled_coo()),
    "a spoiled matrix": lambda: Interactions(spoiled(indptr=[0, 9, 0, 3]), pl.Series(range(3)), pl.Series(range(3))),
    "many columns": lambda: Interactions.from_matrix(csr_array((np.ones(1), ([0], [0])), shape=(1, 10**12))),
    "one axis": lambda: Interactions.from_matrix(coo_array(np.ones(3))),
    "a dense matrix": lambda: Interactions(np.eye(3), pl.Series(range(3)), pl.Series(range(3))),  # type: ignore[arg-type]
    "rows beyond": lambda: Interactions.from_pairs([0, 1], [0, 0], ONE, ONE),
    "rows before": lambda: Interactions.from_pairs([-1], [0], ONE, ONE),
    "rows of floats": lambda: Interactions.from_pairs([0.5], [0], ONE, ONE),
    "rows of two lengths": lambda: Interactions.from_pairs([0, 0], [0], ONE, ONE),
    "a table of rows": lambda: Interactions.from_pairs([[0]], [[0]], ONE, ONE),
    "infinite times": lambda: Interactions.from_pairs([0], [0], ONE, ONE, np.array([np.inf])),
    "texts as times": lambda: Interactions.from_pairs([0], [0], ONE, ONE, np.array(["a"])),
    "a table of times": lambda: Interactions.from_pairs([0], [0], ONE, ONE, np.ones((1, 1))),
    "no interactions": lambda: Interactions.from_pairs([], [], ONE, ONE),
    "a number": lambda: Interactions.of(7),  # type: ignore[arg-type]
    "a list": lambda: Interactions.of([[1, 2]]),  # type: ignore[arg-type]
    "a k-core of a half": lambda: Interactions.from_matrix(MATRIX).k_core(0.5),  # type: ignore[arg-type]
    "a k-core of 5000 digits": lambda: Interactions.from_matrix(MATRIX).k_core(-(10**5000)),
    "ratios that are none": lambda: split_random(Interactions.from_matrix(MATRIX), (0.5, np.nan, 0.5)),
    "ratios below 0": lambda: split_random(Interactions.from_matrix(MATRIX), (1.5, -0.5, 0)),
    "two ratios": lambda: split_random(Interactions.from_matrix(MATRIX), (0.5, 0.5)),
    "texts as ratios": lambda: split_random(Interactions.from_matrix(MATRIX), ("a", "b", "c")),  # type: ignore[arg-type]
    "a seed of 2**64": lambda: split_random(Interactions.from_matrix(MATRIX), seed=2**64),
    "a seed that is text": lambda: split_random(Interactions.from_matrix(MATRIX), seed="1"),  # type: ignore[arg-type]
    "no times to split by": lambda: split_by_time(Interactions.from_matrix(MATRIX)),
    "none to leave out": lambda: split_last(Interactions.from_matrix(MATRIX), 0),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_that_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=": "):
        ARRAYS[name]()
