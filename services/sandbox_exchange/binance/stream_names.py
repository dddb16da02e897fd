"""The names of Binance's market streams.

In: `btcusdt@depth@100ms`. Out: what it asks for. Never: a stream that is not offered.
"""

import re
from enum import StrEnum

import msgspec

from services.sandbox_exchange.binance.words import INTERVALS_NS

SLOW_TICKS, FAST_TICKS = 10, 1  # of 100 ms


class Kind(StrEnum):
    """Name what a stream carries."""

    DIFF = "depth"
    PARTIAL = "partial"
    TRADE = "trade"
    AGGREGATE = "aggTrade"
    BOOK_TICKER = "bookTicker"
    KLINE = "kline"
    TICKER = "ticker"
    MINI_TICKER = "miniTicker"
    AVERAGE = "avgPrice"
    ALL_TICKERS = "!ticker@arr"
    ALL_MINI_TICKERS = "!miniTicker@arr"


class StreamName(msgspec.Struct, frozen=True):
    """Describe a stream. `every_ticks` is its pace in tenths of a second, 0 for at once; `symbol` is the venue's.

    `route` is the name without the symbol, by which faults choose streams.
    """

    text: str
    kind: Kind
    symbol: str | None
    route: str
    every_ticks: int = 0
    levels: int = 0
    interval: str = ""


_DEPTH = re.compile(r"^depth(5|10|20)?(@100ms|@1000ms)?$")
_SIMPLE = {
    "trade": (Kind.TRADE, 0),
    "aggTrade": (Kind.AGGREGATE, 0),
    "bookTicker": (Kind.BOOK_TICKER, 0),
    "ticker": (Kind.TICKER, SLOW_TICKS),
    "miniTicker": (Kind.MINI_TICKER, SLOW_TICKS),
    "avgPrice": (Kind.AVERAGE, SLOW_TICKS),
}
# Every route of a stream, by which faults choose.
STREAM_ROUTES = (
    *_SIMPLE,
    *(f"depth{levels}{pace}" for levels in ("", "5", "10", "20") for pace in ("", "@100ms", "@1000ms")),
    *(f"kline_{interval}" for interval in INTERVALS_NS),
    Kind.ALL_TICKERS.value,
    Kind.ALL_MINI_TICKERS.value,
)


def parse_stream(text: str) -> StreamName | None:
    """Return what a stream's name asks for, or None when it names no stream."""
    if text in {Kind.ALL_TICKERS, Kind.ALL_MINI_TICKERS}:
        return StreamName(text, Kind(text), None, text, SLOW_TICKS)
    symbol, _, rest = text.partition("@")
    if not symbol or not rest:
        return None
    # Symbols are lower case in stream names; another spelling is subscribed, and never gets a frame.
    known = symbol.upper() if symbol.islower() or symbol.isdigit() else None
    if rest in _SIMPLE:
        kind, every = _SIMPLE[rest]
        return StreamName(text, kind, known, rest, every)
    if match := _DEPTH.fullmatch(rest):
        every = FAST_TICKS if match[2] == "@100ms" else SLOW_TICKS
        kind = Kind.PARTIAL if match[1] else Kind.DIFF
        return StreamName(text, kind, known, rest, every, int(match[1] or 0))
    interval = rest.removeprefix("kline_")
    if rest.startswith("kline_") and interval in INTERVALS_NS:
        return StreamName(text, Kind.KLINE, known, rest, SLOW_TICKS, interval=interval)
    return None
