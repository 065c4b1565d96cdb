"""One model made by several processes: it is packed whole, opened as any other, and near that of one process."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from several import together

import ciess
from ciess.data import Split
from ciess.errors import InputError
from ciess.experiment.cells import UNFINISHED
from ciess.experiment.distribute import Distributed, check_distributed
from ciess.methods.ciess.policy import Actor
from ciess.models import Training
from ciess.tables.budget import Budget
from ciess.tables.layout import stored_bytes
from ciess.tables.plan import SizePlan, TableShape
from ciess.train import losses, shards
from ciess.train.finish import Finish

pytestmark = pytest.mark.skipif(not shards.KEEPS, reason="this PyTorch keeps no tables of several processes")
BACKBONE = ciess.ALS(dim=16, training=Training(steps=4, eval_every=2))
FINISH = Finish(training=Training(steps=6, batch_size=1_000, lr=0.05, eval_every=3))
SHAPE = TableShape(150, 100, 16)
LIMIT = Budget.parse("30%").limit(SHAPE)


def made(split: Split, out: Path, **settings: Any) -> Distributed:
    """What processes make together, in blocks of few rows."""
    losses._BFLOAT16, shards._ROWS_AT_ONCE = False, 32
    return ciess.distribute(split, out, backbone=BACKBONE, budget="30%", finishing=FINISH, **settings)


def test_two_processes_make_the_model_of_one(split: Split, tmp_path: Path) -> None:
    policy = ciess.SizePolicy.of_plan(
        SizePlan(1 + np.arange(150) % 9, 1 + np.arange(100) % 5, 16), (split.train.user_counts, split.train.item_counts)
    )
    policy.save(tmp_path / "policy")
    given = {"policy": tmp_path / "policy"}
    first, second = together(2, tmp_path, _made, split, tmp_path / "two", given)
    [one] = together(1, tmp_path, _made, split, tmp_path / "one", given)
    assert (first.full, first.small) == (second.full, second.small)
    assert (one.processes, first.processes, first.shown) == (1, 2, "test")
    assert first.small == pytest.approx(one.small, abs=1e-6)
    expected, model = ciess.load(tmp_path / "one"), ciess.load(tmp_path / "two", verify=True)
    assert first.table_bytes == model.table_bytes <= LIMIT
    np.testing.assert_array_equal(model.user_ids, expected.user_ids)
    np.testing.assert_array_equal(model.plan.sizes, expected.plan.sizes)
    assert len({*model.plan.sizes.tolist()}) > 5
    np.testing.assert_allclose(model.users.dense(), expected.users.dense(), atol=1e-4)
    np.testing.assert_allclose(model.items.dense(), expected.items.dense(), atol=1e-4)
    users = split.train.user_ids.to_list()
    items, scores = model.recommend(users, k=5)
    np.testing.assert_array_equal(items, expected.recommend(users, k=5)[0])
    assert np.isfinite(scores).all()
    assert {path.name for path in (tmp_path / "two").iterdir()} == {path.name for path in (tmp_path / "one").iterdir()}


def test_a_model_of_few_bits_is_rounded_on_all_processes(split: Split, tmp_path: Path) -> None:
    """Not compared number by number: one that lies midway falls either way."""
    found, _ = together(2, tmp_path, _made, split, tmp_path / "out", {"precision": "int4"})
    model = ciess.load(tmp_path / "out", verify=True)
    assert model.table_bytes <= LIMIT
    assert ciess.evaluate(model, split.test)["ndcg@20"] == pytest.approx(found.small["ndcg@20"], abs=1e-6)
    assert found.small["quality"] > 0.8 * found.full["quality"]


def _made(split: Split, out: Path, settings: dict[str, Any]) -> Distributed:
    return made(split, out, **settings)


def test_what_it_tells_is_measured_with_validation_left_out(split: Split, tmp_path: Path) -> None:
    found = made(split, tmp_path)
    model = ciess.load(tmp_path)
    assert model.about["measured"] == {"shown": "test", "full": found.full, "small": found.small}
    assert split.test is not None
    assert ciess.evaluate(model, split.test)["ndcg@20"] == pytest.approx(found.small["ndcg@20"], abs=1e-6)
    assert found.full["quality"] > 0


def test_sizes_are_equal_without_a_policy_and_fill_the_budget(split: Split, tmp_path: Path) -> None:
    made(split, tmp_path)
    [size] = {*ciess.load(tmp_path).plan.sizes.tolist()}
    assert stored_bytes(SizePlan.equal(SHAPE, size)) <= LIMIT < stored_bytes(SizePlan.equal(SHAPE, size + 1))


@dataclass
class Killed:
    """Progress whose process is killed at a step."""

    phase: str
    step: int

    def __call__(self, phase: str, done: int, total: int, note: str = "") -> None:
        if (phase, done) == (self.phase, self.step):
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(("phase", "step"), [("full model", 3), ("finish", 4)])
def test_after_a_kill_one_process_goes_on(phase: str, step: int, split: Split, tmp_path: Path) -> None:
    whole = made(split, tmp_path / "whole")
    lost = together(2, tmp_path, _made, split, tmp_path / "out", {"progress": Killed(phase, step)})
    assert isinstance(lost[0], EOFError)
    steps: list[tuple[str, int]] = []
    found = made(split, tmp_path / "out", progress=lambda phase, done, *_: steps.append((phase, done)))
    assert steps[0] == (phase, step)
    assert found.small == pytest.approx(whole.small, abs=1e-6)
    assert not (tmp_path / "out" / UNFINISHED).exists()


def test_other_settings_do_not_go_on_from_there(split: Split, tmp_path: Path) -> None:
    together(1, tmp_path, _made, split, tmp_path / "out", {"progress": Killed("finish", 4)})
    steps: list[tuple[str, int]] = []
    made(split, tmp_path / "out", seed=1, progress=lambda phase, done, *_: steps.append((phase, done)))
    assert steps[0] == ("full model", 1)


def test_what_a_run_that_was_killed_has_left_is_no_hindrance(split: Split, tmp_path: Path) -> None:
    """Written aside while the model was saved."""
    (tmp_path / ".ciess-0123456789abcdef.part").mkdir()
    made(split, tmp_path)
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_is_not_for_several_processes_is_refused(split: Split, tmp_path: Path) -> None:
    actor = ciess.SizePolicy(Actor.__new__(Actor), Actor.__new__(Actor), 16)
    for settings, told in (
        ({"backbone": type("MF", (ciess.MF,), {})()}, "MF is not trained on several processes"),
        ({"backbone": "lightgcn"}, "LightGCN is not trained on several processes: use mf or als"),
        ({"precision": "tapered"}, "scaled by many rows"),
        ({"precision": "auto"}, "is found or scaled"),
        ({"policy": actor}, "the policy looks at full rows"),
        ({"budget": "1B"}, "too small for one dimension"),
    ):
        with pytest.raises(InputError, match=told):
            ciess.distribute(split, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match=r"holds files already \(thesis.tex\)"):
        ciess.distribute(split, tmp_path)
    made(split, tmp_path / "model")
    with pytest.raises(InputError, match=r"holds files already \(ids"):
        made(split, tmp_path / "model", seed=1)
    assert together(2, tmp_path, _made, split, tmp_path / "new", {"seed": -1})[1].args[0].startswith("seed is -1")


def test_torchrun_starts_it(tmp_path: Path) -> None:
    lines = (f"{user} {(user * user + 3 * step) % 20}" for user in range(30) for step in range(8))
    (tmp_path / "pairs.txt").write_text("user item\n" + "\n".join(lines))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "ciess", "distribute"]
    words = ["pairs.txt", "--dim", "16", "--set", "steps=2", "--budget", "30%", "--out", "out", "--json"]
    run = subprocess.run([*command, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert (told["processes"], told["folder"]) == (2, "out")
    assert ciess.load(tmp_path / "out", verify=True).table_bytes == told["table_bytes"]


def _refused(folder: Path) -> list[str]:
    found = []
    for _ in range(300):
        try:
            check_distributed(BACKBONE, folder / "deep" / "out", "float32")
        except InputError as error:
            found.append(str(error))
    return found


def test_processes_that_try_one_folder_are_not_in_each_others_way(tmp_path: Path) -> None:
    assert together(3, tmp_path, _refused, tmp_path) == [[], [], []]
