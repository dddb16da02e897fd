"""Candle intervals and their grids.

In: a time and an interval. Out: when its candle opens and closes. Never: a candle that spans two grid cells.
Weeks begin on Monday and months on their first day, UTC; a month's `interval_ns` is that of 30 days, as a name only.
"""

from datetime import UTC, datetime, timedelta

SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
HOUR_NS = 60 * MINUTE_NS
DAY_NS = 24 * HOUR_NS
WEEK_NS = 7 * DAY_NS
MONTH_NS = 30 * DAY_NS
INTERVALS = {
    "1m": MINUTE_NS,
    "5m": 5 * MINUTE_NS,
    "15m": 15 * MINUTE_NS,
    "30m": 30 * MINUTE_NS,
    "60m": HOUR_NS,
    "4h": 4 * HOUR_NS,
    "1d": DAY_NS,
    "1W": WEEK_NS,
    "1M": MONTH_NS,
}
# 1970-01-01 was a Thursday.
_MONDAY_NS = 4 * DAY_NS
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def open_of(time_ns: int, interval_ns: int) -> int:
    """Return when the candle that holds `time_ns` opens."""
    if interval_ns == WEEK_NS:
        return time_ns - (time_ns - _MONDAY_NS) % WEEK_NS
    if interval_ns == MONTH_NS:
        day = _EPOCH + timedelta(days=time_ns // DAY_NS)
        return (day.replace(day=1) - _EPOCH).days * DAY_NS
    return time_ns - time_ns % interval_ns


def close_of(open_ns: int, interval_ns: int) -> int:
    """Return when the candle that opens at `open_ns` closes; the next one opens then."""
    if interval_ns != MONTH_NS:
        return open_ns + interval_ns
    return open_of(open_ns + 31 * DAY_NS, MONTH_NS)
