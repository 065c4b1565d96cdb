"""The one kind of error that the user can put right."""


class InputError(ValueError):
    """Bad input: one sentence that names the file, line or argument, and the remedy.

    The command line prints it without a traceback and ends with exit code 2.
    """
