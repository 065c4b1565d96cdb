"""Numbers of a comparison, from cells made by hand."""

import dataclasses
import json
import re
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import ttest_1samp, ttest_rel

from ciess.errors import InputError
from ciess.evaluation.metrics import QUALITY_METRICS, TAIL_METRICS
from ciess.experiment.comparison import Comparison
from ciess.results.comparison import Cell
from ciess.results.outcome import ByBudget, OutcomeData, Row, still_gaining

SETTINGS = {
    "call": "ciess.compare(data)",
    "seeds": [0, 1],
    "budgets": ["10%"],
    "backbone": {"name": "mf"},
    "precision": "float32",
    "cautions": [],
    "data": {"users": 40, "items": 9, "train": 100, "valid": 20, "test": 30},
}
STEPS = np.linspace(-0.009, 0.009, 40, dtype=np.float32)
"""What differs between users: a gain of .02 outweighs it, none of 0 does."""


def cell(method: str, seed: int, quality: np.ndarray | float, table_bytes: int = 100) -> Cell:
    users = np.broadcast_to(np.float32(quality), 40).astype(np.float32)
    level, budget = float(np.nanmean(users)), "" if method == "full" else "10%"
    row = Row(
        method,
        budget,
        dict.fromkeys(QUALITY_METRICS + TAIL_METRICS, level),
        level / 0.5,
        level,
        table_bytes,
        2,
        4,
        "float32",
        1,
        method,
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


def test_a_line_has_converged_if_all_its_seeds_have() -> None:
    still = cell("better", 1, 0.34 + STEPS, 90)
    still.rows[0] = dataclasses.replace(still.rows[0], converged=False)
    found = comparison(*(each for each in FOUND.cells if (each.method, each.seed) != ("better", 1)), still)
    assert [line.method for line in found.lines if not line.converged] == ["better"]
    assert found.cautions == ["still gaining when training ended, so more steps may gain more: better 10%"]
    assert FOUND.cautions == []
    many = [dataclasses.replace(still.rows[0], method=f"m{number}") for number in range(7)]
    assert still_gaining(many)[0].endswith(": m0 10%, m1 10%, m2 10%, m3 10% and 3 others")


def test_gains_are_paired_by_user_and_averaged_over_seeds() -> None:
    gain = FOUND.gain("better", "10%")
    assert gain is not None
    assert gain.gain == pytest.approx(0.03 / 0.3)
    # A user's mean over seeds is .03 − step, since the second seed's steps cancel.
    spread = float(STEPS.std()) / 40**0.5
    assert gain.low == pytest.approx((0.03 - 1.96 * spread) / 0.3, abs=2e-3)
    assert (gain.better, gain.same, gain.worse) == (40, 0, 0)
    assert gain.verdict == 1
    alike, worse = FOUND.gain("alike", "10%"), FOUND.gain("worse", "10%")
    assert alike is not None
    assert worse is not None
    assert (alike.verdict, worse.verdict) == (0, -1)
    assert (alike.better, alike.worse) == (20, 20)
    assert FOUND.gain("equal", "10%") is None


def test_p_values_are_corrected_for_all_comparisons_of_their_kind() -> None:
    # A user's mean over seeds is .03 − step: 40 users, and not 80.
    alone = ttest_1samp(0.03 - STEPS.astype(np.float64), 0).pvalue
    assert FOUND.gains[0].p_value == pytest.approx(2 * alone, rel=1e-3, abs=0), "`worse` is more certain"
    pair = next(gain for gain in FOUND.pairs if (gain.method, gain.over) == ("equal", "better"))
    assert pair.p_value > FOUND.gains[0].p_value, "six pairs of four"
    assert -pair.gain * 0.33 == pytest.approx(FOUND.gains[0].gain * 0.3)


@pytest.mark.parametrize("budgets", [3, 4, 12])
def test_many_methods_and_budgets_can_be_significant(budgets: int) -> None:
    rng, names = np.random.default_rng(0), [f"{share}%" for share in range(1, 1 + budgets)]
    cells = []
    for number in range(12):
        quality = {name: (0.1 + 0.03 * number + rng.normal(0, 0.01, 2000)).astype(np.float32) for name in names}
        cells.append(Cell("equal" if number == 0 else f"m{number}", 0, quality=quality))
    found = Comparison(cells, "test", {"seeds": [0], "budgets": names})
    assert len(found.pairs) == budgets * 66
    assert all(gain.verdict == -1 for gain in found.pairs)
    assert found.beaten("m11", "1%") == ["equal", *(f"m{number}" for number in range(1, 11))]


def test_pairs_are_tested_one_by_one() -> None:
    """Peak memory is a few users' arrays, whatever the number of pairs."""
    users = 20_000
    cells = [Cell(f"m{number}", 0, quality={"1%": np.full(users, number, dtype=np.float32)}) for number in range(9)]
    found = Comparison(cells, "test", {"seeds": [0], "budgets": ["1%"]})
    tracemalloc.start()
    assert len(found.pairs) == 36
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 15 * users * 8


def test_methods_that_come_to_the_same_are_not_told_apart() -> None:
    found = comparison(cell("equal", 0, 0.3 + STEPS), cell("same", 0, 0.3 + STEPS))
    [gain] = found.gains
    assert (gain.p_value, gain.gain, gain.low, gain.high, gain.same) == (1, 0, 0, 0, 40)


def test_equal_sizes_that_keep_nothing_do_not_divide_by_zero() -> None:
    found = comparison(cell("equal", 0, 0.0), cell("other", 0, 0.1 + STEPS))
    [gain] = found.gains
    assert gain.gain == pytest.approx(0.1)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["gains"][0]["method"] == "other"


def test_what_is_not_there_is_told_by_what_is() -> None:
    assert FOUND.line("better", "10 %") == FOUND.line("better", "10%"), "budgets as they are written elsewhere"
    for told, message in (
        (lambda: FOUND.line("bettr", "10%"), "there is no row 'bettr 10%': use one of full, equal 10%, better 10%"),
        (lambda: FOUND.line("better", "5%"), "there is no row 'better 5%'"),
        (lambda: FOUND.gain("bettr", "10%"), "method is 'bettr': use 'full', 'equal', .* .did you mean 'better'"),
        (lambda: FOUND.gain("better", "5%"), "budget is '5%': use '10%'"),
        (lambda: FOUND.beaten("nobody", "10%"), "method is 'nobody'"),
        (lambda: FOUND.beaten("better", "lots"), "lots"),
    ):
        with pytest.raises(InputError, match=message):
            told()


def test_lines_say_what_found_their_sizes() -> None:
    kept = [
        dataclasses.replace(cell("better", seed, 0.3).rows[0], found_by=by) for seed, by in ((0, "rule"), (1, "better"))
    ]
    cells = [dataclasses.replace(cell("better", seed, 0.3), rows=[row]) for seed, row in enumerate(kept)]
    found = comparison(*(cell("equal", seed, 0.3) for seed in (0, 1)), *cells)
    assert found.line("better", "10%").found_by == ["better", "rule"]
    assert "| better | 10% | better, rule | " in found.to_markdown()


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
    assert gain.better == 40, "users, whatever the seeds"


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
    assert "| other | 10% | 0.3000 | 0.3000 | 60.0% | – | – | – | – |" in found.to_markdown()


def test_markdown_says_what_is_significant() -> None:
    text = FOUND.to_markdown()
    assert "| better | 10% | 0.3300 ± 0.0141 | 0.3300 ± 0.0141 | 66.0% ± 2.8% | +10.0 | +" in text
    assert re.search(r"\| worse \| .* \| −16.7 \| .* \| worse \| 80 \|", text)
    assert "| better | 10% | better | 100.0% | 0.0% | 0.0% | float32 | 2.0 | 4.0 | yes | levelled off |" in text
    assert "| better | 10% | 3 | 0 | 0 | equal sizes, alike, worse | – |" in text
    assert "| better | 0 | 3 | 1 |" in text, "means of one training in two seeds, three measurements, one finish"
    assert "failed" not in text


def test_latex_has_as_many_columns_as_it_says_and_no_bare_signs() -> None:
    text = FOUND.to_latex()
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {row.count("&") - row.count(r"\&") for row in rows} == {11}
    assert r"\begin{tabular}{lllrrrrlrrrr}" in text
    assert r" & \textbf{$+$10.0} & $+$" in text
    assert r" & \textit{$-$16.7} & $-$" in text
    assert r"0.3300 $\pm$ 0.0141" in text
    assert text.count(r"\midrule") == 2, "below the head, and below the full model"


def test_files_hold_everything(tmp_path: Path) -> None:
    paths = FOUND.save(tmp_path / "new")
    assert [path.name for path in paths] == ["comparison.json", "comparison.tex", "report.html"]
    told = json.loads(paths[0].read_text())
    assert told["settings"]["seeds"] == [0, 1]
    assert told["cells"][4]["rows"][0]["metrics"]["recall@20"] == pytest.approx(0.32)
    assert told["gains"][0]["method"] == "better"


def test_a_search_is_tested_as_a_comparison_is() -> None:
    """Three lines of two models: two tests, and the line that is kept has its model's."""
    rng = np.random.default_rng(0)

    def evaluation(level: float) -> Any:
        return SimpleNamespace(quality=torch.from_numpy(rng.normal(level, 0.02, 40)).float())

    equal, mine, other = evaluation(0.3), evaluation(0.31), evaluation(0.3)
    found = OutcomeData(
        "mine",
        ByBudget(),
        ByBudget(),
        ByBudget(),
        (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)),
        [],
        {("full", ""): evaluation(0.5), ("equal", "5%"): equal, ("other", "5%"): other, ("mine", "5%"): mine}
        | {("search", "5%"): mine},
        "test",
        [],
        {},
    ).gains
    assert [*found] == [("other", "5%"), ("mine", "5%"), ("search", "5%")]
    alone = ttest_rel(mine.quality.double(), equal.quality.double()).pvalue
    assert found["search", "5%"] == found["mine", "5%"]
    assert found["mine", "5%"].p_value == pytest.approx(2 * alone, rel=1e-5)
