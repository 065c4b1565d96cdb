"""Reports as files: one page of HTML that needs nothing beside it, and Markdown with its figures in a folder."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ciess.escapes import code_in_markdown, in_markdown, printable
from ciess.files import write_together
from ciess.report.palette import DARK, LIGHT
from ciess.report.parts import Report
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
