"""Policies beside results: saved, applied to other data; searches on samples."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ciess
from ciess.data import Split, split_random, synthetic
from ciess.errors import InputError
from ciess.experiment.outcome import Outcome
from ciess.methods.ciess.policy import Actor
from ciess.methods.ciess.td3 import TD3Settings
from ciess.methods.equal import EqualSizes
from ciess.methods.marginal import Marginal
from ciess.methods.policy import Applied
from ciess.methods.problem import Problem, SearchResult
from ciess.models import Training
from ciess.report import searched
from ciess.tables.layout import stored_bytes
from ciess.train.finish import Finish

CUT = Finish().lasting(0)
PLAIN = ciess.ALS(dim=16, training=Training(steps=3, eval_every=1))
RULE = ciess.Popularity(rounds=1, plans=4)


def found(split: Split, **settings: Any) -> Outcome:
    given = {"backbone": PLAIN, "budgets": ["40%"], "method": RULE, "finishing": CUT, "refit": False}
    return ciess.search(split, **(given | settings))


@pytest.fixture(scope="module")
def outcome(split: Split) -> Outcome:
    return found(split)


def test_a_policy_stands_beside_each_model_and_sizes_as_it(outcome: Outcome, split: Split, tmp_path: Path) -> None:
    [folder] = outcome.save(tmp_path).values()
    policy, plan = ciess.SizePolicy.load(folder), outcome.plans["40%"]
    learned = split.train_valid()
    counts = (learned.user_counts, learned.item_counts)
    again = policy.plan(counts, "40%")
    assert policy.found_by == outcome.row("search", "40%").found_by
    assert np.abs(again.sizes - plan.sizes).mean() < 0.1 * plan.sizes.mean()
    ciess.load(folder, verify=True)
    outcome.save(tmp_path)
    assert ciess.SizePolicy.load(folder).dim == 16, "a folder of a former run is written anew"


def test_a_policy_sizes_other_data_within_other_budgets(outcome: Outcome, tmp_path: Path) -> None:
    other = split_random(synthetic(users=90, items=130, mean_count=15, seed=7).interactions, seed=1)
    outcome.policies["40%"].save(tmp_path)
    by_folder, by_itself = (
        ciess.apply(each, other, backbone=PLAIN, budgets="25%", finishing=CUT, refit=False)
        for each in (tmp_path, outcome.policies["40%"])
    )
    assert by_folder.plans["25%"] == by_itself.plans["25%"]
    learned = other.train_valid()
    counts = (learned.user_counts, learned.item_counts)
    wanted = outcome.policies["40%"].plan(counts, "25%")
    shown = {row.method: row for row in by_itself.rows if row.budget}
    assert shown["policy"].user_size == pytest.approx(wanted.user_sizes.mean())
    assert shown["policy"].table_bytes == stored_bytes(wanted) <= 0.25 * wanted.shape.full_bytes
    settings = json.loads(json.dumps(by_itself.settings))
    assert settings["method"]["policy"] == {"name": "SizePolicy", "kind": "curve", "dim": 16, "found_by": "popularity"}
    assert "method=Applied(policy=policy)" in settings["call"]


def test_what_is_no_policy_is_refused(split: Split) -> None:
    with pytest.raises(InputError, match="policy is of type int: give a SizePolicy, or the folder"):
        ciess.apply(3, split)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", [RULE, Marginal(rounds=1, steps=4, looks=1)])
def test_a_search_on_a_sample_sizes_all_rows_and_says_so(split: Split, method: Any) -> None:
    outcome = found(split, method=method, sample="30%", backbone=ciess.MF(dim=16, training=Training(steps=30)))
    plan, name = outcome.plans["40%"], outcome.method
    assert plan.shape.n_users == split.train.n_users
    assert 0.95 < stored_bytes(plan) / (0.4 * plan.shape.full_bytes) <= 1
    assert outcome.settings["sample"] == 0.3
    assert outcome.settings["method"]["method"]["name"] == type(method).__name__
    assert "sample='30%'" in outcome.settings["call"]
    assert outcome.row(name, "40%").table_bytes <= 0.4 * plan.shape.full_bytes
    told = "sizes searched on 30% of the users and the items that they touch, and given to all rows by a policy"
    assert told in searched(outcome).facts


@dataclass(frozen=True)
class Own:
    def search(self, problem: Problem) -> SearchResult:
        return EqualSizes().search(problem)


def test_a_search_by_ciess_on_a_sample_leaves_its_actors(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ciess.experiment.pipeline.worth_keeping", lambda found, equal: found[0])
    quick = ciess.Ciess(
        episodes=2, steps=2, finish_steps=5, updates=2, start=None, td3=TD3Settings(batch_size=64, hidden=8)
    )
    backbone = ciess.MF(dim=16, training=Training(steps=30))
    outcome = found(split, method=quick, sample="60%", backbone=backbone)
    assert outcome.row("search", "40%").found_by == "ciess"
    assert isinstance(outcome.policies["40%"].users, Actor)


def test_samples_and_policies_that_cannot_be_searched_by_are_refused_at_once(split: Split) -> None:
    counts, sizes = np.arange(1, 9), np.arange(1, 9, dtype=np.int32)
    looks = Actor.imitating(counts, np.eye(8, dtype=np.float32), sizes, TD3Settings(batch_size=8, hidden=8), seed=0)
    actor = ciess.SizePolicy(looks, looks, dim=8)

    def never(*_: object) -> None:
        raise AssertionError("it began")

    for settings, told in (
        ({"backbone": "lightgcn"}, "in the whole graph: use mf, als or ncf, or search all rows"),
        ({"method": "pep"}, "pep searches all rows: without a sample, or by "),
        ({"method": Own()}, "own searches all rows: .*; give its class cheap = True if it measures plans"),
        ({"sample": "0%"}, "sample is '0%': write a share above 0%, and to 100%"),
        ({"sample": "x"}, "write a share above 0%"),
        ({"sample": 1e-9, "data": Split(split.train, split.valid.take(split.valid.users == 7))}, "take a larger one"),
        ({"sample": None, "method": Applied(actor)}, "full rows of 8 dimensions, and these have 16: take 8"),
    ):
        given = {"sample": "10%", "progress": never} | settings
        with pytest.raises(InputError, match=told):
            found(given.pop("data", split), **given)
