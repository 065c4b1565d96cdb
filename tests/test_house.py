"""The rooms of the package: who may import whom, read from the table in CONTRIBUTING.md."""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import mutants
import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "ciess"
SECTION = (
    (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Where things are")[2].partition("\n## ")[0]
)
TABLE = re.findall(r"^\| `(\w+)/` \| (.*) \|$", SECTION, re.MULTILINE)
ROOMS = [room for room, _ in TABLE]
ALONE = ["errors", "checks", "escapes", "files", "stopping", "progress"]
"""Modules beside the rooms, each of which imports only those before it."""


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(SOURCE.rglob("*.py"))}


def imported(code: str) -> set[str]:
    """The modules of the package that code imports, within functions and for types alone, too."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports name whole modules"
            found |= {
                each if (each := f"{node.module}.{alias.name}") in MODULES else str(node.module) for alias in node.names
            }
    return {name for name in found if name.partition(".")[0] == "ciess"}


IMPORTS = {name: imported(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def test_imports_are_seen_wherever_they_stand() -> None:
    code = """
import ciess.errors
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from ciess.data import Split
def late():
    from ciess.tables import budget
    from numpy import array
"""
    assert imported(code) == {"ciess.errors", "ciess.data", "ciess.tables.budget"}


def test_no_module_imports_itself_through_others() -> None:
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


def test_rooms_import_only_rooms_before_them() -> None:
    # The package itself, which holds the public names, is for users and the command line.
    order = [*ALONE, *ROOMS[:-1], "", ROOMS[-1], "__main__"]
    wrong = []
    for name, imports in IMPORTS.items():
        room = (*name.split("."), "")[1]
        assert room in order, f"{name} stands in no room of the map"
        for other in imports:
            where = (*other.split("."), "")[1]
            if where != room and order.index(where) > order.index(room):
                wrong.append(f"{name} imports {other}")
    assert not wrong


def test_the_root_holds_next_to_nothing() -> None:
    assert {path.stem for path in SOURCE.glob("*.py")} == {"__init__", "__main__", *ALONE}


def test_the_map_shows_every_folder_and_fits_on_a_screen() -> None:
    assert len(SECTION.strip().splitlines()) <= 40
    folders = {path.parent.relative_to(SOURCE) for path in SOURCE.rglob("*.py")} - {Path()}
    assert {str(folder) for folder in folders if len(folder.parts) == 1} == {*ROOMS}
    told = dict(TABLE)
    for folder in folders:
        for inner in folder.parts[1:]:
            assert f"`{inner}/`" in told[folder.parts[0]], f"the map does not tell of {folder}"


def test_every_fault_of_the_campaign_stands_in_the_code_once() -> None:
    """Else the campaign, which takes long and so runs seldom, stops before it begins."""
    assert len({(each.file, each.fault) for each in mutants.listed()}) == len(mutants.listed()) > 300
