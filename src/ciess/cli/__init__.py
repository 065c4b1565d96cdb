"""The command `ciess`: the same verbs as in Python, one file for each."""

import contextlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import tyro
from rich.console import Console

from ciess.cli.compare import Compare
from ciess.cli.compress import Compress
from ciess.cli.data import Data
from ciess.cli.demo import Demo
from ciess.cli.doctor import Doctor
from ciess.cli.estimate import EstimateCommand
from ciess.cli.export import Export
from ciess.cli.options import Printing
from ciess.cli.recommend import Recommend
from ciess.cli.search import Search
from ciess.cli.values import dashed_values, values
from ciess.cli.words import boxed, check_words, options_of
from ciess.errors import InputError

COMMANDS: dict[str, type[Any]] = {
    "search": Search,
    "compare": Compare,
    "compress": Compress,
    "recommend": Recommend,
    "export": Export,
    "data": Data,
    "estimate": EstimateCommand,
    "doctor": Doctor,
    "demo": Demo,
}
_ABOUT = """Small recommenders: embedding sizes for users and items, under a memory budget.

Begin with `ciess demo`, then `ciess search YOUR_FILE`; see `ciess --version`."""
_REFUSED = 2
"""Exit code of bad input."""
_STOPPED = 130
"""What shells expect of a program that was stopped by Ctrl-C: 128 and the signal's number."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line. Bad input ends with exit code 2 and one sentence, Ctrl-C with 130 and one line."""
    # PyTorch's threads would spin while they wait for each other: beside other programs that takes ten times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    given = list(sys.argv[1:] if args is None else args) or ["--help"]
    try:
        if given == ["--version"]:
            print(f"ciess {version('ciess')}")
        else:
            _run(_parsed(given))
        # What fails to be written must not fail after this.
        sys.stdout.flush()
    except InputError as error:
        print(f"ciess: {error}", file=sys.stderr)
        sys.exit(_REFUSED)
    except KeyboardInterrupt:
        note = ": the same command goes on from here" if given[0] == "compare" else ""
        print(f"ciess: stopped{note}", file=sys.stderr)
        sys.exit(_STOPPED)
    except BrokenPipeError:
        # Who reads, such as `head`, has enough. What is still to be written at the end must go somewhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parsed(args: list[str]) -> Any:
    check_words(args, COMMANDS)
    if args[0] == "recommend":
        args = dashed_values(args, "--users", set(options_of(Recommend)))
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return tyro.extras.subcommand_cli_from_dict(
                dict[str, Callable[..., Any]](COMMANDS),
                prog="ciess",
                description=_ABOUT,
                args=args,
                config=(tyro.conf.DisallowNone, tyro.conf.FlagCreatePairsOff, tyro.conf.PositionalMetavarFromFieldName),
                registry=values(),
            )
    except SystemExit as end:
        if end.code != _REFUSED:
            raise
        raise InputError(f"{boxed(box.getvalue())}: see ciess {args[0]} --help") from None


def _run(command: Any) -> None:
    printing = getattr(command, "printing", Printing())
    command.run(Console(stderr=printing.json, quiet=printing.quiet))
