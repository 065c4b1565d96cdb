"""The wheel, installed beside nothing but what it asks for."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
USES_ITS_FILES = """
import ciess
from ciess.report import Report, as_html, as_markdown
assert "<title>It works</title>" in as_html(Report("It works", [], [], []))
assert as_markdown(Report("It works", [], [], [])).startswith("# It works")
print(ciess.__file__)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel; what it depends on is read from the one that runs this test."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run([*pip, *build], check=True)
    [wheel] = folder.glob("ciess-*.whl")
    environment = folder / "environment"
    venv.create(environment)
    python = environment / "bin" / "python"
    subprocess.run([*pip, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)], check=True)
    [packages] = environment.glob("lib/python*/site-packages")
    # A path in such a file is searched; the files of this kind that it holds itself, an editable ciess', are not read.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return environment


def run(installed: Path, *command: str) -> str:
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [installed / "bin" / command[0], *command[1:]],
        check=True,
        capture_output=True,
        text=True,
        env=clean,
        cwd=installed,
    )
    return done.stdout


def test_the_wheel_brings_all_that_it_needs(installed: Path) -> None:
    assert str(installed) in run(installed, "python", "-c", USES_ITS_FILES)
    [package] = installed.glob("lib/python*/site-packages/ciess")
    assert (package / "py.typed").is_file()
    assert list(package.parent.glob("ciess-*.dist-info/licenses/LICENSE"))


def test_the_command_runs(installed: Path) -> None:
    assert "search" in run(installed, "ciess", "--help")
