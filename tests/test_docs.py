"""Python blocks of the documentation run as they stand, one after the other; its commands are understood."""

import importlib.util
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ciess
from ciess.cli import COMMANDS as KINDS
from ciess.cli import main
from ciess.results.outcome import KEPT

ROOT = Path(__file__).parent.parent
TEXTS = {path.stem: path.read_text() for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]}
BLOCKS = {name: re.findall(r"```python\n(.*?)```", text, re.DOTALL) for name, text in TEXTS.items()}
COMMANDS = [
    line.removeprefix(".venv/bin/")
    for text in TEXTS.values()
    for block in re.findall(r"```\n(.*?)```", text, re.DOTALL)
    for line in block.splitlines()
    if re.match(r"(\.venv/bin/)?ciess ", line)
]
RATINGS = "user,item\n" + "".join(f"{u},{(7 * u + 3 * n) % 40}\n" for u in range(60) for n in range(12))
NOT_EVERYWHERE = [name for name in ("torchrec", "usearch", "qdrant_client") if importlib.util.find_spec(name) is None]
"""Libraries that a block may need and the set-up does not install."""


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("document", sorted(name for name, blocks in BLOCKS.items() if blocks))
def test_blocks_run(document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ratings.csv").write_text(RATINGS)
    # A path comes before the embedded set of the same name, which is larger than a test needs.
    Path("synthetic").mkdir()
    Path("synthetic/ratings.csv").write_text(RATINGS)
    names: dict[str, Any] = {"__name__": "docs"}
    for block in BLOCKS[document]:
        if not any(f"from {name}" in block for name in NOT_EVERYWHERE):
            exec(compile(block, document, "exec"), names)
        if outcome := names.get("outcome"):
            small = [row for row in outcome.rows if row.method == KEPT]
            assert all(row.table_bytes < outcome.row("full").table_bytes for row in small)


@pytest.mark.parametrize("typed", COMMANDS)
def test_commands_are_understood(typed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run: list[str] = []
    for kind in KINDS.values():
        told: Callable[..., None] = lambda command, _: run.append(type(command).__name__)  # noqa: E731
        monkeypatch.setattr(kind, "run", told)
    main(shlex.split(typed, comments=True)[1:])
    assert len(run) == 1


@pytest.mark.usefixtures("brief")
def test_the_method_of_the_docs_takes_part_as_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(BLOCKS["own-method"][0])
    Path("ratings.csv").write_text(RATINGS)
    command = ["compare", "ratings.csv", "--backbone", "als", "--dim", "8", "--budgets", "60%", "--seeds", "0"]
    main([*command, "--methods", "mine.py:ByLength", "--out", "out"])
    lines = json.loads(Path("out/comparison.json").read_text())["lines"]
    assert [line["method"] for line in lines] == ["full", "equal", "by-length"]


def test_the_usual_names_of_columns_are_known(tmp_path: Path) -> None:
    """All names of the README's table, in two cases, read as what the table says."""
    roles = re.findall(r"^\| (user|item|rating|time)\b[^|]*\| (.+) \|$", TEXTS["README"], re.MULTILINE)
    names = {role: re.findall(r"`(\w+)`", cell) for role, cell in roles}
    assert names.keys() == {"user", "item", "rating", "time"}
    usual = {role: cell[0] for role, cell in names.items()}
    path = tmp_path / "ratings.csv"
    for role, name in ((role, name) for role, cell in names.items() for name in cell):
        heads = {**usual, role: name.upper() if role == "user" else name}
        path.write_text(",".join(heads.values()) + "\n7,8,5,100\n7,9,1,200\n")
        data = ciess.read(path, min_rating=4)
        assert len(data) == 1, name
        assert data.times is not None, name


def test_there_are_blocks() -> None:
    assert sum(map(len, BLOCKS.values())) >= 8
    assert len(COMMANDS) >= 10


def test_tests_that_the_docs_name_exist() -> None:
    files = list((ROOT / "tests").rglob("test_*.py"))
    known = {path.stem for path in files}
    for path in files:
        known.update(re.findall(r"def (test_\w+)", path.read_text()))
    named = set(re.findall(r"`(test_\w+)`", TEXTS["reliability"]))
    assert len(named) > 60
    assert named <= known, f"docs/reliability.md names tests that are not there: {sorted(named - known)}"
