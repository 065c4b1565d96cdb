import json
from pathlib import Path

import pytest

from ciess.cli import main
from ciess.cli.options import Printing, command_line
from ciess.cli.search import Search

SEARCH = ["search", "--backbone", "als", "--dim", "8", "--budgets", "60%", "--episodes", "1"]


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
    main(["data", "describe", data, "--json"])
    assert json.loads(capsys.readouterr().out)["users"]["count"] == 30
    main([*SEARCH, data, "--out", str(out), "--quiet"])
    printed = capsys.readouterr()
    assert printed.out == printed.err == ""


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
