"""Names, ids and paths of others in terminals, Markdown and LaTeX, where letters of theirs would be obeyed.

HTML is escaped by its templates, JSON by its writer. Files that are read again, such as CSV, hold ids as they are.
"""

import re

_CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What terminals obey, but for line ends; among it what turns the direction of writing."""
_MARKDOWN = str.maketrans({"&": "&amp;", "<": "&lt;", "|": "&#124;", "[": "\\[", "\n": " "})
"""HTML, entries of tables, links and pictures."""
_LATEX = str.maketrans(
    {
        **{mark: f"\\{mark}" for mark in "%&_#${}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "−": "-",
        "–": "--",
        "\N{NO-BREAK SPACE}": "~",
    }
)


def printable(text: str) -> str:
    """A text with its control characters spelled out, such as `\\x1b` for an escape."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def in_markdown(text: str) -> str:
    """A text as a part of Markdown: nothing in it is HTML, ends an entry of a table, or loads anything."""
    return printable(text).translate(_MARKDOWN)


def code_in_markdown(text: str) -> str:
    """A text as a block of code, within a fence that it does not end."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{printable(text)}\n{fence}"


def in_latex(text: str) -> str:
    """A text as a part of LaTeX: nothing in it is a command."""
    return printable(text).translate(_LATEX)
