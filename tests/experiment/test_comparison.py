"""Numbers of a comparison, from cells made by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from ciess.evaluation.metrics import QUALITY_METRICS
from ciess.experiment.cells import Cell
from ciess.experiment.comparison import Comparison
from ciess.results.outcome import Row

SETTINGS = {
    "call": "ciess.compare(data)",
    "seeds": [0, 1],
    "budgets": ["10%"],
    "backbone": {"name": "mf"},
    "precision": "float32",
    "data": {"users": 40, "items": 9, "train": 100, "valid": 20, "test": 30},
}
STEPS = np.linspace(-0.009, 0.009, 40, dtype=np.float32)
"""What differs between users: a gain of .02 outweighs it, none of 0 does."""


def cell(method: str, seed: int, quality: np.ndarray | float, table_bytes: int = 100) -> Cell:
    users = np.broadcast_to(np.float32(quality), 40).astype(np.float32)
    level, budget = float(np.nanmean(users)), "" if method == "full" else "10%"
    row = Row(
        method, budget, dict.fromkeys(QUALITY_METRICS, level), level / 0.5, level, table_bytes, 2, 4, "float32", 1, ""
    )
    return Cell(method, seed, [row], {budget: users}, trainings=seed, measurements=3, finishes=1, seconds=9)


def comparison(*cells: Cell) -> Comparison:
    return Comparison([*cells], "test", SETTINGS)


FOUND = comparison(
    *(cell("full", seed, 0.5, 900) for seed in (0, 1)),
    *(cell("equal", seed, 0.3 + STEPS) for seed in (0, 1)),
    cell("better", 0, 0.32 - STEPS, 90),
    cell("better", 1, 0.34 + STEPS, 90),
    *(cell("alike", seed, 0.3 - STEPS, 95) for seed in (0, 1)),
    *(cell("worse", seed, 0.25 + STEPS, 80) for seed in (0, 1)),
)


def test_lines_are_means_and_deviations_over_seeds() -> None:
    assert [(line.method, line.budget) for line in FOUND.lines[:2]] == [("full", ""), ("equal", "10%")]
    line = FOUND.line("better", "10%")
    assert line.quality.mean == pytest.approx(0.33)
    assert line.quality.deviation == pytest.approx(0.02 / 2**0.5)
    assert line.kept.mean == pytest.approx(0.66)
    assert line.table_bytes.mean == 90


def test_gains_are_paired_by_user_and_averaged_over_seeds() -> None:
    gain = FOUND.gain("better", "10%")
    assert gain is not None
    assert gain.gain == pytest.approx(0.03 / 0.3)
    # A user's mean over seeds is .03 − step, since the second seed's steps cancel.
    spread = float(STEPS.std()) / 40**0.5
    assert gain.low == pytest.approx((0.03 - 1.96 * spread) / 0.3, abs=2e-3)
    assert (gain.better, gain.same, gain.worse) == (80, 0, 0)
    assert gain.verdict == 1
    alike, worse = FOUND.gain("alike", "10%"), FOUND.gain("worse", "10%")
    assert alike is not None
    assert worse is not None
    assert (alike.verdict, worse.verdict) == (0, -1)
    assert (alike.better, alike.worse) == (40, 40)
    assert FOUND.gain("equal", "10%") is None


def test_p_values_are_corrected_for_all_comparisons_of_their_kind() -> None:
    assert FOUND.gains[0].p_value == pytest.approx(3 * 2 / 10_000), "three methods against equal sizes"
    assert min(gain.p_value for gain in FOUND.pairs) == pytest.approx(6 * 2 / 10_000), "six pairs of four"


def test_pairs_say_who_is_better_than_whom() -> None:
    assert FOUND.beaten("better", "10%") == ["equal", "alike", "worse"]
    assert FOUND.beaten("equal", "10%") == FOUND.beaten("alike", "10%") == ["worse"]
    assert FOUND.beaten("worse", "10%") == []


def test_the_frontier_is_what_no_smaller_line_beats() -> None:
    assert {line.method for line in FOUND.lines if line.on_frontier} == {"full", "better", "worse"}


def test_users_measured_in_one_seed_count_by_that_seed() -> None:
    half = np.where(np.arange(40) < 20, np.nan, 0.3).astype(np.float32)
    found = comparison(
        *(cell("equal", seed, 0.2) for seed in (0, 1)), cell("other", 0, 0.3), cell("other", 1, half + np.float32(0.1))
    )
    [gain] = found.gains
    assert gain.gain == pytest.approx((20 * 0.1 + 20 * 0.15) / 40 / 0.2, rel=1e-5)
    assert gain.better == 60


def test_a_seed_in_which_one_failed_is_left_out_of_its_comparisons() -> None:
    found = comparison(
        *(cell("equal", seed, 0.2 + 0.1 * seed) for seed in (0, 1)),
        Cell("other", 0, error="RuntimeError: no luck"),
        cell("other", 1, 0.36),
    )
    assert found.line("other", "10%").seeds == [1]
    [gain] = found.gains
    assert gain.gain == pytest.approx(0.06 / 0.3, rel=1e-5)
    assert "| other | 0 | RuntimeError: no luck |" in found.to_markdown()


def test_without_equal_sizes_there_is_still_a_table() -> None:
    found = comparison(Cell("equal", 0, error="no"), cell("other", 0, 0.3))
    assert found.gains == []
    assert "| 10% | other | 0.3000 | 0.3000 | 60.0% |  |  |  |" in found.to_markdown()


def test_markdown_marks_what_is_significant() -> None:
    text = FOUND.to_markdown()
    assert "| 10% | better | 0.3300 ± 0.0141 | 0.3300 ± 0.0141 | 66.0% ± 2.8% | **+10.0% (" in text
    assert "| *-16.7% (" in text
    assert "| 90 | **better** | 10% | 0.3300 ± 0.0141 | 2.0 / 4.0 | float32 | equal, alike, worse |" in text
    assert "| better | 0 | 3 | 1 |" in text, "means of one training in two seeds, three measurements, one finish"
    assert "Failures" not in text


def test_latex_has_as_many_columns_as_it_says_and_no_bare_signs() -> None:
    text = FOUND.to_latex()
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {row.count("&") - row.count(r"\&") for row in rows} == {7}
    assert r"\begin{tabular}{llrrrrrr}" in text
    assert r"\textbf{$+$10.0\% ($+$" in text
    assert r"0.3300 $\pm$ 0.0141" in text
    assert text.count(r"\midrule") == 2, "below the head, and below the full model"


def test_files_hold_everything(tmp_path: Path) -> None:
    paths = FOUND.save(tmp_path / "new")
    assert [path.name for path in paths] == ["comparison.json", "comparison.tex", "report.html"]
    told = json.loads(paths[0].read_text())
    assert told["settings"]["seeds"] == [0, 1]
    assert told["cells"][4]["rows"][0]["metrics"]["recall@20"] == pytest.approx(0.32)
    assert told["gains"][0]["method"] == "better"
