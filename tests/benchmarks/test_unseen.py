from concurrent.futures import Executor, Future
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import unseen
from equal_bytes import CHOICE, SEARCH

from ciess.data import split_random, synthetic
from ciess.evaluation.metrics import Evaluator
from ciess.progress import silent


def test_sets_are_found_whatever_their_names(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data.csv").write_text("user,item\n" + "".join(f"{n},{n % 7}\n" for n in range(30)))
    (tmp_path / "README.md").write_text("no set")
    assert unseen.sets_in(tmp_path) == ["synthetic", "a", "b"]
    assert unseen.interactions(tmp_path, "a").n_items == 7


def test_a_tuned_peer_is_the_best_of_its_grid_on_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = split_random(synthetic(users=120, items=80, mean_count=14).interactions, seed=0)
    grid = [{"alpha": alpha, "regularization": 1.0} for alpha in (0.001, 4.0)]
    monkeypatch.setattr(unseen, "GRIDS", {"implicit ALS": grid})
    monkeypatch.setattr(unseen, "FACTORS", 8)
    [point] = unseen.tuned_peers(split, 0, tmp_path, 1, silent)
    valid = Evaluator(split.train.matrix, split.valid.matrix)
    quality = [float(unseen._measured("implicit ALS", each, split.train, valid, 0, 1).quality.mean()) for each in grid]
    assert point.row["detail"].startswith(f"alpha {grid[int(np.argmax(quality))]['alpha']:g}")
    assert split.test is not None
    np.testing.assert_array_equal(np.isnan(point.users), split.test.user_counts == 0)

    def again(*_: object) -> None:
        raise AssertionError("what was kept is made anew")

    monkeypatch.setattr(unseen, "_best_peer", again)
    [kept] = unseen.tuned_peers(split, 0, tmp_path, 1, silent)
    assert kept.row == point.row
    np.testing.assert_array_equal(kept.users, point.users)


def test_backbones_with_a_graph_are_left_out_by_size(tmp_path: Path) -> None:
    data = synthetic(users=120, items=80, mean_count=14).interactions
    settings = unseen.Unseen(tmp_path, most_with_graph=len(data) - 1)
    assert unseen.study(settings, data, "lightgcn", silent) is None


def test_tables_tell_gains_over_peers_of_the_full_model_and_of_the_search() -> None:
    def part(rows: list[tuple[str, str, float]], gains: list[tuple[str, str, float, float]]) -> dict[str, Any]:
        told = [{"method": m, "budget": b, "detail": m, "metrics": {"recall@20": x, "ndcg@20": x}} for m, b, x in rows]
        cell = {"rows": told, "full": {"recall@20": 0.4, "ndcg@20": 0.4}}
        keys = ("method", "budget", "gain", "p_value")
        return {"cells": [cell], "gains": [dict(zip(keys, each, strict=True)) for each in gains]}

    found = {
        "set": "mine",
        "commit": "1a2b3c4",
        "backbone": "als",
        "data": {"users": 5, "items": 6, "interactions": 1234},
        "full": part([("full", "", 0.4), ("implicit ALS", "", 0.5)], [("implicit ALS", "", -0.2, 0.001)]),
        "small": part(
            [(CHOICE[0], "5%", 0.3), (SEARCH, "5%", 0.3), ("PQ", "10%", 0.2), ("PQ", "5%", 0.2)],
            [("PQ", "5%", 0.5, 0.01), ("PQ", "10%", 0.1, 0.2), (CHOICE[0], "5%", 0.0, 1.0)],
        ),
    }
    with pytest.raises(SystemExit, match=r"different settings cannot be merged: .*\[0\].* and .*\[1\]"):
        unseen.report([found | {"settings": {"seeds": [seed]}} for seed in (0, 1)])
    lines = unseen.report([found, found | {"settings": {"seeds": [0]}}]).splitlines()
    assert "5 users, 6 items, 1,234 interactions. By commit 1a2b3c4." in lines
    assert "|  | implicit ALS | implicit ALS | 0.5000 | 0.5000 | 125.0% | *-20.0%* | 0.0010 |  |" in lines
    assert "| 5% | PQ | PQ | 0.2000 | 0.2000 | 50.0% | **+50.0%** | 0.0100 |  |" in lines
    assert "| 10% | PQ | PQ | 0.2000 | 0.2000 | 50.0% | +10.0% | 0.2000 |  |" in lines
    assert f"| 5% | {SEARCH} | {SEARCH} | 0.3000 | 0.3000 | 75.0% |  |  |  |" in lines


def test_work_is_done_by_an_executor_in_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, str]] = []

    def study(settings: unseen.Unseen, data: object, backbone: str, *_: object) -> dict[str, Any]:
        if backbone == "mf":
            raise RuntimeError("no luck")
        made.append((str(data), backbone))
        return {"data": str(data)}

    class Here(Executor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            future: Future[Any] = Future()
            try:
                future.set_result(fn(*args, **kwargs))
            except RuntimeError as error:
                future.set_exception(error)
            return future

    monkeypatch.setattr(unseen, "study", study)
    monkeypatch.setattr(unseen, "interactions", lambda folder, name: name)
    monkeypatch.setattr(unseen, "executor_named", lambda text: nullcontext(Here()))
    options = ["--sets", "a", "b", "--backbones", "als", "mf", "ncf", "--executor", "x", "--threads", "1"]
    for number in (1, 2):
        told = ["unseen.py", str(tmp_path), *options, "--out", str(tmp_path / "out"), "--shard", f"{number}/2"]
        monkeypatch.setattr("sys.argv", told)
        unseen.main()
        assert made == [("a", "als"), ("a", "ncf"), ("b", "als"), ("b", "ncf")][: 2 * number]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a-als.json",
        "a-ncf.json",
        "b-als.json",
        "b-ncf.json",
    ]
