"""The command `ciess`: the same verbs as in Python, one file for each."""

import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, NoReturn

import tyro

from ciess.cli.apply import Apply
from ciess.cli.compare import Compare
from ciess.cli.compress import Compress
from ciess.cli.data import Data
from ciess.cli.demo import Demo
from ciess.cli.distribute import Distribute
from ciess.cli.doctor import Doctor
from ciess.cli.estimate import EstimateCommand
from ciess.cli.export import Export
from ciess.cli.options import Printing, with_options
from ciess.cli.printing import console_of, drop, prepare, say
from ciess.cli.recommend import Recommend
from ciess.cli.search import Search
from ciess.cli.stream import Stream
from ciess.cli.values import dashed_values, values
from ciess.cli.words import boxed, check_words, options_of, subcommands
from ciess.errors import InputError, reason
from ciess.stopping import Stopped, stopping

COMMANDS: dict[str, type[Any]] = {
    "search": Search,
    "compare": Compare,
    "stream": Stream,
    "compress": Compress,
    "apply": Apply,
    "distribute": Distribute,
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
"""Exit code of what cannot be done."""
_BY_SIGNAL, _UNREAD = 128, 141
"""What shells expect of a program that a signal stopped: 128 and its number; 141 where nobody reads what it prints."""
_SPINS = "1000"
"""Looks that a thread of PyTorch takes for the others before it sleeps. Without any, a training takes twice as long on
two cores; with 100,000, fewer than usual, 10 to 80 times as long beside another program; with these, as on one core."""
_GOES_ON = ("search", "compare", "stream", "compress", "apply", "distribute", "demo", "data")
"""Commands that go on from where they were stopped."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line.

    What cannot be done ends with exit code 2 and one sentence: bad input, a file that cannot be written, too little
    memory. Ctrl-C ends with 130 and one line, SIGTERM with 143 and one, a reader that has enough, such as `head`, with
    141 and none.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "passive"
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
    prepare()
    given = list(sys.argv[1:] if args is None else args) or ["--help"]
    try:
        with stopping():
            if given == ["--version"]:
                print(f"ciess {version('ciess')}")
            else:
                command = _parsed(given)
                command.run(console_of(getattr(command, "printing", Printing())))
        # What fails to be written must not fail after this. There may be no output at all.
        if sys.stdout is not None:
            sys.stdout.flush()
    except InputError as error:
        _refuse(with_options(str(error)))
    except KeyboardInterrupt as end:
        note = ": the same command goes on from here" if given[0] in _GOES_ON else ""
        say(f"stopped{note}")
        sys.exit(_BY_SIGNAL + (end.number if isinstance(end, Stopped) else signal.SIGINT))
    except BrokenPipeError:
        drop(sys.stdout)
        sys.exit(_UNREAD)
    except OSError as error:
        drop(sys.stdout)
        what = f"{error.filename} cannot be used" if error.filename else "what was found cannot be printed"
        _refuse(f"{what} ({reason(error)}): make room, or choose another place")
    except (MemoryError, RuntimeError) as error:
        if not _is_memory(error):
            raise
        _refuse("there is not enough memory: take fewer dimensions or interactions, see ciess estimate")


def _refuse(sentence: str) -> NoReturn:
    say(sentence)
    sys.exit(_REFUSED)


def _is_memory(error: Exception) -> bool:
    """Whether it tells of too little memory; PyTorch has no type of its own for that."""
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error) or "out of memory" in str(error)


def _parsed(args: list[str]) -> Any:
    check_words(args, COMMANDS)
    if args[0] == "recommend":
        for name in ("--users", "--items"):
            args = dashed_values(args, name, set(options_of(Recommend)))
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
        below = [each for each in args[1:2] if each in subcommands(COMMANDS[args[0]])]
        raise InputError(f"{boxed(box.getvalue())}: see ciess {' '.join([args[0], *below])} --help") from None
