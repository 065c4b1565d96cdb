"""The lowest versions of all dependencies that pyproject.toml admits, as constraints: `python tests/lowest.py`."""

import re
import tomllib
from pathlib import Path


def lowest(project: dict[str, object]) -> list[str]:
    """`name==version` for every dependency, those of extras among them, as `>=` bounds it from below."""
    extras = project["optional-dependencies"]
    assert isinstance(extras, dict)
    assert isinstance(project["dependencies"], list)
    bounds = [*project["dependencies"], *(each for group in extras.values() for each in group)]
    pairs = [re.fullmatch(r"([\w.-]+)>=([\w.]+)", each) for each in bounds]
    return sorted({f"{pair[1]}=={pair[2]}" for pair in pairs if pair})


if __name__ == "__main__":
    print("\n".join(lowest(tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"])))
