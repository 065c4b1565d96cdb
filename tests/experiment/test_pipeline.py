import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ciess
from ciess.data import Interactions, Split
from ciess.errors import InputError
from ciess.experiment.outcome import Outcome
from ciess.methods.ciess.td3 import TD3Settings
from ciess.methods.mixed import MixedRandom
from ciess.methods.popularity import Popularity
from ciess.methods.problem import Candidate, Problem, SearchResult
from ciess.models import Backbone, Training, backbone_named
from ciess.tables.plan import SizePlan, TableShape
from ciess.train.finish import Finish, finish
from ciess.train.fit import Fitted

QUICK = ciess.Ciess(
    episodes=4, steps=4, updates=1, start=Popularity(rounds=1), td3=TD3Settings(gamma=0.9, batch_size=256, hidden=32)
)
BACKBONE = ciess.LightGCN(dim=16, training=Training(steps=200, batch_size=2_000, l2=0.02))

SHORT = dataclasses.replace(BACKBONE, training=Training(steps=60, batch_size=2_000, l2=0.02))


def search(data: Interactions | Split, seed: int = 0) -> Outcome:
    return ciess.search(data, backbone=BACKBONE, budgets=["30%", "15%"], method=QUICK, seed=seed)


@pytest.fixture(scope="module")
def outcome(split: Split) -> Outcome:
    return search(split)


def test_the_table_has_full_equal_and_ciess_at_each_budget(outcome: Outcome) -> None:
    assert [(row.method, row.budget) for row in outcome.rows] == [
        ("full", ""),
        ("equal", "30%"),
        ("ciess", "30%"),
        ("equal", "15%"),
        ("ciess", "15%"),
    ]
    assert outcome.shown == "test"
    assert outcome.row("full").kept == 1
    assert outcome.row("full").table_bytes == 250 * 16 * 4
    assert outcome.row("equal", "30%").user_size == outcome.row("equal", "30%").item_size == 4


def test_nothing_kept_is_worse_on_validation_than_equal_sizes(outcome: Outcome) -> None:
    for budget in ("30%", "15%"):
        assert outcome.row("ciess", budget).valid_quality >= outcome.row("equal", budget).valid_quality


def test_budgets_hold_to_the_byte_on_disk(outcome: Outcome, tmp_path: Path) -> None:
    shape = TableShape(150, 100, 16)
    saved = outcome.save(tmp_path)
    assert [path.name for path in saved.values()] == ["budget-30", "budget-15"]
    for budget, folder in saved.items():
        stored = sum(path.stat().st_size for path in folder.glob("tables*.safetensors"))
        assert stored <= budget.limit(shape)
        assert stored == outcome.row("ciess", str(budget)).table_bytes
    assert (tmp_path / "result.json").is_file()


def test_what_is_saved_is_what_was_measured(outcome: Outcome, split: Split, tmp_path: Path) -> None:
    assert split.test is not None
    for budget, folder in outcome.save(tmp_path).items():
        row = outcome.row("ciess", str(budget))
        assert ciess.load(folder).evaluate(split.test)["ndcg@20"] == row.metrics["ndcg@20"]


def test_the_same_seed_gives_the_same_plans_and_numbers(outcome: Outcome, split: Split) -> None:
    again = search(split)
    assert again.plans == outcome.plans
    assert [row.metrics for row in again.rows] == [row.metrics for row in outcome.rows]
    assert again.trace == outcome.trace
    assert search(split, seed=1).trace != outcome.trace


def test_test_data_decide_nothing(outcome: Outcome, split: Split) -> None:
    assert split.test is not None
    fewer = Split(split.train, split.valid, split.test.take(np.arange(0, len(split.test), 2)))
    assert search(fewer).plans == outcome.plans


def test_without_test_the_table_shows_validation(outcome: Outcome, split: Split) -> None:
    shown = search(Split(split.train, split.valid))
    assert shown.shown == "validation"
    assert shown.plans == outcome.plans
    for row in shown.rows:
        assert np.mean(list(row.metrics.values())) == pytest.approx(row.valid_quality, rel=1e-5)


