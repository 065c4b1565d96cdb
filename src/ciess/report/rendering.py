"""Reports as files: one page of HTML that needs nothing beside it, and Markdown with its figures in a folder."""

import itertools
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ciess.escapes import code_in_markdown, in_latex, in_markdown, printable
from ciess.files import write_together
from ciess.report.palette import DARK, LIGHT
from ciess.report.parts import Report, Table
from ciess.report.svg import inlined

PAGE, MARKDOWN, FIGURES = "report.html", "report.md", "figures"


def write(report: Report, folder: Path) -> Path:
    """Write `report.html`, and `report.md` with its figures, into a folder; the path of the page.

    Raises:
        InputError: the folder cannot be written.
    """
    write_together(folder, report_files(report))
    return folder / PAGE


def report_files(report: Report) -> dict[str, str]:
    """What `write` writes, by name."""
    figures = {f"{FIGURES}/{figure.name}.svg": figure.svg for section in report.sections for figure in section.figures}
    return {PAGE: as_html(report), MARKDOWN: as_markdown(report), **figures}


def as_html(report: Report) -> str:
    """One page that loads nothing."""
    return _html().get_template("report.html.jinja").render(report=report, light=LIGHT, dark=DARK)


def as_fragment(report: Report) -> str:
    """The answers and the tables as a part of another page, such as a notebook, in that page's style."""
    return _html().get_template("fragment.html.jinja").render(report=report)


def as_markdown(report: Report) -> str:
    """The same as Markdown; its figures are files in `figures`."""
    return _markdown().get_template("report.md.jinja").render(report=report, figures=FIGURES)


def as_latex(table: Table) -> str:
    """A table for the package booktabs, with a rule wherever its first column changes.

    Significant gains are bold, significant losses slanted.
    """
    lines = [" & ".join(map(in_latex, table.headings)) + r" \\"]
    for _, alike in itertools.groupby(zip(table.rows, table.cells, strict=True), lambda row: row[0][0]):
        rows = (map(_in_latex, values, (shown for _, shown in cells)) for values, cells in alike)
        lines += [r"\midrule", *(" & ".join(row) + r" \\" for row in rows)]
    columns = "".join("r" if number else "l" for number in table.numeric)
    return "\n".join([rf"\begin{{tabular}}{{{columns}}}", r"\toprule", *lines, r"\bottomrule", r"\end{tabular}", ""])


def _in_latex(value: Any, shown: str) -> str:
    command = {1: r"\textbf{%s}", 0: "%s", -1: r"\textit{%s}"}[getattr(value, "verdict", 0)]
    return command % re.sub(r"([+-])(?=\d)", r"$\1$", in_latex(shown))


@cache
def _html() -> Environment:
    environment = _environment(True, printable)
    environment.filters["zip"] = zip
    environment.filters["inlined"] = lambda svg: Markup(inlined(svg))
    return environment


@cache
def _markdown() -> Environment:
    environment = _environment(False, in_markdown)
    environment.filters["as_code"] = lambda text: Markup(code_in_markdown(text))
    return environment


def _environment(autoescape: bool, harmless: Callable[[str], str]) -> Environment:
    return Environment(
        loader=PackageLoader("ciess.report"),
        autoescape=autoescape,
        finalize=lambda value: harmless(value) if type(value) is str else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
