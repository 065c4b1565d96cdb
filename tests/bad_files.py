"""Files of interactions, factors and ids that somebody may give: damaged, hostile, or merely unusual."""

import gzip
import io
import os
import struct
import zipfile
from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

Make = Callable[[Path], Path]
"""Writes a file into a folder, and gives its path."""


def written(name: str, content: str | bytes) -> Make:
    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return make


def parquet(**columns: Any) -> Make:
    def make(folder: Path) -> Path:
        pl.DataFrame(columns).write_parquet(folder / "own.parquet")
        return folder / "own.parquet"

    return make


def npy(array: Any) -> Make:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(array))
    return written("own.npy", buffer.getvalue())


def archive(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def saved(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(array))
    return buffer.getvalue()


def headed(header: str, body: bytes = bytes(8), version: int = 1) -> bytes:
    """A .npy file whose header says what it likes."""
    letters = header.encode("latin1")
    return (
        b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(letters)) + letters + body
    )


def packed_matrix(arrays: dict[str, Any]) -> bytes:
    return archive({name: saved(array) for name, array in arrays.items()}, zipfile.ZIP_DEFLATED)


def described(descr: str, shape: str) -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n"


CSR = {
    "format": np.array(b"csr"),
    "shape": np.array([2, 3]),
    "data": np.ones(3),
    "indices": np.array([0, 1, 2]),
    "indptr": np.array([0, 1, 3]),
}
CSC = {**CSR, "format": np.array(b"csc"), "shape": np.array([3, 2])}
BSR = {**CSR, "format": np.array(b"bsr"), "data": np.ones((3, 1, 1))}
COO = {
    "format": np.array(b"coo"),
    "shape": np.array([2, 3]),
    "data": np.ones(2),
    "row": np.array([0, 1]),
    "col": np.array([0, 2]),
}
DIA = {"format": np.array(b"dia"), "shape": np.array([2, 3]), "data": np.ones((1, 3)), "offsets": np.array([0])}


def npz(arrays: dict[str, Any], **changed: Any) -> Make:
    members = {name: saved(array) for name, array in {**arrays, **changed}.items() if array is not None}
    return written("own.npz", archive(members))


def flagged(content: bytes, local: int, central: int, value: int) -> bytes:
    """A zip archive in whose members' headers a byte is another one."""
    changed = bytearray(content)
    for mark, place in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
        start = -1
        while (start := changed.find(mark, start + 1)) >= 0:
            changed[start + place] = value
    return bytes(changed)


def zst(*blocks: bytes) -> bytes:
    return b"\x28\xb5\x2f\xfd\x00\x58" + b"".join(blocks)


def block(kind: int, size: int, content: bytes, last: bool = False) -> bytes:
    return struct.pack("<I", size << 3 | kind << 1 | last)[:3] + content


HEADERS = {
    "of a terabyte": described("'<f8'", "(1000000000000,)"),
    "of more than 64 bits": described("'<f8'", "(99999999999999999999999,)"),
    "whose product overflows": described("'<f8'", "(4294967296, 4294967296)"),
    "of a negative length": described("'<f8'", "(-1,)"),
    "of two negative lengths": described("'<f8'", "(-1, -1)"),
    "of half a row": described("'<f8'", "(1.5,)"),
    "of True rows": described("'<f8'", "(True,)"),
    "of objects": described("'|O'", "(1,)"),
    "of huge texts": described("'<U1000000000'", "(1,)"),
    "of nothing, often": described("'|V0'", "(1000000000000,)"),
    "of subarrays": described("('<f8', (10, 10))", "(1,)"),
    "that nests parentheses": "(" * 3000 + ")" * 3000,
    "that nests lists": described("[" * 90 + "]" * 90, "(1,)"),
    "of many signs": "-" * 5000 + "1",
    "that calls": "__import__('os').abort()",
    "with a backslash": described("'\\d'", "(1,)"),
    "of other keys": "{'a': 1}\n",
    "of no type": described("'frob'", "(1,)"),
    "without a header": "",
}
"""Of .npy files with 8 bytes beyond them."""

