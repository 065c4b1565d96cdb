import re
from pathlib import Path

import pytest

from ciess.cli import main
from ciess.cli.reference import helps, page
from ciess.exports import target_names
from ciess.models import backbone_names

DOCUMENT = Path(__file__).parents[2] / "docs" / "cli.md"
WRONG = {
    "no such command": ["serch"],
    "no such option": ["search", "x", "--budgetz", "5%"],
    "not of this command": ["data", "list", "--quiet"],
    "no such choice": ["search", "x", "--precision", "int3"],
    "no number": ["search", "x", "--dim", "big"],
    "nothing given": ["compress"],
}


@pytest.fixture(autouse=True)
def _wide_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_every_help_fits_on_one_screen() -> None:
    for command, text in helps():
        lines = text.splitlines()
        assert len(lines) <= 44, command
        assert max(map(len, lines[1:])) <= 80, command
        assert "None" not in text, command


@pytest.mark.parametrize("case", WRONG)
def test_every_refusal_fits_on_one_screen(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(WRONG[case])
    assert end.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert 1 <= len(lines) <= 24
    assert max(map(len, lines)) <= 80 or lines[0].startswith("ciess: ")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["search", "x", "--dim", "big"], "--dim: 'big' is not a whole number"),
        (["demo", "--seed", "1.5"], "--seed: '1.5' is not a whole number"),
        (["compare", "x", "--seeds", "0", "one"], "--seeds: 'one' is not a whole number"),
        (["search", "x", "--min-rating", "good"], "--min-rating: 'good' is not a number"),
    ],
)
def test_what_is_no_number_is_refused_in_words(args: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(args)
    assert end.value.code == 2
    assert said in capsys.readouterr().err


def test_without_a_command_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([])
    assert end.value.code == 0
    assert "recommend" in capsys.readouterr().out


def test_the_page_of_commands_is_up_to_date() -> None:
    """Word by word: where lines break is not ours."""

    def words(text: str) -> list[str]:
        return [word for word in text.split() if set(word) != {"-"}]

    assert words(DOCUMENT.read_text()) == words(page()), "run python -m ciess.cli.reference > docs/cli.md"


def test_the_help_of_export_names_all_targets() -> None:
    [(_, text)] = helps("export")
    assert [name for name in target_names() if not re.search(rf"\b{name}\b", text)] == []


@pytest.mark.parametrize(("command", "others"), [("search", set()), ("stream", {"factors"}), ("estimate", {"factors"})])
def test_the_help_names_all_recommenders(command: str, others: set[str]) -> None:
    [(_, text)] = helps(command)
    assert [name for name in backbone_names() if name not in others and not re.search(rf"\b{name}\b", text)] == []
