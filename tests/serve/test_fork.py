"""Workers that are forked after their parent has scored, as `gunicorn --preload` does."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ciess
from ciess.models import backbone_named
from ciess.tables.plan import SizePlan

SERVE = """
import os, signal, sys
import ciess

model = ciess.load(sys.argv[1])
users = model.user_ids
expected = model.recommend(users, k=10)[0]
if "torch" in sys.modules:
    assert sys.modules["torch"].get_num_threads() == 2, "the parent has threads that a child lacks"
child = os.fork()
if child == 0:
    signal.alarm(20)
    os._exit(0 if (model.recommend(users, k=10)[0] == expected).all() else 3)
print(os.waitpid(child, 0)[1])
"""


@pytest.mark.parametrize("name", ["lightgcn", "mf"])
def test_a_forked_worker_answers_after_a_warm_parent(name: str, tmp_path: Path) -> None:
    data = ciess.synthetic(users=600, items=400).interactions
    config = backbone_named(name, dim=32)
    plan = SizePlan(np.full(data.n_users, 32), np.full(data.n_items, 32), 32)
    folder = ciess.CompressedModel.pack(config, config.build(data), plan, data).save(tmp_path)
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SERVE, str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.stdout == "0\n", told.stderr
