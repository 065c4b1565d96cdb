import dataclasses
from pathlib import Path

import numpy as np
import pytest

from ciess.evaluation.metrics import QUALITY_METRICS, TAIL_METRICS
from ciess.experiment.comparison import Comparison
from ciess.report import Report, as_html, compared
from ciess.results.comparison import Cell


@pytest.fixture(scope="module")
def report(comparison: Comparison) -> Report:
    return compared(comparison)


def better(comparison: Comparison, method: str, by: float) -> Comparison:
    """The same, but for the users of one method."""

    def moved(cell: Cell) -> Cell:
        quality = {budget: users + np.float32(by) for budget, users in cell.quality.items()}
        rows = [
            dataclasses.replace(row, metrics=row.metrics | {name: row.metrics[name] + by for name in QUALITY_METRICS})
            for row in cell.rows
        ]
        return dataclasses.replace(cell, quality=quality, rows=rows)

    cells = [moved(cell) if cell.method == method else cell for cell in comparison.cells]
    return dataclasses.replace(comparison, cells=cells)


def test_the_title_and_the_cards_name_the_best(comparison: Comparison) -> None:
    report = compared(better(comparison, "popularity", 0.5))
    assert report.title == "Most quality is kept by popularity at 40% and 20%"
    card = report.cards[0]
    assert card.heading == "Budget 40%"
    assert card.label == "of the full model's quality, by popularity"
    assert card.bars[0].label == "popularity"
    assert {"equal sizes", "full model"} <= {bar.label for bar in card.bars}
    assert max(bar.share for bar in card.bars) == 1
    assert card.notes[1] == "Significantly better than all others."
    assert "% over equal sizes (95% interval +" in card.notes[0]


def test_no_difference_is_called_none(comparison: Comparison) -> None:
    cells = [
        dataclasses.replace(cell, method=method, rows=[dataclasses.replace(row, method=method) for row in cell.rows])
        for cell in comparison.cells
        if cell.method == "equal"
        for method in ("equal", "ciess")
    ]
    full = [cell for cell in comparison.cells if cell.method == "full"]
    report = compared(dataclasses.replace(comparison, cells=[*full, *cells]))
    assert report.cards[0].notes[1] == "Not clearly better than CIESS."
    assert [row[2:5] for row in report.sections[1].tables[0].rows] == [(0, 1, 0)] * 4


def test_the_table_has_means_deviations_and_significance(comparison: Comparison, report: Report) -> None:
    table = report.sections[0].tables[0]
    places = {column.heading: number for number, column in enumerate(table.columns)}
    assert len(table.rows) == len(comparison.lines) == 1 + 2 * 4
    for line, row, cells in zip(comparison.lines, table.rows, table.cells, strict=True):
        sorted_by, shown = cells[places["Recall@20"]]
        spread = line.metrics["recall@20"]
        assert sorted_by == spread.mean
        assert shown == f"{spread.mean:.4f} ± {spread.deviation:.4f}"
        gain = comparison.gain(line.method, line.budget)
        assert row[places["Gain, %"]] == gain
        assert row[places["Significant"]] == (
            None if gain is None else {1: "better", 0: "no", -1: "worse"}[gain.verdict]
        )
    assert table.numeric[places["Kept"]]


def test_wins_ties_and_losses_are_those_of_the_pairs(comparison: Comparison) -> None:
    changed = better(comparison, "popularity", 0.5)
    [table] = compared(changed).sections[1].tables
    rows = {(row[0], row[1]): row[2:5] for row in table.rows}
    assert rows["popularity", "20%"] == (3, 0, 0)
    for budget in ("40%", "20%"):
        of_budget = [counts for (_, each), counts in rows.items() if each == budget]
        assert all(sum(counts) == 3 for counts in of_budget)
        assert sum(wins for wins, _, _ in of_budget) == sum(losses for _, _, losses in of_budget)


def test_every_question_has_its_figures(report: Report) -> None:
    names = {section.name: [figure.name for figure in section.figures] for section in report.sections}
    assert names.pop("quality") == ["frontier", "gains"]
    assert names == {"pairs": [], "payers": [], "effort": [], "time": [], "again": []}


def test_rare_items_are_told_of_all_lines_as_shares_of_the_full_model(comparison: Comparison, report: Report) -> None:
    [table] = next(section for section in report.sections if section.name == "payers").tables
    full, recall = comparison.lines[0], "tail-recall@20"
    for row, line in zip(table.rows, comparison.lines, strict=True):
        assert row[2:5] == tuple(line.metrics[metric] for metric in TAIL_METRICS)
        assert row[5] == pytest.approx(line.metrics[recall].mean / full.metrics[recall].mean)


def test_files_are_whole_and_names_are_no_markup(compared_folder: Path) -> None:
    names = {path.name for path in compared_folder.rglob("*")}
    assert names == {"report.html", "report.md", "figures", "frontier.svg", "gains.svg"}
    html = (compared_folder / "report.html").read_text(encoding="utf-8")
    assert "<random>" not in html
    assert "mixed &lt;random&gt;|" in html
    assert "ciess.compare(" in html


def test_failures_are_told_and_one_seed_has_no_deviation(comparison: Comparison) -> None:
    cells = [cell for cell in comparison.cells if cell.seed == 0]
    failed = Cell("bet", 0, error="RuntimeError: no luck")
    settings = {**comparison.settings, "seeds": [0]}
    report = compared(dataclasses.replace(comparison, cells=[*cells, failed], settings=settings))
    assert "seed 0" in report.facts
    [table] = next(section for section in report.sections if section.name == "failures").tables
    assert table.rows == [("bet", 0, "RuntimeError: no luck")]
    assert "±" not in as_html(report)
    assert "whiskers" not in report.sections[0].figures[0].caption


def test_a_comparison_in_which_all_failed_is_still_reported(comparison: Comparison) -> None:
    cells = [Cell(name, 0, error="no") for name in ("full", "equal", "ciess")]
    report = compared(dataclasses.replace(comparison, cells=cells))
    assert report.title == "No method came to a result"
    assert "What failed" in as_html(report)


def test_without_equal_sizes_there_are_no_gains(comparison: Comparison) -> None:
    cells = [cell for cell in comparison.cells if cell.method != "equal"]
    report = compared(dataclasses.replace(comparison, cells=cells))
    assert [figure.name for figure in report.sections[0].figures] == ["frontier"]


def test_what_each_seed_was_tuned_to_is_told(comparison: Comparison) -> None:
    trial = {"lr": 0.3, "dim": 32, "quality": 0.2, "seconds": 9.0}
    tuning = {"chosen": {"lr": 0.3}, "trials": [trial]}
    cells = [
        dataclasses.replace(cell, tuning=tuning) if (cell.method, cell.seed) == ("full", 1) else cell
        for cell in comparison.cells
    ]
    told = compared(dataclasses.replace(comparison, cells=cells))
    [section] = [section for section in told.sections if section.name == "tuning"]
    assert [table.caption for table in section.tables] == ["Tuned, seed 1: lr 0.3 (1 trials, 9 s)"]


def test_notebooks_show_the_answers_and_the_table(comparison: Comparison, report: Report) -> None:
    shown = comparison._repr_html_()
    assert report.title in shown
    assert "<table>" in shown
    assert "<svg" not in shown
    assert repr(comparison) == (
        "Comparison(equal, mixed <random>|, popularity, ciess; budgets 40%, 20%; measured on test)"
    )
