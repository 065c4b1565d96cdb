"""The one kind of error that the user can put right, and the boundary that makes one of what libraries raise."""

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LONGEST = 200
"""Characters of a value or reason that a sentence tells."""


class InputError(ValueError):
    """Bad input: one sentence that names the file, line or argument, and the remedy.

    The command line prints it without a traceback and ends with exit code 2.
    """


@contextmanager
def refused(problem: str, remedy: str) -> Iterator[None]:
    """Make one sentence of whatever a library raises, panics of polars and exhausted memory among them.

    To be put around calls that take apart what somebody else has written: NumPy, SciPy, polars and zip raise errors of
    any type there. Their warnings are dropped.

    Args:
        problem: what is wrong if they raise, such as `x.npz holds no sparse matrix`.
        remedy: what to do then.

    Raises:
        InputError: they raised.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except BaseException as error:
        # Polars' panics are no subclass of Exception, so that nothing catches them by chance.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise InputError(f"{problem} ({reason(error)}): {remedy}") from error


def reason(error: BaseException) -> str:
    """Why something was raised, in short."""
    if isinstance(error, MemoryError):
        return "not enough memory"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # As libraries written in Rust tell what the system said.
    if found := re.search(r"\(os error (\d+)\)", str(error)):
        return os.strerror(int(found[1]))
    text = str(error).strip().split("\n", 1)[0]
    return shortened(text) or type(error).__name__


def shortened(text: str) -> str:
    """A text, or its beginning where it is long."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
