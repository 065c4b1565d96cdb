"""Threads and processes that share a model: all give the answers of one alone."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import ciess
from ciess.models import backbone_named
from ciess.tables.plan import SizePlan

K = 10
WORKERS = """
import multiprocessing, os, signal, sys
import numpy as np
import polars as pl
import ciess

def same(model, path, result=None):
    signal.alarm(200)
    expected = np.load(path)
    found = (model.recommend(expected[:, 0], k=expected.shape[1] - 1)[0].astype(str) == expected[:, 1:]).all()
    return found if result is None else sys.exit(0 if found else 3)

def exits(model, answers, how, count):
    start = multiprocessing.get_context(how).Process
    workers = [start(target=same, args=(model, answers, True)) for _ in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return [worker.exitcode for worker in workers]

if __name__ == "__main__":
    _, folder, answers, *counts = sys.argv
    cold, warm, spawned = map(int, counts)
    model = ciess.load(folder)
    # Threads of libraries that a forked process does not have.
    pl.Series(range(100_000)).n_unique()
    print(exits(model, answers, "fork", cold))
    assert same(model, answers)
    if "torch" in sys.modules:
        assert sys.modules["torch"].get_num_threads() == 2
    print(exits(model, answers, "fork", warm))
    print(exits(model, answers, "spawn", spawned))
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models of random numbers; those of LightGCN and NCF need PyTorch."""
    data = ciess.synthetic(users=600, items=400).interactions
    found = {}
    for name in ("mf", "lightgcn", "ncf"):
        config = backbone_named(name, dim=32)
        plan = SizePlan(np.full(data.n_users, 32), np.full(data.n_items, 32), 32)
        model = ciess.CompressedModel.pack(config, config.build(data), plan, data)
        found[name] = model.save(tmp_path_factory.mktemp("models") / name)
    return found


def answers(folder: Path) -> np.ndarray:
    """Each user, and what is recommended."""
    model = ciess.load(folder)
    users = model.user_ids
    return np.column_stack([users, model.recommend(users, k=K)[0]]).astype(str)


@pytest.mark.parametrize(("name", "counts"), [("mf", (8, 8, 8)), ("lightgcn", (3, 8, 1)), ("ncf", (3, 1, 1))])
def test_workers_answer_as_one_process(
    name: str, counts: tuple[int, int, int], folders: dict[str, Path], tmp_path: Path
) -> None:
    """Forked, as `gunicorn --preload` does, before the parent has used the model and after; spawned, each is sent a
    copy, and imports all anew, PyTorch among it where it is needed."""
    np.save(tmp_path / "answers.npy", answers(folders[name]))
    (tmp_path / "workers.py").write_text(WORKERS)
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "workers.py", str(folders[name]), "answers.npy", *map(str, counts)],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.stdout == "".join(f"{[0] * count}\n" for count in counts), told.stderr


@pytest.mark.parametrize("temper", ["warm", "cold"])
@pytest.mark.parametrize("name", ["mf", "lightgcn", "ncf"])
def test_threads_answer_as_one(name: str, temper: str, folders: dict[str, Path]) -> None:
    expected, model = answers(folders[name]), ciess.load(folders[name])
    if temper == "warm":
        model.recommend(expected[0, 0])
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda _: model.recommend(expected[:, 0], k=K)[0], range(16)))
    assert all(np.array_equal(each.astype(str), expected[:, 1:]) for each in found)
