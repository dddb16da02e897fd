"""The one place that reads a clock.

In: the machine's clocks, or the market's time in a replay. Out: integer nanoseconds, UTC.
Decisions never read a clock: their caller hands them `now_ns`. Ages are measured on the monotonic clock.
"""

import time
from typing import Protocol

NANOSECONDS_PER_SECOND = 1_000_000_000
NANOSECONDS_PER_MINUTE = 60 * NANOSECONDS_PER_SECOND
NANOSECONDS_PER_MILLISECOND = 1_000_000


class Clock(Protocol):
    """Tell the time that decisions go by."""

    def now_ns(self) -> int:
        """Return nanoseconds since 1970-01-01 UTC."""
        ...


class SystemClock:
    """Tell the machine's time."""

    def now_ns(self) -> int:
        """Return the machine's wall clock in nanoseconds UTC."""
        return time.time_ns()


class MarketClock:
    """Tell the market's time: the newest event time seen. It never goes back and never reads a wall clock."""

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        """Return the newest market time that was seen, in nanoseconds UTC; 0 before the first."""
        return self._now_ns

    def advance(self, to_ns: int) -> None:
        """Move on to `to_ns`; an older time changes nothing."""
        self._now_ns = max(self._now_ns, to_ns)


def monotonic_ns() -> int:
    """Return a reading for measuring ages; its origin means nothing."""
    return time.monotonic_ns()


def wall_ns() -> int:
    """Return the machine's wall clock in nanoseconds UTC, for stamps on logs, heartbeats and receptions."""
    return time.time_ns()
