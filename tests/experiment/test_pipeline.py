import dataclasses
import gc
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from scipy.sparse import csr_array

import ciess
from ciess.data import Interactions, Split
from ciess.errors import InputError
from ciess.evaluation.metrics import QUALITY_METRICS, Evaluator
from ciess.experiment import bench as bench_module
from ciess.experiment import full as full_module
from ciess.experiment.bench import Bench
from ciess.experiment.clock import Clock
from ciess.experiment.comparison import Comparison
from ciess.experiment.finished import Finished, worth_keeping
from ciess.experiment.outcome import Outcome
from ciess.experiment.recipe import Recipe
from ciess.experiment.users import measured_users
from ciess.methods.ciess.td3 import TD3Settings
from ciess.methods.equal import EqualSizes
from ciess.methods.marginal import Marginal
from ciess.methods.mixed import MixedRandom
from ciess.methods.popularity import Popularity
from ciess.methods.problem import Candidate, Method, Problem, SearchResult
from ciess.models import Backbone, BackboneConfig, Training, backbone_named
from ciess.results.outcome import tails_kept
from ciess.serve.model import CompressedModel
from ciess.tables.plan import SizePlan, TableShape
from ciess.train import tune as tuning
from ciess.train.finish import Finish, finish
from ciess.train.fit import Fitted

QUICK = ciess.Ciess(
    episodes=2,
    steps=1,
    finish_steps=5,
    updates=1,
    start=Popularity(rounds=1),
    td3=TD3Settings(batch_size=256, hidden=32),
)
BACKBONE = ciess.LightGCN(dim=16, training=Training(steps=100, batch_size=2_000, l2=0.02))

SHORT = dataclasses.replace(BACKBONE, training=Training(steps=60, batch_size=2_000, l2=0.02))


CUT = Finish().lasting(0)
BRIEF = Finish.suiting(BACKBONE).shortened(30)
PLAIN = ciess.ALS(dim=16, training=Training(steps=3, eval_every=1))


def search(data: Interactions | Split, seed: int = 0) -> Outcome:
    return ciess.search(data, backbone=BACKBONE, budgets=["30%", "15%"], method=QUICK, finishing=BRIEF, seed=seed)


def quick(data: Interactions | Split, **settings: Any) -> Outcome:
    """As `search`, for one budget and without a graph."""
    given = {"backbone": PLAIN, "budgets": ["30%"], "method": QUICK, "finishing": BRIEF, **settings}
    return ciess.search(data, **given)


def plain(data: Interactions | Split, **settings: Any) -> Outcome:
    """Without gradients, and so in a moment."""
    given = {"backbone": PLAIN, "budgets": ["40%"], "method": "equal", "finishing": CUT, **settings}
    return ciess.search(data, **given)


@pytest.fixture(scope="module")
def outcome(split: Split) -> Outcome:
    return search(split)


def test_the_table_has_full_equal_and_what_was_kept_at_each_budget(outcome: Outcome) -> None:
    lines = [(row.method, row.budget) for row in outcome.rows]
    assert lines[0] == ("full", "")
    for budget in ("30%", "15%"):
        here = [method for method, at in lines if at == budget]
        assert here in (["equal", "search"], ["equal", "ciess", "search"]), "CIESS where the policy found a plan"
    assert outcome.shown == "test"
    assert outcome.row("full").kept == 1
    assert outcome.row("full").table_bytes == 250 * 16 * 4
    assert outcome.row("equal", "30%").user_size == outcome.row("equal", "30%").item_size == 4


def test_nothing_kept_is_worse_on_validation_than_equal_sizes(outcome: Outcome) -> None:
    for budget in ("30%", "15%"):
        assert outcome.row("search", budget).valid_quality >= outcome.row("equal", budget).valid_quality


def test_budgets_hold_to_the_byte_on_disk(outcome: Outcome, tmp_path: Path) -> None:
    shape = TableShape(150, 100, 16)
    saved = outcome.save(tmp_path)
    assert [path.name for path in saved.values()] == ["budget-30", "budget-15"]
    for budget, folder in saved.items():
        stored = sum(path.stat().st_size for path in folder.glob("tables*.safetensors"))
        assert stored <= budget.limit(shape)
        assert stored == outcome.row("search", budget).table_bytes
    assert (tmp_path / "result.json").is_file()


@pytest.mark.parametrize("backbone", [SHORT, PLAIN])
@pytest.mark.parametrize("tested", [True, False])
def test_without_a_last_fit_what_is_saved_is_what_was_measured(
    backbone: BackboneConfig, tested: bool, split: Split, tmp_path: Path
) -> None:
    given = split if tested else Split(split.train, split.valid)
    held_out = given.test or given.valid
    found = plain(given, backbone=backbone, refit=False)
    [(budget, folder)] = found.save(tmp_path).items()
    model = ciess.load(folder)
    assert model.evaluate(held_out)["ndcg@20"] == found.row("search", budget).metrics["ndcg@20"]
    learned = split.train_valid() if tested else split.train
    assert len(model.interactions) == len(learned)
    assert len(model.seen.items) == len(learned) + len(held_out)


def all_of(split: Split) -> Interactions:
    return split.train_valid() if split.test is None else split.train_valid().union(split.test)


def recommended_again(model: CompressedModel, given: Interactions) -> int:
    """How many recommendations a user has in the data."""
    items, _ = model.recommend(given.user_ids.to_list(), 10)
    columns = [given.item_rows([item for item in row if item is not None]) for row in items]
    return int(sum(given.matrix[[user], :][:, found].sum() for user, found in enumerate(columns)))


