"""How numbers are shown."""

_UNITS = ("B", "kB", "MB", "GB", "TB")


def in_bytes(count: float) -> str:
    """Three digits and a unit: 238 kB, 4.76 MB."""
    unit = 0
    while count >= 999.5 and unit < len(_UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.3g}\N{NO-BREAK SPACE}{_UNITS[unit]}"


def percent(share: float) -> str:
    """A share with one digit: 97.3%."""
    return f"{share:.1%}"


def points(difference: float) -> str:
    """A difference of shares in percentage points, with its sign: +3.1, −0.4, 0.0."""
    shown = f"{abs(100 * difference):.1f}"
    return shown if float(shown) == 0 else f"{'+' if difference > 0 else '−'}{shown}"


def times(ratio: float) -> str:
    """How many times smaller: 20×, 8.3×."""
    return f"{ratio:.3g}×" if ratio < 100 else f"{ratio:.0f}×"


def whole(number: float) -> str:
    """A whole number: 6,040."""
    return f"{number:,.0f}"


def tenths(number: float) -> str:
    """A number with one digit: 14.2."""
    return f"{number:,.1f}"


def metric(value: float) -> str:
    """A metric with four digits: 0.2167."""
    return f"{value:.4f}"