def test_impossible_requests_are_refused_before_training(split: Split) -> None:
    def never(*_: object) -> None:
        raise AssertionError("training began")

    for budgets, message in (
        (["1%"], "too small"),
        (["10%", "10.0%"], "each once"),
        ([], "each once"),
        (["much"], "not a budget"),
    ):
        with pytest.raises(InputError, match=message):
            ciess.search(split, backbone=BACKBONE, budgets=budgets, progress=never)
    with pytest.raises(InputError, match="not a backbone"):
        ciess.search(split, backbone="gpt", progress=never)
    # Whether the split is made here or given.
    for data in (split.train, split):
        with pytest.raises(InputError, match="seed is -1"):
            ciess.search(data, backbone=BACKBONE, seed=-1, progress=never)


def test_methods_beside_ciess_are_measured_by_the_same_rules(split: Split) -> None:
    beside = {"mixed random": MixedRandom(), "popularity": Popularity(rounds=1)}
    found = ciess.search(split, backbone=BACKBONE, budgets=["30%"], method=QUICK, beside=beside)
    assert [row.method for row in found.rows] == ["full", "equal", "mixed random", "popularity", "ciess"]
    assert found.row("popularity", "30%").valid_quality <= found.row("ciess", "30%").valid_quality
    assert all(row.table_bytes <= 0.3 * 250 * 16 * 4 for row in found.rows[1:])
    assert [*found.settings["beside"]] == [*beside]
    for row in found.rows:
        evaluation = found.evaluations[row.method, row.budget]
        assert evaluation["ndcg@20"] == row.metrics["ndcg@20"]


