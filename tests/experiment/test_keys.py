"""What identifies results: no two values that differ may share a key, and code counts."""

import dataclasses
import importlib
import json
import sys
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from scipy.sparse import csr_array

import ciess
from ciess.data import Split, split_random, synthetic
from ciess.errors import InputError
from ciess.experiment import keys, settings
from ciess.experiment.cells import Cells
from ciess.experiment.keys import canonical, code_of, digest, sources
from ciess.experiment.recipe import Recipe
from ciess.models import Training
from ciess.tables.budget import Budget


class Colour(Enum):
    RED = 1


class Paint(Enum):
    RED = 1


@dataclass(frozen=True)
class Mine:
    weights: Any = None


@dataclass(frozen=True)
class Other:
    weights: Any = None


def spiked(at: int) -> "np.ndarray[Any, Any]":
    values = np.zeros(5000)
    values[at] = 1
    return values


def scaled(by: float) -> Callable[[float], float]:
    return lambda value: by * value


DIFFERENT: list[Any] = [
    None,
    True,
    1,
    1.0,
    "1",
    b"1",
    "True",
    (1,),
    [1],
    {1},
    {1: 1},
    {"1": 1},
    {"a": 1, "b": 2},
    {"b": 2, "a": 1},
    OrderedDict(a=1, b=2),
    Colour.RED,
    Paint.RED,
    Mine(1),
    Mine(1.0),
    Mine("1"),
    Mine(Mine(1)),
    Other(1),
    Mine,
    Other,
    Path("1"),
    # Long arrays all have the same text.
    spiked(2500),
    spiked(2501),
    spiked(2501).astype(np.float32),
    spiked(2501).reshape(50, 100),
    spiked(2501).tolist(),
    np.array([1, "1"], dtype=object),
    np.float32(1),
    np.float64(1),
    torch.from_numpy(spiked(2500)),
    torch.from_numpy(spiked(2501)),
    torch.from_numpy(spiked(2501)).bfloat16(),
    csr_array(spiked(2500)[None]),
    csr_array(spiked(2501)[None]),
    pl.Series(["1", "2"]),
    pl.Series(["1", "3"]),
    pl.Series([1, 2]),
    scaled(1.0),
    scaled(2.0),
    partial(scaled, 1.0),
    partial(scaled, by=1.0),
    float("nan"),
    float("inf"),
    0.1,
    0.1 + 2**-56,
    -0.0,
    0.0,
]


def test_values_that_differ_have_keys_that_differ() -> None:
    found = [digest(canonical(value)) for value in DIFFERENT]
    assert len({*found}) == len(DIFFERENT)
    assert [digest(canonical(Mine(value))) for value in DIFFERENT] != found
    assert found == [digest(canonical(value)) for value in DIFFERENT], "and the same each time"


@examples(max_examples=30)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda each: st.lists(each) | st.dictionaries(st.text(), each),
    )
)
def test_what_is_equal_as_text_is_equal_as_key(value: Any) -> None:
    again = eval(repr(value), {"nan": float("nan"), "inf": float("inf")})
    assert canonical(value) == canonical(again) or "nan" in repr(value)
    assert digest(canonical(value)) == digest(canonical(again))


def test_the_layout_of_an_array_does_not_matter() -> None:
    values = np.arange(12.0).reshape(3, 4)
    assert canonical(values) == canonical(np.asfortranarray(values))
    assert canonical(values[:, ::2]) == canonical(values[:, ::2].copy())


