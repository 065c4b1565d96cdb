"""Where a command writes is checked before it works, and what a former run left there is replaced as a whole."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import ciess
from ciess.cli import COMMANDS, main
from ciess.cli.words import options_of, subcommands
from ciess.experiment.cells import UNFINISHED
from ciess.experiment.runs import RESULT, former_files

FAST = ["--backbone", "als", "--dim", "8"]
pytestmark = pytest.mark.usefixtures("brief")
SEARCH = ["search", "DATA", *FAST, "--method", "equal", "--quiet", "--budgets"]
COMPARE = ["compare", "DATA", *FAST, "--methods", "equal", "--seeds", "0", "--quiet", "--budgets", "60%"]
WRITERS = {
    "search": ["search", "nowhere.csv", "--out", "OUT"],
    "compare": ["compare", "nowhere.csv", "--out", "OUT"],
    "compress": ["compress", "--users", "U.npy", "--items", "V.npy", "--interactions", "x.csv", "--out", "OUT"],
    "apply": ["apply", "nowhere.csv", "--policy", "nowhere", "--out", "OUT"],
    "distribute": ["distribute", "nowhere.csv", "--out", "OUT"],
    "stream": ["stream", "nowhere.csv", "--out", "OUT"],
    "demo": ["demo", "--out", "OUT"],
    "export": ["export", "nowhere", "parquet", "OUT"],
    "convert": ["data", "convert", "nowhere.csv", "OUT/x.csv"],
    "prepare": ["data", "prepare", "nowhere", "OUT"],
}
RUNS = [name for name, kind in COMMANDS.items() if "--overwrite" in options_of(kind)]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(f"{u} " + " ".join(str((u * 7 + 3 * s) % 20) for s in range(8)) for u in range(30)))
    return path


def run(*args: str) -> None:
    main(["lines.txt" if each == "DATA" else each for each in args])


def refused(args: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        run(*args)
    assert end.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("ciess: ")
    assert printed.count("\n") == 1
    return printed


@pytest.mark.parametrize("out", ["file", "file/below", "/proc/none"])
@pytest.mark.parametrize("command", WRITERS)
def test_what_cannot_be_written_is_refused_before_anything_is_read(
    command: str, out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The inputs do not exist, so that a message about the folder shows that it was looked at first."""
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("kept")
    printed = refused([each.replace("OUT", out) for each in WRITERS[command]], capsys)
    assert f"ciess: {out} " in printed
    assert Path("file").read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_every_command_that_writes_is_tried() -> None:
    kinds = COMMANDS | subcommands(COMMANDS["data"])
    assert {name for name, kind in kinds.items() if "out" in getattr(kind, "__dataclass_fields__", {})} == {*WRITERS}


@pytest.mark.parametrize("command", RUNS)
def test_a_folder_of_something_else_is_refused_and_stays(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    # Of the same names as a run's, but another program's.
    for name in ("thesis.tex", RESULT, "comparison.json", "stream.json", "report.html"):
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / name).write_text("{}")
    printed = refused([each.replace("OUT", "out") for each in WRITERS[command]], capsys)
    assert "out holds files of something else: choose a new folder, or empty this one" in printed
    assert len([*(tmp_path / "out").iterdir()]) == 5


