import io
import json
import logging
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from ciess.cli import main, results
from ciess.cli.options import Printing, command_line
from ciess.cli.printing import console_of
from ciess.cli.search import Search
from ciess.report import Column, Table

pytestmark = pytest.mark.usefixtures("brief")
SEARCH = ["search", "--backbone", "als", "--dim", "8", "--budgets", "60%", "--method", "marginal:rounds=1,steps=5"]


@pytest.fixture
def data(tmp_path: Path) -> str:
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(f"{u} " + " ".join(str((u * 7 + 3 * s) % 20) for s in range(8)) for u in range(30)))
    return str(path)


def test_json_is_one_document_and_quiet_is_silent(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    main([*SEARCH, data, "--out", str(out), "--json"])
    printed = capsys.readouterr()
    told = json.loads(printed.out)
    assert told == json.loads((out / "result.json").read_text())
    assert "--json" not in told["settings"]["command"], "how it was printed is no part of the result"
    assert "Measured on test" in printed.err
    assert re.search(r"^tuned: alpha \S+, regularisation \S+ \(\d+ trials, \d+ s\)$", printed.err, re.MULTILINE)
    main(["data", "describe", data, "--json"])
    assert json.loads(capsys.readouterr().out)["users"]["count"] == 30
    main([*SEARCH, data, "--out", str(out), "--quiet"])
    printed = capsys.readouterr()
    assert printed.out == printed.err == ""


def test_a_comparison_with_failures_names_them_on_stderr_and_ends_in_1(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.py").write_text(
        "from dataclasses import dataclass\n\n@dataclass\nclass Bad:\n"
        "    def search(self, problem):\n        raise ValueError('no luck')\n"
    )
    words = ["compare", "--backbone", "als", "--dim", "8", "--budgets", "60%", "--seeds", "0", "--tune", "off"]
    words += ["--methods", f"{tmp_path / 'bad.py'}:Bad", "--quiet"]
    for shard in ([], ["--shard", "1/1"]):
        with pytest.raises(SystemExit) as ended:
            main([*words, data, "--out", str(tmp_path / f"out{len(shard)}"), *shard])
        printed = capsys.readouterr()
        assert (ended.value.code, printed.out) == (1, "")
        assert printed.err == "ciess: bad, seed 0: ValueError: no luck\n"
    # Everybody has items that nobody else has: no full model ranks what is held out.
    alone = tmp_path / "alone.txt"
    alone.write_text("\n".join(f"{u} " + " ".join(str(8 * u + s) for s in range(8)) for u in range(30)))
    with pytest.raises(SystemExit) as ended:
        main([*words, str(alone), "--out", str(tmp_path / "alone")])
    assert ended.value.code == 1
    assert "bad, seed 0: the full model ranks no user's validation items" in capsys.readouterr().err


def test_a_stream_with_failures_names_them_on_stderr_and_ends_in_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.py").write_text(
        "from dataclasses import dataclass\n\n@dataclass(frozen=True)\nclass Bad:\n"
        "    def search(self, problem):\n        raise ValueError('no luck')\n"
    )
    pairs = [f"{user},{(user * 7 + step * 3) % 20},{step}" for step in range(12) for user in range(20)]
    (tmp_path / "timed.csv").write_text("\n".join(["user,item,time", *pairs]))
    words = ["stream", str(tmp_path / "timed.csv"), "--backbone", "als", "--dim", "8", "--segments", "1"]
    words += ["--budget", "60%", "--methods", f"{tmp_path / 'bad.py'}:Bad", "--no-retrain", "--quiet"]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--out", str(tmp_path / "out")])
    printed = capsys.readouterr()
    assert (ended.value.code, printed.out) == (1, "")
    assert printed.err == "ciess: bad, segment 1: ValueError: no luck\n"


