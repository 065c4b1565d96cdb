"""Results for people: a page of HTML and Markdown with tables and figures."""

from ciess.report.compared import compared as compared
from ciess.report.compared import in_tables as in_tables
from ciess.report.compared import overview as overview
from ciess.report.parts import Column as Column
from ciess.report.parts import Report as Report
from ciess.report.parts import Section as Section
from ciess.report.parts import Table as Table
from ciess.report.rendering import as_fragment as as_fragment
from ciess.report.rendering import as_html as as_html
from ciess.report.rendering import as_latex as as_latex
from ciess.report.rendering import as_markdown as as_markdown
from ciess.report.rendering import report_files as report_files
from ciess.report.rendering import write as write
from ciess.report.searched import searched as searched
from ciess.report.searched import summary as summary
from ciess.report.tables import comparison_table as comparison_table
from ciess.report.tables import outcome_table as outcome_table
