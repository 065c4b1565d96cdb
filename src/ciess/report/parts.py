"""What a report is made of, whatever it is written as."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, SupportsFloat, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        heading: what stands above it.
        form: from a value to what is shown; None is shown as a dash.
    """

    heading: str
    form: Callable[[Any], str] = str


@dataclass(frozen=True)
class Table:
    """Values under headings; what has a number, such as a mean and its deviation, is sorted by it, however it is shown.

    Attributes:
        caption: what the table says.
        columns: in order.
        rows: a value, or None where there is none, for each column.
        folded: shown when asked for only.
    """

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    folded: bool = False

    @classmethod
    def of(cls, things: Iterable[T], *columns: tuple[str, Callable[[Any], str], Callable[[T], Any]]) -> "Table":
        """A row for each thing; a column is its heading, how its values are shown, and what they are of a thing."""
        rows = [tuple(value_of(thing) for _, _, value_of in columns) for thing in things]
        return cls("", [Column(heading, form) for heading, form, _ in columns], rows)

    def showing(self, caption: str, *headings: str, folded: bool = False) -> "Table":
        """Those of the columns that have these headings, in their order."""
        places = [self.headings.index(heading) for heading in headings]
        rows = [tuple(row[place] for place in places) for row in self.rows]
        return Table(caption, [self.columns[place] for place in places], rows, folded)

    @property
    def headings(self) -> list[str]:
        """What stands above each column."""
        return [column.heading for column in self.columns]

    @property
    def cells(self) -> list[list[tuple[Any, str]]]:
        """What each value is sorted by, and what is shown for it."""
        return [
            [
                (_key(value), "–" if value is None else column.form(value))
                for value, column in zip(row, self.columns, strict=True)
            ]
            for row in self.rows
        ]

    @property
    def numeric(self) -> list[bool]:
        """Of each column, whether all its values are numbers."""
        return [
            all(row[place] is None or isinstance(row[place], SupportsFloat) for row in self.rows)
            for place in range(len(self.columns))
        ]


def _key(value: Any) -> Any:
    return float(value) if isinstance(value, SupportsFloat) and not isinstance(value, int) else value


@dataclass(frozen=True)
class Figure:
    """A drawing.

    Attributes:
        name: of its file, unique in a report.
        caption: what it shows and how to read it.
        alt: what it says, for those who do not see it.
        svg: the drawing, see `ciess.report.svg.drawn`.
    """

    name: str
    caption: str
    alt: str
    svg: str


@dataclass(frozen=True)
class Section:
    """A question and what answers it.

    Attributes:
        name: for links.
        heading: the question.
        text: paragraphs.
        figures: side by side where there is room.
        tables: beneath the figures.
        code: to be copied.
    """

    name: str
    heading: str
    text: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    code: str = ""


@dataclass(frozen=True)
class Bar:
    """One line of a card: a share of the longest bar, at most 1, and its colour by role."""

    label: str
    value: str
    share: float
    role: str


@dataclass(frozen=True)
class Card:
    """The answer for one budget.

    Attributes:
        heading: which budget.
        value: the number that matters.
        label: what it is a number of.
        bars: what it is compared with.
        notes: sentences.
    """

    heading: str
    value: str
    label: str
    bars: Sequence[Bar]
    notes: Sequence[str]


@dataclass(frozen=True)
class Report:
    """What a run came to, as people read it; made into files by `ciess.report.write`.

    Attributes:
        title: the answer in one sentence.
        facts: what was measured on what.
        cards: the answer for each budget.
        sections: the rest.
    """

    title: str
    facts: Sequence[str]
    cards: Sequence[Card]
    sections: Sequence[Section]
