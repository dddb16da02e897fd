"""What a feed is: a numbered, endlessly repeatable sequence of market steps.

In: a step number, counted from 1. Out: the bars that close at that step, always the same for the same number.
Never: an open bar, a bar for an asset that has none.
"""

from datetime import UTC, datetime
from typing import Protocol

import msgspec

from shared.messages import Instrument


class Candle(msgspec.Struct, frozen=True):
    """Hold one closed bar of one instrument; prices in quote units, `volume` in base units."""

    instrument: str
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float | None


class MarketStep(msgspec.Struct, frozen=True):
    """Hold everything that closes at one time; `missing` are assets without a bar. `final` ends the feed."""

    number: int
    open_time_ns: int
    close_time_ns: int
    candles: tuple[Candle, ...]
    missing: tuple[str, ...]
    final: bool


class Feed(Protocol):
    """Give a market's steps by number."""

    @property
    def timeframe(self) -> str:
        """Return the interval of the bars, as `15m`."""
        ...

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        """Return the instruments and their grids, in the order of the stack's assets."""
        ...

    @property
    def first_open_ns(self) -> int:
        """Return the open time of step 1."""
        ...

    @property
    def description(self) -> str:
        """Return a few words for people."""
        ...

    @property
    def identity(self) -> dict[str, str]:
        """Return what makes this feed this feed: one that differs in a common key cannot continue its stream."""
        ...

    def step(self, number: int) -> MarketStep | None:
        """Return step `number` (1 is the first), or None after the last."""
        ...


def utc_text(time_ns: int) -> str:
    """Return a time as `2026-01-31 08:00:00 UTC`."""
    return datetime.fromtimestamp(time_ns // 1_000_000_000, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def iso_text(time_ns: int) -> str:
    """Return a time as configuration takes it: `2026-01-31T08:00:00Z`."""
    return datetime.fromtimestamp(time_ns // 1_000_000_000, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
