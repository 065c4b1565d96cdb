"""Writers that are killed, or find the disk full, at every change that they make to the file system."""

import errno
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ciess
from ciess.errors import InputError
from ciess.experiment.outcome import Outcome
from ciess.exports import export
from ciess.files import reading, write_together, write_whole
from ciess.serve.model import CompressedModel
from ciess.tables.plan import SizePlan
from ciess.train.finish import Finish

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "open"}
ENLARGING = {"os.mkdir", "open"}


class Killed(BaseException):
    """What a process would not live to see: nobody may catch it, and clearing up fails by it, too."""


class Watch:
    """Ends what is done at the n-th change of files, and every later one: by a kill, or by a full disk."""

    def __init__(self) -> None:
        self.left, self.full, self.on = 0, False, False
        sys.addaudithook(self._see)

    def _see(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on or event not in (ENLARGING if self.full else CHANGES) or str(args[0]).startswith("/dev/"):
            return
        if event == "open" and not (isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        self.left -= 1
        if self.left <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) if self.full else Killed

    def stops(self, work: Callable[[], Any], step: int, full: bool = False) -> bool:
        """Whether it was stopped at this step; it may have less."""
        self.left, self.full, self.on = step, full, True
        try:
            work()
        except (Killed, InputError) as error:
            sentence = str(error).count("\n") == 0 and "No space left" in str(error)
            if full != isinstance(error, InputError) or (full and not sentence):
                raise
            return True
        finally:
            self.on = False
        return False


WATCH = Watch()
DATA = ciess.synthetic(users=40, items=30, mean_count=8).interactions


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the disk, that is: `test_what_is_renamed_is_on_the_disk` sees that it is waited for."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def listing(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def stopped_everywhere(
    before: Callable[[Path], Any],
    work: Callable[[Path], Any],
    state: Callable[[Path], Any],
    tmp_path: Path,
    stride: int = 1,
) -> None:
    """At every step the old or the new is there, and the next writer leaves the new, and nothing else."""
    before(tmp_path / "old")
    before(tmp_path / "new")
    work(tmp_path / "new")
    old, new, files = state(tmp_path / "old"), state(tmp_path / "new"), listing(tmp_path / "new").keys()
    assert old != new
    found, stopped = [], True
    while stopped:
        folder = tmp_path / f"killed-{len(found)}"
        before(folder)
        stopped = WATCH.stops(lambda folder=folder: work(folder), 1 + stride * len(found))
        found.append(state(folder))
        work(folder)
        assert state(folder) == new
        assert listing(folder).keys() == files
    turn = found.index(new)
    assert turn > 3
    assert found == [old] * turn + [new] * (len(found) - turn)


def full_everywhere(
    before: Callable[[Path], Any], work: Callable[[Path], Any], tmp_path: Path, stride: int = 1
) -> None:
    """Wherever the disk is full, one sentence says so, and all files are what they were."""
    step, stopped = 0, True
    while stopped:
        folder, step = tmp_path / f"full-{step}", step + stride
        before(folder)
        old, folders = listing(folder), {path for path in folder.rglob("*") if path.is_dir()}
        stopped = WATCH.stops(lambda folder=folder: work(folder), step, full=True)
        if stopped:
            assert listing(folder) == old
            assert {path for path in folder.rglob("*") if path.is_dir()} == folders
    assert step > 4


def texts(folder: Path) -> dict[str, str]:
    """What counts of some names, as who reads them finds it."""
    found = {}
    for part, names in (("", "abc"), ("inner", "de"), ("other", "f")):
        with reading(folder / part if part else folder) as place:
            found |= {part + name: place(name).read_text() for name in names if place(name).exists()}
    return found


def old_texts(folder: Path) -> None:
    write_together(folder, {"a": "old", "b": "old", "inner/d": "old", "other/f": "old"})
    (folder / "other" / "mine").write_text("mine")


def new_texts(folder: Path) -> None:
    write_together(folder, {"a": "new", "c": "new", "inner/d": "new", "inner/e": "new"}, ["b", "other/f"])


def nothing(folder: Path) -> None:
    folder.mkdir(exist_ok=True)


@pytest.mark.parametrize("before", [old_texts, nothing])
def test_files_that_are_written_together_are_old_or_new(before: Callable[[Path], None], tmp_path: Path) -> None:
    stopped_everywhere(before, new_texts, texts, tmp_path)


@pytest.mark.parametrize("counts", [False, True])
def test_after_one_writer_was_killed_the_next_may_be_killed_too(counts: bool, tmp_path: Path) -> None:
    """What the first one left counts or not, and stays so."""

    def between(folder: Path) -> None:
        write_together(folder, {"a": "between", "b": "between", "inner/d": "between"}, ["other/f"])

    def stopped(step: int) -> bool:
        folder = tmp_path / f"tried-{step}"
        old_texts(folder)
        assert WATCH.stops(lambda: between(folder), step)
        committed = folder / ".ciess-committed"
        return (committed / "b").exists() and (committed / "a").exists() != counts

    step = next(filter(stopped, range(1, 100)))

    def before(folder: Path) -> None:
        old_texts(folder)
        WATCH.stops(lambda: between(folder), step)
        assert texts(folder)["a"] == ("between" if counts else "old")

    stopped_everywhere(before, new_texts, texts, tmp_path)


