import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rich.console import Console
from rich.table import Table

from ciess.cli import main
from ciess.cli.options import Printing
from ciess.cli.printing import console_of
from ciess.data import Interactions, read
from ciess.data.convert import convert
from ciess.errors import InputError
from ciess.escapes import code_in_markdown, in_latex, in_markdown, printable

HOSTILE = [
    "\x1b]0;title\x07",
    "<script>alert(1)</script>",
    "a|b",
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "[x](http://a.b)",
    "é\u202ee",
]
"""A terminal's title, HTML, an entry of a table, formulas, a link, and what turns the direction of writing."""


def test_what_terminals_obey_is_spelled_out() -> None:
    assert printable("a\x1b[31mb\x07\x00\x7f\x9b\r\t\u202e\nc é") == r"a\x1b[31mb\x07\x00\x7f\x9b\r\t\u202e" + "\nc é"


def test_markdown_holds_text_as_text() -> None:
    assert in_markdown("<b>&amp;|[x](y)\n# z\x1b") == r"&lt;b>&amp;amp;&#124;\[x](y) # z\x1b"
    assert code_in_markdown("a ``` b\x1b").splitlines() == ["````", r"a ``` b\x1b", "````"]
    assert code_in_markdown("a\nb").splitlines() == ["```", "a", "b", "```"]


def test_latex_holds_text_as_text() -> None:
    assert in_latex(r"\input{x} $a_b$ 5% ~^ ±") == (
        r"\textbackslash{}input\{x\} \$a\_b\$ 5\% \textasciitilde{}\textasciicircum{} $\pm$"
    )


@pytest.mark.parametrize("terminal", [True, False])
def test_a_console_prints_no_control_characters_but_its_own(
    terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR" if terminal else "NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    console = console_of(Printing())
    assert isinstance(console, Console)
    table = Table("\x1b]0;head\x07")
    table.add_row("\x1b]0;cell\x07")
    console.print(table)
    console.print("[bold]told[/] \x1b]0;text\x07", highlight=False)
    printed = capsys.readouterr().out
    for word in ("head", "cell", "text"):
        assert rf"\x1b]0;{word}" in printed
    assert {*re.findall(r"[\x00-\x09\x0b-\x1f]", printed)} == ({"\x1b"} if terminal else set())
    assert not re.findall(r"\x1b[^\[]", printed), "of its own are colours alone"
    assert "told" in printed


@pytest.fixture
def interactions() -> Interactions:
    rows = np.arange(len(HOSTILE))
    users, items = np.repeat(rows, 4), np.concatenate([(row + np.arange(4)) % len(rows) for row in rows])
    return Interactions.from_pairs(users, items, pl.Series(HOSTILE), pl.Series(HOSTILE))


def test_ids_come_back_from_files_as_they_were(interactions: Interactions, tmp_path: Path) -> None:
    """Also from CSV, where a spreadsheet would take some for formulas: what is read again must be exact."""
    for name in ("own.parquet", "lines.txt"):
        again = read(convert(interactions, tmp_path / name), layout="lines" if name == "lines.txt" else None)
        assert len(again) == len(interactions)
        if name == "own.parquet":
            assert again.user_ids.to_list() == sorted(HOSTILE)
    assert pl.read_csv(tmp_path / "lines.users.csv", infer_schema=False)["id"].to_list() == HOSTILE
    kept = pl.Series(HOSTILE[1:])
    told = read(convert(interactions.over(kept, kept), tmp_path / "own.csv"))
    assert (told.user_ids.to_list(), told.item_ids.to_list()) == (sorted(HOSTILE[1:]), sorted(HOSTILE[1:]))


@pytest.mark.parametrize("name", ["\x1b[1m", " a", "a ", "null", "NA", "", "\x00"])
def test_ids_that_would_change_are_not_written_to_csv(name: str, tmp_path: Path) -> None:
    ids = pl.Series(["a", name])
    with pytest.raises(InputError, match=r"would not be the same when it is read from a .csv: write a .parquet"):
        convert(Interactions.from_pairs([0, 1], [0, 1], ids, pl.Series([1, 2])), tmp_path / "own.csv")
    assert not [*tmp_path.iterdir()]


def test_ids_control_no_terminal(interactions: Interactions, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pl.DataFrame({"id": HOSTILE}).write_parquet(tmp_path / "ids.parquet")
    np.save(tmp_path / "table.npy", np.random.default_rng(0).normal(size=(len(HOSTILE), 32)))
    convert(interactions, tmp_path / "own.parquet")
    options = {"interactions": "own.parquet", "users": "table.npy", "items": "table.npy"}
    options |= {"user-ids": "ids.parquet", "item-ids": "ids.parquet", "out": "out"}
    command = [part for name, file in options.items() for part in (f"--{name}", str(tmp_path / file))]
    main(["compress", *command, "--budgets", "100%", "--precision", "float32"])
    capfd.readouterr()
    [model] = (tmp_path / "out").glob("budget-*")
    main(["recommend", str(model), "--users", "\x1b]0;title\x07", "a|b", "\x1b[31mnobody", "--include-seen", "-k", "9"])
    out, err = capfd.readouterr()
    assert (err, len(out.splitlines())) == ("", 3)
    assert not re.findall(r"[\x00-\x09\x0b-\x1f]", out)
    assert r"\x1b]0;title\x07: " in out
    assert r"\x1b[31mnobody (unknown user" in out
