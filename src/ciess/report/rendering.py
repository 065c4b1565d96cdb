"""Reports as files: one page of HTML that needs nothing beside it, and Markdown with its figures in a folder."""

from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ciess.errors import InputError
from ciess.report.palette import DARK, LIGHT
from ciess.report.parts import Report
from ciess.report.svg import inlined

FIGURES = "figures"


def write(report: Report, folder: Path) -> Path:
    """Write `report.html`, and `report.md` with its figures, into a folder; the path of the page.

    Raises:
        InputError: the folder cannot be written.
    """
    figures = {f"{figure.name}.svg": figure.svg for section in report.sections for figure in section.figures}
    page = folder / "report.html"
    try:
        (folder / FIGURES).mkdir(parents=True, exist_ok=True)
        for name, svg in figures.items():
            (folder / FIGURES / name).write_text(svg, encoding="utf-8")
        (folder / "report.md").write_text(as_markdown(report), encoding="utf-8")
        page.write_text(as_html(report), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror}): choose another folder") from error
    return page


def as_html(report: Report) -> str:
    """One page that loads nothing."""
    return _environment().get_template("report.html.jinja").render(report=report, light=LIGHT, dark=DARK)


def as_fragment(report: Report) -> str:
    """The answers and the tables as a part of another page, such as a notebook, in that page's style."""
    return _environment().get_template("fragment.html.jinja").render(report=report)


def as_markdown(report: Report) -> str:
    """The same as Markdown; its figures are files in `figures`."""
    return _environment().get_template("report.md.jinja").render(report=report, figures=FIGURES)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("ciess.report"),
        autoescape=lambda name: name is not None and ".html" in name,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["zip"] = zip
    environment.filters["inlined"] = lambda svg: Markup(inlined(svg))
    environment.filters["as_cell"] = lambda text: text.replace("|", "\\|")
    return environment
