"""Colours by what they stand for, on light and on dark paper."""

from collections.abc import Sequence

STEPS = 6
OTHERS = 6

LIGHT = {
    "paper": "#ffffff",
    "raised": "#f4f6fa",
    "rule": "#d5dbe5",
    "ink": "#18202e",
    "muted": "#586273",
    "accent": "#2257d6",
    "equal": "#b4530b",
    "full": "#596374",
    "other-1": "#1a7a59",
    "other-2": "#8b3db3",
    "other-3": "#c12f4b",
    "other-4": "#0a7485",
    "other-5": "#6d6a10",
    "other-6": "#a3337f",
    "step-1": "#12225a",
    "step-2": "#1b3684",
    "step-3": "#264cb0",
    "step-4": "#3565d7",
    "step-5": "#4a80e8",
    "step-6": "#5a92f0",
}
"""Written into figures as they are: no colour comes twice, since each is found again by itself."""

DARK = {
    "paper": "#11151d",
    "raised": "#1a202b",
    "rule": "#323b4a",
    "ink": "#e9edf4",
    "muted": "#a5b0c1",
    "accent": "#82adff",
    "equal": "#f4a558",
    "full": "#a6b1c2",
    "other-1": "#5fd0a1",
    "other-2": "#d0a0f2",
    "other-3": "#ff92a3",
    "other-4": "#5fccdd",
    "other-5": "#d3cf5c",
    "other-6": "#f58fcf",
    "step-1": "#eaf1ff",
    "step-2": "#cbdcff",
    "step-3": "#a9c5ff",
    "step-4": "#86abff",
    "step-5": "#6690f5",
    "step-6": "#5079de",
}

MARKERS = ("s", "o", "^", "D", "v", "P", "X", "<")
"""Told apart without colours, too."""


def marker(number: int) -> str:
    """The marker of the n-th line."""
    return MARKERS[number % len(MARKERS)]


def method_roles(methods: Sequence[str], first: str) -> dict[str, str]:
    """The role of each method's colour: equal sizes and the first of them have their own, others take turns."""
    others = [method for method in methods if method not in ("equal", first)]
    turns = {method: f"other-{number % OTHERS + 1}" for number, method in enumerate(others)}
    return {first: "accent", "equal": "equal"} | turns


def step_roles(n: int) -> list[str]:
    """The roles of n things in an order, such as budgets: as far apart as there are steps."""
    return [f"step-{1 + round(place * (STEPS - 1) / max(1, n - 1))}" for place in range(n)]
