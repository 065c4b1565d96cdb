"""Streams: what is tested is not learned before, rows that are known go on, budgets hold."""

import json
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest
import torch

import ciess
from ciess.data import Interactions, Split
from ciess.errors import InputError
from ciess.experiment import stream as module
from ciess.experiment.bench import Bench
from ciess.experiment.stream import stream, table_of
from ciess.methods.equal import EqualSizes
from ciess.methods.popularity import Popularity
from ciess.methods.problem import Problem, SearchResult
from ciess.methods.scall import SCALL
from ciess.models import Training
from ciess.train import checkpoint
from ciess.train.checkpoint import State
from ciess.train.finish import Finish

FINISH = Finish(training=Training(steps=2, batch_size=1_000, lr=0.3, eval_every=1))
BACKBONE = ciess.MF(dim=8, training=Training(steps=20, batch_size=1_000, eval_every=10))


@pytest.fixture(scope="module")
def data() -> Interactions:
    """Users and items come one after the other: the later the time, the larger the rows that take part."""
    random, n = np.random.default_rng(0), 2_000
    times = np.arange(n)
    users, items = (np.floor(random.random(n) * size * (0.4 + 0.6 * times / n)) for size in (60, 40))
    frame = pl.DataFrame({"user": users.astype(int), "item": items.astype(int), "time": times})
    return Interactions.from_frame(frame)


@dataclass(frozen=True)
class Noted:
    """Equal sizes that note what they are given."""

    given: list[Problem] = field(default_factory=list)

    def search(self, problem: Problem) -> SearchResult:
        self.given.append(problem)
        return EqualSizes().search(problem)


@dataclass(frozen=True)
class Unlucky:
    """Equal sizes but for one segment, of whose users there are so many."""

    users: int

    def search(self, problem: Problem) -> SearchResult:
        if problem.shape.n_users == self.users:
            raise RuntimeError("no luck\nat all")
        return EqualSizes().search(problem)


def test_steps_cut_time_and_leave_nothing_out(data: Interactions) -> None:
    steps = [*module._steps(data, 4)]
    assert len(steps) == 4
    for number, (train, valid, coming) in enumerate(steps):
        assert train.times.max() < valid.times.min() <= valid.times.max() < coming.times.min()  # type: ignore[union-attr]
        if number:
            before = steps[number - 1]
            assert len(train) == len(before[0]) + len(before[1])
            np.testing.assert_array_equal(valid.times, before[2].times)
    assert sum(map(len, steps[-1])) == len(data)
    assert abs(len(steps[0][0]) + len(steps[0][1]) - len(data) / 2) <= 1
    for share in (step[2] for step in steps):
        assert abs(len(share) - len(data) / 8) <= 1


def test_a_stream_is_tested_before_it_is_learned_within_its_budget(
    data: Interactions, caplog: pytest.LogCaptureFixture
) -> None:
    noted = Noted()
    methods = {"noted": noted, "popularity": Popularity(rounds=1, plans=3), "scall": SCALL(steps=3, updates=2)}
    with caplog.at_level(logging.ERROR):
        settings = {"backbone": BACKBONE, "finishing": FINISH, "budget": "60%", "segments": 3, "retrain": False}
        rows = stream(data, methods=methods, **settings)  # type: ignore[arg-type]
    assert [(row.segment, row.method) for row in rows] == [(n, name) for n in (1, 2, 3) for name in methods]
    steps = [*module._steps(data, 3)]
    for number, problem in enumerate(noted.given):
        learned = len(steps[number][0]) + len(steps[number][1])
        known = data.take(np.argsort(data.times, kind="stable")[:learned]).k_core(1)  # type: ignore[arg-type]
        assert problem.shape[:2] == (known.n_users, known.n_items)
        mine = [row for row in rows if row.segment == number + 1]
        for row in mine:
            assert row.table_bytes <= row.limit == int(0.6 * 4 * 8 * (known.n_users + known.n_items))
            coming = steps[number][2].k_core(1)
            assert row.new_users == len(set(coming.user_ids) - set(known.user_ids)) > 0
            assert row.new_items == len(set(coming.item_ids) - set(known.item_ids))
            assert 0 <= row.metrics["recall@20"] <= 1
    first, *_, last = [row for row in rows if row.method == "popularity"]
    assert (first.grown, first.shrunk) == (0, 0)
    assert last.grown > 0
    assert last.shrunk > 0
    [_, whole, _] = table_of(rows)
    mine = [row.metrics["ndcg@20"] for row in rows if row.method == "popularity"]
    assert whole["ndcg@20"] == pytest.approx(sum(mine) / 3)


