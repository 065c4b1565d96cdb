"""Figures as SVG: text stays text, colours can follow the page."""

import re
from collections.abc import Callable
from io import StringIO
from typing import TYPE_CHECKING, Any

from ciess.report.palette import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 400, 280
"""In pixels: a figure is read at half a page's width and on a telephone, at nearly its own size."""

_STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 11.0,
    "axes.edgecolor": LIGHT["muted"],
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": LIGHT["ink"],
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": LIGHT["paper"],
    "grid.color": LIGHT["rule"],
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.labelcolor": LIGHT["ink"],
    "lines.linewidth": 1.8,
    "lines.markersize": 5.5,
    "svg.fonttype": "none",
    "text.color": LIGHT["ink"],
    "xtick.color": LIGHT["muted"],
    "ytick.color": LIGHT["muted"],
}


def drawn(name: str, paint: Callable[["Axes"], None], height: int = HEIGHT) -> str:
    """An SVG of what is painted into empty axes, whatever the user's own settings are.

    The same name and painting give the same text.
    """
    import matplotlib
    from matplotlib.figure import Figure

    text = StringIO()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE | {"svg.hashsalt": name})
        # No window system takes part, and nothing is left behind.
        figure = Figure(figsize=(WIDTH / 72, height / 72), layout="constrained")
        paint(figure.add_subplot())
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()


def inlined(svg: str) -> str:
    """The SVG as part of a page: its colours are the page's variables, and its names are its own."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"^<svg[^>]*?viewBox=\"([^\"]*)\"[^>]*>", r'<svg viewBox="\1" aria-hidden="true">', svg)
    used = set(re.findall(r"#([\w-]+)[\")]", svg))
    svg = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", svg)
    svg = re.sub(r' transform="rotate\(-0 [^"]*"', "", svg)
    svg = re.sub(
        r"font-family: [^;\"]*;?|font: ([\d.]+px) [^;\"]*", lambda f: f"font-size: {f[1]}" if f[1] else "", svg
    )
    for role, colour in LIGHT.items():
        svg = svg.replace(colour, f"var(--{role})")
    return re.sub(r"\n\s*", "\n", svg)
