"""The help of every command as one page: `python -m ciess.cli.reference > docs/cli.md`."""

import contextlib
import io
import os
import re
from collections.abc import Iterator

from ciess.cli import main

_HEAD = """# Commands

What each command prints with `--help`. Written by `python -m ciess.cli.reference > docs/cli.md`.
"""


def helps(*command: str) -> Iterator[tuple[str, str]]:
    """A command as typed and its help, then the same of its sub-commands."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([*command, "--help"])
    text = "\n".join(line.rstrip() for line in printed.getvalue().strip().splitlines())
    yield " ".join(["ciess", *command]), text
    if below := re.match(r"usage: .*\{(.+)\}", text):
        for name in below[1].split(","):
            yield from helps(*command, name)


def page() -> str:
    """All of it in Markdown."""
    return "\n".join([_HEAD, *(f"## {command}\n\n```text\n{text}\n```\n" for command, text in helps())])


if __name__ == "__main__":
    os.environ["COLUMNS"] = "80"
    print(page(), end="")
