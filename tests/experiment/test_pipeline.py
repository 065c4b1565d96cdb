"""The whole way from data to models that are given back."""

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from searches import BACKBONE, BRIEF, CUT, PLAIN, QUICK, SHORT, plain, quick, search

import ciess
from ciess.data import Interactions, Split
from ciess.errors import InputError
from ciess.evaluation.metrics import QUALITY_METRICS
from ciess.experiment.bench import Bench
from ciess.experiment.outcome import Outcome
from ciess.experiment.recipe import Recipe
from ciess.methods.equal import EqualSizes
from ciess.methods.marginal import Marginal
from ciess.methods.popularity import Popularity
from ciess.methods.problem import Method, Problem, SearchResult
from ciess.models import BackboneConfig, Training, backbone_named
from ciess.serve.model import CompressedModel
from ciess.tables.plan import TableShape
from ciess.train.finish import Finish


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


def test_the_same_seed_gives_the_same_plans_and_numbers(split: Split) -> None:
    first, again, other = (quick(split, seed=seed) for seed in (0, 0, 1))
    assert again.plans == first.plans
    assert [row.metrics for row in again.rows] == [row.metrics for row in first.rows]
    assert again.trace == first.trace
    assert first.trace != other.trace


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


def test_a_single_user_is_searched_for() -> None:
    one = Interactions.from_frame(pl.DataFrame({"user": ["a"] * 40, "item": range(40)}))
    method = Marginal(rounds=2, steps=5)
    found = ciess.search(
        one, backbone=ciess.ALS(dim=4, training=Training(steps=2)), budgets="90%", method=method, finishing=BRIEF
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