@pytest.mark.parametrize("backbone", [SHORT, PLAIN])
@pytest.mark.parametrize("refit", [True, False])
@pytest.mark.parametrize("tested", [True, False])
def test_nobody_is_recommended_what_the_data_say_they_have(
    backbone: BackboneConfig, refit: bool, tested: bool, split: Split, tmp_path: Path
) -> None:
    given = split if tested else Split(split.train, split.valid)
    found = plain(given, backbone=backbone, refit=refit)
    assert found.settings["refit"] is refit
    parts = ["train", "validation", "test"][: 1 + tested + refit]
    assert found.settings["learned"] == parts
    [folder] = found.save(tmp_path).values()
    for model in (*found.models.values(), ciess.load(folder)):
        assert recommended_again(model, all_of(given)) == 0
        assert len(model.seen.items) == len(all_of(given))
        assert len(model.interactions) == sum(
            len(part) for part in (split.train, split.valid, split.test)[: len(parts)]
        )


@pytest.mark.usefixtures("brief")
def test_compressed_factors_leave_out_all_that_was_given(split: Split) -> None:
    rng = np.random.default_rng(0)
    factors = ciess.Factors.from_arrays(*(rng.normal(size=(n, 8)) for n in (split.train.n_users, split.train.n_items)))
    for found in (
        ciess.compress(factors, all_of(split), budgets="60%"),
        plain(split, backbone=factors, budgets="60%"),
    ):
        assert recommended_again(found.models["60%"], all_of(split)) == 0


def test_a_last_fit_learns_test_after_test_was_measured(split: Split) -> None:
    found, kept = (plain(split, refit=refit) for refit in (True, False))
    assert [row.metrics for row in found.rows] == [row.metrics for row in kept.rows], "the last fit changes no measure"
    assert split.test is not None
    told, before = (each.models["40%"].evaluate(split.test)["ndcg@20"] for each in (found, kept))
    assert told > before + 0.05, "what was learned is ranked higher"


def test_who_evaluates_what_was_learned_is_warned(split: Split, caplog: pytest.LogCaptureFixture) -> None:
    assert split.test is not None
    plain(split, refit=False).models["40%"].evaluate(split.test)
    assert not caplog.records
    plain(split).models["40%"].evaluate(split.test)
    assert f"has learned {len(split.test)} of the {len(split.test)} held-out" in caplog.text


def test_the_same_seed_gives_the_same_plans_and_numbers(outcome: Outcome, split: Split) -> None:
    again = search(split)
    assert again.plans == outcome.plans
    assert [row.metrics for row in again.rows] == [row.metrics for row in outcome.rows]
    assert again.trace == outcome.trace
    assert quick(split, seed=1).trace != quick(split).trace


def test_test_data_decide_nothing(split: Split) -> None:
    assert split.test is not None
    fewer = Split(split.train, split.valid, split.test.take(np.arange(0, len(split.test), 2)))
    assert quick(fewer).plans == quick(split).plans


def test_without_test_the_table_shows_validation(split: Split) -> None:
    shown = quick(Split(split.train, split.valid))
    assert shown.shown == "validation"
    assert shown.plans == quick(split).plans
    for row in shown.rows:
        assert np.mean([row.metrics[name] for name in QUALITY_METRICS]) == pytest.approx(row.valid_quality, rel=1e-5)


def test_classes_in_the_place_of_settings_are_refused(split: Split) -> None:
    with pytest.raises(InputError, match=r"the method is the class EqualSizes: give its settings, EqualSizes\(\)"):
        ciess.search(split, backbone=BACKBONE, budgets="50%", method=ciess.EqualSizes)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"the backbone is the class ALS: give its settings, ALS\(\)"):
        ciess.search(split, backbone=ciess.ALS, budgets="50%")  # type: ignore[arg-type]


