import numpy as np
import pytest
import reproduce

from ciess.evaluation.metrics import QUALITY_METRICS, TAIL_METRICS
from ciess.experiment.comparison import Comparison
from ciess.results.comparison import Cell
from ciess.results.outcome import Row


def cell(method: str, seed: int, users: np.ndarray) -> Cell:
    level = float(users.mean())
    metrics, budget = dict.fromkeys(QUALITY_METRICS + TAIL_METRICS, level), "" if method == "full" else "20%"
    row = Row(method, budget, metrics, level / 0.5, level, 100, 2, 4, "float32", 1, "popularity")
    return Cell(method, seed, [row], {budget: users.astype(np.float32)})


def test_seeds_share_their_users() -> None:
    """Where a gain in one seed is as large a loss in the other, nothing is known, however sure each seed is."""
    steps = np.linspace(-0.01, 0.01, 50)
    cells = []
    for seed, sign in ((0, 1), (1, -1)):
        cells += [cell("full", seed, 0.5 + 0 * steps), cell("equal", seed, 0.3 + 0 * steps)]
        cells += [cell("ciess", seed, 0.3 + sign * 0.05 + steps), cell("popularity", seed, 0.35 + steps)]
    settings = {"seeds": [0, 1], "budgets": ["20%"], "backbone": {"name": "mf"}}
    found = Comparison(cells, "test", settings).to_dict()
    published = {("mf", "CIESS", "80"): {"recall@20": 0.25, "ndcg@20": 0.5}}
    rows = {row.split(" | ")[1]: row for row in reproduce.table(found, "mf", published)[2:]}
    assert "| +0.0% | 1.0000 |" in rows["ciess"]
    assert rows["ciess"].endswith("| CIESS 0.2500 / 0.5000 |")
    assert "| popularity | popularity | 0.3500 ± 0.0000 |" in rows["popularity"]
    assert "| **+16.7%** | " in rows["popularity"]
    assert "e-" in rows["popularity"].split(" | ")[7], "tiny p-values are told as such"


@pytest.mark.parametrize(
    ("gain", "p_value", "said"),
    [(0.1, 0.01, "**+10.0%**"), (-0.1, 0.01, "*-10.0%*"), (0.1, 0.05, "+10.0%"), (0.0, 0.0, "+0.0%")],
)
def test_what_is_significant_is_marked_by_its_direction(gain: float, p_value: float, said: str) -> None:
    assert reproduce.marked(gain, p_value) == said
