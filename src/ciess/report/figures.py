"""The figures of reports, each by what it shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ciess.report.forms import in_bytes, percent, points, tenths, whole
from ciess.report.measures import GROUPS, Share, SizesByPopularity
from ciess.report.palette import LIGHT, MARKERS
from ciess.report.parts import Figure
from ciess.report.svg import HEIGHT, drawn

if TYPE_CHECKING:
    # Imported where something is drawn: it takes a second, which every command would wait for.
    from matplotlib.axes import Axes

_LEGEND_ROW, _GAIN_ROW = 14, 9
"""Heights in pixels, of a row of a legend and of one interval."""


@dataclass(frozen=True)
class Line:
    """What is drawn as one line: its name, its colour by role, and its marker."""

    label: str
    role: str
    marker: str


def frontier(lines: Mapping[Line, Sequence[tuple[int, Share]]], full_bytes: int, whiskers: str) -> Figure:
    """Quality kept against bytes, a line for each method; the full model at the right end.

    Args:
        lines: bytes and share of the full model's quality, for each budget.
        full_bytes: of the full tables.
        whiskers: what the ends of the shares are; empty where they are the shares themselves.
    """

    def paint(axes: "Axes") -> None:
        axes.axhline(1, color=LIGHT["full"], linewidth=1, linestyle=(0, (4, 3)))
        for line, places in lines.items():
            at = sorted(places, key=lambda place: place[0])
            axes.errorbar(
                [size for size, _ in at],
                [kept.value for _, kept in at],
                yerr=[[kept.value - kept.low for _, kept in at], [kept.high - kept.value for _, kept in at]],
                color=LIGHT[line.role],
                marker=line.marker,
                capsize=2.5,
                elinewidth=1,
                label=line.label,
            )
        axes.plot([full_bytes], [1], color=LIGHT["full"], marker="*", markersize=10, linestyle="", label="full model")
        axes.set_xscale("log")
        from matplotlib.ticker import LogLocator, NullLocator

        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda size, _: in_bytes(size))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.tick_params(axis="x", labelrotation=30)
        _in_percent(axes)
        axes.set_xlabel("bytes of both tables")
        axes.set_ylabel("quality kept")
        # Beside the lines no corner is always free: a small model can be better than the full one.
        _legend_above(axes)

    told = "; ".join(
        f"{line.label} " + ", ".join(f"{percent(kept.value)} in {in_bytes(size)}" for size, kept in places)
        for line, places in lines.items()
    )
    return Figure(
        "frontier",
        "Quality kept against bytes. Up is better, left is smaller"
        + (f"; whiskers are {whiskers}." if whiskers else "."),
        f"Share of the full model's quality by bytes: {told}. The full model has {in_bytes(full_bytes)}.",
        drawn("frontier", paint, HEIGHT + _LEGEND_ROW * (len(lines) // 2 + 1)),
    )


def gains(lines: Mapping[Line, Sequence[tuple[str, Share]]], rows: str, unit: str) -> Figure:
    """What is gained over equal sizes, with its interval.

    Args:
        lines: name of a row, and the gain there.
        rows: what the rows are.
        unit: what a gain of 0.01 is one of.
    """
    names = list(dict.fromkeys(name for places in lines.values() for name, _ in places))
    apart = 0.7 / len(lines)

    def paint(axes: "Axes") -> None:
        axes.axvline(0, color=LIGHT["equal"], linewidth=1.4, linestyle=(0, (4, 3)))
        for number, (line, places) in enumerate(lines.items()):
            shift = (number - (len(lines) - 1) / 2) * apart
            axes.errorbar(
                [gain.value for _, gain in places],
                [names.index(name) + shift for name, _ in places],
                xerr=[[gain.value - gain.low for _, gain in places], [gain.high - gain.value for _, gain in places]],
                color=LIGHT[line.role],
                marker=line.marker,
                linestyle="",
                capsize=3,
                label=line.label,
            )
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        from matplotlib.ticker import MaxNLocator

        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(lambda gain, _: points(gain))
        axes.set_xlabel(f"{unit}, against equal sizes")
        if rows == "budget":
            axes.set_ylabel(rows)
        if len(lines) > 1:
            _legend_above(axes)

    told = "; ".join(
        f"{line.label}: "
        + ", ".join(f"{name} {points(gain.value)} ({points(gain.low)} to {points(gain.high)})" for name, gain in at)
        for line, at in lines.items()
    )
    return Figure(
        "gains",
        "What is gained over equal sizes of the same bytes. Right of the dashed line is better; where the interval "
        "crosses the line, chance explains the difference.",
        f"Differences from equal sizes in {unit}, with 95% intervals: {told}.",
        drawn("gains", paint, max(HEIGHT, _GAIN_ROW * len(names) * len(lines) + HEIGHT // 3)),
    )


def sizes(side: str, lines: Mapping[Line, SizesByPopularity], dim: int) -> Figure:
    """Sizes against popularity, a line for each budget.

    Args:
        side: `users` or `items`.
        lines: of each budget.
        dim: the largest size.
    """

    def paint(axes: "Axes") -> None:
        paint_sizes(axes, lines, dim)
        axes.set_xlabel(f"interactions of the {side[:-1]}")
        axes.legend(loc="best", title="budget")

    told = "; ".join(
        f"at {line.label} from {tenths(found.mean[0])} for the least popular to {tenths(found.mean[-1])} for the most"
        for line, found in lines.items()
    )
    return Figure(
        f"sizes-{side}",
        f"Sizes of {side} by popularity: the mean of {side} of like popularity, and the band that holds 80% of them.",
        f"Mean sizes of {side}, {told}; a full row has {dim} dimensions.",
        drawn(f"sizes-{side}", paint),
    )


def paint_sizes(axes: "Axes", lines: Mapping[Line, SizesByPopularity], dim: int) -> None:
    """Sizes against popularity into empty axes, both on scales of doublings or tens; see `sizes`."""
    for line, found in lines.items():
        popular = np.maximum(found.popularity, 1)
        axes.fill_between(popular, found.low, found.high, color=LIGHT[line.role], alpha=0.14, linewidth=0)
        axes.plot(popular, found.mean, color=LIGHT[line.role], marker=line.marker, markersize=4, label=line.label)
    axes.set_xscale("log")
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
    axes.xaxis.set_major_formatter(lambda count, _: whole(count))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter(lambda size, _: whole(size))
    axes.set_ylim(0.9, dim * 1.1)
    axes.set_ylabel("size (dimensions kept)")


def by_decile(side: str, lines: Mapping[Line, NDArray[np.float64]]) -> Figure:
    """Quality kept by popularity, a line for each method and budget; lines of equal sizes are dashed.

    Args:
        side: `users` or `items`.
        lines: (10,) shares, NaN where there is nothing to keep.
    """

    def paint(axes: "Axes") -> None:
        axes.axhline(1, color=LIGHT["full"], linewidth=1, linestyle=(0, (4, 3)))
        for line, kept in lines.items():
            equal = line.role == "equal"
            axes.plot(
                np.arange(1, GROUPS + 1),
                kept,
                color=LIGHT[line.role],
                marker=line.marker,
                label=line.label,
                linestyle="--" if equal else "-",
                markerfacecolor=LIGHT["paper" if equal else line.role],
            )
        axes.set_xticks(range(1, GROUPS + 1))
        _in_percent(axes)
        axes.set_xlabel(f"{side} by popularity, least popular tenth first")
        axes.set_ylabel("quality kept")
        _legend_above(axes)

    told = "; ".join(f"{line.label} {_ends(kept)}" for line, kept in lines.items())
    return Figure(
        f"deciles-{side}",
        f"Quality kept by popularity of {side}: dips show who pays for the compression.",
        f"Share of the full model's quality that each tenth of the {side} keeps: {told}.",
        drawn(f"deciles-{side}", paint),
    )


def trace(name: str, budget: str, kinds: Sequence[str], quality: Sequence[float]) -> Figure:
    """What a search measured for a budget, in order, and the best so far.

    Args:
        name: of the figure's file.
        budget: as written.
        kinds: what tried each plan.
        quality: of each plan on validation.
    """
    number = np.arange(1, len(quality) + 1)

    def paint(axes: "Axes") -> None:
        axes.step(
            number,
            np.maximum.accumulate(quality),
            where="post",
            color=LIGHT["muted"],
            linewidth=1.2,
            label="best so far",
        )
        for place, kind in enumerate(dict.fromkeys(kinds)):
            of_kind = np.array([each == kind for each in kinds])
            axes.plot(
                number[of_kind],
                np.asarray(quality)[of_kind],
                linestyle="",
                color=LIGHT["accent" if place == 0 else f"other-{place}"],
                marker=MARKERS[place % len(MARKERS)],
                label=kind,
            )
        from matplotlib.ticker import MaxNLocator

        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel(f"plans measured for {budget}")
        axes.set_ylabel("quality on validation")
        _legend_above(axes)

    best = int(np.argmax(quality))
    return Figure(
        name,
        f"Budget {budget}: every plan that was measured, and the best so far.",
        f"{len(quality)} plans were measured for {budget}; the best, number {best + 1} by {kinds[best]}, "
        f"came to {quality[best]:.4f}, the first to {quality[0]:.4f}.",
        drawn(name, paint),
    )


def _legend_above(axes: "Axes") -> None:
    """Where no point can lie beneath it."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0, fontsize=10)


def _in_percent(axes: "Axes") -> None:
    from matplotlib.ticker import MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g}%")


def _ends(kept: NDArray[np.float64]) -> str:
    known = kept[~np.isnan(kept)]
    return f"{percent(known[0])} of the least popular, {percent(known[-1])} of the most" if len(known) else "unknown"