def test_impossible_requests_are_refused_before_training(split: Split) -> None:
    def never(*_: object) -> None:
        raise AssertionError("training began")

    for budgets, message in (
        (["1%"], "too small"),
        (["10%", "10.0%"], "given twice among 10%, 10%"),
        ([], "no budgets are given"),
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
    lines = [row.method for row in found.rows if row.method != "ciess"]
    assert lines == ["full", "equal", "mixed random", "popularity", "search"]
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
    for budget in ("30%", "15%"):
        here = {row.method: row for row in found.rows if row.budget == budget}
        kept = here.pop("search")
        assert {"equal", "popularity"} <= {*here} <= {"equal", "popularity", "ciess"}
        best = max(here.values(), key=lambda row: row.valid_quality)
        assert kept.found_by in ("equal", best.found_by)
        assert kept.metrics == here[kept.found_by].metrics
    assert [*found.settings["method"]["tried"]] == ["popularity", "ciess"]
    assert {row["kind"] for row in found.trace} >= {"popularity", "ciess"}


@dataclass(frozen=True)
class Sized:
    """Rows of one size; no plan where it is 0."""

    size: int = 0
    seed: int = 0
    rule: str = ""

    def search(self, problem: Problem) -> SearchResult:
        plans = [SizePlan.equal(problem.shape, self.size)] if self.size else []
        best = {budget: [Candidate(plan, 1.0, self.rule) for plan in plans] for budget in problem.budgets}
        return SearchResult(best, [{"kind": self.rule}])


def test_what_is_ahead_of_equal_sizes_by_no_more_than_chance_is_not_kept() -> None:
    held_out = csr_array((np.ones(4), ([0, 1, 2, 3], [29] * 4)), shape=(4, 30))

    def finished(*hits: int) -> Finished:
        scores = -torch.arange(30.0).repeat(4, 1)
        scores[:, 29] = torch.tensor([10.0 if hit else -29.0 for hit in hits])
        valid = Evaluator(csr_array((4, 30)), held_out)(lambda users: scores[users])
        return Finished(SizePlan.equal(TableShape(4, 30, 8), 2), Fitted(0, None, 0), valid, 0)

    equal = finished(0, 0, 0, 0)
    # Ahead by .25, of a standard error of .25; with two users by .5, of .29.
    assert worth_keeping([finished(1, 0, 0, 0)], equal) is equal
    assert worth_keeping([finished(1, 0, 0, 0), two := finished(1, 1, 0, 0)], equal) is two


@pytest.mark.parametrize(
    ("ahead", "names", "kept"),
    [(0, ["marginal", "popularity"], 6), (1, ["marginal"], 1), (2, ["marginal", "popularity"], 2)],
    ids=["none is ahead", "the first is", "the second is"],
)
@pytest.mark.parametrize("beside", [{}, {"popularity": Sized(4)}], ids=["alone", "beside a method of the same name"])
def test_by_default_a_method_is_run_where_none_before_it_is_ahead_of_equal_sizes(
    ahead: int,
    names: list[str],
    kept: int,
    beside: dict[str, str | Method],
    split: Split,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    methods = {"marginal": Sized(1, rule="marginal"), "popularity": Sized(2, rule="popularity")}
    monkeypatch.setattr("ciess.experiment.pipeline._searching", lambda method, share: ("marginal", methods))
    monkeypatch.setattr(Finished, "ahead_of", lambda one, other: one.plan.max_size == ahead)
    found = plain(split, method=None, beside=beside)
    # What was tried and is not kept needs no model of its own, so that it has no line.
    assert {row.method: row.user_size for row in found.rows[2:-1]} == dict.fromkeys(beside, 4)
    assert [row["kind"] for row in found.trace] == names
    assert found.row("search", "40%").user_size == kept
    assert found.settings["method"]["tried"].keys() == methods.keys()


def test_where_a_tail_must_be_kept_all_methods_of_the_default_are_run(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Finished, "ahead_of", lambda one, other: True)
    found = plain(split, method=None, max_tail_loss="99%")
    assert [row.method for row in found.rows] == ["full", "equal", "marginal", "popularity", "search"]


@dataclass(frozen=True)
class Follower:
    """Rows of one size at first, and of a larger one for a full model that has learned more."""

    def search(self, problem: Problem) -> SearchResult:
        plan = SizePlan.equal(problem.shape, 1)
        return SearchResult({budget: [Candidate(plan, 1.0)] for budget in problem.budgets})

    def followed(self, plan: SizePlan, before: Problem, after: Problem) -> SizePlan:
        more = after.train.user_counts.sum() - before.train.user_counts.sum()
        gone_on = not torch.equal(before.full_model.user_table, after.full_model.user_table)
        return SizePlan.equal(plan.shape, 5 if more > 0 and gone_on else 1)


@pytest.mark.parametrize("refit", [True, False])
@pytest.mark.parametrize("tested", [True, False])
def test_plans_follow_what_full_models_learn_and_tables_tell_them(split: Split, refit: bool, tested: bool) -> None:
    given = split if tested else Split(split.train, split.valid, None)
    found = plain(given, method=Sized(1), beside={"follower": Follower()}, refit=refit)
    learned_more = refit or tested
    assert found.row("follower", "40%").user_size == (5 if learned_more else 1)
    assert found.row("follower", "40%").table_bytes == 352 + (5 if learned_more else 1) * 250 * 4, "with a header"
    assert found.row("sized", "40%").user_size == 1, "a method that says nothing of it keeps its plan"
    before = plain(given, method=Sized(1), beside={"follower": Sized(1)}, refit=refit)
    same = found.row("follower", "40%").metrics == before.row("follower", "40%").metrics
    assert same == (not tested), "test measures the plan that followed"


def test_plans_stay_as_they_were_measured_where_a_tail_must_be_kept(split: Split) -> None:
    found = plain(split, method=Sized(1), beside={"follower": Follower()}, max_tail_loss="99%")
    assert found.row("follower", "40%").user_size == 1


def test_a_model_that_is_given_back_has_the_plan_that_followed(
    split: Split, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("ciess.experiment.pipeline.worth_keeping", lambda found, equal: found[0])
    found = plain(split, method=Follower())
    [folder] = found.save(tmp_path).values()
    for plan in (found.plans["40%"], found.models["40%"].plan, ciess.load(folder).plan):
        assert plan == SizePlan.equal(TableShape(150, 100, 16), 5)
    learned = split.train_valid()
    assert found.policies["40%"].sizes((learned.user_counts, learned.item_counts)) == pytest.approx(np.full(250, 5.0))


@dataclass(frozen=True)
class Filler:
    """Rows of one dimension at first, and then so many that they fill a share of the budget."""

    times: int = 1

    def search(self, problem: Problem) -> SearchResult:
        return Follower().search(problem)

    def followed(self, plan: SizePlan, before: Problem, after: Problem) -> SizePlan:
        return SizePlan.equal(plan.shape, self.times * after.equal(after.budgets[0]).max_size)


def test_plans_that_follow_hold_their_own_budget(split: Split, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("ciess.train.checkpoint._SHARE", 1e9)
    found = plain(split, beside={"filler": Filler()}, budgets=["60%", "30%"], kept=tmp_path)
    assert [found.row("filler", budget).user_size for budget in ("60%", "30%")] == [9, 4]
    with pytest.raises(InputError, match=r"filler gives a plan of 8,352 bytes for 30%, which is 4,800"):
        plain(split, beside={"filler": Filler(times=2)}, budgets=["30%"])


def test_any_method_can_search_and_equal_sizes_win_over_worse_ones(split: Split) -> None:
    found = plain(split, backbone=SHORT, method=Sized(1), seed=3)
    assert [(row.method, row.found_by) for row in found.rows] == [
        ("full", "full"),
        ("equal", "equal"),
        ("sized", "sized"),
        ("search", "equal"),
    ]
    assert found.row("search", "40%").metrics == found.row("equal", "40%").metrics
    assert found.settings["method"] == {"name": "Sized", "size": 1, "seed": 3, "rule": ""}


@dataclass(frozen=True)
class ForPopular:
    """Ten dimensions for the more popular half of the items, one for the others."""

    def search(self, problem: Problem) -> SearchResult:
        popular = np.argsort(np.argsort(-problem.popularity[1], kind="stable")) < problem.shape.n_items // 2
        plan = SizePlan(np.full(problem.shape.n_users, 5), np.where(popular, 10, 1), problem.shape.dim)
        return SearchResult({budget: [Candidate(plan, 1.0)] for budget in problem.budgets})


def test_a_tail_that_must_be_kept_costs_quality_and_what_cannot_be_kept_is_told(split: Split) -> None:
    shown = Split(split.train, split.valid, None)
    free = plain(shown, method=ForPopular())
    kept = dict(zip([row.method for row in free.rows], tails_kept(free.rows), strict=True))
    assert free.row("search", "40%").found_by == "for-popular"
    assert 0.65 < kept["for-popular"] < 0.8 < kept["equal"] < 0.95, "the case has its point"  # type: ignore[operator]
    for loss, found_by in ((0.35, "for-popular"), ("20%", "equal"), ("5%", "equal")):
        found = plain(shown, method=ForPopular(), max_tail_loss=loss)
        assert found.row("search", "40%").found_by == found_by
        told = [each for each in found.cautions if "tail" in each]
        assert len(told) == (loss == "5%")
    assert told[0].startswith("of the plans for 40% none keeps 95% of the full model's tail recall on validation")
    assert told[0].endswith(f"{kept['equal']:.1%} are left")
    assert found.settings["max_tail_loss"] == 0.05
    assert "max_tail_loss='5%'" in found.settings["call"]
    for wrong in ("much", "5", -0.1, 1.5, True, "nan%"):
        with pytest.raises(InputError, match=f"max_tail_loss is {wrong!r}: write a share from 0% to 100%, such as 5%"):
            plain(shown, max_tail_loss=wrong)


def test_a_tail_that_is_lost_on_test_though_not_on_validation_is_told(split: Split) -> None:
    found = plain(Split(split.train, split.test, split.valid), method=ForPopular(), max_tail_loss="31%")
    full, kept = found.row("full"), found.row("search", "40%")
    on_valid = kept.valid_tail_recall / full.valid_tail_recall
    on_test = kept.metrics["tail-recall@20"] / full.metrics["tail-recall@20"]
    assert on_test < 0.69 < on_valid, "the case has its point"
    [told] = [each for each in found.cautions if "tail" in each]
    assert f"the model for 40% keeps {on_test:.1%} on test, and {on_valid:.1%} on validation" in told
    assert not plain(split, method=ForPopular(), max_tail_loss="99%").cautions


def test_a_method_has_a_line_only_where_the_plan_is_its_own(split: Split) -> None:
    """Not where its starting rule or equal sizes found it; what is kept says who did."""
    by_rule = plain(split, method=Sized(5, rule="popularity"))
    assert [(row.method, row.found_by) for row in by_rule.rows[1:]] == [("equal", "equal"), ("search", "popularity")]
    equal = plain(split, method=Sized(6))
    assert [(row.method, row.found_by) for row in equal.rows[1:]] == [("equal", "equal"), ("search", "equal")]
    beside = plain(split, beside={"six": Sized(6)})
    assert [(row.method, row.found_by) for row in beside.rows[2:]] == [("six", "equal"), ("search", "equal")]


def test_names_of_other_lines_are_refused_beside(split: Split) -> None:
    for name in ("full", "equal", "search", "sized"):
        with pytest.raises(InputError, match=f"beside names {name}"):
            plain(split, method=Sized(1), beside={name: Sized(2)})


def test_methods_beside_may_be_named(split: Split) -> None:
    found = plain(split, method=Sized(1), beside={"mixed": "mixed-random:seed=3"})
    assert found.settings["beside"]["mixed"]["name"] == "MixedRandom"
    with pytest.raises(InputError, match="'mixd' is not a method"):
        plain(split, beside={"mine": "mixd"})


def test_plans_that_exceed_their_budget_or_are_missing_are_refused(split: Split) -> None:
    for method, message in ((Sized(16), "sized gives a plan of 1.*bytes for 30%"), (Sized(), "no plan for 30%")):
        with pytest.raises(InputError, match=message):
            ciess.search(split, backbone=SHORT, budgets=["30%"], method=method)


@dataclass(frozen=True)
class Bare:
    """Gives plans or one candidate in place of a list of candidates."""

    alone: bool = False

    def search(self, problem: Problem) -> SearchResult:
        plan = problem.equal(problem.budgets[0])
        given: Any = Candidate(plan, 1.0) if self.alone else [plan]
        return SearchResult(dict.fromkeys(problem.budgets, given))


@dataclass(frozen=True)
class Misshapen:
    """Gives plans of other tables, or nothing."""

    rows: int = 0
    dims: int = 0
    measures: bool = False

    def search(self, problem: Problem) -> SearchResult:
        found, (n_users, n_items, dim) = SearchResult({}), problem.shape
        plan = SizePlan(np.ones(n_users + self.rows, int), np.ones(n_items, int), dim + self.dims)
        if not self.measures:
            return None  # type: ignore[return-value]
        for budget in problem.budgets:
            found.measure(problem, budget, plan)
        return found


def test_plans_of_other_tables_are_refused(split: Split) -> None:
    n_users = split.train.n_users
    for method, message in (
        (Misshapen(rows=5, measures=True), rf"a plan is of {n_users + 5:,} users, .* the tables of {n_users:,} users"),
        (Misshapen(dims=-1, measures=True), "and dim 15, the tables of"),
        (Misshapen(), "what search returns is of type NoneType: give a SearchResult"),
        (Bare(), "bare gives no candidates for 40%: a search gives a list of Candidate"),
        (Bare(alone=True), "bare gives no candidates for 40%: a search gives a list of Candidate"),
    ):
        with pytest.raises(InputError, match=message):
            plain(split, method=method)


@dataclass(frozen=True)
class Asking:
    """Equal sizes, found only where the full model says what it has learned."""

    def search(self, problem: Problem) -> SearchResult:
        assert problem.full_model.learned is problem.train
        return EqualSizes().search(problem)


def test_full_models_say_what_they_have_learned(split: Split) -> None:
    assert plain(split, method=Asking()).row("search", "40%").kept > 0


def test_a_single_user_is_searched_for() -> None:
    one = Interactions.from_frame(pl.DataFrame({"user": ["a"] * 40, "item": range(40)}))
    method = Marginal(rounds=2, steps=5)
    found = ciess.search(
        one, backbone=ciess.ALS(dim=4, training=Training(steps=2)), budgets="90%", tune=False, method=method
    )
    assert found.models["90%"].table_bytes <= 0.9 * 41 * 4 * 4


@pytest.mark.parametrize(("name", "fidelity"), [("mf", "Truncate"), ("als", "Truncate"), ("lightgcn", "FineTune")])
def test_plans_are_measured_by_what_suits_the_backbone(name: str, fidelity: str, split: Split) -> None:
    training = Training(steps=2, eval_every=1)
    backbone = backbone_named(name, dim=4, training=training)
    found = ciess.search(
        split,
        backbone=backbone,
        budgets=["60%"],
        method=ciess.BET(rounds=1, finalists=1),
        finishing=Finish().lasting(0),
    )
    assert found.settings["method"]["fidelity"]["name"] == fidelity


def test_what_distillation_spoils_is_cut_from_the_full_model_on_all_data(split: Split) -> None:
    hurting = Finish(training=Training(steps=4, lr=1000.0, eval_every=2))
    found = ciess.search(
        split,
        backbone=BACKBONE,
        budgets=["30%"],
        method=QUICK,
        finishing=hurting,
    )
    assert found.row("equal", "30%").kept > 0.5


def test_models_take_as_many_steps_as_were_best_on_validation(split: Split) -> None:
    last: dict[str, list[tuple[int, str]]] = {}

    def told(phase: str, done: int, _: int, note: str = "") -> None:
        runs = last.setdefault(phase, [])
        if done > 1:
            runs.pop()
        runs.append((done, note))

    training = Training(steps=30, batch_size=500_000, lr=0.03, lr_every=10, eval_every=2, patience=2)
    finishing = Finish(training=training)
    plain(split, backbone=SHORT, budgets="20%", finishing=finishing, progress=told)
    on_train = last["20% equal sizes 1"]
    best = [int(each) for _, note in on_train if (each := note.rpartition("at step ")[2]) != "0"]
    assert best, "some run gained"
    assert any(done > each for (done, _), each in zip(on_train, best, strict=False)), "one went on beyond its best"
    for phase in ("finish, all data", "finish, test too"):
        # Then on, for a whole run.
        assert [done for done, _ in last[phase]] == [*best, training.steps]


@pytest.mark.parametrize("method", [ciess.EqualSizes(), Marginal(rounds=1, steps=10)])
def test_factors_are_saved_as_they_were_measured(method: Method, split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """They learn nothing: what is built is what was finished, run by run, and plans follow where that is better."""
    monkeypatch.setattr("ciess.experiment.pipeline.worth_keeping", lambda found, equal: found[0])
    rng = np.random.default_rng(0)
    factors = ciess.Factors.from_arrays(*(rng.normal(size=(n, 8)) for n in (split.train.n_users, split.train.n_items)))
    training = Training(steps=20, batch_size=500_000, lr=0.3, eval_every=2, patience=1)
    given, settings = Split(split.train, split.valid), {"backbone": factors, "budgets": "50%", "method": method}
    found = plain(given, **settings, finishing=Finish(training=training))
    shown = found.row("search", "50%").metrics["ndcg@20"]
    assert found.models["50%"].evaluate(split.valid)["ndcg@20"] == pytest.approx(shown, abs=1e-6)
    monkeypatch.setattr(Marginal, "followed", lambda settings, plan, before, after: plan)
    assert (
        shown >= plain(given, **settings, finishing=Finish(training=training)).row("search", "50%").metrics["ndcg@20"]
    )


def test_choices_are_measured_on_a_sample_where_all_would_take_long(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ciess.experiment.users.USERS_MEASURED_AT_LEAST", 30)
    monkeypatch.setattr("ciess.experiment.users.SCORES_IN_A_MEASUREMENT", 40 * split.valid.n_items)
    assert measured_users(split.valid.n_items) == 40
    assert measured_users(2 * split.valid.n_items) == 30
    found = quick(split)
    assert split.test is not None
    everyone = int((split.test.user_counts > 0).sum())
    assert len(found.evaluations["search", "30%"].users) == everyone
    assert not [each for each in found.cautions if "sample" in each]
    again = quick(split)
    assert again.rows[0].valid_quality == found.rows[0].valid_quality
    # Of the difference between two plans, user by user.
    [equal] = [row for row in found.trace if row["kind"] == "popularity"][:1]
    assert 0 < equal["standard_error"] < equal["quality"]


def test_many_users_are_tested_on_a_sample_of_them_unless_all_are_wanted(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert split.test is not None
    everyone = int((split.test.user_counts > 0).sum())
    monkeypatch.setattr("ciess.experiment.users.USERS_MEASURED", 50)
    monkeypatch.setattr("ciess.experiment.users.SCORES_IN_A_TEST", 0)
    found = quick(split)
    evaluations = list(found.evaluations.values())
    assert all(torch.equal(each.users, evaluations[0].users) for each in evaluations)
    assert len(evaluations[0].users) == 50
    row, shown = found.row("search", "30%"), found.evaluations["search", "30%"].quality.numpy()
    full = found.evaluations["full", ""].quality.numpy()
    rng = np.random.default_rng(0)
    kept = [shown[users].mean() / full[users].mean() for users in rng.integers(50, size=(4000, 50))]
    assert row.standard_error == pytest.approx(np.std(kept), rel=0.1), "drawn anew, both with their users"
    assert (found.row("full").kept, found.row("full").standard_error) == (1, 0)
    sampled = "test is measured on"
    [told] = [each for each in found.cautions if each.startswith(sampled)]
    assert told.startswith(f"{sampled} 50 of its {everyone:,} users")
    whole = quick(split, test_users="all")
    assert len(whole.evaluations["search", "30%"].users) == everyone
    assert not any(each.startswith(sampled) for each in whole.cautions)
    assert whole.plans["30%"] == found.plans["30%"]


@pytest.mark.parametrize("precision", ["int4", "tapered"])
def test_numbers_of_few_bits_are_what_is_measured_and_stored(split: Split, tmp_path: Path, precision: str) -> None:
    found = quick(split, budgets=["10%"], precision=precision, refit=False)
    [(budget, folder)] = found.save(tmp_path).items()
    row = found.row("search", "10%")
    assert row.precision == found.row("equal", "10%").precision
    assert row.precision.split(":")[0] == precision
    assert (folder / "tables.safetensors").stat().st_size == row.table_bytes <= budget.limit(TableShape(150, 100, 16))
    # Four bits and a byte a row leave room for more than float32's one number.
    assert row.user_size + row.item_size > 6
    assert split.test is not None
    assert ciess.load(folder).evaluate(split.test)["ndcg@20"] == pytest.approx(row.metrics["ndcg@20"], abs=1e-6)


def test_the_precision_is_chosen_where_none_is_given(split: Split) -> None:
    found = quick(split, budgets=["8%", "100%"], precision="auto")
    assert found.row("search", "8%").precision.split(":")[0] in ("int8", "int6", "int4", "int4-shared", "tapered")
    assert found.row("search", "100%").user_size >= 15, "where there is room, there is no need to save"
    with pytest.raises(InputError, match="precision is 'int3': use 'auto', 'float32',"):
        quick(split, precision="int3")


def test_precisions_are_compared_by_what_a_finish_makes_of_them(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen() -> str:
        found = plain(split, budgets=["8%"], precision="auto", finishing=short)
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
    found = ciess.search(
        split, backbone=SHORT, budgets=["30%"], method=ciess.BET(rounds=1, finalists=1), target="output", refit=False
    )
    assert found.settings["method"]["fidelity"]["name"] == "Truncate"
    [folder] = found.save(tmp_path).values()
    model = ciess.load(folder)
    assert isinstance(model.config, ciess.Factors)
    assert split.test is not None
    assert model.evaluate(split.test)["ndcg@20"] == pytest.approx(
        found.row("search", "30%").metrics["ndcg@20"], abs=1e-6
    )
    with pytest.raises(InputError, match="pack the input"):
        ciess.search(split, backbone="ncf", budgets=["30%"], target="output")
    with pytest.raises(InputError, match="does nothing with ALS"):
        ciess.search(split, backbone="als", budgets=["30%"], target="output")


def test_a_budgets_result_is_what_it_would_be_alone(split: Split) -> None:
    def found(*budgets: str) -> Outcome:
        return plain(split, budgets=budgets, method=Popularity(rounds=1), precision="auto", finishing=short)

    short = Finish(training=SHORT.distillation.lasting(5))
    alone, among = found("20%"), found("40%", "20%", "10%")
    assert among.plans["20%"] == alone.plans["20%"]
    for method in ("equal", "search"):
        rows = [dataclasses.replace(each.row(method, "20%"), seconds=0.0) for each in (alone, among)]
        assert rows[0] == rows[1]
    assert np.array_equal(alone.models["20%"].users.dense(), among.models["20%"].users.dense())


def test_results_are_found_by_budgets_as_people_write_them(split: Split, tmp_path: Path) -> None:
    found = plain(split, budgets="40%")
    assert found.models["40 %"] is found.models[ciess.Budget.parse("40%")] is found.models.get("40.0%")
    assert found.plans["40%"] == found.models["40%"].plan or len(found.plans["40%"].sizes) == 250
    assert "40%" in found.plans
    assert "50%" not in found.plans
    assert found.models.get("50%") is None
    assert found.row("equal", "40 %") is found.row("equal", ciess.Budget.parse("40%"))
    with pytest.raises(InputError, match="no budget 50%: use one of 40%"):
        _ = found.models["50%"]
    with pytest.raises(InputError, match="no row 'ciess 40%': use one of full, equal 40%, search 40%"):
        found.row("ciess", "40%")
    with pytest.raises(InputError, match="no row 'equal'"):
        found.row("equal")
    found.save(tmp_path)
    told = json.loads((tmp_path / "result.json").read_text())
    assert [row["found_by"] for row in told["rows"]] == ["full", "equal", "equal"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"budgets": [0.5]}, "'0.5' has no unit: write '50%'"),
        ({"budgets": 0.5}, "'0.5' has no unit: write '50%'"),
        ({"budgets": "1MB"}, "more than the 16,.* of the full tables: use at most"),
        ({"target": "inputs"}, "target is 'inputs': use 'input' or 'output'"),
        ({"precision": "float12"}, "float12"),
        ({"method": "popularty"}, "not a method"),
        ({"backbone": "asl"}, "not a backbone"),
        ({"finishing": "quick"}, "finishing is of type str"),
        ({"refit": "no"}, "refit is of type str"),
        ({"seed": 1.5}, "seed is 1.5: give a whole number"),
    ],
)
def test_words_and_values_are_checked_where_they_enter(settings: dict[str, Any], message: str, split: Split) -> None:
    def never(*_: object) -> None:
        raise AssertionError("training began")

    with pytest.raises(InputError, match=message):
        plain(split, progress=never, **settings)


def test_tables_of_one_dimension_can_be_compressed(split: Split) -> None:
    one = ciess.MF(dim=1, training=Training(steps=10, batch_size=500))
    with pytest.raises(InputError, match=r"use at least '(\d+)B'") as refused:
        plain(split, backbone=one, budgets="100%", method="popularity")
    least = re.findall(r"'(\d+B)'", str(refused.value))[0]
    found = plain(split, backbone=one, budgets=least, method="popularity")
    assert found.plans[least].sizes.max() == 1


def test_a_full_model_without_any_quality_is_refused(split: Split) -> None:
    # Each user's items of validation come last.
    users = np.eye(split.train.n_users)
    items = -split.valid.matrix.toarray().T
    factors = ciess.Factors.from_arrays(users, items)
    with pytest.raises(InputError, match="no quality to keep"):
        plain(split, backbone=factors)


def test_a_full_model_that_fails_on_test_is_shown_on_validation(
    split: Split, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    assert split.test is not None
    factors = ciess.Factors.from_arrays(np.eye(split.train.n_users), -split.test.matrix.toarray().T)
    found = plain(split, backbone=factors)
    assert found.shown == "validation"
    assert "shows validation instead" in caplog.text
    found.save(tmp_path)


def without(part: Interactions | None, items: list[int]) -> Interactions:
    """By ids alone, as one would read it from a file."""
    assert part is not None
    kept = ~np.isin(part.items, items)
    users, named = part.user_ids.to_numpy()[part.users[kept]], part.item_ids.to_numpy()[part.items[kept]]
    return Interactions.from_frame(pl.DataFrame({"user": users, "item": named}))


def test_what_only_validation_has_is_learned_and_what_only_test_has_counts(split: Split) -> None:
    """Two popular items are left out of train, one of them of validation, too."""
    assert split.test is not None
    late, last = np.argsort(-split.train.item_counts)[:2].tolist()
    parts = without(split.train, [late, last]), without(split.valid, [last]), without(split.test, [])
    found = plain(ciess.split_given(*parts), refit=False, budgets=["60%"])
    [model] = found.models.values()
    scores = model.score(split.valid.user_ids, split.valid.item_ids[late])
    assert scores.mean() > 0.3
    assert any(split.valid.item_ids[late] in row for row in model.recommend(split.valid.user_ids, 5)[0])
    assert not model.score(split.valid.user_ids, split.valid.item_ids[last]).any()
    for line in ("full", "search"):
        measured = found.evaluations[line, "60%" if line == "search" else ""]
        assert int(measured.held_out.sum()) == len(split.test), "an item that is never found is held out all the same"
    assert model.evaluate(split.test)["recall@20"] == found.row("search", "60%").metrics["recall@20"]


def test_what_tuning_chose_is_what_the_full_model_has(split: Split) -> None:
    found = ciess.search(split, backbone="als", budgets=["20%"], method="equal", finishing=CUT)
    tuning, backbone = found.settings["tuning"], found.settings["backbone"]
    assert tuning["chosen"] == {name: backbone[name] for name in ("alpha", "regularisation")}
    assert tuning["chosen"] in [{name: trial[name] for name in tuning["chosen"]} for trial in tuning["trials"]]
    assert plain(split).settings["tuning"] == {}, "settings that are given are not tuned"


def test_rows_say_how_their_training_went(split: Split, tmp_path: Path) -> None:
    """Few steps end while the models still gain; the runs are those that the plan's own finish takes."""
    few = Finish(training=dataclasses.replace(BACKBONE.distillation, steps=4, eval_every=2, lr=0.02))
    backbone = dataclasses.replace(BACKBONE, training=Training(steps=20, eval_every=10, batch_size=500, l2=0.02))
    found = ciess.search(split, backbone=backbone, budgets=["20%"], method="equal", finishing=few)
    found.save(tmp_path)
    full, equal, _ = json.loads((tmp_path / "result.json").read_text())["rows"]
    assert (full["converged"], full["runs"]) == (False, [{"rate": 1.0, "steps": 20}])
    bench = Bench(split, Recipe(backbone, few), 0)
    _, fitted = finish(bench.full_models.on(1).packed, found.plans["20%"], few, seed=0, valid=bench.valid)
    assert equal["converged"] is fitted.converged
    assert [(run["rate"], run["steps"]) for run in equal["runs"]] == [*fitted.runs]
    assert equal["valid_quality"] == pytest.approx(fitted.quality, rel=1e-5)
    assert found.cautions[-1].startswith("still gaining when training ended, so more steps may gain more: full")
    assert "runs" not in found.table().columns


@dataclass(frozen=True)
class LeavesNothingKnown:
    def search(self, problem: Problem) -> SearchResult:
        found = EqualSizes().search(problem)
        found.carried = {"last": 1}  # type: ignore[assignment]
        return found


def test_what_a_search_leaves_to_the_next_is_a_state(split: Split) -> None:
    with pytest.raises(InputError, match="carried is"):
        ciess.search(split, backbone=PLAIN, budgets="40%", method=LeavesNothingKnown(), finishing=CUT)


@pytest.mark.parametrize(("parts", "learns_on"), [(1, False), (2, True), (3, True)])
def test_what_is_built_learns_on_where_its_full_model_has_learned_more(
    parts: int, learns_on: bool, split: Split
) -> None:
    ended: list[int] = []

    def progress(phase: str, done: int, total: int, note: str) -> None:
        if phase.startswith("finish") and done == total:
            ended.append(total)

    few = Finish(training=dataclasses.replace(PLAIN.distillation, steps=8, eval_every=4))
    bench = Bench(split, Recipe(PLAIN, few), 0, progress)
    budget = ciess.Budget.parse("30%")
    chosen = bench.run("equal", EqualSizes(), bench.problem([budget])).best[budget]
    found = [run.steps for run in chosen.runs if run.steps]
    ended.clear()
    bench.built(chosen, parts=parts)
    assert ended == [*found, 8][: len(found) + learns_on]


def searched(split: Split) -> Outcome:
    return plain(split, backbone="als", precision="auto", beside={"random": MixedRandom()})


def compared(split: Split) -> Comparison:
    return ciess.compare(
        split, backbone="als", precision="auto", budgets=["40%"], methods="mixed-random", finishing=CUT
    )


def compressed(split: Split) -> Outcome:
    factors = np.random.default_rng(0).normal(size=(250, 4))
    return ciess.compress(
        (factors[:150], factors[150:]), split.train_valid(), held_out=split.test, budgets=["40%"], precision="int8"
    )


@pytest.mark.parametrize("run", [searched, compared, compressed])
def test_seconds_add_up_by_phase(run: Callable[[Split], Any], split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time passes only in what takes long: none of it is lost, and all of it has a phase."""
    passed = 0

    def slow(work: Callable[..., Any]) -> Callable[..., Any]:
        def slowly(*args: Any, **settings: Any) -> Any:
            nonlocal passed
            passed += 1
            return work(*args, **settings)

        return slowly

    monkeypatch.setattr(Clock.__init__, "__defaults__", (lambda: passed,))
    monkeypatch.setattr(ciess.Factors, "distillation", ciess.Factors.distillation.lasting(4))
    for owner, name in ((full_module, "fit"), (bench_module, "finish"), (tuning, "fit"), (Evaluator, "__call__")):
        monkeypatch.setattr(owner, name, slow(getattr(owner, name)))
    seconds = run(split).seconds
    assert sum(seconds.values()) == passed
    # What given tables are worth is looked at before all else.
    assert seconds["other"] == (2 if run is compressed else 0)
    phases = {"fit", "search", "finishes", "builds", "test", "other"}
    phases |= {compressed: set(), compared: {"tuning", "precision"}, searched: {"tuning", "precision", "refit"}}[run]
    assert {*seconds} == phases
    assert all(seconds[phase] > 0 for phase in phases & {"tuning", "fit", "precision", "builds", "test", "refit"})


def test_a_clock_counts_a_phase_within_another_for_itself() -> None:
    times = iter([0, 1, 3, 6, 10, 15])
    clock = Clock(lambda: next(times))
    with clock.phase("outer"), clock.phase("inner"):
        pass
    assert clock.seconds() == {"outer": 2 + 4, "inner": 3, "other": 1 + 5}


def test_factors_keep_no_model_for_each_finished_plan(split: Split) -> None:
    rng = np.random.default_rng(0)
    factors = ciess.Factors.from_arrays(*(rng.normal(size=(n, 8)) for n in (split.train.n_users, split.train.n_items)))
    bench = Bench(split, Recipe.of(factors, CUT, "float32", "input", False), 0)
    budgets = [ciess.Budget.parse(text) for text in ("80%", "60%", "50%")]
    bench.run("popularity", Popularity(rounds=1), bench.problem(budgets))
    gc.collect()
    wide = [each for each in gc.get_objects() if type(each).__name__ == "FactorsModel" and len(each.user_table)]
    assert sum(each.user_table.shape == (150, 8) for each in wide) <= 1
