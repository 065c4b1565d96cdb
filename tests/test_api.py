"""The package's door: what is public, and that looking at it costs nothing."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import ciess

ROOT = Path(__file__).parent.parent


def test_dir_shows_the_public_api_and_all_of_it_is_there() -> None:
    assert dir(ciess) == sorted([*ciess.__all__, "__version__"])
    assert set(ciess.__all__) == set(ciess._ROOMS)
    for name in ciess.__all__:
        assert getattr(ciess, name).__doc__, name


def test_the_version_is_that_of_the_distribution() -> None:
    assert ciess.__version__ == importlib.metadata.version("ciess")


def test_types_are_told_for_every_name() -> None:
    """What editors and mypy see is what is imported."""
    typed = re.findall(r"^    from ciess\.(\S+) import (.+)$", (ROOT / "src/ciess/__init__.py").read_text(), re.M)
    assert {name: room for room, names in typed for name in names.split(", ")} == ciess._ROOMS


def test_importing_and_looking_around_loads_nothing_heavy() -> None:
    script = (
        "import sys, ciess; dir(ciess), ciess.__version__, ciess.InputError, ciess.__all__;"
        "print(*{'torch', 'numpy', 'scipy', 'polars'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "\n"


def test_docs_and_examples_use_public_names_alone() -> None:
    texts = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.ipynb")]
    inner = {path.name: re.findall(r"(?:from|import) ciess\.\S+", path.read_text()) for path in texts}
    assert {name: found for name, found in inner.items() if found} == {}