_PARQUET = io.BytesIO()
pl.DataFrame({"user": range(100), "item": range(100)}).write_parquet(_PARQUET)
PARQUET = _PARQUET.getvalue()
NPZ = archive({name: saved(array) for name, array in CSR.items()})
TEXT = b"user,item\n" + b"1,2\n3,4\n" * 50
GZ = gzip.compress(TEXT, mtime=0)

STRANGE = {
    "lists": [[1], [2]],
    "empty lists": [[], []],
    "structs": [{"a": 1}, {"a": 2}],
    "bytes": [b"\xff", b"a"],
    "durations": [timedelta(1), timedelta(2)],
    "times of day": [time(1), time(2)],
    "truth values": [True, False],
    "nothing": [None, None],
    "arrays": pl.Series([[1, 2], [3, 4]], dtype=pl.Array(pl.Int64, 2)),
}
"""Columns of types that are neither ids nor times nor ratings."""
TIMES: dict[str, tuple[Any, list[float]]] = {
    "1e300": ([1e300, 1.0], [1e300, 1.0]),
    "-1e300": ([-1e300, 1.0], [-1e300, 1.0]),
    "above 64 bits": (pl.Series([2**64 - 1, 1], dtype=pl.UInt64), [float(2**64 - 1), 1.0]),
    "of 128 bits": (pl.Series([2**100, 1], dtype=pl.Int128), [float(2**100), 1.0]),
    "the largest": ([2**63 - 1, 1], [2**63 - 1, 1]),
    "the first and last year": ([date(1, 1, 1), date(9999, 12, 31)], [-62135596800, 253402214400]),
    "nanoseconds": (
        pl.Series([datetime(1970, 1, 2), datetime(1970, 1, 1)], dtype=pl.Datetime("ns")),
        [86400, 0],
    ),
    "decimals": (pl.Series(["1.5", "2"]).cast(pl.Decimal(20, 2)), [1.5, 2.0]),
    "categories": (pl.Series(["1", "2"], dtype=pl.Categorical), [1, 2]),
}
"""Unusual columns of times of users 1 and 2, and what they are."""


def refused_files() -> Iterator[tuple[str, Make, list[str], str]]:
    """What it is, the file, options, and a part of the sentence."""
    for name, values in STRANGE.items():
        for role in ("user", "item"):
            says = (
                "holds no id in row 1" if name == "nothing" else "holds what is neither whole number nor text in row 1"
            )
            yield f"parquet {role}s {name}", parquet(**{"user": [1, 2], "item": [3, 4]} | {role: values}), [], says
        table = parquet(user=[1, 2], item=[3, 4], time=values)
        yield f"parquet times {name}", table, ["--columns", "time=time"], "holds no number, date or ISO text"
        table = parquet(user=[1, 2], item=[3, 4], rating=values)
        says = "true and false" if name == "truth values" else "holds no rating in row 1"
        yield f"parquet ratings {name}", table, ["--min-rating", "1"], says
    for value in ("inf", "nan", "-inf", "x", "", "2024-13-45", "1e400"):
        table = written("own.csv", f"user,item,time\n1,2,{value}\n2,3,5\n")
        yield f"time {value or 'empty'}", table, ["--columns", "time=time"], "holds no number, date or ISO text"
    for value in ("x", "nan", "", "1;5"):
        table = written("own.csv", f'user,item,rating\n1,2,"{value}"\n2,3,5\n')
        yield f"rating {value or 'empty'}", table, ["--min-rating", "3"], "holds no rating in row 1"
    yield from _damaged_parquet()
    yield from _matrices()
    yield from _texts()
    yield from _packed()
    yield from _places()


