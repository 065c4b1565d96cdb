import numpy as np
import pictures
import pytest

from ciess.methods import method_names
from ciess.tables.plan import SizePlan, TableShape


def test_a_picture_names_both_sides_and_repeats() -> None:
    shape = TableShape(40, 60, 16)
    plan = SizePlan.from_sizes(np.arange(100) % 16 + 1, shape)
    popularity = np.arange(40), np.arange(60) ** 2
    svg = pictures.picture("mine", plan, popularity)
    assert svg == pictures.picture("mine", plan, popularity)
    for word in ("users", "items", "size (dimensions kept)", "interactions of the user or item"):
        assert f">{word}<" in svg
    assert len(svg) < 40_000


@pytest.mark.parametrize("name", method_names(by_default=True))
def test_every_compared_method_has_a_picture_in_the_docs(name: str) -> None:
    svg = pictures.Pictures.out / f"{name}.svg"
    assert svg.stat().st_size < 40_000
    assert f"](methods/{name}.svg)" in (svg.parent.parent / "methods.md").read_text()
