import os
from functools import partial
from pathlib import Path

# As the command line sets it, and before PyTorch is imported: threads that spin crawl on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Tests run in two processes, which must not share their cores with threads of their own. They inherit what the process
# that starts them has set here.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "2")

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import settings

import ciess
from ciess.data import Interactions, Split, split_random, synthetic
from ciess.models import BackboneConfig
from ciess.train import tune

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
# Time is no property of the code; the same examples on every machine.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


_LONGEST = (
    "test_examples.py",
    "test_docs.py",
    "test_pipeline.py",
    "test_kept_plans.py",
    "test_measured.py",
    "test_distribute.py",
    "test_sharded.py",
    "test_fork.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take longest come first: else one process waits in the end for another that has just begun one."""
    items.sort(key=lambda item: item.path.name not in _LONGEST)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures without anything in them: drawing takes longer than what is tested."""
    empty = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"></svg>'
    monkeypatch.setattr("ciess.report.figures.drawn", lambda *_: empty)


@pytest.fixture(autouse=True)
def _undrawn_elsewhere(request: pytest.FixtureRequest) -> None:
    """Figures are drawn for the tests of reports alone."""
    if "report" not in request.path.parts and "benchmarks" not in request.path.parts:
        request.getfixturevalue("undrawn")


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Finishes of few steps and few trials of settings, for tests of what is done with a model that may be any."""
    monkeypatch.setattr(tune, "Tuning", partial(tune.Tuning, trials=4))
    for config in (BackboneConfig, ciess.ALS, ciess.MF, ciess.NCF, ciess.NGCF, ciess.Factors):
        monkeypatch.setattr(config, "distillation", config.distillation.shortened(12))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets: CIESS_DATA, or ../shared/data beside the repository."""
    folder = Path(os.environ.get("CIESS_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}: set CIESS_DATA")
    return folder


@pytest.fixture(scope="session")
def split() -> Split:
    """A small synthetic split."""
    return split_random(synthetic(users=150, items=100, mean_count=20, seed=3).interactions, seed=3)


@pytest.fixture(scope="session")
def tiny() -> Interactions:
    """Three users, four items: u0 has i0 i1, u1 has i1, u2 has i0 i2 i3."""
    return Interactions.from_pairs(
        np.array([0, 0, 1, 2, 2, 2]),
        np.array([0, 1, 1, 0, 2, 3]),
        pl.Series(["u0", "u1", "u2"]),
        pl.Series([10, 11, 12, 13]),
    )
