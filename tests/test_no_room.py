"""A full disk, an output that takes nothing, too little memory, a library that is not there: one sentence each."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import ciess
from ciess.cli import main
from ciess.cli.data import List
from ciess.data import Split, synthetic
from ciess.data.convert import convert
from ciess.errors import InputError
from ciess.experiment.comparison import Comparison
from ciess.experiment.outcome import Outcome
from ciess.exports import export, target_names
from ciess.methods.mixed import MixedRandom
from ciess.report import searched, write
from ciess.serve.model import CompressedModel


@contextmanager
def full(most: int) -> Iterator[None]:
    """Files take no more than so many bytes, as on a disk that is full after them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="module")
def outcome(split: Split) -> Outcome:
    return ciess.search(split, backbone=ciess.ALS(dim=8), budgets=["60%"], method="equal")


@pytest.fixture(scope="module")
def model(outcome: Outcome) -> CompressedModel:
    [model] = outcome.models.values()
    return model


@pytest.fixture(scope="module")
def comparison(split: Split) -> Comparison:
    return ciess.compare(
        split, methods={"mixed": MixedRandom(draws=2)}, backbone=ciess.ALS(dim=8), budgets="60%", seeds=0
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused_and_as_before(write: Callable[[], object], folder: Path, most: int) -> None:
    """Written once; then again with less room: refused, and what was there is still whole."""
    write()
    before = contents(folder)
    with full(most), pytest.raises(InputError, match=r"cannot be written \(.+\): choose another folder"):
        write()
    assert contents(folder) == before


@pytest.mark.parametrize("most", [0, 4000])
@pytest.mark.parametrize("name", ["own.parquet", "own.csv", "own.txt"])
def test_interactions_on_a_full_disk(name: str, most: int, tmp_path: Path) -> None:
    data = synthetic(users=200, items=100).interactions
    refused_and_as_before(lambda: convert(data, tmp_path / name), tmp_path, most)


LIBRARIES = {"faiss": "faiss", "faiss_int8": "faiss", "onnx": "onnx", "usearch": "usearch.index"}


@pytest.mark.parametrize("most", [0, 1500])
@pytest.mark.parametrize("target", target_names())
def test_exports_on_a_full_disk(target: str, most: int, model: CompressedModel, tmp_path: Path) -> None:
    if target in LIBRARIES:
        pytest.importorskip(LIBRARIES[target])
    refused_and_as_before(lambda: export(model, target, tmp_path), tmp_path, most)


@pytest.mark.parametrize("most", [0, 1000])
def test_a_model_on_a_full_disk(most: int, model: CompressedModel, tmp_path: Path) -> None:
    refused_and_as_before(lambda: model.save(tmp_path), tmp_path, most)


def test_reports_on_a_full_disk(outcome: Outcome, tmp_path: Path) -> None:
    report = searched(outcome)
    for most in (0, 10_000):
        refused_and_as_before(lambda: write(report, tmp_path), tmp_path, most)


@pytest.mark.parametrize("most", [0, 5000])
def test_runs_on_a_full_disk_leave_no_parts(
    most: int, outcome: Outcome, comparison: Comparison, tmp_path: Path
) -> None:
    for told in (outcome, comparison):
        with full(most), pytest.raises(InputError, match=r"cannot be written \(File too large\)"):
            told.save(tmp_path)
        assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".part")]


@pytest.mark.parametrize(
    "command", [["--version"], ["--help"], ["data", "list"], ["data", "describe", "synthetic", "--json"]]
)
def test_an_output_without_room(command: list[str]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "w") as nowhere:
        ended = subprocess.run(
            [sys.executable, "-m", "ciess", *command], stdout=nowhere, stderr=subprocess.PIPE, text=True, check=False
        )
    assert ended.returncode == 2
    assert ended.stderr == (
        "ciess: what was found cannot be printed (No space left on device): make room, or choose another place\n"
    )


@pytest.mark.parametrize("closed", [1, 2])
def test_no_output_at_all(closed: int) -> None:
    """As `ciess … >&-` runs it."""
    ended = subprocess.run(
        [sys.executable, "-m", "ciess", "data", "list" if closed == 1 else "frob"],
        preexec_fn=lambda: os.close(closed),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0 if closed == 1 else 2, "", "")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried …"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    ],
    ids=["NumPy", "PyTorch", "CUDA"],
)
def test_too_little_memory(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*_: object) -> None:
        raise error

    monkeypatch.setattr(List, "run", run)
    with pytest.raises(SystemExit) as end:
        main(["data", "list"])
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        "ciess: there is not enough memory: take fewer dimensions or interactions, see ciess estimate\n"
    )


def test_other_errors_are_shown_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object) -> None:
        raise RuntimeError("a fault of the program's own")

    monkeypatch.setattr(List, "run", run)
    with pytest.raises(RuntimeError, match="a fault of the program's own"):
        main(["data", "list"])


@pytest.mark.parametrize("target", LIBRARIES)
def test_an_extra_that_is_not_installed(
    target: str,
    model: CompressedModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, LIBRARIES[target], None)
    saved = model.save(tmp_path / "model")
    with pytest.raises(SystemExit) as end:
        main(["export", str(saved), target, str(tmp_path / "out")])
    assert end.value.code == 2
    assert capsys.readouterr().err.endswith("pip install 'ciess[export]'\n")
    assert not (tmp_path / "out").exists()
