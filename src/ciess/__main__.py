"""`python -m ciess`, and the command `ciess`."""

import sys


def run() -> None:
    """Run the command line; Ctrl-C ends it with one line even while it is being imported."""
    try:
        from ciess.cli import main

        main()
    except KeyboardInterrupt:
        print("ciess: stopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    run()
