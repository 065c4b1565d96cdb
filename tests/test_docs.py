"""Every Python block of the documentation runs as it stands, after those before it in its file."""

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest

from ciess.cli import main

DOCS = Path(__file__).parent.parent / "docs"
BLOCKS = {path.stem: re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL) for path in DOCS.glob("*.md")}
NOT_EVERYWHERE = [name for name in ("torchrec",) if importlib.util.find_spec(name) is None]
"""Libraries that a block may need and the set-up does not install."""


@pytest.mark.parametrize("document", sorted(name for name, blocks in BLOCKS.items() if blocks))
def test_blocks_run(document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "docs"}
    for block in BLOCKS[document]:
        if not any(f"from {name} import" in block for name in NOT_EVERYWHERE):
            exec(compile(block, document, "exec"), names)
        if outcome := names.get("outcome"):
            assert outcome.row("ciess", "50%").table_bytes <= outcome.row("full").table_bytes // 2


def test_the_method_of_the_docs_takes_part_as_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(BLOCKS["own-method"][0])
    Path("ratings.txt").write_text(
        "\n".join(f"{u} " + " ".join(str((7 * u + 3 * n) % 40) for n in range(12)) for u in range(60))
    )
    command = ["compare", "ratings.txt", "--backbone", "als", "--dim", "8", "--budgets", "60%", "--seeds", "0"]
    main([*command, "--methods", "mine.py:ByLength", "--out", "out"])
    lines = json.loads(Path("out/comparison.json").read_text())["lines"]
    assert [line["method"] for line in lines] == ["full", "equal", "by-length"]


def test_there_are_blocks() -> None:
    assert sum(map(len, BLOCKS.values())) >= 8
