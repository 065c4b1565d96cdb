"""The tables of a comparison as text, for Markdown and LaTeX."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ciess.escapes import in_latex, in_markdown
from ciess.evaluation.metrics import TAIL_METRICS
from ciess.evaluation.significance import SIGNIFICANT, spelled_p
from ciess.results.comparison import ComparisonData, Gain, Line
from ciess.results.outcome import tails_kept


@dataclass(frozen=True)
class TextTable:
    """Words in rows. `**bold**` and `*slanted*` are marked as in Markdown.

    Attributes:
        title: what it shows.
        headings: of the columns.
        rows: as many entries each.
    """

    title: str
    headings: list[str]
    rows: list[list[str]]


def quality_table(comparison: ComparisonData) -> TextTable:
    """Every method at every budget: quality, and how it fares against equal sizes."""
    headings = [
        "budget",
        "method",
        "found by",
        "Recall@20",
        "NDCG@20",
        "kept",
        "over equal sizes",
        "p",
        "users better / same / worse",
    ]
    return TextTable("Quality", headings, [_quality_row(comparison, line) for line in comparison.lines])


def _quality_row(comparison: ComparisonData, line: Line) -> list[str]:
    gain = comparison.gain(line.method, line.budget)
    return [
        line.budget,
        line.method,
        ", ".join(line.found_by) if line.budget else "",
        *(line.metrics[metric].spelled("{:.4f}") for metric in ("recall@20", "ndcg@20")),
        line.kept.spelled("{:.1%}"),
        *(["", "", ""] if gain is None else _gain_entries(gain)),
    ]


def _gain_entries(gain: Gain) -> list[str]:
    entry = f"{gain.gain:+.1%} ({gain.low:+.1%} to {gain.high:+.1%})"
    mark = {1: "**", 0: "", -1: "*"}[gain.verdict]
    users = gain.better + gain.same + gain.worse
    shares = " / ".join(f"{part / users:.0%}" for part in (gain.better, gain.same, gain.worse))
    return [f"{mark}{entry}{mark}", spelled_p(gain.p_value), shares]


def frontier_table(comparison: ComparisonData) -> TextTable:
    """Quality against bytes, the smallest first."""
    lines = sorted(comparison.lines, key=lambda line: (line.table_bytes.mean, line.quality.mean))
    rows = [
        [
            f"{line.table_bytes.mean:,.0f}",
            f"**{line.method}**" if line.on_frontier else line.method,
            line.budget,
            line.quality.spelled("{:.4f}"),
            f"{line.user_size.mean:.1f} / {line.item_size.mean:.1f}",
            ", ".join(line.precision),
            ", ".join(comparison.beaten(line.method, line.budget)) if line.budget else "",
        ]
        for line in lines
    ]
    return TextTable(
        "Frontier", ["bytes", "method", "budget", "quality", "user / item size", "stored", "better than"], rows
    )


def tail_table(comparison: ComparisonData) -> TextTable:
    """What becomes of rare items."""
    rows = []
    for line, kept in zip(comparison.lines, tails_kept(comparison.lines), strict=True):
        told = (line.metrics[metric].spelled("{:.4f}") for metric in TAIL_METRICS)
        rows.append([line.budget, line.method, *told, "" if kept is None else f"{kept:.1%}"])
    return TextTable("Rare items", ["budget", "method", "coverage", "tail recall", "Gini", "tail recall kept"], rows)


def effort_table(comparison: ComparisonData) -> TextTable:
    """What each search did, the mean over seeds; for all budgets together."""
    rows = []
    for name in comparison.methods:
        cells = [cell for cell in comparison.cells if cell.method == name and cell.rows]
        if cells:
            counts = ([getattr(cell, count) for cell in cells] for count in ("trainings", "measurements", "finishes"))
            rows.append([name, *(f"{sum(each) / len(cells):,.0f}" for each in counts)])
    return TextTable("Effort", ["method", "trainings", "measurements", "finishes"], rows)


def failure_table(comparison: ComparisonData) -> TextTable:
    """What went wrong."""
    rows = [[cell.method, str(cell.seed), cell.error] for cell in comparison.failures]
    return TextTable("Failures", ["method", "seed", "what went wrong"], rows)


def markdown(comparison: ComparisonData) -> str:
    """All tables, with what their columns mean."""
    told, seeds = comparison.settings, comparison.settings["seeds"]
    count = told["data"]
    interactions = count["train"] + count["valid"] + count["test"]
    lines = [
        f"# Methods for {told['backbone']['name']}",
        "",
        f"{count['users']:,} users, {count['items']:,} items, {interactions:,} interactions.",
        f"Seeds {', '.join(map(str, seeds))}: mean ± standard deviation, on {comparison.shown}.",
        f"Precision: {told['precision']}. Every method had the same split, full model, fidelity and finish.",
        "",
    ]
    meaning = {
        "Quality": [
            "Found by: what found the size plans, the method or the simple rule that it started from. Kept: share of",
            "the full model's quality, which is the mean of Recall and NDCG at 5, 10 and 20.",
            "Over equal sizes: gain in quality, and its 95 % interval. **Bold** is significantly better, *slanted*",
            f"significantly worse (p < {SIGNIFICANT}): a paired t-test over users, whose gains are means over seeds,",
            "corrected after Holm for all methods and budgets. Users better, same, worse: by the same means.",
        ],
        "Frontier": [
            "**Bold**: no other line has more quality in as many bytes or fewer. Better than: significantly, at the",
            "same budget, corrected for all pairs.",
        ],
        "Rare items": [
            "Coverage: share of all items that anybody is shown among the first 20. Tail recall: Recall@20 of held-out",
            "items of the tail alone, the rarest ones that have at most half of all learned interactions together;",
            "kept: share of the full model's. Gini: how unevenly the first 20 are spread over items, 0 is evenly.",
        ],
        "Effort": [
            "Of a search for all budgets, a mean over seeds: models that it trained, by itself or to measure a plan;",
            "plans that it measured; and plans that were finished for it.",
        ],
        "Failures": [],
    }
    for table in _tables(comparison):
        lines += [f"## {table.title}", "", *meaning[table.title], *([""] if meaning[table.title] else [])]
        lines += [_markdown_row(row) for row in (table.headings, ["---"] * len(table.headings), *table.rows)]
        lines.append("")
    return "\n".join(lines)


def _tables(comparison: ComparisonData) -> list[TextTable]:
    tables = [each(comparison) for each in (quality_table, frontier_table, tail_table, effort_table)]
    return [*tables, failure_table(comparison)] if comparison.failures else tables


def _markdown_row(entries: Sequence[str]) -> str:
    return f"| {' | '.join(map(in_markdown, entries))} |"


def latex(comparison: ComparisonData) -> str:
    """The table of quality, for the package booktabs."""
    table = quality_table(comparison)
    rows = [" & ".join(map(_latex, row)) + r" \\" for row in table.rows]
    # A rule before each budget.
    starts = [number for number in range(1, len(rows)) if table.rows[number][0] != table.rows[number - 1][0]]
    for number in reversed(starts):
        rows.insert(number, r"\midrule")
    head = " & ".join(map(_latex, table.headings)) + r" \\"
    lines = [r"\begin{tabular}{lll" + "r" * (len(table.headings) - 3) + "}", r"\toprule", head, r"\midrule", *rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _latex(entry: str) -> str:
    entry = in_latex(entry)
    entry = re.sub(r"\*\*(.+?)\*\*", r"\\textbf{\1}", entry)
    entry = re.sub(r"\*(.+?)\*", r"\\textit{\1}", entry)
    return re.sub(r"([+-])(?=\d)", r"$\1$", entry)
