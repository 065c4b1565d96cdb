"""What becomes of rare items, as all reports tell it."""

from collections.abc import Sequence

from ciess.report.forms import metric, percent
from ciess.report.parts import Table
from ciess.report.wording import label
from ciess.results.comparison import Line
from ciess.results.outcome import Row, tails_kept

MEANING = (
    "The tail are the rarest items that have at most half of all learned interactions together. Coverage is the share "
    "of all items that anybody is shown among the first 20, tail recall is Recall@20 of held-out items of the tail "
    "alone, and the Gini coefficient tells how unevenly the first 20 of all users are spread over items: 0 is evenly, "
    "near 1 is few items only."
)


def tail_table(lines: Sequence[Row | Line], shown: str) -> Table:
    """A row for each line of a result, measured on `shown`."""
    return Table.of(
        f"Rare items, measured on {shown}; kept is the share of the full model's tail recall",
        zip(lines, tails_kept(lines), strict=True),
        ("Model", str, lambda each: label(each[0].method)),
        ("Budget", str, lambda each: each[0].budget),
        ("Coverage", percent, lambda each: float(each[0].metrics["coverage@20"])),
        ("Tail recall", metric, lambda each: float(each[0].metrics["tail-recall@20"])),
        ("Gini", metric, lambda each: float(each[0].metrics["gini@20"])),
        ("Tail recall kept", percent, lambda each: each[1]),
    )
