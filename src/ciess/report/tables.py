"""The columns of results: what they are called and how their values are spelled, wherever they are shown."""

from collections.abc import Callable, Sequence
from typing import Any

from ciess.evaluation.significance import spelled_p
from ciess.report.forms import metric, percent, points, tenths, times, whole
from ciess.report.parts import Table
from ciess.report.wording import label, trained
from ciess.results.comparison import ComparisonData, Gain, Line, Spread
from ciess.results.outcome import FULL, OutcomeData, Row, tails_kept

TAIL = (
    "The tail are the rarest items that have at most half of all learned interactions together. Coverage is the share "
    "of all items that anybody is shown among the first 20, tail recall is Recall@20 of held-out items of the tail "
    "alone, and the Gini coefficient tells how unevenly the first 20 of all users are spread over items: 0 is evenly, "
    "near 1 is few items only."
)
_VERDICTS = {1: "better", 0: "no", -1: "worse"}


def outcome_table(outcome: OutcomeData) -> Table:
    """All columns of a search's lines."""
    full, quality = outcome.row(FULL), float(outcome.evaluations[FULL, ""].quality.mean())

    def of_gain(row: Row) -> Any:
        return outcome.gains.get((row.method, row.budget))

    return Table.of(
        outcome.rows,
        ("Model", str, lambda row: label(row.method)),
        ("Found by", str, lambda row: label(row.found_by) if row.budget else None),
        ("Vs equal sizes", points, lambda row: gain.gain / quality if (gain := of_gain(row)) else None),
        ("p", spelled_p, lambda row: gain.p_value if (gain := of_gain(row)) else None),
        ("Smaller", times, lambda row: full.table_bytes / row.table_bytes),
        ("Stored", str, lambda row: str(row.precision)),
        ("Seconds", whole, lambda row: row.seconds),
        *_shared(outcome.rows),
    )


def comparison_table(comparison: ComparisonData) -> Table:
    """All columns of a comparison's lines; gains are over equal sizes, as shares of their quality."""

    def of_gain(value_of: Callable[[Gain], Any]) -> Callable[[Line], Any]:
        def found(line: Line) -> Any:
            gain = comparison.gain(line.method, line.budget)
            return None if gain is None else value_of(gain)

        return found

    return Table.of(
        comparison.lines,
        ("Method", str, lambda line: label(line.method)),
        ("Found by", str, lambda line: ", ".join(map(label, line.found_by)) if line.budget else None),
        ("Gain, %", lambda gain: points(gain.gain), of_gain(lambda gain: gain)),
        ("95% interval", str, of_gain(interval)),
        ("p", spelled_p, of_gain(lambda gain: gain.p_value)),
        ("Significant", str, of_gain(lambda gain: _VERDICTS[gain.verdict])),
        ("Users better", percent, of_gain(lambda gain: gain.better / gain.users)),
        ("Same", percent, of_gain(lambda gain: gain.same / gain.users)),
        ("Worse", percent, of_gain(lambda gain: gain.worse / gain.users)),
        ("Stored", str, lambda line: ", ".join(line.precision)),
        ("On the frontier", str, lambda line: "yes" if line.on_frontier else None),
        *_shared(comparison.lines),
    )


def rare_items(table: Table, shown: str) -> Table:
    """What becomes of rare items, as measured on `shown`: a part of the columns of one of the above."""
    caption = f"Rare items, measured on {shown}; kept is the share of the full model's tail recall"
    name = table.columns[0].heading
    return table.showing(caption, name, "Budget", "Coverage", "Tail recall", "Gini", "Tail kept")


def interval(gain: Gain) -> str:
    """Of a gain, in percent."""
    return f"{points(gain.low)} to {points(gain.high)}".replace(" ", "\N{NO-BREAK SPACE}")


def _shared(lines: Sequence[Row | Line]) -> list[tuple[str, Callable[[Any], str], Callable[[Any], Any]]]:
    tails = {(line.method, line.budget): kept for line, kept in zip(lines, tails_kept(lines), strict=True)}
    return [
        ("Budget", str, lambda line: line.budget),
        ("Recall@20", _with_deviation(metric), lambda line: line.metrics["recall@20"]),
        ("NDCG@20", _with_deviation(metric), lambda line: line.metrics["ndcg@20"]),
        ("Kept", _with_deviation(percent), lambda line: line.kept),
        ("Coverage", _with_deviation(percent), lambda line: line.metrics["coverage@20"]),
        ("Tail recall", _with_deviation(metric), lambda line: line.metrics["tail-recall@20"]),
        ("Gini", _with_deviation(metric), lambda line: line.metrics["gini@20"]),
        ("Tail kept", percent, lambda line: tails[line.method, line.budget]),
        ("Bytes", whole, lambda line: float(line.table_bytes)),
        ("User size", tenths, lambda line: float(line.user_size)),
        ("Item size", tenths, lambda line: float(line.item_size)),
        ("Training", trained, lambda line: line.converged),
    ]


def _with_deviation(form: Callable[[float], str]) -> Callable[[float | Spread], str]:
    """Mean ± standard deviation where there is one."""
    return lambda value: (
        " ± ".join(form(part) for part in value if part is not None) if isinstance(value, Spread) else form(value)
    )
