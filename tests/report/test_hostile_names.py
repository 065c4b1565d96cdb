import dataclasses
import re
from pathlib import Path

import pytest

import ciess
from ciess.data import Split
from ciess.experiment.comparison import Comparison
from ciess.methods.mixed import MixedRandom
from ciess.results.comparison import Cell

NAME = "\x1b]0;x\x07<script>alert(1)</script>|[x](http://a.b)"
COMMAND = "ciess search 'a\x1b]0;x\x07</code><script>'\n```\n<script>"


@pytest.fixture(scope="module")
def pages(split: Split, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a search with a method and a command that are named to do harm."""
    outcome = ciess.search(
        split, backbone=ciess.ALS(dim=8), budgets=["60%"], method="equal", beside={NAME: MixedRandom(draws=2)}
    )
    told = dataclasses.replace(outcome, settings={**outcome.settings, "command": COMMAND})
    return told.report(tmp_path_factory.mktemp("hostile")).parent


def test_no_name_is_obeyed_in_a_report(pages: Path) -> None:
    for path in sorted(pages.rglob("*.*")):
        assert not re.findall(r"[\x00-\x08\x0b-\x1f]", path.read_text()), path
    assert r"\x1b]0;x\x07" in (pages / "report.md").read_text()
    page = (pages / "report.html").read_text()
    assert page.count("<script") == 1, "its own"
    assert "&lt;script&gt;alert(1)" in page


def test_markdown_ends_neither_tables_nor_code(pages: Path) -> None:
    text = (pages / "report.md").read_text()
    [code] = re.findall(r"^````\n(.*?)^````$", text, re.MULTILINE | re.DOTALL)
    assert code == COMMAND.replace("\x1b", r"\x1b").replace("\x07", r"\x07") + "\n"
    outside = text.replace(code, "")
    assert "<script" not in outside
    assert "[x]" not in outside.replace(r"\[x]", "")
    table = [line for line in outside.splitlines() if line.startswith(r"| \x1b")]
    assert {line.count("|") for line in table} == {16, 7}, "results and rare items"


def test_tables_of_a_comparison_hold_text_as_text(comparison: Comparison) -> None:
    def renamed(cell: Cell) -> Cell:
        name = rf"\input{{x}}{NAME}"
        rows = [dataclasses.replace(row, method=name) for row in cell.rows]
        return dataclasses.replace(cell, method=name, rows=rows) if cell.method.startswith("mixed") else cell

    told = dataclasses.replace(comparison, cells=[renamed(cell) for cell in comparison.cells])
    assert "<script" not in told.to_markdown()
    assert "\x1b" not in told.to_markdown() + told.to_latex()
    assert r"\input" not in told.to_latex()
    quality = told.to_markdown().split("## ")[1].splitlines()
    assert {line.count("|") for line in quality if line[:1] == "|"} == {11, 12}, "quality and what found it"
