"""Time and memory of a table that memory need not hold: `python benchmarks/prepared.py FOLDER --millions 20`.

Generates Parquet parts of a million rows with times under FOLDER, users and items drawn by a power law, prepares them
in a process of its own, and prints what that took.
"""

import multiprocessing
import resource
import time
from pathlib import Path

import numpy as np
import polars as pl
import tyro

from ciess.data.prepared import prepare

USERS_A_MILLION, ITEMS, PART = 20_000, 100_000, 1_000_000


def main(folder: tyro.conf.Positional[Path], millions: int = 20) -> None:
    """Generate what is missing, prepare, print."""
    parts = folder / f"{millions}m"
    for number in range(millions):
        path = parts / f"part-{number:05}.parquet"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            random = np.random.default_rng(number)
            users = (random.random(PART) ** 1.5 * USERS_A_MILLION * millions).astype(np.int64)
            items = (random.random(PART) ** 3 * ITEMS).astype(np.int64)
            frame = pl.DataFrame({"user_id": users * 3, "item_id": items, "timestamp": random.integers(0, 2**31, PART)})
            frame.write_parquet(path)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        seconds, peak, before = pool.apply(_measured, (parts, folder / f"{millions}m-prepared"))
    print(f"{millions} M rows: {seconds:.0f} s, peak {peak:.2f} GiB, {before:.2f} GiB of it before any was read")


def _measured(parts: Path, out: Path) -> tuple[float, float, float]:
    before, start = _peak(), time.perf_counter()
    prepare(parts, out)
    return time.perf_counter() - start, _peak(), before


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    tyro.cli(main)
