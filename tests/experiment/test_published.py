"""Published cells beside those of a comparison."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ciess.evaluation.metrics import QUALITY_METRICS, TAIL_METRICS
from ciess.experiment.comparison import Comparison
from ciess.results.comparison import Cell
from ciess.results.outcome import Row

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
BUDGETS = ["20%", "10%"]


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The script, with a published table of its own."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import published_beside
    import reproduce

    table = tmp_path / "published.csv"
    table.write_text(
        "dataset,backbone,method,sparsity_percent,recall@5,recall@20,ndcg@5,ndcg@20\n"
        "tiny,mf,ES,80,0,0.20,0,0.40\n"
        "tiny,mf,BET,85,0,0.30,0,0.50\n"
        "tiny,mf,ES,95,0,0.19,0,0.39\n"
        "tiny,mf,BET,90,0,0.25,0,0.40\n"
        "tiny,mf,OptEmbed,83,0,0.20,0,0.40\n"
        "tiny,mf,ESAPN,72,0,0.20,0,0.40\n"
        "tiny,ncf,BET,80,0,0.20,0,0.40\n"
        "other,mf,BET,80,0,0.20,0,0.40\n"
    )
    monkeypatch.setattr(reproduce, "PUBLISHED", table)
    yield published_beside
    for module in ("published_beside", "reproduce"):
        del sys.modules[module]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A comparison of two seeds whose recall is .20 and .22, and NDCG .39 and .41."""

    def cell(method: str, seed: int) -> Cell:
        metrics = {
            name: (0.2 + 0.02 * seed if name.startswith("recall") else 0.39 + 0.02 * seed)
            for name in QUALITY_METRICS + TAIL_METRICS
        }
        budgets = [""] if method == "full" else BUDGETS
        rows = [Row(method, budget, metrics, 1.0, 0.3, 100, 2, 2, "float32", 1, method) for budget in budgets]
        return Cell(method, seed, rows, {budget: np.full(30, 0.3, dtype=np.float32) for budget in budgets})

    methods = ("full", "equal", "bet:rounds=2", "optembed", "esapn", "mine")
    settings = {
        "seeds": [0, 1],
        "budgets": BUDGETS,
        "backbone": {"name": "mf"},
        "precision": "float32",
        "data": {"users": 30, "items": 9, "train": 100, "valid": 20, "test": 30},
    }
    found = Comparison([cell(method, seed) for seed in (0, 1) for method in methods], "test", settings)
    (tmp_path / "comparison.json").write_text(json.dumps(found.to_dict(), default=str))
    return tmp_path


def test_a_published_cell_stands_beside_our_largest_budget_that_keeps_no_more(beside: Any, folder: Path) -> None:
    found = beside.pairs(json.loads((folder / "comparison.json").read_text()), "tiny")
    assert [(each.method, each.budget, each.sparsity) for each in found] == [
        ("equal", "20%", "80"),
        ("bet:rounds=2", "10%", "90"),
        ("optembed", "10%", "83"),
        ("esapn", "20%", "72"),
    ]
    assert found[0].ours == pytest.approx([0.21, 0.40])
    assert found[0].differences == pytest.approx([0.05, 0.0])
    assert found[1].differences == pytest.approx([-0.16, 0.0])


def test_what_is_far_below_is_named(beside: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["published_beside.py", str(folder), "--name", "tiny"])
    beside.main()
    text = (folder / "published.md").read_text()
    assert text.strip() in capsys.readouterr().out
    assert "| bet:rounds=2 | 10% | 90 % | 0.2100 | 0.2500 | -16.0% | 0.4000 | 0.4000 | +0.0% |" in text
    assert "More than 5% below: bet:rounds=2 at 10%." in text