@pytest.mark.parametrize(("quiet", "printed"), [(True, ""), (False, "told\n")])
def test_what_is_to_be_quiet_does_not_warn(quiet: bool, printed: str, capsys: pytest.CaptureFixture[str]) -> None:
    console_of(Printing(quiet=quiet))
    # Of no other logger, so that nobody but the last resort prints.
    logging.Logger("alone").warning("told")
    console_of(Printing())
    assert capsys.readouterr().err == printed


def test_brackets_of_a_path_are_no_styles(capsys: pytest.CaptureFixture[str]) -> None:
    console_of(Printing()).print("saved runs/[bold]x")
    assert capsys.readouterr().out == "saved runs/[bold]x\n"


def test_recommendations_are_valid_json(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([*SEARCH, data, "--out", str(tmp_path / "out"), "--quiet"])
    main(["recommend", str(tmp_path / "out" / "budget-60"), "--users", "3", "no-one", "--json", "-k", "18"])
    known, unknown = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert (known["user"], known["known"]) == ("3", True)
    # Of 20 items the user has 8.
    assert len(known["items"]) == len(known["scores"]) == 12
    assert (unknown["user"], unknown["known"], len(unknown["items"]), unknown["scores"]) == ("no-one", False, 18, [])


def test_a_command_is_spelled_without_how_it_prints() -> None:
    assert (
        command_line(Search(data=Path("a.csv"), printing=Printing(quiet=True, json=True), seed=1))
        == "ciess search a.csv --seed 1"
    )
    assert command_line(Search(data=Path("a.csv"), refit=False)) == "ciess search a.csv --no-refit"


def test_many_users_come_from_a_file_or_the_input(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main([*SEARCH, data, "--out", str(tmp_path / "out"), "--quiet"])
    model = str(tmp_path / "out" / "budget-60")
    ids = [str(user % 31) for user in range(2_500)]
    (tmp_path / "ids.txt").write_text("\ufeff" + "\n".join(ids) + "\n\n", encoding="utf-8")
    main(["recommend", model, "--users-from", str(tmp_path / "ids.txt"), "-k", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0].partition(" ")[0] for line in lines] == ids
    assert "unknown user" in lines[30]
    assert lines[:31] == lines[31 * 40 : 31 * 41], "the same user, in whatever batch"
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(ids)))
    main(["recommend", model, "--users-from", "-", "-k", "2"])
    assert capsys.readouterr().out.splitlines() == lines
    pl.DataFrame({"user": ids[:31], "age": range(31)}).write_csv(tmp_path / "ids.csv")
    main(["recommend", model, "--users-from", str(tmp_path / "ids.csv"), "-k", "2"])
    assert capsys.readouterr().out.splitlines() == lines[:31], "the column of the users, without its head"
    for file, said in ((tmp_path / "none", "does not exist"), (tmp_path / "empty", "no users are given")):
        (tmp_path / "empty").write_text("\n")
        with pytest.raises(SystemExit) as end:
            main(["recommend", model, "--users-from", str(file)])
        assert end.value.code == 2
        assert said in capsys.readouterr().err


