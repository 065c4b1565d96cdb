"""Serving from packed rows: a model of ten million rows, and packed int8 against dense float32.

    python benchmarks/serving.py
    python benchmarks/serving.py --interactions ml-1m/

prints what opening takes, the peak memory while 1,000 users are served (mapped files are a part of it: what was read of
them, and the 64 kB around that lie in the system's cache), how much is the process' own in the end, and the time of
int8 over that of dense rows, and keeps them in `benchmarks/results/serving.json`. Every measurement of the large model
is a process of its own.
"""

import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

import ciess
from ciess.data.ids import RowIds
from ciess.serve.model import CompressedModel
from ciess.serve.seen import SeenItems
from ciess.tables.packed import PackedTable, falling_order
from ciess.tables.plan import SizePlan
from ciess.tables.precision import Precision

MEAN_SIZE = 24
SEEN_A_USER = 5

SERVE = """
import json, sys, time
import numpy
from ciess import load
began = time.perf_counter()
model = load(sys.argv[1])
opened = time.perf_counter() - began
users = numpy.random.default_rng(0).integers(0, int(sys.argv[2]), 1000)
began = time.perf_counter()
items, scores = model.recommend(users, k=10)
served = time.perf_counter() - began
assert numpy.isfinite(scores).all()
# Not getrusage: its maximum takes in what the process was forked from.
status = dict(line.split(":") for line in open("/proc/self/status"))
peak, private = (int(status[name].split()[0]) / 1024 for name in ("VmHWM", "RssAnon"))
print(json.dumps({"open ms": opened * 1e3, "serve s": served, "peak MiB": peak, "private MiB": private}))
"""


@dataclass
class Settings:
    """Serving from packed rows."""

    interactions: Path | None = None
    """A data set whose users are all served; without it, a synthetic one of the size of MovieLens-1M."""
    rows: int = 10_000_000
    """Of the large model, half of them users'."""
    repeats: int = 7
    """Pairs of timings; the median of their ratios is told."""
    out: Path = Path("benchmarks/results/serving.json")
    """Where the results are kept."""


def main(settings: Settings) -> None:
    results = {"large": large(settings.rows), "int8 over dense float32": ratio(settings)}
    settings.out.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


def large(rows: int) -> dict[str, float]:
    """A model of random rows of 4 bits, opened and used in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = large_model(rows // 2).save(Path(folder) / "model")
        command = [sys.executable, "-c", SERVE, str(path), str(rows // 2)]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        sizes = {f"{file.stem} MiB": file.stat().st_size / 2**20 for file in sorted(path.glob("*.safetensors"))}
        return {"rows": rows, **sizes, **json.loads(told)}


def large_model(side: int) -> CompressedModel:
    rng = np.random.default_rng(0)
    # Sizes 8 to 40 in eight steps: their mean is MEAN_SIZE.
    sizes = np.repeat(np.linspace(MEAN_SIZE + 16, MEAN_SIZE - 16, 9).astype(np.int32), -(-side // 9))[:side]
    tables = [random_table(sizes, rng) for _ in range(2)]
    offsets = np.arange(side + 1) * SEEN_A_USER
    items = np.sort(rng.integers(0, side, (side, SEEN_A_USER)), axis=1).reshape(-1)
    ids = RowIds.of(rng.permutation(side))
    seen = SeenItems.of(offsets, items, side)
    return CompressedModel(*tables, ids, ids, seen, {"name": "factors"}, rows_stand_alone=True)


def random_table(sizes: np.ndarray, rng: np.random.Generator) -> PackedTable:
    found, rows = np.unique(sizes, return_counts=True)
    groups = np.stack([found, rows], axis=1)[::-1].astype(np.int32)
    # Both halves of a byte in −7..7.
    values = rng.integers(1, 16, int(sizes.sum()) // 2 + len(groups), dtype=np.uint8)
    values = values[: int((-(-groups[:, 0].astype(np.int64) * groups[:, 1] // 2)).sum())]
    return PackedTable(Precision.INT4, int(sizes.max()), groups, values * 17, np.full(len(sizes), 128, np.uint8))


def ratio(settings: Settings) -> dict[str, float]:
    """All users served from packed int8, over the same from dense float32 rows, in turns."""
    data = ciess.read(settings.interactions) if settings.interactions else None
    n_users, n_items = (data.n_users, data.n_items) if data else (6040, 3260)
    rng = np.random.default_rng(0)
    plan = SizePlan(rng.integers(4, 65, n_users), rng.integers(4, 65, n_items), 128, Precision.INT8)
    sides = []
    for sizes in (plan.user_sizes, plan.item_sizes):
        order = falling_order(sizes)
        rows = rng.standard_normal((len(sizes), plan.dim)).astype(np.float32)
        sides.append(PackedTable.pack(rows[order], sizes[order], Precision.INT8))
    if data is None:
        known = rng.random((n_users, n_items)) < 0.05
        offsets, items = np.concatenate([[0], known.sum(1).cumsum()]), np.nonzero(known)[1]
    else:
        offsets, items = data.matrix.indptr, data.matrix.indices
    seen = SeenItems.of(offsets, items, n_items)
    ids = RowIds.of(np.arange(n_users)), RowIds.of(np.arange(n_items))
    model = CompressedModel(*sides, *ids, seen, {"name": "factors", "dim": 128}, rows_stand_alone=True)
    users = np.arange(n_users)
    by_torch = dataclasses.replace(model, rows_stand_alone=False)
    by_torch.recommend(users)
    pairs = [(timed(model, users), timed(by_torch, users)) for _ in range(settings.repeats)]
    packed, dense = (statistics.median(times) for times in zip(*pairs, strict=True))
    return {"packed s": packed, "dense s": dense, "ratio": statistics.median(one / other for one, other in pairs)}


def timed(model: CompressedModel, users: np.ndarray) -> float:
    began = time.perf_counter()
    model.recommend(users, k=20)
    return time.perf_counter() - began


if __name__ == "__main__":
    main(tyro.cli(Settings))
