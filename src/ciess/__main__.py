"""`python -m ciess`."""

from ciess.cli import main

main()