def test_users_are_found_however_their_ids_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of ids from -196 on, as numbers that are floats or stand between spaces; what is none is told."""
    users = [user - 196 for user in range(30) for _ in range(8)]
    items = [(user * 7 + 3 * s) % 20 for user in range(30) for s in range(8)]
    pl.DataFrame({"user": users, "item": items}).write_csv(tmp_path / "data.csv")
    main([*SEARCH, str(tmp_path / "data.csv"), "--out", str(tmp_path / "out"), "--quiet"])
    model = str(tmp_path / "out" / "budget-60")

    def told(source: str) -> list[tuple[str, bool]]:
        capsys.readouterr()
        main(["recommend", model, "--users-from", source, "-k", "1", "--json"])
        return [(each["user"], each["known"]) for each in json.loads(capsys.readouterr().out)]

    pl.DataFrame({"user": [-196.0, -195.0, 7.5]}).write_parquet(tmp_path / "ids.parquet")
    np.save(tmp_path / "ids.npy", np.array([-196.0, -195.0, 7.5]))
    (tmp_path / "ids.csv").write_text("\ufeffCustomer ID\n -196\n-195 \n7.5\n", encoding="utf-8")
    (tmp_path / "ids.txt").write_text("\ufeff -196\n-195\t\r\n \n7.5\n", encoding="utf-8")
    monkeypatch.setattr("sys.stdin", io.StringIO("\ufeff-196\n -195 \n\n7.5\n"))
    for source in (*map(str, sorted(tmp_path.glob("ids.*"))), "-"):
        assert told(source) == [("-196", True), ("-195", True), ("7.5", False)], source
    (tmp_path / "ids.csv").write_text("-196\n-195\n")
    pl.DataFrame({"user": [1.0, 2.0**53]}).write_parquet(tmp_path / "ids.parquet")
    for name, said in (
        ("ids.csv", "begins with '-196', which may be an id: write 'user' in a line before"),
        ("ids.parquet", "holds what is no id in row 2"),
    ):
        with pytest.raises(SystemExit):
            told(str(tmp_path / name))
        assert said in capsys.readouterr().err


def test_what_was_still_gaining_is_told(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--dim", "8", "--set", "steps=4", "eval_every=2", "lr=0.03", "--tune", "off"]
    out = ["--out", str(tmp_path / "out")]
    main(["search", data, "--backbone", "mf", "--method", "equal", "--budgets", "60%", *options, *out])
    [told] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Caution")]
    assert told.startswith("Caution: still gaining when training ended, so more steps may gain more: full")


@pytest.mark.parametrize(("width", "left_out"), [(60, {"Tail", "NDCG"}), (80, {"Tail"}), (120, set())])
def test_numbers_are_whole_and_names_broken_where_a_terminal_is_narrow(width: int, left_out: set[str]) -> None:
    values = {"Method": "marginal:rounds=10,steps=100,looks=2", "Budget": "2.5%", "Recall@20": 0.2, "NDCG@20": 0.3}
    values |= {"Kept": 0.4, "Tail kept": 0.5, "Gain, %": 12.3}
    columns = [Column(heading, lambda value: f"{value} ± 0.01234" if value != 12.3 else "+12.3") for heading in values]
    columns[:2] = Column("Method"), Column("Budget")
    out = io.StringIO()
    console = Console(file=out, width=width)
    console.print(results.drawn(Table("", columns, [tuple(values.values())]), console))
    printed = out.getvalue()
    assert "…" not in printed
    assert max(map(len, printed.splitlines())) <= width
    assert {word for word in ("Tail", "NDCG") if word not in printed} == left_out
    assert all(told in printed for told in ("2.5%", "0.2 ± 0.01234", "0.4 ± 0.01234", "+12.3"))
    assert "".join(line[: line.find("  ")].split(" ")[0] for line in printed.splitlines()[-5:]).endswith("looks=2")


@pytest.mark.parametrize(("width", "left_out"), [(90, {"Seconds"}), (80, {"Seconds", "Stored"}), (200, set())])
def test_the_table_leaves_out_what_a_narrow_terminal_has_no_room_for(width: int, left_out: set[str]) -> None:
    values = {
        **{"Model": "cross-entropy", "Found by": "equal", "Budget": "5%", "Recall@20": "0.2500", "NDCG@20": "0.5000"},
        **{"Kept": "100.0%", "Tail kept": "100.0%", "Bytes": "123,456,789", "Stored": "int4-shared"},
        **{"User size": "12.8", "Item size": "12.8", "Seconds": "9"},
    }
    table = Table("Measured on test", [Column(heading) for heading in values], [[*values.values()]])
    out = io.StringIO()
    console = Console(file=out, width=width)
    console.print(results.drawn(table, console))
    printed = out.getvalue()
    assert "…" not in printed
    assert max(map(len, printed.splitlines())) <= width
    assert {word for word in ("Seconds", "Stored") if word not in printed} == left_out
    for told in ("cross-entropy", "5%", "0.2500", "0.5000", "100.0%", "123,456,789"):
        assert told in printed
