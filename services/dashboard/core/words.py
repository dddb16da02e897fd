"""Numbers and times as people read them; `–` where there is nothing to say."""

from datetime import UTC, datetime
from decimal import Decimal

NOTHING = "–"


def money(value: Decimal | None) -> str:
    """Return an amount of quote units with two decimals and thousands separators."""
    return NOTHING if value is None else f"{value:,.2f}"


def percent(ratio: Decimal | float | None, *, signed: bool = False) -> str:
    """Return a ratio as percent with one decimal."""
    if ratio is None:
        return NOTHING
    return f"{ratio * 100:{'+' if signed else ''}.1f} %"


def quantity(value: Decimal | None) -> str:
    """Return a size or price with at most six significant digits past the leading ones, never in exponent form."""
    if value is None:
        return NOTHING
    if value == 0:
        return "0"
    digits = max(0, 5 - value.adjusted())
    text = f"{value:,.{min(digits, 12)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def price(value: float | None) -> str:
    """Return a price with at most six significant digits, `–` where there is none."""
    return NOTHING if value is None else quantity(Decimal(repr(value)))


def time_of_day(at_ns: int) -> str:
    """Return a time, UTC, to the second: for markets that move in seconds."""
    return datetime.fromtimestamp(at_ns / 1e9, tz=UTC).strftime("%m-%d %H:%M:%S")


def clock(at_ns: int) -> str:
    """Return a market time, UTC, to the minute."""
    return datetime.fromtimestamp(at_ns / 1e9, tz=UTC).strftime("%Y-%m-%d %H:%M")


def age(span_ns: int) -> str:
    """Return a span in the largest fitting unit; a negative span (clocks differ) counts as none."""
    seconds = max(0, span_ns) // 1_000_000_000
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            rest, smaller = seconds % size, {"d": ("h", 3_600), "h": ("min", 60), "min": ("s", 1)}[unit]
            return f"{seconds // size} {unit} {rest // smaller[1]} {smaller[0]}"
    return f"{seconds} s"
