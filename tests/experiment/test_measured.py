"""What choices and tables are measured on, in which precision, and what a result tells."""

import dataclasses
import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from searches import BACKBONE, CUT, SHORT, plain, quick

import ciess
from ciess.data import Split
from ciess.errors import InputError
from ciess.evaluation.metrics import Evaluator
from ciess.experiment import bench as bench_module
from ciess.experiment import full as full_module
from ciess.experiment.bench import Bench
from ciess.experiment.clock import Clock
from ciess.experiment.comparison import Comparison
from ciess.experiment.outcome import Outcome
from ciess.experiment.recipe import Recipe
from ciess.experiment.users import measured_users
from ciess.methods.mixed import MixedRandom
from ciess.methods.popularity import Popularity
from ciess.models import Backbone, Training
from ciess.tables.plan import SizePlan, TableShape
from ciess.train import tune as tuning
from ciess.train.finish import Finish, finish
from ciess.train.fit import Fitted


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
        ({"budgets": 0}, "'0' has no unit: write '5%'"),
        ({"budgets": b"50%"}, "budget 'b'50%'' is not a budget"),
        ({"beside": {3: "popularity"}}, "a method is named 3: names are text, and not empty"),
        ({"beside": {" ": "popularity"}}, "a method is named ' '"),
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


def test_what_tuning_chose_is_what_the_full_model_has(split: Split) -> None:
    found = ciess.search(split, backbone="als", budgets=["20%"], method="equal", finishing=CUT)
    tuning, backbone = found.settings["tuning"], found.settings["backbone"]
    assert tuning["chosen"] == {name: backbone[name] for name in ("alpha", "regularisation")}
    assert tuning["chosen"] in [{name: trial[name] for name in tuning["chosen"]} for trial in tuning["trials"]]
    assert plain(split).settings["tuning"] == {}, "settings that are given are not tuned"


def test_rows_say_how_their_training_went(split: Split, tmp_path: Path) -> None:
    """Few steps end while the models still gain; the runs are those that the plan's own finish takes."""
    few = Finish(training=dataclasses.replace(BACKBONE.distillation, steps=4, eval_every=2, lr=0.02))
    training = Training(steps=20, eval_every=10, batch_size=500, lr=0.003, l2=0.02)
    backbone = dataclasses.replace(BACKBONE, training=training)
    found = ciess.search(split, backbone=backbone, budgets=["20%"], method="equal", finishing=few)
    found.save(tmp_path)
    full, equal, _ = json.loads((tmp_path / "result.json").read_text())["rows"]
    assert (full["converged"], full["runs"]) == (False, [{"rate": 1.0, "steps": 20}] + 4 * [{"rate": 0.5, "steps": 10}])
    bench = Bench(split, Recipe(backbone, few), 0)
    _, fitted = finish(bench.full_models.on(1).packed, found.plans["20%"], few, seed=0, valid=bench.valid)
    assert equal["converged"] is fitted.converged
    assert [(run["rate"], run["steps"]) for run in equal["runs"]] == [*fitted.runs]
    assert equal["valid_quality"] == pytest.approx(fitted.quality, rel=1e-5)
    assert found.cautions[-1].startswith("still gaining when training ended, so more steps may gain more: full")
    assert "runs" not in found.table().columns


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
