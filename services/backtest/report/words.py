"""Numbers and times of a report as people read them.

In: figures, money, shares, ns UTC. Out: text, a dash for what is not known. Never: a digit that the number lacks.
"""

from datetime import UTC, datetime
from decimal import Decimal

DASH = "–"


def money(value: Decimal | float | None) -> str:
    """Return money with two decimals."""
    return DASH if value is None else f"{value:,.2f}"


def amount(value: Decimal) -> str:
    """Return a quantity or a price with at most eight significant digits."""
    text = f"{float(value):,.8g}"
    return f"{float(value):,.8f}".rstrip("0").rstrip(".") if "e" in text else text


def signed(value: float | Decimal | None) -> str:
    """Return a share as per cent with its sign."""
    return DASH if value is None else f"{float(value) * 100:+,.2f} %"


def percent(value: float | Decimal | None, decimals: int = 2) -> str:
    """Return a share as per cent."""
    return DASH if value is None else f"{float(value) * 100:,.{decimals}f} %"


def number(value: float | None, unit: str = "") -> str:
    """Return a figure with two decimals."""
    return DASH if value is None else f"{value:,.2f}{unit}"


def when(at_ns: int | None) -> str:
    """Return a time (UTC) to the minute."""
    return DASH if at_ns is None else f"{datetime.fromtimestamp(at_ns // 1_000_000_000, tz=UTC):%Y-%m-%d %H:%M}"


def tone(value: float | Decimal | None) -> str:
    """Return `up`, `down` or nothing: the colour class of a gain or a loss."""
    return "" if value is None or value == 0 else "up" if value > 0 else "down"