def test_what_fails_is_told_and_the_others_go_on(data: Interactions, monkeypatch: pytest.MonkeyPatch) -> None:
    """A method in one segment; then the full model that goes on, without which nothing but `retrain` is left."""
    settings = {"backbone": BACKBONE, "finishing": FINISH, "budget": "60%", "segments": 3}
    learned = [train.union(valid).k_core(1) for train, valid, _ in module._steps(data, 3)]
    methods = {"unlucky": Unlucky(learned[1].n_users), "equal": EqualSizes()}
    rows = stream(data, methods=methods, retrain=False, **settings)  # type: ignore[arg-type]
    assert [(row.segment, row.method) for row in rows] == [(n, name) for n in (1, 2, 3) for name in methods]
    errors = ["", "", "RuntimeError: no luck at all", "", "", ""]
    assert [row.error for row in rows] == errors
    assert [not row.metrics for row in rows] == [bool(error) for error in errors]
    assert [each["method"] for each in table_of(rows)] == ["equal"]

    resumed, gone_on_from = module._resumed, []

    def broken(split: Split, *rest: Any) -> Bench:
        gone_on_from.append(rest[-1].data.n_users)
        bench = resumed(split, *rest)
        if split.train.n_users == learned[1].n_users:
            monkeypatch.setattr(bench.full_models, "_fit", lambda *_: 1 / 0)
        return bench

    monkeypatch.setattr(module, "_resumed", broken)
    rows = stream(data, methods={"equal": EqualSizes()}, **settings)  # type: ignore[arg-type]
    assert [row.error for row in rows] == ["", "", "ZeroDivisionError: division by zero", "", "", ""]
    assert gone_on_from == [learned[0].n_users, learned[0].n_users]


@dataclass(frozen=True)
class Going:
    """Equal sizes that count their searches from segment to segment; one of them is not to be."""

    counts: ClassVar[list[int]] = []
    broken: ClassVar[BaseException | None] = None

    def search(self, problem: Problem) -> SearchResult:
        count = 0 if problem.carried is None else problem.carried.told["count"]
        self.counts.append(count)
        if count == 1 and (broken := self.broken) is not None:
            Going.broken = None
            raise broken
        found = EqualSizes().search(problem)
        # Named so that they are kept in another order.
        found.carried = State({"count": count + 1}, {"z": torch.ones(2), "a": torch.tensor(count)})
        return found


def test_a_search_goes_on_from_what_it_left_before(
    data: Interactions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that fails in between goes on from what there was; a stream that was stopped, from what was kept."""
    monkeypatch.setattr(checkpoint, "_SHARE", 1e9)
    settings = {"backbone": BACKBONE, "finishing": FINISH, "budget": "60%", "segments": 3, "retrain": False}

    def counts(broken: BaseException | None, kept: Path | None = None) -> list[int]:
        monkeypatch.setattr(Going, "counts", [])
        monkeypatch.setattr(Going, "broken", broken)
        with suppress(KeyboardInterrupt):
            stream(data, methods={"going": Going()}, kept=kept, **settings)  # type: ignore[arg-type]
        return Going.counts

    assert counts(None) == [0, 1, 2]
    assert counts(RuntimeError("no luck")) == [0, 1, 1]
    assert counts(KeyboardInterrupt(), tmp_path) == [0, 1]
    assert counts(None, tmp_path) == [1, 2]
    assert counts(None, tmp_path) == []


def test_one_segment_leaves_something_to_learn_before_validation(data: Interactions) -> None:
    [(train, valid, coming)] = module._steps(data, 1)
    assert [len(part) / len(data) for part in (train, valid, coming)] == pytest.approx([0.25, 0.25, 0.5], abs=0.01)


def test_streams_that_cannot_be_cut_are_refused(data: Interactions) -> None:
    untimed = Interactions(data.matrix, data.user_ids, data.item_ids)
    with pytest.raises(InputError, match="no times are known"):
        stream(untimed, methods={})
    with pytest.raises(InputError, match="1000000000 segments are too many for 1,115 interactions: take fewer"):
        stream(data, methods={}, segments=10**9)
    each_once = Interactions.from_frame(pl.DataFrame({"user": range(9), "item": [1, 2, 3] * 3, "time": range(9)}))
    with pytest.raises(InputError, match="segment 1 has no user who is known before it: take fewer segments"):
        stream(each_once, methods={}, segments=2)
    with pytest.raises(InputError, match="the interactions are of 1 times, too few for 5 segments"):
        stream(Interactions(data.matrix, data.user_ids, data.item_ids, np.ones(len(data), int)), methods={})
    with pytest.raises(InputError, match="too small"):
        stream(data, methods={"equal": EqualSizes()}, backbone=BACKBONE, budget="1%")


def test_the_command_writes_and_prints_a_table(
    data: Interactions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from ciess.cli import main

    path = tmp_path / "events.csv"
    columns = {"user": data.user_ids[data.users], "item": data.item_ids[data.items], "time": data.times}
    pl.DataFrame(columns).write_csv(path)
    out = tmp_path / "out"
    told = f"stream {path} --backbone als --dim 4 --budget 60% --segments 2 --methods equal --out {out}".split()
    main([*told, "--no-retrain"])
    document = json.loads((out / "stream.json").read_text())
    assert [(row["segment"], row["method"]) for row in document["segments"]] == [(1, "equal"), (2, "equal")]
    assert document["settings"]["command"].startswith(f"ciess stream {path} --backbone als --dim 4 --budget 60%")
    assert f"{document['methods'][0]['ndcg@20']:.4f}" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(told)
    assert f"{out} holds the result of another run" in capsys.readouterr().err
    assert json.loads((out / "stream.json").read_text()) == document
