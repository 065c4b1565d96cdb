"""The package's door: what is public, and that looking at it costs nothing."""

import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import ciess
from ciess.data.catalogue import fetch
from ciess.errors import InputError
from ciess.results.outcome import ByBudget
from ciess.tables.plan import SizePlan

ROOT = Path(__file__).parent.parent


def test_dir_shows_the_public_api_and_all_of_it_is_there() -> None:
    assert dir(ciess) == sorted([*ciess.__all__, "__version__"])
    for name in ciess.__all__:
        assert getattr(ciess, name).__doc__, name


def test_the_version_is_that_of_the_distribution() -> None:
    assert ciess.__version__ == importlib.metadata.version("ciess")


def test_types_are_told_for_every_name() -> None:
    """What editors and mypy see is what is imported."""
    text = (ROOT / "src/ciess/__init__.py").read_text()
    typed = re.findall(r"^    from ciess\.(\S+) import (\w+) as \2$", text, re.M)
    assert {name: room for room, name in typed} == ciess._ROOMS


def test_importing_and_looking_around_loads_nothing_heavy() -> None:
    script = (
        "import sys, ciess; dir(ciess), ciess.__version__, ciess.InputError, ciess.__all__;"
        "print(*{'torch', 'numpy', 'scipy', 'polars'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "\n"


def test_docs_and_examples_use_public_names_alone() -> None:
    texts = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.ipynb")]
    inner = {path.name: re.findall(r"(?:from|import) ciess\.\S+", path.read_text()) for path in texts}
    assert {name: found for name, found in inner.items() if found} == {}


PAIRS = [(user, (3 * user + n) % 8) for user in range(6) for n in range(5)]
FRAME = pl.DataFrame(
    {
        "user": [user for user, _ in PAIRS],
        "item": [item for _, item in PAIRS],
        "time": [n % 5 * 6 + n // 5 for n in range(len(PAIRS))],
    }
)


def model_of_four() -> ciess.CompressedModel:
    """Of users 0 to 3 and all items."""
    data = ciess.Interactions.of(FRAME.filter(pl.col("user") < 4))
    config = ciess.ALS(dim=64)
    plan = SizePlan(np.full(4, 32), np.full(8, 32), 64)
    return ciess.CompressedModel.pack(config, config.build(data), plan, data)


TAKES: dict[str, Callable[[Any], Any]] = {
    "split_random": lambda data: ciess.split_random(data).train.matrix.toarray(),
    "split_by_time": lambda data: ciess.split_by_time(data).valid.matrix.toarray(),
    "split_last": lambda data: ciess.split_last(data).valid.matrix.toarray(),
    "split_given": lambda data: ciess.split_given(FRAME[::2], data).train.matrix.toarray(),
    "describe": ciess.describe,
    "convert": lambda data: ciess.convert(data, "written.csv").read_text(),
    "stream": lambda data: ciess.stream(
        data,
        methods={},
        retrain=False,
        segments=1,
        backbone=ciess.MF(dim=64, training=ciess.Training(steps=1)),
        budget="50%",
    ),
    "with_users": lambda data: model_of_four().with_users(data, budget="100%").score([4, 5]),
    "evaluate": lambda data: ciess.evaluate(model_of_four(), data).per_user("recall@5"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TAKES)
def test_interactions_are_taken_in_every_form(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    FRAME.write_csv("ratings.csv")
    found = [TAKES[name](data) for data in (ciess.read("ratings.csv"), FRAME, "ratings.csv", Path("ratings.csv"))]
    for each in found[1:]:
        np.testing.assert_array_equal(np.array(each, dtype=object), np.array(found[0], dtype=object))
    for other in (3, None, [1, 2], ciess.split_random(FRAME)):
        with pytest.raises(InputError, match=f"cannot be of type {type(other).__name__}: give Interactions"):
            TAKES[name](other)


@pytest.mark.parametrize(
    "call",
    [
        ciess.read,
        ciess.load,
        ciess.prepared,
        lambda path: ciess.prepare(path, "out"),
        lambda path: ciess.convert(FRAME, path),
        lambda path: ciess.export(model_of_four(), "arrays", path),
        lambda path: ciess.PackedEmbedding.from_model(path, "users"),
        ciess.SizePolicy.load,
    ],
)
@pytest.mark.parametrize("path", [3, None, FRAME])
def test_what_is_no_path_is_refused(call: Callable[[Any], Any], path: Any) -> None:
    with pytest.raises(InputError, match=f"is of type {type(path).__name__}: give a path"):
        call(path)


def test_other_objects_are_refused_by_their_type() -> None:
    for call, told in (
        (lambda: ciess.Split(FRAME, FRAME), "train is of type DataFrame: give Interactions"),
        (lambda: ciess.export("runs/budget-5", "arrays", "out"), "model is of type str: give a CompressedModel"),
        (lambda: ciess.search(FRAME, backbone=3), "backbone is of type int: give a BackboneConfig"),
        (lambda: ciess.search(FRAME, kept=3), "kept is of type int: give a path"),
        (lambda: ciess.stream(FRAME, methods={}, kept=3), "kept is of type int: give a path"),
        (lambda: ciess.search(FRAME, progress=3), "progress is of type int: give a Callable"),
        (lambda: ciess.compare(FRAME, progress="bar"), "progress is of type str: give a Callable"),
        (lambda: ciess.stream(FRAME, methods={}, progress=True), "progress is of type bool: give a Callable"),
        (
            lambda: ciess.compress((np.eye(6, 64), np.eye(8, 64)), FRAME, budgets=["50%"], progress=3),
            "progress is of type int: give a Callable",
        ),
        (lambda: ciess.distribute(FRAME, "out", progress=3), "progress is of type int: give a Callable"),
        (lambda: ciess.distribute(FRAME, 3), "out is of type int: give a path"),
        (lambda: ciess.distribute(FRAME, "out", policy=3), "policy is of type int: give a SizePolicy"),
        (lambda: ciess.prepare("parts", "out", progress=None), "progress is of type NoneType: give a Callable"),
        (lambda: fetch("movielens-1m", progress=3), "progress is of type int: give a Callable"),
        (lambda: ciess.search(FRAME, beside=3), "beside is of type int: give a Mapping"),
        (lambda: ciess.compare("nowhere.csv", executor=3), "executor is 3: write processes:4, ray, or ray:ADDRESS"),
        (lambda: ciess.compare("nowhere.csv", shard=3, cells="cells"), "shard is of type int: give a str"),
        (
            lambda: ciess.compare(FRAME, methods={"a": 3}),
            "method a is of type int: give a name, or a method's settings",
        ),
        (lambda: ciess.compare(FRAME, methods={"a": "rule"}), "'rule' is not a method"),
        (lambda: ciess.stream(FRAME, methods="popularity"), "methods is of type str: give a Mapping"),
        (
            lambda: ciess.stream(FRAME, methods={"a": ciess.EqualSizes}),
            "method a is the class EqualSizes: give its settings",
        ),
        (lambda: ciess.stream(FRAME, methods={"a": 3}), "method a is of type int: give a name, or a method's settings"),
        (lambda: ciess.stream(FRAME, methods={"retrain": ciess.EqualSizes()}), "give another name, or retrain=False"),
    ):
        with pytest.raises(InputError, match=told):
            call()


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: ciess.Budget(5, "foo"), "'5foo' has an unknown unit: use one of %, dims, B"),
        (lambda: ciess.Budget(-5, "%"), "'-5%' leaves no room"),
        (lambda: ciess.Budget(101, "%"), "'101%' is more than the full tables"),
        (lambda: ciess.SizePlan([1], [3], 8, "int8"), "precision is of type str: give an Encoding"),
        (lambda: ciess.SizePlan([1], [3], 8.5), "dim is 8.5"),
        (lambda: ciess.synthetic(users=0), "users is 0"),
        (lambda: ciess.synthetic(items=2.5), "items is 2.5"),
        (lambda: ciess.synthetic(mean_count=-1.0), "mean_count is -1"),
    ],
)
def test_what_is_none_of_its_kind_is_refused_where_it_enters(made: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        made()


def test_values_by_budget_are_asked_for_by_any_text() -> None:
    found = ByBudget({ciess.Budget.parse("5%"): 1})
    assert ("5 %" in found, "abc" in found, found.get("5%"), found.get("abc"), found.get("6%", 7)) == (
        True,
        False,
        1,
        None,
        7,
    )
