"""Results for people: a page of HTML and Markdown with tables and figures."""

from ciess.report.compared import compared, in_tables, overview
from ciess.report.parts import Bar, Card, Column, Figure, Report, Section, Table
from ciess.report.rendering import as_fragment, as_html, as_latex, as_markdown, report_files, write
from ciess.report.searched import searched, summary
from ciess.report.tables import comparison_table, outcome_table

__all__ = [
    "Bar",
    "Card",
    "Column",
    "Figure",
    "Report",
    "Section",
    "Table",
    "as_fragment",
    "as_html",
    "as_latex",
    "as_markdown",
    "compared",
    "comparison_table",
    "in_tables",
    "outcome_table",
    "overview",
    "report_files",
    "searched",
    "summary",
    "write",
]
