import json
from pathlib import Path

import frontier
import numpy as np
import pytest
from peers import Peer

import ciess
from ciess.data import synthetic
from ciess.progress import silent
from ciess.train.finish import Finish


def test_a_search_gives_the_better_one_on_validation() -> None:
    equal, ciess = frontier.EITHER
    points = [
        frontier.Point({"method": method, "budget": budget, "valid_quality": quality, "detail": method}, np.zeros(2))
        for method, budget, quality in [
            (equal, "5%", 0.3),
            (ciess, "5%", 0.2),
            ("PQ", "5%", 0.0),
            (equal, "1%", 0.1),
            (ciess, "1%", 0.1),
            (equal, "2%", 0.1),
            (ciess, "2%", 0.2),
        ]
    ]
    found = [(point.row["method"], point.budget, point.row["detail"]) for point in frontier.with_search(points)]
    assert found == [
        (equal, "5%", equal),
        (ciess, "5%", ciess),
        (frontier.SEARCH, "5%", equal),
        ("PQ", "5%", "PQ"),
        (equal, "1%", equal),
        (ciess, "1%", ciess),
        (frontier.SEARCH, "1%", equal),
        (equal, "2%", equal),
        (ciess, "2%", ciess),
        (frontier.SEARCH, "2%", ciess),
    ]


def test_a_cell_holds_every_method_within_its_bytes_and_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data.csv"
    matrix = synthetic(users=120, items=80, mean_count=14).interactions.matrix
    data.write_text("\n".join(["user,item", *(f"{user},{item}" for user, item in zip(*matrix.nonzero(), strict=True))]))
    recipe = ciess.ALS(dim=64), Finish(training=ciess.ALS().distillation.lasting(5))
    monkeypatch.setattr(frontier, "recipe_of", lambda *_: recipe)
    settings = frontier.Frontier(data, "mine", "als", budgets=("20%", "3%"), cells=tmp_path / "cells")
    cell = frontier._Seed(settings, 0, silent).cell()
    found = {(row["method"], row["budget"]): row for row in cell["rows"]}
    # A number for each row in float32 is 1/64 of the bytes.
    methods = {*frontier.OURS, frontier.SEARCH, "PQ", "OPQ", "scalar", "magnitude"}
    assert {method for method, budget in found if budget == "20%"} == methods
    assert {method for method, budget in found if budget == "3%"} >= {*frontier.OURS, frontier.SEARCH, "magnitude"}
    for (_, budget), row in found.items():
        assert row["bytes"] <= cell["full_bytes"] * float(budget[:-1]) / 100
        assert 0 <= row["p_of_search"] <= 1
    for budget in settings.budgets:
        either = [found[method, budget] for method in frontier.EITHER]
        best = max(either, key=lambda row: row["valid_quality"])
        assert found[frontier.SEARCH, budget]["metrics"] == best["metrics"]

    def again(*_: object) -> list[Peer]:
        raise AssertionError("what was kept is made anew")

    monkeypatch.setattr(frontier, "peers_for", again)
    assert frontier._Seed(settings, 0, silent).cell() == cell
    text = frontier.report(settings, [json.loads(json.dumps(cell))])
    kept = min(found["PQ", "20%"]["metrics"][metric] / cell["full"][metric] for metric in frontier.SHOWN)
    line = next(line for line in text.splitlines() if line.startswith("| 20% | PQ |"))
    assert f"{kept:.1%}" in line
    assert f"| {found['PQ', '20%']['bytes']:,} |" in line
