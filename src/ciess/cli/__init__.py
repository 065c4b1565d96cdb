"""The command `ciess`: the same verbs as in Python, one file for each."""

import os
import sys
from collections.abc import Sequence

import tyro
from rich.console import Console

from ciess.cli.compare import Compare
from ciess.cli.compress import Compress
from ciess.cli.data import Data
from ciess.cli.demo import Demo
from ciess.cli.doctor import Doctor
from ciess.cli.estimate import EstimateCommand
from ciess.cli.export import Export
from ciess.cli.numbers import numbers
from ciess.cli.options import Printing
from ciess.cli.recommend import Recommend
from ciess.cli.search import Search
from ciess.errors import InputError

_ABOUT = """Small recommenders: an embedding size for every user and item, under a memory budget.

See it work with `ciess demo`, then try `ciess search YOUR_FILE`. Options: `ciess search --help`."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line. Bad input ends with exit code 2 and one sentence."""
    # PyTorch's threads would spin while they wait for each other: beside other programs that takes ten times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    command = tyro.extras.subcommand_cli_from_dict(
        {
            "search": Search,
            "compare": Compare,
            "compress": Compress,
            "recommend": Recommend,
            "export": Export,
            "data": Data,
            "estimate": EstimateCommand,
            "doctor": Doctor,
            "demo": Demo,
        },
        prog="ciess",
        description=_ABOUT,
        args=(sys.argv[1:] if args is None else args) or ["--help"],
        config=(tyro.conf.DisallowNone, tyro.conf.FlagCreatePairsOff, tyro.conf.PositionalMetavarFromFieldName),
        registry=numbers(),
    )
    try:
        printing = getattr(command, "printing", Printing())
        command.run(Console(stderr=printing.json, quiet=printing.quiet))
    except InputError as error:
        print(f"ciess: {error}", file=sys.stderr)
        sys.exit(2)
