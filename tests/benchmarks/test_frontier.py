import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any

import equal_bytes
import faiss
import frontier
import numpy as np
import peers
import pytest
import smaller
from peers import Peer

import ciess
from ciess.data import split_random, synthetic
from ciess.progress import silent
from ciess.train import tune
from ciess.train.finish import Finish

needs_codes = pytest.mark.skipif(
    not hasattr(faiss.ScalarQuantizer, "QT_1bit_tqmse"), reason="this faiss has no TurboQuant: 1.15 has"
)


def test_a_search_gives_what_is_ahead_of_equal_sizes_on_validation_by_more_than_chance() -> None:
    equal, marginal, rule = equal_bytes.CHOICE
    # At 1 % marginal is ahead by .1, the standard error.
    qualities = {
        "5%": ([0.3, 0.3, 0.3], [0.2, 0.2, 0.2], [0.2, 0.2, 0.2]),
        "1%": ([0.1, 0.1, 0.1], [0.1, 0.1, 0.4], [0.2, 0.2, 0.2]),
        "2%": ([0.1, 0.1, 0.1], [0.2, 0.2, 0.4], [0.5, 0.5, 0.5]),
    }
    points = [
        equal_bytes.Point(
            {"method": method, "budget": budget, "detail": method}, np.zeros(4), np.array([*valid, np.nan])
        )
        for budget, each in qualities.items()
        for method, valid in zip(equal_bytes.CHOICE, each, strict=True)
    ]
    points.insert(3, equal_bytes.Point({"method": "PQ", "budget": "5%", "detail": "PQ"}, np.zeros(4)))
    found = [(each.row["method"], each.budget, each.row["detail"]) for each in equal_bytes.with_search(points)]
    at_5 = [(equal, "5%", equal), (marginal, "5%", marginal), (rule, "5%", rule), (equal_bytes.SEARCH, "5%", equal)]
    assert found[:5] == [*at_5, ("PQ", "5%", "PQ")]
    kept = {budget: detail for method, budget, detail in found if method == equal_bytes.SEARCH}
    assert kept == {"5%": equal, "1%": rule, "2%": marginal}


@needs_codes
def test_a_cell_holds_every_method_within_its_bytes_and_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data.csv"
    matrix = synthetic(users=120, items=80, mean_count=14).interactions.matrix
    data.write_text("\n".join(["user,item", *(f"{user},{item}" for user, item in zip(*matrix.nonzero(), strict=True))]))
    recipe = ciess.ALS(dim=64), Finish(training=ciess.ALS().distillation.lasting(5))
    for name, few in {"BITS": (4, 5), "PRUNED_BITS": (8,)}.items():
        monkeypatch.setattr(peers, name, few)
    monkeypatch.setattr(smaller, "BACKBONES", ("als",))
    monkeypatch.setattr(tune, "Tuning", partial(tune.Tuning, trials=2))
    monkeypatch.delitem(equal_bytes.OURS, "equal sizes, float32")
    settings = frontier.Frontier(
        data, "mine", backbone="als", budgets=("20%", "3%"), seeds=(0,), cells=tmp_path / "cells"
    )

    def result(settings: frontier.Frontier) -> dict[str, Any]:
        split = split_random(ciess.read(data), seed=0)
        cell = equal_bytes.EqualBytes(split, *recipe, settings.budgets, 0, settings.cells, silent).cell()
        return frontier.compared([cell])

    result_of_both = result(settings)
    [cell] = result_of_both["cells"]
    found = {(row["method"], row["budget"]): row for row in cell["rows"]}
    # A number for each row in float32 is 1/64 of the bytes.
    methods = {*equal_bytes.OURS, equal_bytes.SEARCH, "PQ", "OPQ", "scalar", "magnitude", "TurboQuant", "RaBitQ"}
    methods |= {"smaller als, float32", "smaller als, int8"}
    assert {method for method, budget in found if budget == "20%"} == methods
    assert {method for method, budget in found if budget == "3%"} >= {
        *equal_bytes.OURS,
        equal_bytes.SEARCH,
        "magnitude",
    }
    for (_, budget), row in found.items():
        assert row["bytes"] <= cell["full_bytes"] * float(budget[:-1]) / 100
    for budget in settings.budgets:
        choice = [found[method, budget] for method in equal_bytes.CHOICE]
        assert found[equal_bytes.SEARCH, budget]["metrics"] in [row["metrics"] for row in choice]
    assert {(gain["method"], gain["budget"]) for gain in result_of_both["gains"]} == {
        key for key in found if key[0] != equal_bytes.SEARCH
    }

    def again(*_: object) -> list[Peer]:
        raise AssertionError("what was kept is made anew")

    monkeypatch.setattr(equal_bytes, "peers_for", again)
    assert result(settings) == result_of_both
    # Whatever other budgets are asked for.
    alone = result(dataclasses.replace(settings, budgets=("20%",)))["cells"][0]["rows"]
    assert alone == [row for row in cell["rows"] if row["budget"] == "20%"]
    text = frontier.report(settings, json.loads(json.dumps(result_of_both)))
    kept = min(found["PQ", "20%"]["metrics"][metric] / cell["full"][metric] for metric in frontier.SHOWN)
    assert all(found[method, "20%"]["metrics"].keys() == {*equal_bytes.TOLD} for method in methods)
    line = next(line for line in text.splitlines() if line.startswith("| 20% | PQ |"))
    assert f"{kept:.1%}" in line
    assert f"| {found['PQ', '20%']['bytes']:,} |" in line


def test_a_gain_and_its_p_value_are_of_the_same_quantity() -> None:
    """The direction is that of the users' quality, as is p: not of one metric, which can point elsewhere."""
    steps = np.linspace(-0.01, 0.01, 60)

    def point(method: str, users: "np.ndarray[Any, Any]", ndcg: float) -> equal_bytes.Point:
        metrics = {"recall@20": 0.5, "ndcg@20": ndcg}
        row = {"method": method, "budget": "5%", "metrics": metrics, "bytes": 10, "detail": method}
        return equal_bytes.Point(row, users)

    about = {"full": {"recall@20": 0.5, "ndcg@20": 0.5}, "full_bytes": 100}
    cells = [
        equal_bytes.Cell(
            {"seed": seed, **about},
            [
                point(equal_bytes.SEARCH, 0.3 + 0 * steps, 0.2),
                point("PQ", 0.2 + steps, 0.4),
                point("OPQ", (0.35 if seed else 0.25) + steps, 0.2),
            ],
        )
        for seed in (0, 1)
    ]
    found = frontier.compared(cells)
    gains = {gain["method"]: gain for gain in found["gains"]}
    assert gains["PQ"]["gain"] == pytest.approx(0.5)
    assert (gains["PQ"]["better"], gains["PQ"]["worse"]) == (60, 0), "users, whatever the number of seeds"
    assert gains["PQ"]["p_value"] < 1e-50
    assert gains["OPQ"]["p_value"] == pytest.approx(1)
    settings = frontier.Frontier(Path("data"), "mine")
    assert any(" | **+50.0%** | " in line for line in frontier.report(settings, found).splitlines())
