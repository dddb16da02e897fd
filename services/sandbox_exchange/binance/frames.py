"""The market streams' frames.

In: the venue's changes, trades, candles, tickers. Out: a frame's text, encoded once for all who listen.
Never: a diff whose first version does not follow the last version of the frame before it.
"""

from collections.abc import Callable
from decimal import Decimal

import msgspec

from services.sandbox_exchange.binance import shapes
from services.sandbox_exchange.binance.words import Payload, milliseconds, text
from services.sandbox_exchange.core.model import Depth, Kline, LevelChanged, PublicTrade, Ticker
from shared.messages import Side

ZERO = Decimal(0)
encode: Callable[[object], bytes] = msgspec.json.Encoder().encode


class Frame:
    """Hold one frame in both forms that clients ask for; each is made once."""

    __slots__ = ("_combined", "_raw", "stream")

    def __init__(self, stream: str, raw: str) -> None:
        self.stream = stream
        self._raw = raw
        self._combined: str | None = None

    def text(self, *, combined: bool) -> str:
        """Return the frame as it goes out: alone, or with its stream's name around it."""
        if not combined:
            return self._raw
        if self._combined is None:
            self._combined = f'{{"stream":"{self.stream}","data":{self._raw}}}'
        return self._combined


class Window:
    """Gather the level changes of one market between two frames; only a level's last quantity counts."""

    __slots__ = ("_levels", "first", "last")

    def __init__(self) -> None:
        self.first = self.last = 0
        self._levels: dict[Side, dict[Decimal, Decimal]] = {Side.BUY: {}, Side.SELL: {}}

    def take(self, change: LevelChanged) -> None:
        """Add a change."""
        if not self.first:
            self.first = change.version
        self.last = change.version
        self._levels[change.side][change.price] = change.quantity

    def empty(self, symbol: str, now_ms: int) -> Payload | None:
        """Return the frame of what was gathered, or None for nothing, and start anew."""
        if not self.first:
            return None
        bids, asks = self._levels[Side.BUY], self._levels[Side.SELL]
        frame: Payload = {
            "e": "depthUpdate",
            "E": now_ms,
            "s": symbol,
            "U": self.first,
            "u": self.last,
            "b": [(text(price), text(bids[price])) for price in sorted(bids, reverse=True)],
            "a": [(text(price), text(asks[price])) for price in sorted(asks)],
        }
        self.first = self.last = 0
        bids.clear()
        asks.clear()
        return frame


def trade(one: PublicTrade, now_ms: int) -> Payload:
    """Return the frame of one trade."""
    return {
        "e": "trade",
        "E": now_ms,
        "s": one.symbol,
        "t": one.trade_id,
        "p": text(one.price),
        "q": text(one.quantity),
        "T": milliseconds(one.time_ns),
        "m": one.taker_side is Side.SELL,
        "M": True,
    }


def aggregate(one: PublicTrade, now_ms: int) -> Payload:
    """Return the frame of a trade as an aggregate of one."""
    return {"e": "aggTrade", "E": now_ms, "s": one.symbol} | shapes.aggregate(one)


def partial(depth: Depth) -> Payload:
    """Return the frame of a book's best levels."""
    levels = shapes.levels
    return {"lastUpdateId": depth.version, "bids": levels(depth.bids), "asks": levels(depth.asks)}


def book_ticker(depth: Depth) -> Payload | None:
    """Return the frame of the best bid and ask, or None while one side is empty."""
    if not depth.bids or not depth.asks:
        return None
    (bid, bid_quantity), (ask, ask_quantity) = depth.bids[0], depth.asks[0]
    return {
        "u": depth.version,
        "s": depth.symbol,
        "b": text(bid),
        "B": text(bid_quantity),
        "a": text(ask),
        "A": text(ask_quantity),
    }


def kline(one: Kline, interval: str, now_ms: int, *, is_closed: bool) -> Payload:
    """Return the frame of a candle."""
    return {
        "e": "kline",
        "E": now_ms,
        "s": one.symbol,
        "k": {
            "t": milliseconds(one.open_ns),
            "T": milliseconds(one.close_ns) - 1,
            "s": one.symbol,
            "i": interval,
            "f": -1,
            "L": -1,
            "o": text(one.open),
            "c": text(one.close),
            "h": text(one.high),
            "l": text(one.low),
            "v": text(one.volume),
            "n": one.trades,
            "x": is_closed,
            "q": text(one.quote_volume),
            "V": text(one.taker_buy_volume),
            "Q": text(one.taker_buy_quote),
            "B": "0",
        },
    }


def mini_ticker(one: Ticker, now_ms: int) -> Payload:
    """Return the short frame of the last 24 hours."""
    return {
        "e": "24hrMiniTicker",
        "E": now_ms,
        "s": one.symbol,
        "c": text(one.last or ZERO),
        "o": text(one.open or ZERO),
        "h": text(one.high or ZERO),
        "l": text(one.low or ZERO),
        "v": text(one.volume),
        "q": text(one.quote_volume),
    }


def ticker(one: Ticker, now_ms: int) -> Payload:
    """Return the frame of the last 24 hours."""
    first = one.open or ZERO
    return mini_ticker(one, now_ms) | {
        "e": "24hrTicker",
        "p": text((one.last or ZERO) - first),
        "P": shapes.change_percent(one),
        "w": shapes.weighted_price(one),
        "x": text(first),
        "Q": text(ZERO),
        "b": text(one.bid or ZERO),
        "B": text(one.bid_quantity or ZERO),
        "a": text(one.ask or ZERO),
        "A": text(one.ask_quantity or ZERO),
        "O": milliseconds(one.open_ns),
        "C": milliseconds(one.close_ns),
        "F": 0 if one.trades else -1,
        "L": one.trades - 1,
        "n": one.trades,
    }
