import json

import pytest

from ciess.cli import main
from ciess.cli import self_test as checks
from ciess.cli.self_test import self_test


def test_a_sound_installation(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor"])
    printed = capsys.readouterr().out
    assert "self-test      passed" in printed
    assert "torch " in printed
    assert "extra faiss" in printed


def test_a_failure_is_told_and_ends_with_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> str:
        raise AssertionError("NumPy and PyTorch rank differently")

    monkeypatch.setattr(checks, "_tried", broken)
    with pytest.raises(SystemExit) as end:
        main(["doctor", "--json"])
    assert end.value.code == 1
    told = json.loads(capsys.readouterr().out)
    assert told["test"]["passed"] is False
    assert told["test"]["told"] == "AssertionError: NumPy and PyTorch rank differently"
    assert told["devices"][0] == "cpu"


def test_the_self_test_sees_rankings_that_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = checks.np.array_equal
    monkeypatch.setattr(checks.np, "array_equal", lambda a, b: honest(a, b) and a.shape != (120, 10))
    found = self_test()
    assert not found.passed
    assert "rank differently" in found.told


def test_missing_extras_say_how_to_have_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert "pip install 'ciess[export]'" in checks._extra("faiss")
