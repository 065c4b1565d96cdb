import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from ciess.errors import InputError
from ciess.experiment.outcome import Outcome
from ciess.report import Column, Report, Section, Table, as_html, as_markdown, searched, summary
from ciess.tables.plan import SizePlan


class Page(HTMLParser):
    """The elements of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


def test_a_report_answers_with_the_numbers_of_the_table(outcome: Outcome, report: Report) -> None:
    row = outcome.row("search", "20%")
    memory, kept = row.table_bytes / outcome.row("full").table_bytes, row.kept
    assert report.title == f"{100 * memory:.2g}% of the memory keeps {kept:.1%} of the quality"
    assert [(card.heading, card.value) for card in report.cards] == [
        (f"Budget {budget}", f"{outcome.row('search', budget).kept:.1%}") for budget in ("40%", "20%")
    ]
    assert max(bar.share for card in report.cards for bar in card.bars) == 1
    [table] = report.sections[0].tables
    names = {"full": "full model", "equal": "equal sizes", "ciess": "CIESS"}
    assert [(line[0], *line[2:4]) for line in table.rows] == [
        (names.get(row.method, row.method), row.budget, row.metrics["recall@20"]) for row in outcome.rows
    ]
    assert [line[1] for line in table.rows[1:]] == [names.get(row.found_by, row.found_by) for row in outcome.rows[1:]]
    gains = {(line[0], line[2]): line[6] for line in table.rows}
    for method in ("search", "mixed <random>|"):
        expected = outcome.row(method, "20%").kept - outcome.row("equal", "20%").kept
        assert gains[method, "20%"] == pytest.approx(expected, abs=1e-6)


def test_every_question_has_its_figures(report: Report) -> None:
    names = {section.name: [figure.name for figure in section.figures] for section in report.sections}
    assert names == {
        "results": ["frontier", "gains"],
        "memory": ["sizes-users", "sizes-items"],
        "payers": ["deciles-users", "deciles-items"],
        "search": ["trace-40", "trace-20"],
        "time": [],
        "again": [],
    }


def test_where_the_memory_went(outcome: Outcome, report: Report) -> None:
    sizes, files = report.sections[1].tables
    for budget, side, least, _, mean, largest, _ in sizes.rows:
        plan = next(plan for each, plan in outcome.plans.items() if str(each) == budget)
        of_side = plan.user_sizes if side == "users" else plan.item_sizes
        assert (least, mean, largest) == (of_side.min(), pytest.approx(of_side.mean()), of_side.max())
    assert [row[1] for row in files.rows] == [model.table_bytes for model in outcome.models.values()]


def test_what_a_tenth_keeps_is_measured_on_its_own_users_and_items(outcome: Outcome, report: Report) -> None:
    rare, users, items = report.sections[2].tables
    for line, row in zip(rare.rows, outcome.rows, strict=True):
        told = outcome.evaluations[row.method, row.budget]
        assert line[2:5] == (told["coverage@20"], told["tail-recall@20"], told["gini@20"])
        assert line[5] == told["tail-recall@20"] / outcome.evaluations["full", ""]["tail-recall@20"]
    full, small = outcome.evaluations["full", ""], outcome.evaluations["search", "20%"]
    popular = outcome.popularity[0][full.users.numpy()]
    last = np.argsort(popular, kind="stable")[-len(popular) // 10 :]
    place = [column.heading for column in users.columns].index("search 20%")
    assert users.rows[-1][place] == pytest.approx(float(small.quality[last].sum() / full.quality[last].sum()))
    assert sum(row[2] for row in users.rows) == pytest.approx(1)
    assert sum(row[2] for row in items.rows) == pytest.approx(1)


def test_a_verdict_says_whether_the_search_was_worth_it(outcome: Outcome) -> None:
    def told(evaluations: dict[tuple[str, str], object]) -> str:
        changed = dataclasses.replace(outcome, evaluations={**outcome.evaluations, **evaluations})  # type: ignore[arg-type]
        return summary(changed).cards[0].notes[1]

    full, equal = outcome.evaluations["full", ""], outcome.evaluations["equal", "40%"]
    worse, better = (dataclasses.replace(full, hits=full.hits.sort(descending=first)[0]) for first in (False, True))
    assert told({("search", "40%"): better, ("equal", "40%"): worse}).startswith("Against equal sizes: +")
    assert told({("search", "40%"): worse, ("equal", "40%"): better}).startswith("Against equal sizes: −")
    assert told({("search", "40%"): equal}).startswith("No clear difference from equal sizes: 0.0")
    rule = dataclasses.replace(outcome.row("search", "40%"), found_by="popularity")
    by_rule = [rule if (row.method, row.budget) == ("search", "40%") else row for row in outcome.rows]
    assert summary(dataclasses.replace(outcome, rows=by_rule)).cards[0].notes[1].endswith("found by popularity.")
    rows = [dataclasses.replace(row, found_by="equal") if row.method == "search" else row for row in outcome.rows]
    note = summary(dataclasses.replace(outcome, rows=rows)).cards[0].notes[1]
    assert note == (
        "No plan was ahead of equal sizes on validation by more than the standard error: this model has equal sizes."
    )


def test_a_row_that_was_still_gaining_is_marked_and_told(outcome: Outcome) -> None:
    rows = [dataclasses.replace(row, converged=row.method != "equal") for row in outcome.rows]
    told = summary(dataclasses.replace(outcome, rows=rows))
    [table] = told.sections[0].tables
    place = [column.heading for column in table.columns].index("Training")
    shown = {(line[0][1], line[2][1]): line[place][1] for line in table.cells}
    assert {key for key, each in shown.items() if each == "still gaining"} == {
        ("equal sizes", "40%"),
        ("equal sizes", "20%"),
    }
    assert set(shown.values()) == {"still gaining", "levelled off"}
    assert told.facts[-1].endswith("more steps may gain more: equal 40%, equal 20%")


TUNING = {
    "chosen": {"alpha": 38.9, "regularisation": 30.0},
    "trials": [
        {"alpha": 15.0, "regularisation": 1.0, "dim": 32, "quality": 0.2, "seconds": 1.25},
        {"alpha": 38.9, "regularisation": 30.0, "dim": 128, "quality": 0.25, "seconds": 2.25},
    ],
}


def test_what_tuning_tried_is_told(outcome: Outcome, report: Report) -> None:
    assert "tuning" not in {section.name for section in report.sections}, "nothing was tuned"
    told = searched(dataclasses.replace(outcome, settings={**outcome.settings, "tuning": TUNING}))
    [section] = [section for section in told.sections if section.name == "tuning"]
    [table] = section.tables
    assert table.caption == "Tuned: alpha 38.9, regularisation 30 (2 trials, 4 s)"
    assert [column.heading for column in table.columns] == [
        "alpha",
        "regularisation",
        "Dimensions",
        "Quality",
        "Seconds",
    ]
    assert [[shown for _, shown in row] for row in table.cells] == [
        ["15", "1", "32", "0.2000", "1.2"],
        ["38.9", "30", "128", "0.2500", "2.2"],
    ]


def test_the_page_is_whole_and_loads_nothing(folder: Path) -> None:
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert len(html) < 1_000_000
    page = Page(html)
    drawings = [attributes for _, attributes in page.elements if attributes.get("role") == "img"]
    assert len(drawings) == 8
    assert all(len(attributes["aria-label"] or "") > 40 for attributes in drawings)
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(names) == len(set(names))
    for tag, attributes in page.elements:
        assert tag not in ("img", "iframe", "object")
        assert "src" not in attributes
        target = attributes.get("href") or attributes.get("xlink:href") or "#"
        assert target.startswith("#") or target == "data:,", target
    assert "<random>" not in html, "names are not markup"
    assert "mixed &lt;random&gt;|" in html


def test_markdown_has_the_same_tables_and_shows_the_figures(folder: Path) -> None:
    text = (folder / "report.md").read_text(encoding="utf-8")
    figures = sorted(path.name for path in (folder / "figures").iterdir())
    assert len(figures) == 8
    assert ".:" not in text, "a caption has one end"
    for name in figures:
        assert f"](figures/{name})" in text
    table = [line for line in text.splitlines() if line.startswith("| search")]
    assert len(table) == 4, "results and rare items"
    lines = text.splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("| Model"))
    assert {line.count("|") for line in [*lines[place : place + 2], *table[:2]]} == {16}
    assert re.fullmatch(r"\|(---:?\|)+", lines[place + 1]), "else it is no table"
    assert "| mixed &lt;random>&#124; | mixed &lt;random>&#124; | 40% |" in text


def test_a_report_gives_the_command_that_repeats_the_run(outcome: Outcome, report: Report) -> None:
    assert report.sections[-1].code == outcome.settings["call"]
    typed = dataclasses.replace(outcome, settings={"command": "ciess search x.csv", **outcome.settings})
    section = searched(typed).sections[-1]
    assert section.code == "ciess search x.csv"
    settings = dict(section.tables[0].rows)
    assert settings["backbone.dim"] == "16"
    assert settings["budgets"] == "40%, 20%"
    assert settings["versions.ciess"] == outcome.settings["versions"]["ciess"]


def test_the_same_result_gives_the_same_files(outcome: Outcome, folder: Path, tmp_path: Path) -> None:
    outcome.report(tmp_path)
    for path in (path for path in folder.rglob("*") if path.is_file()):
        assert (tmp_path / path.relative_to(folder)).read_bytes() == path.read_bytes()


@pytest.mark.usefixtures("undrawn")
def test_saving_writes_the_report_beside_the_result(outcome: Outcome, tmp_path: Path) -> None:
    outcome.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} >= {"result.json", "report.html", "report.md", "figures"}
    assert json.loads((tmp_path / "result.json").read_text())["shown"] == "test"


@pytest.mark.usefixtures("undrawn")
def test_a_folder_that_cannot_be_written_is_named(outcome: Outcome, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file cannot be written .*: choose another folder"):
        outcome.report(tmp_path / "file")


@pytest.mark.usefixtures("undrawn")
def test_equal_sizes_alone_are_reported(outcome: Outcome) -> None:
    kept = [row for row in outcome.rows if row.method in ("full", "equal")]
    kept += [dataclasses.replace(row, method="search") for row in kept if row.method == "equal"]
    equal = {key: each for key, each in outcome.evaluations.items() if key[0] in ("full", "equal")}
    equal |= {("search", budget): each for (method, budget), each in equal.items() if method == "equal"}
    alone = searched(dataclasses.replace(outcome, method="equal", rows=kept, evaluations=equal))
    assert [bar.label for bar in alone.cards[0].bars] == ["search", "equal sizes", "full model"]
    assert all("this model has equal sizes" in card.notes[1] for card in alone.cards)


@pytest.mark.usefixtures("undrawn")
def test_where_the_time_went(outcome: Outcome, report: Report) -> None:
    [table] = next(section for section in report.sections if section.name == "time").tables
    assert table.rows[-1][1] == pytest.approx(sum(outcome.seconds.values()))
    assert sum(row[2] for row in table.rows[:-1]) == pytest.approx(1)
    bare = searched(dataclasses.replace(outcome, seconds={}))
    assert "time" not in [section.name for section in bare.sections]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("learned", "shown", "told"),
    [
        (["train", "validation", "test"], "test", "the saved ones learned test, too"),
        (["train", "validation"], "test", "The saved models learned train and validation."),
        ([], "validation", "The tables were trained elsewhere"),
    ],
)
def test_a_report_says_what_models_learned(outcome: Outcome, learned: list[str], shown: str, told: str) -> None:
    settings = {**outcome.settings, "learned": learned}
    [_, text] = searched(dataclasses.replace(outcome, settings=settings, shown=shown)).sections[0].text
    assert told in text
    assert text.endswith("They recommend nobody what the data say they have.")


@pytest.mark.usefixtures("undrawn")
def test_without_test_data_and_trace_a_report_is_still_made(outcome: Outcome) -> None:
    shape = next(iter(outcome.plans.values())).shape
    equal = {budget: SizePlan.equal(shape, 3) for budget in outcome.plans}
    bare = dataclasses.replace(outcome, shown="validation", trace=[], plans=equal)
    html = as_html(searched(bare))
    assert "Measured on validation" in html
    assert "What the search tried" not in html


def test_a_table_for_programs_and_one_for_notebooks(outcome: Outcome) -> None:
    table = outcome.table()
    assert table.columns[:4] == ["method", "budget", "kept", "valid_quality"]
    assert table["recall@20"].to_list() == [row.metrics["recall@20"] for row in outcome.rows]
    shown = outcome._repr_html_()
    assert summary(outcome).title in shown
    assert "<table>" in shown
    assert "<svg" not in shown
    kept = outcome.row("search", "20%").kept
    assert repr(outcome).endswith(f", {kept:.1%} of the quality kept in 20%)")
    assert len(repr(outcome)) < 100
    assert repr(next(iter(outcome.models.values()))).startswith("CompressedModel(mf, 150 users, 100 items, ")


def test_reports_are_made_of_parts_that_other_comparisons_can_use() -> None:
    table = Table("What won", [Column("Name"), Column("Value", "{:.2f}".format)], [("a", 1.5), ("b", None)])
    report = Report("Title", ["fact"], [], [Section("wins", "Who won", tables=[table])])
    assert "| b | – |" in as_markdown(report)
    assert '<td data-value="1.5" class="number">1.50</td>' in as_html(report)
