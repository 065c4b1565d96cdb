"""Comparisons of small models on a small set, and what is kept of them."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import ciess
from ciess.data import Interactions, Split, split_random, synthetic
from ciess.errors import InputError
from ciess.evaluation.metrics import QUALITY_METRICS
from ciess.experiment.comparison import Comparison
from ciess.methods.equal import EqualSizes
from ciess.methods.mixed import MixedRandom
from ciess.methods.popularity import Popularity
from ciess.methods.problem import Problem, SearchResult
from ciess.models import Training
from ciess.train.finish import Finish

BACKBONE = ciess.MF(dim=8, training=Training(steps=30, batch_size=2_000, l2=0.02, eval_every=10))
FINISH = Finish(training=Training(steps=4, batch_size=4_000, lr=0.3, eval_every=2))
POPULARITY = Popularity(rounds=1, plans=3)


@pytest.fixture(scope="module")
def data() -> Interactions:
    return synthetic(users=150, items=100, mean_count=20, seed=3).interactions


@dataclass(frozen=True)
class Noted:
    """Equal sizes that say when they are searched for."""

    searched: ClassVar[list[int]] = []
    weight: float = 1.0
    seed: int = 0

    def search(self, problem: Problem) -> SearchResult:
        self.searched.append(self.seed)
        problem.trainings += 2
        return EqualSizes().search(problem)


@dataclass(frozen=True)
class Unlucky:
    fails: ClassVar[bool] = True

    def search(self, problem: Problem) -> SearchResult:
        if self.fails:
            raise RuntimeError("no luck\nat all")
        return EqualSizes().search(problem)


@pytest.fixture(autouse=True)
def _nothing_noted() -> None:
    Noted.searched.clear()


def compare(data: Interactions | Split, **settings: Any) -> Comparison:
    told = {"methods": {"random": MixedRandom(), "popularity": POPULARITY}, "budgets": ["60%", "40%"]}
    return ciess.compare(data, backbone=BACKBONE, finishing=FINISH, **{**told, **settings})


@pytest.fixture(scope="module")
def compared(data: Interactions) -> Comparison:
    return compare(data, seeds=[0, 1])


def test_a_method_comes_to_the_same_as_in_a_search(compared: Comparison, data: Interactions) -> None:
    beside = {"random": MixedRandom(), "popularity": POPULARITY}
    searched = ciess.search(
        data, backbone=BACKBONE, finishing=FINISH, budgets=["60%", "40%"], method="equal", beside=beside, seed=1
    )
    cells = {cell.method: cell for cell in compared.cells if cell.seed == 1}
    assert [*cells] == ["full", "equal", "random", "popularity"]
    for row in searched.rows:
        if row.method == "search":
            continue
        [mine] = [each for each in cells[row.method].rows if each.budget == row.budget]
        assert (mine.metrics, mine.table_bytes) == (row.metrics, row.table_bytes)
        assert mine.valid_quality == row.valid_quality
        assert mine.kept == pytest.approx(row.kept)


def test_quality_is_that_of_each_user_by_its_row(compared: Comparison, data: Interactions) -> None:
    searched = ciess.search(
        data, backbone=BACKBONE, finishing=FINISH, budgets=["60%", "40%"], method=POPULARITY, seed=0, refit=False
    )
    split = split_random(data, seed=0)
    assert split.test is not None
    model = next(iter(searched.models.values()))
    shown = model.evaluate(split.test)
    [cell] = [
        cell for cell in compared.cells if (cell.method, cell.seed) == (searched.row("search", "60%").found_by, 0)
    ]
    users = split.test.user_ids.to_numpy()
    measured = {users[row]: quality for row, quality in zip(shown.users.tolist(), shown.quality.tolist(), strict=True)}
    for user, quality in zip(users, cell.quality["60%"], strict=True):
        assert quality == pytest.approx(measured[user]) if user in measured else np.isnan(quality)


def test_effort_is_counted_for_each_method_alone(compared: Comparison) -> None:
    for cell in compared.cells:
        counts = {"full": (1, 0, 0), "equal": (0, 2, 2), "random": (0, 2, 2), "popularity": (0, 6, 2)}[cell.method]
        assert (cell.trainings, cell.measurements) == counts[:2]
        assert cell.finishes >= counts[2]


def test_what_is_kept_is_not_done_again_and_reads_the_same(
    compared: Comparison, data: Interactions, tmp_path: Path
) -> None:
    first = compare(data, seeds=[0, 1], cells=tmp_path)
    assert first.to_markdown() == compared.to_markdown(), "with and without a folder"

    def never(*_: object) -> None:
        raise AssertionError("something was done")

    again = compare(data, seeds=[0, 1], cells=tmp_path, progress=never)
    assert (again.to_markdown(), again.to_latex()) == (first.to_markdown(), first.to_latex())
    assert [cell.described() for cell in again.cells] == [cell.described() for cell in first.cells]


@pytest.mark.parametrize("stop", [33, 60, 90])
def test_a_run_that_is_cut_off_goes_on_to_the_same_result(
    stop: int, compared: Comparison, data: Interactions, tmp_path: Path
) -> None:
    steps = []

    def cut(phase: str, *_: object) -> None:
        steps.append(phase)
        if len(steps) == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(data, seeds=[0, 1], cells=tmp_path, progress=cut)
    assert compare(data, seeds=[0, 1], cells=tmp_path).to_markdown() == compared.to_markdown()


def test_a_later_method_trains_no_full_model_again(data: Interactions, tmp_path: Path) -> None:
    compare(data, methods=["mixed-random"], cells=tmp_path)
    phases: set[str] = set()
    compare(data, methods={"noted": Noted()}, cells=tmp_path, progress=lambda phase, *_: phases.add(phase))
    assert Noted.searched == [0]
    assert not [phase for phase in phases if "full model" in phase]


CHANGES: dict[str, Callable[[Interactions], dict[str, Any]]] = {
    "settings": lambda _: {"methods": {"noted": Noted(weight=2.0)}},
    "budgets": lambda _: {"budgets": ["60%"]},
    "seed": lambda _: {"seeds": [4]},
    "precision": lambda _: {"precision": "int8"},
    "data": lambda data: {"data": data.take(np.arange(len(data) - 1))},
    "backbone": lambda _: {"backbone": dataclasses.replace(BACKBONE, dim=9)},
    "finish": lambda _: {"finishing": FINISH.lasting(2)},
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_differs_is_done_anew(change: str, data: Interactions, tmp_path: Path) -> None:
    told = {
        "data": data,
        "methods": {"noted": Noted()},
        "backbone": BACKBONE,
        "finishing": FINISH,
        "budgets": ["60%", "40%"],
    }
    ciess.compare(cells=tmp_path, **told)
    ciess.compare(cells=tmp_path, **told)
    assert Noted.searched == [0]
    ciess.compare(cells=tmp_path, **{**told, **CHANGES[change](data)})
    assert len(Noted.searched) == 2


def test_one_that_fails_is_told_and_tried_again(
    data: Interactions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = {"unlucky": Unlucky(), "popularity": POPULARITY}
    found = compare(data, methods=methods, cells=tmp_path)
    assert [(cell.method, cell.error) for cell in found.failures] == [("unlucky", "RuntimeError: no luck at all")]
    assert found.line("popularity", "40%").seeds == [0]
    assert "RuntimeError: no luck at all" in found.to_markdown()
    monkeypatch.setattr(Unlucky, "fails", False)
    assert compare(data, methods=methods, cells=tmp_path).failures == []


def test_a_full_model_that_fails_fails_its_seed(data: Interactions, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*_: object, **__: object) -> None:
        raise RuntimeError("no luck\nat all")

    monkeypatch.setattr("ciess.experiment.full.fit", fit)
    found = compare(data)
    assert {cell.error for cell in found.cells} == {"RuntimeError: no luck at all"}
    assert len(found.cells) == 4
    assert found.lines == []


def test_a_split_of_ones_own_without_test_is_measured_on_validation(split: Split) -> None:
    found = compare(Split(split.train, split.valid))
    assert found.shown == "validation"
    for cell in found.cells:
        for row in cell.rows:
            assert np.mean([row.metrics[name] for name in QUALITY_METRICS]) == pytest.approx(
                row.valid_quality, rel=1e-5
            )


def test_methods_of_a_file_take_part(data: Interactions, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from dataclasses import dataclass\n"
        "from ciess.methods.equal import EqualSizes\n\n"
        "@dataclass(frozen=True)\n"
        "class Mine:\n"
        "    def search(self, problem):\n"
        "        return EqualSizes().search(problem)\n"
    )
    found = compare(data, methods=[f"{path}:Mine", MixedRandom()])
    assert found.methods == ["equal", "mine", "mixed-random"]
    assert found.gain("mine", "60%").p_value == 1  # type: ignore[union-attr]


def test_all_methods_of_the_package_unless_some_are_named() -> None:
    from ciess.experiment.trials import methods_by_name
    from ciess.methods import method_names

    assert sorted(methods_by_name(())) == method_names(by_default=True)
    assert [*methods_by_name(["popularity"])] == ["equal", "popularity"]


def test_impossible_requests_are_refused_before_training(data: Interactions, tmp_path: Path) -> None:
    def never(*_: object) -> None:
        raise AssertionError("training began")

    for told, message in (
        ({"budgets": ["1%"]}, "too small"),
        ({"budgets": []}, "no budgets are given"),
        ({"seeds": [1, 1]}, "seeds must be given, each once"),
        ({"seeds": []}, "seeds must be given, each once"),
        ({"seeds": [0, -1]}, "seed is -1"),
        ({"methods": ["magic"]}, "'magic' is not a method"),
        ({"methods": [MixedRandom(), "mixed-random"]}, "methods are mixed-random, mixed-random: give each a name"),
        ({"methods": {"full": MixedRandom()}}, "none 'full'"),
        ({"methods": {3: MixedRandom()}}, "a method is named 3: names are text"),
        ({"methods": {"equal": MixedRandom()}}, "method equal is MixedRandom, not equal sizes"),
    ):
        with pytest.raises(InputError, match=message):
            compare(data, progress=never, **told)


@pytest.mark.parametrize("kept", ["mixed-random-0-*", "full-0-*-train.safetensors"])
def test_what_is_damaged_is_told_and_made_anew(
    kept: str, data: Interactions, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = compare(data, methods=["mixed-random"], cells=tmp_path)
    [damaged] = tmp_path.glob(kept)
    for other in {*tmp_path.glob("*")} - {damaged, *tmp_path.glob("full-*-t*")}:
        other.unlink()
    content = bytearray(damaged.read_bytes())
    content[-9] ^= 16
    damaged.write_bytes(content)
    again = compare(data, methods=["mixed-random"], cells=tmp_path)
    assert f"{damaged} is damaged: what it held is made anew" in caplog.text
    assert again.to_markdown() == first.to_markdown()
    assert damaged.read_bytes() != content
