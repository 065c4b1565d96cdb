"""Settings are checked against their annotations."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import pytest

from ciess.checks import AboveZero, Checked, Count, Positive, Share, Within, check, choice
from ciess.errors import InputError


@dataclass(frozen=True)
class Settings(Checked):
    word: Literal["ratio", "raw"] = "ratio"
    steps: Count = 1
    size: Positive | None = None
    rate: AboveZero = 0.1
    part: Share = 0.5
    flag: bool = False
    angle: Annotated[float, Within(-1, 1)] = 0.0


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"word": "raw", "steps": 0, "size": None, "part": 1, "angle": -1},
        {"size": 1, "rate": 1e-9, "part": 0.0, "flag": True},
    ],
)
def test_what_fits_is_taken(given: dict[str, object]) -> None:
    made = Settings(**given)  # type: ignore[arg-type]
    assert all(getattr(made, name) == value for name, value in given.items())


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"word": "ratoi"}, r"word is 'ratoi': use 'ratio' or 'raw' \(did you mean 'ratio'\?\)"),
        ({"steps": -1}, "steps is -1: give a number of 0 or more"),
        ({"steps": 1.0}, "steps is 1.0: give a whole number"),
        ({"steps": True}, "steps is True: give a whole number"),
        ({"size": 0}, "size is 0: give a number of 1 or more"),
        ({"rate": 0}, "rate is 0: give a number above 0"),
        ({"rate": float("nan")}, "rate is nan: give a finite number"),
        ({"rate": float("inf")}, "rate is inf: give a finite number"),
        ({"rate": "fast"}, "rate is 'fast': give a finite number"),
        ({"part": 1.1}, "part is 1.1: give a number from 0 to 1"),
        ({"angle": -2}, "angle is -2: give a number from -1 to 1"),
        ({"flag": 1}, "flag is of type int: give a bool"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(given: dict[str, object], told: str) -> None:
    with pytest.raises(InputError, match=f"^{told}$"):
        Settings(**given)  # type: ignore[arg-type]


def test_numbers_of_numpy_are_numbers() -> None:
    made = Settings(steps=np.int64(3), rate=np.float32(0.5), flag=np.bool_(True))  # type: ignore[arg-type]
    assert (made.steps, made.rate, made.flag) == (3, 0.5, True)
    assert [type(each) for each in (made.steps, made.rate, made.flag)] == [int, float, bool]
    with pytest.raises(InputError, match=r"steps is 2\.5: give a whole number"):
        Settings(steps=np.float64(2.5))  # type: ignore[arg-type]


def test_an_argument_of_numpy_becomes_plain() -> None:
    plain = check("seed", np.int32(3), Count)
    assert (plain, type(plain)) == (3, int)
    with pytest.raises(InputError, match="seed is -1: give a number of 0 or more"):
        check("seed", np.int64(-1), Count)


def test_a_choice_suggests_the_nearest_word() -> None:
    assert choice("target", "input", ["input", "output"]) == "input"
    with pytest.raises(InputError, match=r"target is 'inputs': use 'input' or 'output' .did you mean 'input'"):
        choice("target", "inputs", ["input", "output"])