def test_a_single_file_is_old_or_new(tmp_path: Path) -> None:
    def write(text: str) -> Callable[[Path], None]:
        return lambda folder: write_whole(folder / "a", text)

    stopped_everywhere(write("old"), write("new"), texts, tmp_path)
    full_everywhere(write("old"), write("new"), tmp_path)


@pytest.mark.parametrize("before", [old_texts, nothing])
def test_a_full_disk_changes_nothing(before: Callable[[Path], None], tmp_path: Path) -> None:
    full_everywhere(before, new_texts, tmp_path)


def packed(name: str, seed: int) -> CompressedModel:
    config = ciess.MF(dim=4) if name == "mf" else ciess.NCF(dim=4)
    plan = SizePlan(np.full(DATA.n_users, 3), np.full(DATA.n_items, 3), 4)
    return CompressedModel.pack(config, config.build(DATA, seed), plan, DATA, {"seed": seed})


def served(folder: Path) -> Any:
    """Which model is there; None where there is none."""
    with reading(folder) as place:
        if not place("model.json").exists():
            return None
    model = ciess.load(folder, verify=True)
    return model.settings["name"], model.about["seed"], model.score(DATA.user_ids[0]).tolist()


@pytest.mark.parametrize(("old", "new"), [("ncf", "mf"), ("mf", "ncf")])
def test_a_model_is_the_old_or_the_new_one(old: str, new: str, tmp_path: Path) -> None:
    first, second = packed(old, 1), packed(new, 2)
    stopped_everywhere(first.save, second.save, served, tmp_path)
    full_everywhere(first.save, second.save, tmp_path)


def test_a_first_model_is_there_or_not(tmp_path: Path) -> None:
    stopped_everywhere(lambda folder: None, packed("ncf", 2).save, served, tmp_path)
    full_everywhere(lambda folder: None, packed("ncf", 2).save, tmp_path)


def found(seed: int, *budgets: str) -> Outcome:
    backbone = ciess.ALS(dim=8, training=ciess.Training(steps=2, eval_every=1))
    given = {"backbone": backbone, "budgets": budgets, "method": "equal", "finishing": Finish().lasting(0)}
    return ciess.search(DATA, seed=seed, **given)


@pytest.fixture(scope="module")
def runs() -> tuple[Outcome, Outcome]:
    """Two runs: one budget is of both, one of the old, one of the new."""
    return found(1, "60%", "50%"), found(2, "50%", "40%")


@pytest.fixture
def _plain_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take a second each time."""
    monkeypatch.setattr(
        "ciess.experiment.outcome.report_files", lambda _: {"report.html": "page", "figures/some.svg": "figure"}
    )
    monkeypatch.setattr("ciess.experiment.outcome.searched", lambda _: None)


def saved_run(folder: Path) -> Any:
    told = json.loads((folder / "result.json").read_text())["settings"]["seed"]
    models = [served(folder / f"budget-{budget}") for budget in (60, 50, 40)]
    return told, models


@pytest.mark.usefixtures("_plain_reports")
def test_a_run_is_the_old_or_the_new_one(runs: tuple[Outcome, Outcome], tmp_path: Path) -> None:
    """Models, and what is told of them, are of one run; a budget that the new one does not have is not there."""
    old, new = runs
    stopped_everywhere(old.save, new.save, saved_run, tmp_path, stride=5)
    full_everywhere(old.save, new.save, tmp_path, stride=5)


def test_a_model_that_is_saved_into_a_run_that_was_stopped_stays(tmp_path: Path) -> None:
    """What is left to do of the run comes first, and does not come again."""
    folder = tmp_path / "run"
    one, two, three = (packed("mf", seed) for seed in (1, 2, 3))

    def save(model: CompressedModel) -> None:
        both = {f"{part}/{name}": text for part in ("a", "b") for name, text in model.files.items()}
        write_together(folder, {"result.json": "", **both})

    def halfway(step: int) -> bool:
        """Some files are in place, and some are not."""
        save(one)
        assert WATCH.stops(lambda: save(two), step)
        return (folder / ".ciess-committed" / "b").exists() and not (
            folder / ".ciess-committed" / "a" / "model.json"
        ).exists()

    next(filter(halfway, range(30, 100)))
    assert [served(folder / part)[1] for part in ("a", "b")] == [2, 2]
    three.save(folder / "b")
    assert [served(folder / part)[1] for part in ("a", "b")] == [2, 3]
    write_whole(folder / "other", "")
    assert [served(folder / part)[1] for part in ("a", "b")] == [2, 3]


@pytest.mark.parametrize("target", ["arrays", "parquet", "torchrec"])
def test_an_export_is_whole_or_not_there(target: str, tmp_path: Path) -> None:
    model = packed("mf", 1)
    before = lambda folder: (folder.mkdir(), (folder / "mine").write_text("mine"))  # noqa: E731
    full_everywhere(before, lambda folder: export(model, target, folder), tmp_path)