def test_auto_keeps_the_best_of_several_and_says_which(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    # As `auto` tries them, only quicker.
    quick = {"popularity": Popularity(rounds=1), "ciess": QUICK}
    monkeypatch.setattr("ciess.experiment.pipeline.cheap_methods", lambda: quick)
    found = ciess.search(split, backbone=SHORT, budgets=["30%", "15%"], method="auto")
    assert [row.method for row in found.rows[1:5]] == ["equal", "popularity", "ciess", "auto"]
    for budget in ("30%", "15%"):
        kept = found.row("auto", budget)
        tried = {name: found.row(name, budget) for name in ("equal", "popularity", "ciess")}
        assert kept.valid_quality == max(row.valid_quality for row in tried.values())
        assert kept.metrics == tried[kept.found_by].metrics
    assert [*found.settings["method"]["tried"]] == ["popularity", "ciess"]
    assert {row["kind"] for row in found.trace} >= {"popularity", "explore"}


@dataclass(frozen=True)
class Sized:
    """Rows of one size; no plan where it is 0."""

    size: int = 0
    seed: int = 0

    def search(self, problem: Problem) -> SearchResult:
        plans = [SizePlan.equal(problem.shape, self.size)] if self.size else []
        return SearchResult({budget: [Candidate(plan, 1.0) for plan in plans] for budget in problem.budgets})


def test_any_method_can_search_and_equal_sizes_win_over_worse_ones(split: Split) -> None:
    cut = Finish().lasting(0)
    found = ciess.search(split, backbone=BACKBONE, budgets=["30%"], method=Sized(1), finishing=cut, seed=3)
    assert [row.method for row in found.rows] == ["full", "equal", "sized"]
    assert found.row("sized", "30%").found_by == "equal"
    assert found.row("sized", "30%").metrics == found.row("equal", "30%").metrics
    assert found.settings["method"] == {"name": "Sized", "size": 1, "seed": 3}


def test_plans_that_exceed_their_budget_or_are_missing_are_refused(split: Split) -> None:
    for method, message in ((Sized(16), "sized gives a plan of 1.*bytes for 30%"), (Sized(), "no plan for 30%")):
        with pytest.raises(InputError, match=message):
            ciess.search(split, backbone=SHORT, budgets=["30%"], method=method)


@pytest.mark.parametrize(("name", "fidelity"), [("mf", "Truncate"), ("als", "Truncate"), ("lightgcn", "FineTune")])
def test_plans_are_measured_by_what_suits_the_backbone(name: str, fidelity: str, split: Split) -> None:
    training = Training(steps=2, batch_size=100, eval_every=1)
    backbone = backbone_named(name, dim=4, training=training)
    found = ciess.search(split, backbone=backbone, budgets=["60%"], method=QUICK, finishing=Finish().lasting(0))
    assert found.settings["method"]["fidelity"]["name"] == fidelity


def test_what_distillation_makes_no_better_is_cut_from_the_full_model_on_all_data(split: Split) -> None:
    phases: dict[str, int] = {}
    hurting = Finish(training=Training(steps=4, lr=1000.0, eval_every=2))
    found = ciess.search(
        split,
        backbone=BACKBONE,
        budgets=["30%"],
        method=QUICK,
        finishing=hurting,
        progress=lambda phase, _, total, __: phases.update({phase: total}),
    )
    assert phases["full model, all data"] > 0
    assert "finish, all data" not in phases
    assert found.row("equal", "30%").kept > 0.5


def test_choices_are_measured_on_a_sample_where_all_would_take_long(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ciess.experiment.bench.SCORES_IN_A_MEASUREMENT", 40 * split.valid.n_items)
    found = ciess.search(split, backbone=BACKBONE, budgets=["30%"], method=QUICK)
    assert split.test is not None
    everyone = int((split.test.user_counts > 0).sum())
    assert len(found.evaluations["ciess", "30%"].users) == everyone, "test is always measured on all"
    again = ciess.search(split, backbone=BACKBONE, budgets=["30%"], method=QUICK)
    assert again.rows[0].valid_quality == found.rows[0].valid_quality


def test_numbers_of_few_bits_are_what_is_measured_and_stored(split: Split, tmp_path: Path) -> None:
    found = ciess.search(split, backbone=SHORT, budgets=["10%"], method=QUICK, precision="int4")
    [(budget, folder)] = found.save(tmp_path).items()
    row = found.row("ciess", "10%")
    assert row.precision == found.row("equal", "10%").precision == "int4"
    assert (folder / "tables.safetensors").stat().st_size == row.table_bytes <= budget.limit(TableShape(150, 100, 16))
    # Four bits and a byte a row leave room for more than float32's one number.
    assert row.user_size + row.item_size > 6
    assert split.test is not None
    assert ciess.load(folder).evaluate(split.test)["ndcg@20"] == pytest.approx(row.metrics["ndcg@20"], abs=1e-6)


def test_the_precision_is_chosen_where_none_is_given(split: Split) -> None:
    found = ciess.search(split, backbone=SHORT, budgets=["8%", "100%"], method=QUICK, precision="auto")
    assert found.row("ciess", "8%").precision in ("int8", "int6", "int4", "int4-shared")
    assert found.row("ciess", "100%").user_size >= 15, "where there is room, there is no need to save"
    with pytest.raises(InputError, match="precision 'int3' is unknown"):
        ciess.search(split, backbone=SHORT, budgets=["10%"], precision="int3")


def test_precisions_are_compared_by_what_a_finish_makes_of_them(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen() -> str:
        found = ciess.search(split, backbone=SHORT, budgets=["8%"], method="equal", precision="auto", finishing=short)
        return found.row("equal", "8%").precision

    def spoilt(full: Backbone, plan: SizePlan, *rest: Any, **settings: Any) -> tuple[Backbone, Fitted]:
        small, fitted = finish(full, plan, *rest, **settings)
        if plan.precision == liked:
            with torch.no_grad():
                small.item_table.neg_()
        return small, fitted

    short = Finish(training=SHORT.distillation.lasting(5))
    liked = chosen()
    monkeypatch.setattr("ciess.experiment.bench.finish", spoilt)
    assert chosen() != liked


def test_packed_outputs_need_no_graph(split: Split, tmp_path: Path) -> None:
    found = ciess.search(split, backbone=SHORT, budgets=["30%"], method=QUICK, target="output")
    assert found.settings["method"]["fidelity"]["name"] == "Truncate"
    [folder] = found.save(tmp_path).values()
    model = ciess.load(folder)
    assert isinstance(model.config, ciess.Factors)
    assert split.test is not None
    assert model.evaluate(split.test)["ndcg@20"] == pytest.approx(
        found.row("ciess", "30%").metrics["ndcg@20"], abs=1e-6
    )
    with pytest.raises(InputError, match="pack the input"):
        ciess.search(split, backbone="ncf", budgets=["30%"], target="output")
