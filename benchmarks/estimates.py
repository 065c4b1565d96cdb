"""What `ciess.estimate` tells before a search against what the search then takes: time and memory on several sizes.

    python benchmarks/estimates.py OUT.csv [--backbones als mf lightgcn] [--sizes 5]

Each search runs by itself in a process with one thread, from a Parquet file of made-up interactions (`ciess.synthetic`)
to models, without tuning. Time is seconds that its thread worked, so other programs do not count; memory is the most
that the process held. The columns: what was told, what was measured, and the one over the other.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SIZES = ((1_000, 500, 20), (3_000, 1_500, 30), (10_000, 4_000, 30), (30_000, 8_000, 20), (60_000, 15_000, 20))
"""Users, items, and how many interactions a user has."""
SEARCH = """
import json, resource, sys, time
import torch
torch.set_num_threads(1)
import ciess
from ciess.models import backbone_named
path, name, dim = sys.argv[1:]
start = time.process_time()
data = ciess.read(path)
found = ciess.search(data, backbone=backbone_named(name, dim=int(dim)), budgets=["10%", "5%"])
worked = time.process_time() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps({"seconds": worked, "bytes": peak, "wall": found.seconds}))
"""
ESTIMATE = """
import dataclasses, json, sys
import torch
torch.set_num_threads(1)
from ciess.experiment.estimate import estimate
from ciess.models import backbone_named
users, items, interactions, name, dim = sys.argv[1:]
found = estimate(int(users), int(items), int(interactions), backbone_named(name, dim=int(dim)), ["10%", "5%"])
print(json.dumps({"seconds": found.seconds.total, "bytes": found.memory.peak, **dataclasses.asdict(found.seconds)}))
"""


def answer(script: str, *args: object) -> dict[str, float]:
    """What a script prints, in a process of its own."""
    command = [sys.executable, "-c", script, *map(str, args)]
    single = os.environ | {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=single).stdout)


def main() -> None:
    """Estimate, search, compare; a line at a time."""
    import ciess

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--backbones", nargs="+", default=["als", "mf", "lightgcn"])
    parser.add_argument("--sizes", type=int, default=len(SIZES))
    parser.add_argument("--dim", type=int, default=64)
    args = parser.parse_args()
    with args.out.open("w", newline="") as file, tempfile.TemporaryDirectory() as folder:
        columns = [
            "backbone",
            "users",
            "items",
            "interactions",
            "told_s",
            "took_s",
            "time",
            "told_mb",
            "took_mb",
            "memory",
        ]
        table = csv.DictWriter(file, columns)
        table.writeheader()
        for users, items, mean in SIZES[: args.sizes]:
            data = ciess.synthetic(users=users, items=items, mean_count=mean).interactions
            path = Path(folder) / "data.parquet"
            _write(data, path)
            for name in args.backbones:
                told = answer(ESTIMATE, users, items, len(data), name, args.dim)
                took = answer(SEARCH, path, name, args.dim)
                line = [name, users, items, len(data)]
                line += [
                    round(told["seconds"], 1),
                    round(took["seconds"], 1),
                    round(told["seconds"] / took["seconds"], 2),
                ]
                line += [round(each["bytes"] / 1e6) for each in (told, took)] + [
                    round(told["bytes"] / took["bytes"], 2)
                ]
                table.writerow(dict(zip(columns, line, strict=True)))
                file.flush()
                print(*line, told, took, flush=True)


def _write(data: object, path: Path) -> None:
    import polars as pl

    frame = {"user": data.user_ids[data.users], "item": data.item_ids[data.items]}
    pl.DataFrame(frame).write_parquet(path)


if __name__ == "__main__":
    main()
