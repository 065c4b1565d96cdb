import re
from xml.etree import ElementTree

import matplotlib
import pytest
from matplotlib.axes import Axes

from ciess.report.forms import in_bytes, percent, points, times
from ciess.report.palette import DARK, LIGHT, OTHERS, STEPS, method_roles, step_roles
from ciess.report.svg import drawn, inlined


def paint(axes: Axes) -> None:
    axes.plot([1, 2, 3], [2, 1, 3], color=LIGHT["accent"], marker="o", label="R&D <b>")
    axes.legend()


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_everything_can_be_read_on_its_paper(palette: dict[str, str]) -> None:
    def contrast(role: str, ground: str) -> float:
        dim, bright = sorted(luminance(palette[each]) for each in (role, ground))
        return (bright + 0.05) / (dim + 0.05)

    for role in palette:
        if role not in ("paper", "raised", "rule"):
            least = 3.0 if role.startswith("step") else 4.5
            assert min(contrast(role, "paper"), contrast(role, "raised") + 0.3) >= least, role


def test_no_colour_stands_for_two_things() -> None:
    assert len(set(LIGHT.values())) == len(LIGHT)
    assert set(DARK) == set(LIGHT)
    assert method_roles(["equal", "pep", "ciess", "bet"], "ciess") == {
        "equal": "equal",
        "pep": "other-1",
        "ciess": "accent",
        "bet": "other-2",
    }
    many = method_roles([str(number) for number in range(OTHERS + 3)], "0")
    assert {*many.values()} == {"accent", "equal", *(f"other-{number + 1}" for number in range(OTHERS))}
    assert step_roles(1) == ["step-1"]
    assert step_roles(3) == ["step-1", "step-3", "step-6"]
    assert len(set(step_roles(STEPS))) == STEPS
    assert len(step_roles(STEPS + 3)) == STEPS + 3


def test_a_figure_is_the_same_whatever_the_user_has_set() -> None:
    first = drawn("x", paint)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path"}):
        again = drawn("x", paint)
        assert matplotlib.rcParams["font.size"] == 30
    assert again == first
    root = ElementTree.fromstring(first)
    assert "R&D <b>" in [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]


def test_inlined_figures_follow_the_page_and_keep_to_themselves() -> None:
    one, other = (inlined(drawn(name, paint)) for name in ("one", "other"))
    assert re.findall(r"#[0-9a-f]{6}\b", one) == [], "every colour is the page's"
    assert "stroke: var(--accent)" in one
    assert "R&amp;D &lt;b&gt;" in one
    for unwanted in ("<?xml", "<!DOCTYPE", "<style", "<metadata", "font-family", "DejaVu"):
        assert unwanted not in one
    names = [set(re.findall(r' id="([^"]+)"', svg)) for svg in (one, other)]
    assert names[0]
    assert names[0].isdisjoint(names[1])
    assert names[0] == set(re.findall(r"#([^\")]+)[\")]", one)), "all that is named is used, and the other way round"


def test_numbers_as_people_read_them() -> None:
    shown = {0: "0 B", 999: "999 B", 1000: "1 kB", 999_600: "1 MB", 4_761_600: "4.76 MB", 238_080: "238 kB"}
    assert {count: in_bytes(count).replace("\N{NO-BREAK SPACE}", " ") for count in shown} == shown
    assert [points(each) for each in (0.0312, -0.004, 0.0004, -0.0)] == ["+3.1", "−0.4", "0.0", "0.0"]
    assert [times(each) for each in (1, 5.118, 20, 1234.5)] == ["1×", "5.12×", "20×", "1234×"]
    assert percent(0.9086) == "90.9%"