def test_a_files_content_counts(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    missing = canonical(path)
    path.write_text("1")
    first = canonical(path)
    path.write_text("2")
    assert len({digest(each) for each in (missing, first, canonical(path))}) == 3


@pytest.mark.parametrize("value", [object(), np.random.default_rng(0), torch.nn.Linear(1, 1), print, iter(())])
def test_what_cannot_be_told_apart_is_refused(value: object) -> None:
    with pytest.raises(InputError, match=r"Mine\.weights is a .*, by which kept results cannot be told apart"):
        canonical(Mine(value), "Mine")


CODE = '"""What it does."""\n\ndef answer():\n    return 1\n'


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        (CODE.replace("What it does", "Says 1"), True),
        (CODE.replace("():\n", '():\n    """One."""\n'), True),
        (CODE.replace("return 1", "return 1  # as ever"), True),
        (CODE.replace("\n\n", "\n\n\n\n"), True),
        (CODE.replace("return 1", "return -1"), False),
        (CODE.replace("return 1", "return 1.0"), False),
        (CODE.replace("return 1", 'return "1"'), False),
        (CODE.replace("answer", "reply"), False),
    ],
)
def test_code_counts_and_comments_do_not(changed: str, same: bool, tmp_path: Path) -> None:
    before, after = tmp_path / "a" / "code.py", tmp_path / "b" / "code.py"
    for path, text in ((before, CODE), (after, changed)):
        path.parent.mkdir()
        path.write_text(text)
    assert (sources([before]) == sources([after])) == same


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("train/losses.py", True),
        ("__init__.py", True),
        ("methods/ciess/td3.py", True),
        ("new.py", True),
        ("cli/x.py", False),
    ],
)
def test_every_file_that_makes_results_counts(
    file: str, counts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for version in ("before", "after"):
        package = tmp_path / version
        for each in ("__init__.py", "train/losses.py", "methods/ciess/td3.py", "cli/x.py", "exports/y.py"):
            (package / each).parent.mkdir(parents=True, exist_ok=True)
            (package / each).write_text(CODE)
        if version == "after":
            (package / file).write_text(CODE + "CHANGED = True\n")
        monkeypatch.setattr(keys, "PACKAGE", package)
        found.append(code_of("report", "exports", "cli"))
    assert (found[0] != found[1]) == counts


def split() -> Split:
    return split_random(synthetic(users=60, items=40, mean_count=10, seed=1).interactions, seed=0)


def name_of(recipe: Recipe, data: Split, method: Any = None, name: str = "mine") -> tuple[Path | None, Path | None]:
    cells = Cells(Path("cells"), data, recipe, [Budget.parse("50%")], 0)
    return cells.full().path, cells._kept(name, method).path


def test_versions_count(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, data = Recipe(ciess.MF(dim=4)), split()
    before = name_of(recipe, data)
    assert name_of(recipe, split()) == before
    real = settings.version
    for package in ("ciess", "torch", "numpy"):
        monkeypatch.setattr(settings, "version", lambda name, of=package: "9.9.9" if name == of else real(name))
        after = name_of(recipe, data)
        assert all(one != other for one, other in zip(before, after, strict=True))


def test_factors_stand_by_their_tables_and_the_ids_of_these() -> None:
    data, rng = split(), np.random.default_rng(0)
    tables = rng.normal(size=(60, 4)), rng.normal(size=(40, 4))
    before = name_of(Recipe(ciess.Factors.from_arrays(*tables)), data)
    assert name_of(Recipe(ciess.Factors.from_arrays(*tables)), data) == before
    tables[0][30, 2] += 1e-3
    assert name_of(Recipe(ciess.Factors.from_arrays(*tables)), data)[0] != before[0]


def test_a_name_is_part_of_a_cell() -> None:
    """Names are made plain in file names: `a b` and `a-b` would be one file."""
    recipe, data = Recipe(ciess.MF(dim=4)), split()
    assert name_of(recipe, data, Mine(), "a b") != name_of(recipe, data, Mine(), "a-b")


OWN = """
from dataclasses import dataclass
from own_helper import factor

@dataclass(frozen=True)
class Own:
    weight: int = 1
"""


def test_code_of_ones_own_counts_with_the_files_that_it_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(version: str, helper: str, own: str = OWN) -> str:
        folder = tmp_path / version
        folder.mkdir()
        (folder / "own_helper.py").write_text(helper)
        (folder / "own_method.py").write_text(own)
        for name in ("own_helper", "own_method"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        with monkeypatch.context() as path:
            path.syspath_prepend(folder)
            return digest(canonical(importlib.import_module("own_method").Own()))

    first = key("first", "def factor(): return 1\n")
    assert key("comment", "def factor(): return 1  # one\n") == first
    assert key("helper", "def factor(): return 2\n") != first
    assert key("own", "def factor(): return 1\n", OWN + "    def twice(self): return 2 * self.weight\n") != first


def test_what_cells_cannot_be_known_by_is_refused_before_training(tmp_path: Path) -> None:
    def never(*_: object) -> None:
        raise AssertionError("training began")

    @dataclass(frozen=True)
    class Odd:
        source: Any = field(default_factory=object)

        def search(self, problem: Any) -> Any:
            from ciess.methods.equal import EqualSizes

            return EqualSizes().search(problem)

    data = synthetic(users=60, items=40, mean_count=10, seed=1).interactions
    told = {"methods": {"odd": Odd()}, "backbone": ciess.MF(dim=4, training=Training(steps=2)), "budgets": "50%"}
    with pytest.raises(InputError, match=r"Odd\.source is a object"):
        ciess.compare(data, cells=tmp_path, progress=never, **told)
    found = ciess.compare(data, **told)
    assert found.failures == [], "without cells nothing needs to be known by a key"
    assert json.loads(json.dumps(dataclasses.asdict(found.line("odd", "50%"))))["found_by"] == ["equal"]