def test_the_same_command_on_other_data_says_that_it_replaces_a_result(
    data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As many pairs of as many users and items, but others."""
    for _ in range(2):
        run(*SEARCH, "60%", "--out", "out")
        assert not caplog.text
    # The last user has another's items now.
    lines = data.read_text().splitlines()
    data.write_text("\n".join([*lines[:-1], lines[-1].split()[0] + " " + lines[0].split(maxsplit=1)[1]]))
    run(*SEARCH, "60%", "--out", "out")
    assert "the data have changed since the result that out held: it is replaced" in caplog.text


def test_a_second_search_replaces_the_first_as_a_whole(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = Path("out")
    run(*SEARCH, "60%", "50%", "--out", "out")
    for notes in (out / "notes.txt", out / "budget-60" / "notes.txt", out / "figures" / "notes.txt"):
        notes.write_text("mine")
    assert (out / "budget-60" / "model.json").exists()
    assert "out holds the result of another run (ciess search lines.txt" in refused(
        [*SEARCH, "40%", "--out", "out"], capsys
    )
    assert {path.parent.name for path in out.glob("budget-*/*.safetensors")} == {"budget-60", "budget-50"}
    run(*SEARCH, "40%", "--out", "out", "--overwrite")
    assert {path.parent.name for path in out.glob("budget-*/*.safetensors")} == {"budget-40"}
    assert {str(path.relative_to(out)) for path in out.rglob("notes.txt")} == {
        "notes.txt",
        "budget-60/notes.txt",
        "figures/notes.txt",
    }, "what is not ours stays"
    told = json.loads((out / RESULT).read_text())
    assert {row["budget"] for row in told["rows"]} == {"", "40%"}
    assert "another kind of run (result.json)" in refused([*COMPARE, "--out", "out"], capsys)


def test_a_second_comparison_keeps_its_cells(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = Path("out")
    run(*COMPARE, "--out", "out")
    cells = {path.name: path.stat().st_mtime_ns for path in (out / "cells").iterdir()}
    (out / "comparison.json").unlink()
    (out / "report.html").unlink()
    for left in ("comparison.tex", "report.md"):
        (out / left).unlink()
    for figure in (out / "figures").iterdir():
        figure.unlink()
    (out / "figures").rmdir()
    # As a comparison leaves it that was stopped.
    run(*COMPARE, "--out", "out")
    assert {path.name: path.stat().st_mtime_ns for path in (out / "cells").iterdir()} == cells
    run(*COMPARE, "--out", "out")
    assert (out / "report.html").exists()
    assert "another kind of run (comparison.json)" in refused([*SEARCH, "60%", "--out", "out"], capsys)


def test_a_run_of_which_files_are_missing_is_replaced(data: Path) -> None:
    run(*SEARCH, "60%", "--out", "out")
    (Path("out") / "report.html").unlink()
    (Path("out") / "budget-60" / "model.json").unlink()
    run(*SEARCH, "40%", "--out", "out", "--overwrite")
    assert {path.parent.name for path in Path("out").glob("budget-*/*")} == {"budget-40"}
    assert not (Path("out") / "budget-60").exists()


def test_nothing_of_a_folder_that_is_no_run_makes_room(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "mine.svg").write_text("")
    (tmp_path / RESULT).write_text('{"rows": [{"budget": "5%"}]}')
    assert former_files(tmp_path) == set()


@pytest.mark.parametrize("told", ['{"shown": 1, "rows": 5, "settings": 1}', "[" * 200_000, "[1]", '{"rows": []}'])
def test_records_that_hold_something_else_name_no_models(told: str, tmp_path: Path) -> None:
    (tmp_path / RESULT).write_text(told)
    assert not [name for name in former_files(tmp_path) if name.startswith("budget")]


def test_converting_keeps_the_source_and_leaves_no_ids_of_other_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("named.csv").write_text("user,item\nann,tea\nbob,tea\n")
    Path("plain.csv").write_text("user,item\n1,2\n3,2\n")
    assert "is the file that is read" in refused(["data", "convert", "named.csv", "./named.csv"], capsys)
    assert "has no known ending" in refused(["data", "convert", "nowhere", "x.xls"], capsys)
    assert "x.csv is within ., whose files are read" in refused(["data", "convert", ".", "x.csv"], capsys)
    run("data", "convert", "named.csv", "x.txt")
    assert {path.name for path in tmp_path.glob("x*")} == {"x.txt", "x.users.csv", "x.items.csv"}
    run("data", "convert", "plain.csv", "x.txt")
    assert {path.name for path in tmp_path.glob("x*")} == {"x.txt"}
    Path("x.users.csv").write_text("name,age\n")
    run("data", "convert", "plain.csv", "x.txt")
    assert Path("x.users.csv").read_text() == "name,age\n"


def test_a_result_that_was_saved_in_python_is_another_runs(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = {"backbone": ciess.ALS(dim=8, training=ciess.Training(steps=2)), "method": "equal", "budgets": ["60%"]}
    ciess.search("lines.txt", **given).save("out")
    assert "out holds the result of another run (in Python)" in refused([*SEARCH, "60%", "--out", "out"], capsys)


def test_one_run_has_a_folder_alone(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever is at work there is named; what a process that was killed has left is no obstacle."""
    (Path("out")).mkdir()
    lock = Path("out") / ".ciess-run"
    lock.write_text("process 1 since the beginning")
    holder = (
        "import sys\nfrom pathlib import Path\nfrom ciess.experiment.runs import RESULT, run_folder\n"
        "with run_folder(Path('out'), RESULT, '', False):\n    print('held', flush=True)\n    sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        printed = refused([*SEARCH, "60%", "--out", "out"], capsys)
        other.kill()
    assert f"out is at work for process {other.pid} since 2" in printed
    assert lock.exists()
    run(*SEARCH, "60%", "--out", "out")
    assert not lock.exists()
    assert not (Path("out") / UNFINISHED).exists()


@pytest.mark.parametrize("command", ["search", "compare"])
def test_ctrl_c_ends_with_one_line_and_code_130(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("ciess.data.read", stop)
    with pytest.raises(SystemExit) as end:
        main([command, "synthetic", "--out", str(tmp_path / "out")])
    assert end.value.code == 130
    printed = capsys.readouterr()
    assert printed.err.startswith("ciess: stopped")
    assert (printed.out, printed.err.count("\n")) == ("", 1)


def test_ctrl_c_while_the_command_is_imported(tmp_path: Path) -> None:
    """A module of the same name as one that it needs stops it there."""
    (tmp_path / "tyro.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    path = os.pathsep.join([str(tmp_path), *sys.path])
    ended = subprocess.run(
        [sys.executable, "-m", "ciess", "data", "list"],
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (130, "ciess: stopped\n")


def test_a_reader_that_has_enough_gets_no_traceback() -> None:
    """As `ciess … | head` does: nobody reads what is printed."""
    reading, writing = os.pipe()
    os.close(reading)
    ended = [
        subprocess.run([sys.executable, "-m", "ciess", *command], stdout=writing, stderr=subprocess.PIPE, check=False)
        for command in (["--version"], ["data", "list"])
    ]
    os.close(writing)
    assert [(each.returncode, each.stderr) for each in ended] == [(141, b"")] * 2
