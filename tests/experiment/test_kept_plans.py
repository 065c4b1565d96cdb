"""Which plans are kept, and what becomes of them as full models learn more."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from searches import BACKBONE, BRIEF, QUICK, SHORT, plain

import ciess
from ciess.data import Split
from ciess.errors import InputError
from ciess.evaluation.metrics import Evaluator
from ciess.experiment.finished import Finished, worth_keeping
from ciess.methods.equal import EqualSizes
from ciess.methods.mixed import MixedRandom
from ciess.methods.popularity import Popularity
from ciess.methods.problem import Candidate, Method, Problem, SearchResult
from ciess.results.outcome import tails_kept
from ciess.tables.plan import SizePlan, TableShape
from ciess.train.fit import Fitted


def test_methods_beside_ciess_are_measured_by_the_same_rules(split: Split) -> None:
    beside = {"mixed random": MixedRandom(), "popularity": Popularity(rounds=1)}
    found = ciess.search(split, backbone=BACKBONE, budgets=["30%"], method=QUICK, beside=beside, finishing=BRIEF)
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
    found = ciess.search(split, backbone=SHORT, budgets=["30%", "15%"], method="auto", finishing=BRIEF)
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
    found = plain(Split(split.train, split.test, split.valid), method=ForPopular(), max_tail_loss="31%", seed=19)
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
