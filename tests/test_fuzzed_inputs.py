"""Valid files with bytes flipped, cut out, repeated or put in: refused in a sentence or read, whatever they hold.

`CIESS_FUZZ` is how many files are tried, 600 unless it is set; each number is always the same file.
"""

import gzip
import io
import logging
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from bad_files import BSR, COO, CSR, NPZ, TEXT, packed_matrix, saved, zst
from bad_files import block as zst_block

from ciess.data import read
from ciess.data.foreign import most_unpacked
from ciess.data.id_files import ids_in
from ciess.errors import InputError
from ciess.models.factors import Factors

RUNS = int(os.environ.get("CIESS_FUZZ", "600"))
Read = Callable[[Path], Any]


def table(compression: Any) -> bytes:
    rows = np.arange(300)
    frame = pl.DataFrame(
        {"user": rows % 50, "item": [f"i{row % 90}" for row in rows], "rating": rows / 60, "time": rows * 10**6}
    )
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression=compression)
    return buffer.getvalue()


def ids(path: Path) -> pl.Series:
    return ids_in(path, "user")


def factors(path: Path) -> Any:
    return Factors(users=path, items=path).tables[0]


LINES = b"".join(b"%d %d %d %d\n" % (user, user, user + 7, user * 3) for user in range(40)) + b"40 1\n"
FILES: list[tuple[str, bytes, Read]] = [
    ("own.csv", b"user,item,rating,time\n" + b"a,1,4.5,2024-01-31\nb,2,3,2024-02-01 10:00\n" * 9, read),
    ("own.tsv", b"user\titem\n" + b"1\t2\n3\t4\n" * 9, read),
    ("own.txt", LINES, read),
    ("ratings.dat", b"7::10::5::100\n8::30::1::200\n" * 9, read),
    ("own.inter", b"user_id:token\titem_id:token\trating:float\n7\t10\t5\n8\t30\t1\n", read),
    ("own.csv.gz", gzip.compress(TEXT, mtime=0), read),
    ("own.csv.zst", zst(zst_block(0, len(TEXT), TEXT, last=True)), read),
    ("own.npz", NPZ, read),
    ("coo.npz", packed_matrix(COO), read),
    ("csc.npz", packed_matrix({**CSR, "format": np.array(b"csc"), "shape": np.array([3, 2])}), read),
    ("bsr.npz", packed_matrix(BSR), read),
    ("zstd.parquet", table("zstd"), read),
    ("snappy.parquet", table("snappy"), read),
    ("plain.parquet", table("uncompressed"), read),
    ("ids.parquet", table("gzip"), ids),
    ("ids.csv", b"user,x\n1,2\n3,4\n", ids),
    ("ids.txt", b"one\ntwo\n3\n", ids),
    ("ids.npy", saved(np.array(["a", "bc", "d"])), ids),
    ("factors.npy", saved(np.arange(12.0).reshape(6, 2)), factors),
]
_TELLING = [b"\x00", b"\xff", b"\n", b",", b'"', b"\t", b"-1", b"9" * 20, b"1e400", b"nan", b"'", b"\xff\xff\xff\x7f"]


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """A few bytes of it changed, as chance or somebody may change them."""
    changed = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        # Footers and headers are where sizes stand.
        places = [
            rng.integers(len(changed)),
            min(rng.integers(80), len(changed) - 1),
            max(0, len(changed) - rng.integers(1, 200)),
        ]
        at = int(places[rng.integers(3)])
        match rng.integers(6):
            case 0 | 1:
                changed[at] ^= 1 << int(rng.integers(8))
            case 2:
                changed[at] = int(rng.integers(256))
            case 3:
                del changed[at : at + int(rng.integers(1, 40))]
            case 4:
                changed[at:at] = changed[at : at + int(rng.integers(1, 40))]
            case 5:
                changed[at:at] = _TELLING[rng.integers(len(_TELLING))]
        if not changed:
            break
    return bytes(changed[: rng.integers(1, len(changed) + 1)] if changed and rng.random() < 0.2 else changed)


def test_files_as_they_are_are_read(tmp_path: Path) -> None:
    for name, content, reader in FILES:
        (tmp_path / name).write_bytes(content)
        assert len(reader(tmp_path / name))


def test_damaged_files_are_read_or_refused_in_a_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Warnings of files that are read all the same, as many as there are runs.
    monkeypatch.setattr(logging.getLogger("ciess.data.lines"), "disabled", True)
    refused = list[str]()
    before = peak()
    for run in range(RUNS):
        rng = np.random.default_rng(run)
        name, content, reader = FILES[run % len(FILES)]
        path = tmp_path / name
        path.write_bytes(damaged(content, rng))
        try:
            reader(path)
        except InputError as error:
            refused.append(str(error))
        except BaseException as error:
            raise AssertionError(f"run {run}: {name}") from error
    assert 0.2 < len(refused) / RUNS < 0.95
    assert not [said for said in refused if str(tmp_path) not in said]
    assert "panicked" not in capfd.readouterr().err
    # All files are small: the floor of what may be unpacked counts, and what becomes of it.
    assert peak() - before < 6 * most_unpacked(0)


def peak() -> int:
    """Bytes of memory that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
