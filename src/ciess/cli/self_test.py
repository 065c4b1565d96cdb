"""Whether ciess works on this machine: versions, threads, devices, extras, memory, and a short search, checked."""

import dataclasses
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

_LIBRARIES = ("ciess", "torch", "numpy", "scipy", "polars", "safetensors", "rich", "tyro")
_EXTRAS: Mapping[str, tuple[str, str]] = {
    "faiss": ("ciess export … faiss", "pip install 'ciess[export]'"),
    "pooch": ("ciess data fetch", "pip install 'ciess[data]'"),
    "usearch": ("ciess export … usearch", "pip install 'ciess[export]'"),
    "ray": ("--executor ray", "pip install 'ciess[ray]'"),
    "onnx": ("ciess export … onnx", "pip install 'ciess[export]'"),
    "torchrec": ("reading ciess export … torchrec", "the release of torchrec that was built for your PyTorch"),
}
"""What each optional library is for, and how to have it."""
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class SelfTest:
    """The result of a search on tiny data.

    Attributes:
        passed: whether all of it held.
        seconds: it took.
        told: what held, or the first thing that did not.
    """

    passed: bool
    seconds: float
    told: str


@dataclass(frozen=True)
class Checkup:
    """The state of an installation.

    Attributes:
        versions: of libraries.
        python: its version, and where it lies.
        system: operating system and processor.
        cores: that this process may use.
        threads: of PyTorch.
        thread_variables: environment variables that set threads, where they are set.
        devices: that PyTorch can use.
        extras: optional libraries: their versions, or how to have them.
        free_memory: bytes that this process may still take; None where the system does not say.
        free_disk: bytes, in the cache's folder.
        cache: where named sets are kept.
        test: a search on tiny data.
    """

    versions: dict[str, str]
    python: str
    system: str
    cores: int
    threads: int
    thread_variables: dict[str, str]
    devices: list[str]
    extras: dict[str, str]
    free_memory: int | None
    free_disk: int
    cache: str
    test: SelfTest


def checkup() -> Checkup:
    """Look at everything, and run the test."""
    import torch

    from ciess.data.catalogue import cache_folder
    from ciess.experiment.room import available_memory

    cache = cache_folder()
    nearest = next(folder for folder in (cache, *cache.parents) if folder.exists())
    return Checkup(
        versions={name: version(name) for name in _LIBRARIES},
        python=f"{platform.python_version()}, {sys.executable}",
        system=f"{platform.system()} {platform.release()}, {platform.machine()}",
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        thread_variables={name: os.environ[name] for name in _THREADS if name in os.environ},
        devices=_devices(),
        extras={name: _extra(name) for name in _EXTRAS},
        free_memory=available_memory(),
        free_disk=shutil.disk_usage(nearest).free,
        cache=str(cache),
        test=self_test(),
    )


def self_test() -> SelfTest:
    """Search, save, load and recommend; the loaded model must rank as PyTorch does, within its budget."""
    start = time.perf_counter()
    try:
        told, passed = _tried(), True
    # Whatever it is, it is what the user wants to know.
    except Exception as error:
        told, passed = f"{type(error).__name__}: {error}", False
    return SelfTest(passed, time.perf_counter() - start, told)


def _tried() -> str:
    from ciess.data import synthetic
    from ciess.experiment.pipeline import search
    from ciess.methods.ciess.budgeted import Ciess
    from ciess.methods.popularity import Popularity
    from ciess.models import Training
    from ciess.models.lightgcn import LightGCN
    from ciess.results.outcome import KEPT
    from ciess.serve.saved import load
    from ciess.train.finish import Finish

    data = synthetic(users=120, items=80, mean_count=16).interactions
    outcome = search(
        data,
        backbone=LightGCN(dim=16, training=Training(steps=30, batch_size=1_000)),
        budgets=["50%"],
        method=Ciess(episodes=1, steps=1, updates=1, start=Popularity(rounds=1, plans=2)),
        finishing=Finish().lasting(10),
        target="output",
    )
    with tempfile.TemporaryDirectory() as folder:
        [model] = outcome.models.values()
        loaded = load(model.save(Path(folder) / "model"))
        users = list(data.user_ids)
        items, scores = loaded.recommend(users, 10, exclude_seen=False)
        by_torch = dataclasses.replace(loaded, rows_stand_alone=False).recommend(users, 10, exclude_seen=False)
        if not np.array_equal(items, by_torch[0]):
            raise AssertionError("NumPy and PyTorch rank differently")
        np.testing.assert_allclose(scores, by_torch[1], rtol=1e-4, atol=1e-5)
        stored = (Path(folder) / "model" / "tables.safetensors").stat().st_size
    [row] = [row for row in outcome.rows if row.method == KEPT]
    if stored != row.table_bytes or stored > outcome.row("full").table_bytes // 2:
        raise AssertionError(f"tables of {stored:,} bytes are not within their budget")
    return "search, save, load and recommend; NumPy and PyTorch rank alike"


def _extra(name: str) -> str:
    if importlib.util.find_spec(name) is None:
        use, remedy = _EXTRAS[name]
        return f"not installed; for {use}: {remedy}"
    try:
        return version(f"{name}-cpu" if name == "faiss" else name)
    except PackageNotFoundError:
        return "installed"


def _devices() -> list[str]:
    import torch

    found = ["cpu"]
    found += [f"cuda:{n} {torch.cuda.get_device_name(n)}" for n in range(torch.cuda.device_count())]
    return found + (["mps"] if torch.backends.mps.is_available() else [])
