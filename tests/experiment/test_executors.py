"""Cells made by other processes and machines: the same as in one process, and one that is lost takes no other along."""

import multiprocessing
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import ciess
from ciess.data import Interactions, synthetic
from ciess.errors import InputError
from ciess.experiment.comparison import Comparison
from ciess.experiment.executors import check_executor, executor_named, part_of
from ciess.methods.equal import EqualSizes
from ciess.methods.mixed import MixedRandom
from ciess.methods.problem import Problem, SearchResult
from ciess.models import Training
from ciess.train.checkpoint import Kept, State
from ciess.train.finish import Finish

BACKBONE = ciess.MF(dim=4, training=Training(steps=20, batch_size=1_000, l2=0.02, eval_every=10))
FINISH = Finish(training=Training(steps=2, batch_size=1_000, lr=0.3, eval_every=1))


@pytest.fixture(scope="module")
def data() -> Interactions:
    return synthetic(users=60, items=50, mean_count=16, seed=3).interactions


@dataclass(frozen=True)
class Killed:
    """Ends its process as the system does where memory runs out."""

    here: int = 0

    def search(self, problem: Problem) -> SearchResult:
        if os.getpid() != self.here:
            os.kill(os.getpid(), signal.SIGKILL)
        return EqualSizes().search(problem)


def known_here_alone() -> int:
    """A function of `__main__`, as what is written into a notebook is: other processes have another."""
    return 1


def test_what_another_process_cannot_know_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "known_here_alone", known_here_alone, raising=False)
    monkeypatch.setattr(known_here_alone, "__module__", "__main__")
    with executor_named("processes:1") as pool:
        for given, what in ((known_here_alone, "does not know a method"), (lambda: 1, "cannot be sent to a process")):
            with pytest.raises(InputError, match=f"{what}.*: put its class into a file"):
                pool.submit(given).result()


def compare(data: Interactions, **settings: Any) -> Comparison:
    told = {"methods": {"random": MixedRandom()}, "budgets": ["60%"], "seeds": [0, 1]}
    return ciess.compare(data, backbone=BACKBONE, finishing=FINISH, **{**told, **settings})


def told(comparison: Comparison) -> list[Any]:
    """All that cells hold but how long they took."""
    found = []
    for cell in comparison.cells:
        rows = [{**row, "seconds": 0} for row in cell.described()["rows"]]
        users = {budget: each.tobytes() for budget, each in cell.quality.items()}
        found.append([{**cell.described(), "seconds": 0, "rows": rows}, users])
    return found


@pytest.fixture(scope="module")
def here(data: Interactions) -> Comparison:
    return compare(data)


SCRIPT = """
import ciess
data = ciess.synthetic(users=30, items=20, mean_count=5).interactions
few = ciess.MF(dim=4, training=ciess.Training(steps=1))
ciess.compare(data, methods="equal", backbone=few, budgets="60%", executor="processes:1")
"""


@pytest.mark.parametrize("name", ["script.py", "-"])
def test_a_script_that_each_process_would_run_is_refused_with_the_remedy(name: str, tmp_path: Path) -> None:
    """Without a guard in a file, or on stdin."""
    (tmp_path / "script.py").write_text(SCRIPT)
    told = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 100}
    ended = subprocess.run([sys.executable, name], input=SCRIPT if name == "-" else None, check=False, **told)
    assert ended.stderr.count("Traceback") == 1, "and none of the process that ended"
    assert ended.stderr.rstrip().endswith('and the call below `if __name__ == "__main__":`')


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_processes_make_the_same_and_a_lost_one_costs_its_cell(
    data: Interactions, here: Comparison, tmp_path: Path
) -> None:
    methods = {"random": MixedRandom(), "killed": Killed(here=os.getpid())}
    phases = []
    found = compare(
        data,
        methods=methods,
        seeds=0,
        executor="processes:2",
        cells=tmp_path,
        progress=lambda *step: phases.append(step[:3]),
    )
    lost = "RuntimeError: its process was lost (exit code -9)"
    assert [(cell.method, cell.error) for cell in found.failures] == [("killed", lost)]
    assert told(found)[:3] == told(here)[:3]
    assert phases == [("cells", number, 4) for number in range(1, 5)]
    # What the others made is kept, and the lost one is tried again.
    phases.clear()
    again = compare(data, methods=methods, seeds=0, cells=tmp_path, progress=lambda *step: phases.append(step))
    assert (again.failures, told(again)[:3]) == ([], told(here)[:3])
    assert {phase.partition(" ")[0] for phase, *_ in phases} == {"4/4"}


def test_a_request_that_cannot_be_done_is_refused_by_an_executor_too(data: Interactions) -> None:
    with pytest.raises(InputError, match="too small"):
        compare(data, budgets=["1%"], executor="processes:1", seeds=0)


def test_ray_makes_the_same(data: Interactions, here: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'ciess[ray]'")
    for name, value in (("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0"), ("RAY_AUTH_MODE", "disabled")):
        monkeypatch.setenv(name, value)
    assert told(compare(data, executor="ray", seeds=0)) == told(here)[:3]


@pytest.mark.parametrize(
    "text", ["processes", "processes:0", "processes:-1", "processes:x", "rays", "ray:", "threads:2"]
)
def test_what_is_no_executor_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"write processes:4, ray, or ray:ADDRESS"), executor_named(text):
        pass


def test_a_process_of_ones_own_may_import_a_script_that_compares(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that ends as it begins is started again for ever by a pool."""
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    check_executor(None)
    with pytest.raises(SystemExit):
        check_executor("processes:2")


@pytest.mark.parametrize("n", [1, 2, 3, 7, 9])
def test_shards_are_runs_of_all_of_the_work(n: int) -> None:
    work = [*"abcdefg"]
    parts = [part_of(work, f"{i}/{n}") for i in range(1, n + 1)]
    assert [each for part in parts for each in part] == work
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["0/2", "3/2", "1/0", "1", "a/b", "1/2/3", "-1/2"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="write i/n"):
        part_of([], text)


def test_shards_of_several_folders_are_one_comparison(data: Interactions, here: Comparison, tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in (1, 2, 3)]
    for number, folder in enumerate(folders, 1):
        compare(data, shard=f"{number}/3", cells=folder)

    def never(*_: object) -> None:
        raise AssertionError("something was done")

    assert told(compare(data, cells=tmp_path / "all", merge=folders, progress=never)) == told(here)
    with pytest.raises(InputError, match=r"equal-0-.*was made by other budgets: merge shards of one comparison"):
        compare(data, budgets=["50%"], cells=tmp_path / "mixed", merge=folders)
    with pytest.raises(InputError, match=r"was made by other recipe: "):
        compare(data, precision="int8", cells=tmp_path / "mixed", merge=folders)
    other = synthetic(users=61, items=50, mean_count=16, seed=3).interactions
    with pytest.raises(InputError, match=r"was made by other data: "):
        compare(other, cells=tmp_path / "mixed", merge=folders)
    with pytest.raises(InputError, match="holds no cells"):
        compare(data, cells=tmp_path / "mixed", merge=[tmp_path])
    assert not (tmp_path / "mixed").exists()
    [cell] = folders[0].glob("equal-0-*.safetensors")
    Kept(cell.parent, cell.stem).write(State({"cell": {"method": "equal"}}, {}))
    with pytest.raises(InputError, match=r"equal-0-.*safetensors holds no cell"):
        compare(data, cells=tmp_path / "mixed", merge=folders)
    with pytest.raises(InputError, match="name a folder for cells"):
        compare(data, shard="1/2")