def _damaged_parquet() -> Iterator[tuple[str, Make, list[str], str]]:
    whole = "check that it is whole"
    for cut in (1, 4, 8, 12, len(PARQUET) // 2, len(PARQUET) - 8, len(PARQUET) - 1):
        yield f"parquet cut at {cut}", written("own.parquet", PARQUET[:cut]), [], whole
    ends = {"huge": struct.pack("<I", 2**31), "none": bytes(4), "negative": b"\xff" * 4}
    for name, length in ends.items():
        yield (
            f"parquet with a footer of {name} length",
            written("own.parquet", PARQUET[:-8] + length + b"PAR1"),
            [],
            whole,
        )
    yield "parquet encrypted", written("own.parquet", PARQUET[:-4] + b"PARE"), [], whole
    yield "parquet of zeros", written("own.parquet", b"PAR1" + bytes(100) + b"\x64\0\0\0PAR1"), [], whole
    yield "parquet that is text", written("own.parquet", TEXT), [], whole
    yield "parquet with a layout", written("own.parquet", PARQUET), ["--layout", "lines"], "a layout is of text files"
    n = 5 * 10**6
    same = parquet(user=pl.repeat(1, n, eager=True), item=pl.repeat(1, n, eager=True))
    yield "parquet of one pair, often", same, [], "over 250 times its size"
    long = parquet(user=pl.repeat("x" * 2**17, 2**10, eager=True), item=range(2**10))
    yield "parquet of one long id, often", long, [], "over 250 times its size"


def _matrices() -> Iterator[tuple[str, Make, list[str], str]]:
    none, few = "holds no sparse matrix", "leave out those without any"
    for name, array in {
        "indices beyond": {"indices": [0, 1, 9]},
        "negative indices": {"indices": [0, -1, 2]},
        "unsigned indices": {"indices": np.array([0, 1, 2**64 - 1], dtype=np.uint64)},
        "falling offsets": {"indptr": [0, 3, 1]},
        "falling offsets that end well": {"shape": [3, 3], "indptr": [0, 3, 1, 3]},
        "offsets beyond": {"indptr": [0, 1, 99]},
        "offsets far beyond that end at 0": {"indptr": [0, 10**6, 0]},
        "negative offsets": {"indptr": [0, -5, 3]},
        "offsets that do not begin at 0": {"indptr": [1, 1, 3]},
        "too many offsets": {"indptr": [0, 1, 3, 3]},
        "too few values": {"data": np.ones(2)},
        "values of two axes": {"data": np.ones((3, 2))},
    }.items():
        yield f"csr with {name}", npz(CSR, **array), [], "own.npz"
        if "shape" not in array:
            yield f"csc with {name}", npz(CSC, **array), [], "own.npz"
    for name, array in {
        "float indices": {"indices": [0.0, 1.5, 2.0]},
        "complex indices": {"indices": [0, 1j, 2]},
        "float offsets": {"indptr": [0.0, 1.0, 3.0]},
        "truth values as offsets": {"indptr": [False, True, True]},
        "a shape of floats": {"shape": [2.0, 3.0]},
        "a shape of texts": {"shape": ["a", "b"]},
        "a negative shape": {"shape": [-2, 3]},
        "three axes": {"shape": [2, 3, 4]},
        "another format": {"format": np.array(b"xyz")},
        "a number as format": {"format": np.array(7)},
        "two formats": {"format": np.array([b"csr", b"csr"])},
        "a format that is no text": {"format": np.array(b"\xff\xfe")},
        "a format with underscores": {"format": np.array(b"__class__")},
        "no format": {"format": None},
        "no values": {"data": None},
        "no shape": {"shape": None},
        "structs as values": {"data": np.zeros(3, dtype=[("a", "i4")])},
    }.items():
        yield f"npz with {name}", npz(CSR, **array), [], none
    for name, values in {
        "texts": ["a", "b", "c"],
        "complex numbers": [1j, 1, 1],
        "NaN": [np.nan, 1, 1],
        "infinity": [np.inf, 1, 1],
        "negative numbers": [-1.0, 1, 1],
        "dates": np.array([1, 2, 3], dtype="M8[s]"),
    }.items():
        yield f"npz of {name}", npz(CSR, data=values), [], "own.npz"
    yield "npz of zeros", npz(CSR, data=np.zeros(3)), [], "there are no interactions"
    yield "npz without rows", npz(CSR, shape=[0, 0]), [], "own.npz"
    for name, arrays in {
        "csr of many columns": npz(CSR, shape=[2, 10**12]),
        "csc of many rows": npz(CSC, shape=[10**12, 2]),
        "coo of many rows": npz(COO, shape=[10**12, 3]),
        "coo of ten million and one": npz(COO, shape=[10**7 + 1, 3]),
    }.items():
        yield name, arrays, [], few
    yield "coo beyond", npz(COO, row=[0, 5]), [], none
    yield "coo negative", npz(COO, row=[0, -1]), [], none
    yield "coo of floats", npz(COO, row=[0, 1.5]), [], none
    yield "coo of two lengths", npz(COO, row=[0]), [], none
    yield "bsr beyond", npz(BSR, indices=[0, 1, 10**6]), [], "no valid BSR matrix"
    yield "bsr of empty blocks", npz(BSR, data=np.ones((3, 0, 0))), [], "own.npz"
    yield "dia far away", npz(DIA, offsets=[10**9]), [], "there are no interactions"
    yield "dia of texts", npz(DIA, offsets=["x"]), [], none
    for name, header in HEADERS.items():
        members = {each: saved(array) for each, array in CSR.items()} | {"data": headed(header)}
        yield f"npz with a header {name}", written("own.npz", archive(members)), [], none
    for cut in (4, 30, len(NPZ) // 2, len(NPZ) - 1):
        yield f"npz cut at {cut}", written("own.npz", NPZ[:cut]), [], none
    yield "npz encrypted", written("own.npz", flagged(NPZ, 6, 8, 1)), [], none
    yield "npz of an unknown packing", written("own.npz", flagged(NPZ, 8, 10, 99)), [], none
    damaged = NPZ.replace(saved(CSR["indices"]), saved(np.array([0, 2, 1])))
    yield "npz of another checksum", written("own.npz", damaged), [], none
    bomb = {**CSR, "data": np.zeros(10**7), "indices": np.zeros(10**7, np.int32), "indptr": [0, 10**7, 10**7]}
    packed = archive({name: saved(array) for name, array in bomb.items()}, zipfile.ZIP_DEFLATED)
    yield "npz that fills memory", written("own.npz", packed), [], "over 250 times its size"
    yield "npz with a rating threshold", written("own.npz", NPZ), ["--min-rating", "1"], "holds no ratings"
    yield "npz with columns", written("own.npz", NPZ), ["--columns", "user=a"], "holds no named columns"


def _texts() -> Iterator[tuple[str, Make, list[str], str]]:
    for name, content, says in (
        ("empty.csv", "", "is empty"),
        ("blank.csv", "\n \n", "is empty"),
        ("mark.csv", b"\xef\xbb\xbf", "is empty"),
        ("header.csv", "user,item\n", "there are no interactions"),
        ("nul.csv", b"user,item\n1,\x002\n", "is binary"),
        ("bytes.csv", bytes(range(256)), "is binary"),
        ("zeros.txt", bytes(100), "is binary"),
        ("utf16.csv", "user,item\n1,2\n".encode("utf16"), "is binary"),
        ("pdf.txt", b"%PDF-1.4\n%\x81\x82\x83\x84\x1a", "is binary"),
        ("excel.csv", b"PK\x03\x04\x14\x00\x06\x00", "is binary"),
        ("escape.csv", "user,item\n\x1b]0;title\x07,1\n", "is binary"),
        ("separator.csv", "user\x1fitem\n1\x1f2\n", "is binary"),
        ("page.csv", "<html><body>404</body></html>", "no column of users is known"),
        ("json.txt", '{"user": 1, "item": 2}', "no column of"),
        ("one.csv", "user\n1\n", "no column of items is known"),
        ("headless.csv", "1,2\n3,4\n", "has no line of column names"),
        ("twice.csv", "user,user,item\n1,2,3\n", "2 columns are called 'user'"),
        ("ragged.csv", "user,item\n1,2,3\n", "more entries than columns in row 1"),
        ("quote.csv", 'user,item\n"1,2\n3,4\n', "quote.csv"),
        ("quotes.csv", '"""\n', "quotes.csv"),
        ("latin.csv", b"user,item\n\xe9,1\n", "is not UTF-8 text"),
        ("joined.csv", "user,item\n1,2\nuser,item\n3,4\n", "stand among the data in row 2"),
        ("joined.inter", "user_id:token\titem_id:token\n1\t2\nuser_id:token\titem_id:token\n", "in row 2"),
        ("bom.csv", "userId,movieId\n1,2\n\ufeffuserId,movieId\n3,4\n", "in row 2"),
        ("ruled.csv", "user,item\n----,----\n1,2\n", "a rule, stand among the data in row 1"),
        ("listed.inter", "user_id:token\titem_id:token_seq\n1\t2 3\n", "lists in column 'item_id:token_seq'"),
        ("listed.csv", 'user,items\n1,"10 11 12"\n2,10\n3,"10, 12"\n', "column 'items' holds lists such as '10 11 12'"),
        ("barred.csv", "user,items\n1,10|11\n2,4|5|6\n", "column 'items' holds lists"),
        ("brackets.csv", "user,items\n1,\"['a']\"\n2,\"['b', 'c']\"\n", "column 'items' holds lists"),
        ("counted.txt", "3 1 2 3\n2 1 2\n3 4 5 6\n", "lines that begin with how many items follow"),
        ("clock.txt", "1 2 1997-12-04 15:55:49\n2 2 1997-12-05 15:55:49\n", "has no line of column names"),
        ("missing.csv", "user,item\n1,\n", "holds no id in row 1"),
        ("letters.txt", "1 2\n3 x\n", "line 2: 'x' is not a whole number"),
        ("negative.txt", "1 -2\n3 4 5\n", "line 1: '-2' is not a whole number"),
        ("decimals.txt", "1 2.5 3\n1 2\n", "line 1: '2.5' is not a whole number"),
        ("alone.txt", "1\n2\n", "there are no interactions"),
        ("doubtful.txt", "1 2 3\n2 3 4\n", "say which by the layout, lines or table"),
        ("own.inter", "user_id:token\n1\n", "no column of items is known"),
        ("five.dat", "1::2::3::4::5\n", "has no line of column names"),
    ):
        yield f"text {name}", written(name, content), [], says
    yield "a name of two lines", parquet(**{"a\nb": [1], "\x1b[1mc": [2]}), [], "among a\\nb, \\x1b[1mc"
    named = written("own.csv", "user,item\n1,2\n")
    yield "a column that is not there", named, ["--columns", "user=who"], "there is no column 'who'"
    yield "ratings that are not there", named, ["--min-rating", "3"], "needs a rating column"
    yield "a threshold that is NaN", named, ["--min-rating", "nan"], "is not a number"
    yield "a threshold that is infinite", named, ["--min-rating", "inf"], "is not a number"
    yield "a k-core below 1", named, ["--k-core", "-1"], "--k-core is -1"
    yield "a k-core of 0", named, ["--k-core", "0"], "--k-core is 0"
    yield "a k-core above all", named, ["--k-core", "1000000000"], "lower the k-core"
    yield "a k-core of 400 digits", named, ["--k-core", "9" * 400], "is not a number that fits"
    yield "a layout that is none", named, ["--layout", "x"], "use 'lines' or 'table'"


def _packed() -> Iterator[tuple[str, Make, list[str], str]]:
    unpacked = "cannot be unpacked"
    for cut in (2, 12, len(GZ) // 2, len(GZ) - 5):
        yield f"gzip cut at {cut}", written("own.csv.gz", GZ[:cut]), [], unpacked
    yield "gzip of another checksum", written("own.csv.gz", GZ[:-8] + bytes(8)), [], unpacked
    yield "gzip with something behind", written("own.csv.gz", GZ + b"something"), [], unpacked
    yield "gzip within gzip", written("own.csv.gz", gzip.compress(GZ)), [], "is binary"
    yield "gzip of nothing", written("own.csv.gz", gzip.compress(b"")), [], "is empty"
    bomb = gzip.compress(b"user,item\n" + b"1,2\n" * (17 * 2**20))
    yield "gzip that fills memory", written("own.csv.gz", bomb), [], "over 250 times its size"
    yield "zstd without a frame", written("own.csv.zst", b"\x28\xb5\x2f\xfd"), [], unpacked
    yield "zstd of something", written("own.csv.zst", b"\x28\xb5\x2f\xfd" + bytes(range(200))), [], unpacked
    yield "zstd cut in a block", written("own.csv.zst", zst(block(0, 100, TEXT[:50], last=True))), [], unpacked
    repeated = [block(1, 2**17, b"1")] * 1000
    bomb = zst(*repeated, block(1, 1, b"\n", last=True))
    yield "zstd that fills memory", written("own.csv.zst", bomb), [], "over 250 times its size"


def _places() -> Iterator[tuple[str, Make, list[str], str]]:
    def pipe(folder: Path, name: str) -> Path:
        (folder / name).parent.mkdir(exist_ok=True)
        os.mkfifo(folder / name)
        return folder / name

    def link(folder: Path, name: str, to: str) -> Path:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).symlink_to(to)
        return folder / name

    def halves(folder: Path) -> Path:
        for half in ("train.txt", "test.txt"):
            (folder / half).symlink_to("/dev/zero")
        return folder

    def made(folder: Path, *names: str) -> Path:
        for name in names:
            (folder / name).mkdir()
        return folder

    for name in ("own.csv", "own.parquet", "own.npz", "own.txt.gz"):
        yield f"pipe {name}", lambda folder, name=name: pipe(folder, name), [], "is a pipe or a device"
    yield "pipe in a folder", lambda folder: pipe(folder, "in/own.csv").parent, [], "found none"
    yield "pipe as a part", lambda folder: pipe(folder, "in/own.parquet").parent, [], "is a pipe or a device"
    for device in ("zero", "full", "null", "urandom"):
        yield f"/dev/{device}", lambda _, device=device: Path("/dev") / device, [], "is a pipe or a device"
    yield "halves that never end", halves, [], "should hold one file"
    yield "what waits for the kernel", lambda _: Path("/proc/kmsg"), [], "/proc/kmsg"
    yield "a link to nothing", lambda folder: link(folder, "own.csv", "gone"), [], "does not exist"
    yield "a link to itself", lambda folder: link(folder, "own.csv", "own.csv"), [], "does not exist"
    yield "an empty folder", lambda folder: made(folder, "in") / "in", [], "found none"
    yield "a folder that is named as a file", lambda folder: made(folder, "a.csv") / "a.csv", [], "found none"
    yield "a folder that is named as a table", lambda folder: made(folder, "a.parquet") / "a.parquet", [], "found none"
    yield "a name of 5000 letters", lambda _: Path("x" * 5000), [], "does not exist"
    yield "a name with NUL", lambda _: Path("a\0b"), [], "does not exist"
    yield "half a letter", lambda _: Path("\udcff.csv"), [], "does not exist"
    yield "a control sequence", lambda _: Path("\x1b]0;title\x07.csv"), [], "\\x1b]0;title\\x07.csv does not exist"
    yield "beneath a file", lambda folder: written("a.csv", TEXT)(folder) / "b", [], "does not exist"
