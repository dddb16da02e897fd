"""The streams that come at a pace: best levels, candles, tickers, averages.

In: the venue as it stands at a tick. Out: what is new in each stream. Never: the same frame of a book or candle twice.
"""

from services.sandbox_exchange.binance import frames
from services.sandbox_exchange.binance.stream_names import Kind, StreamName
from services.sandbox_exchange.binance.words import INTERVALS_NS, Payload, milliseconds
from services.sandbox_exchange.core.model import Kline
from services.sandbox_exchange.wire.context import Venue
from shared.clock import NANOSECONDS_PER_SECOND

TICK_NS = NANOSECONDS_PER_SECOND


class Periodic:
    """Make the frames of one venue's paced streams."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self._told_version: dict[StreamName, int] = {}
        self._told_candle: dict[StreamName, Kline] = {}

    def forget(self, stream: StreamName) -> None:
        """Forget what was told on a stream, so that its next listener gets it anew."""
        self._told_version.pop(stream, None)
        self._told_candle.pop(stream, None)

    def frames_of(self, stream: StreamName) -> list[object]:
        """Return the frames that a stream's tick brings; none when nothing has changed."""
        now_ns = self._venue.now_ns()
        now_ms, exchange, symbol = milliseconds(now_ns), self._venue.exchange, stream.symbol
        if stream.kind in {Kind.ALL_TICKERS, Kind.ALL_MINI_TICKERS}:
            make = frames.ticker if stream.kind is Kind.ALL_TICKERS else frames.mini_ticker
            return [[make(exchange.ticker(one, now_ns), now_ms) for one in exchange.markets]]
        if symbol is None or symbol not in exchange.markets:
            return []
        if stream.kind is Kind.PARTIAL:
            return self._levels(stream, symbol)
        if stream.kind is Kind.KLINE:
            return self._candles(stream, symbol, now_ns)
        if stream.kind is Kind.TICKER:
            return [frames.ticker(exchange.ticker(symbol, now_ns), now_ms)]
        if stream.kind is Kind.MINI_TICKER:
            return [frames.mini_ticker(exchange.ticker(symbol, now_ns), now_ms)]
        if stream.kind is Kind.AVERAGE:
            return self._average(symbol, now_ns)
        return []

    def _levels(self, stream: StreamName, symbol: str) -> list[object]:
        depth = self._venue.exchange.depth(symbol, stream.levels)
        if self._told_version.get(stream) == depth.version:
            return []
        self._told_version[stream] = depth.version
        return [frames.partial(depth)]

    def _candles(self, stream: StreamName, symbol: str, now_ns: int) -> list[object]:
        last = self._told_candle.get(stream)
        candles = self._venue.exchange.klines(
            symbol,
            INTERVALS_NS[stream.interval],
            start_ns=None if last is None else last.open_ns,
            end_ns=None,
            limit=2 if last is None else 100,
            now_ns=now_ns,
        )
        found: list[object] = []
        for one in candles:
            is_closed = one.close_ns <= now_ns
            if last is None and one.close_ns <= now_ns - TICK_NS:
                continue  # it had closed before anybody subscribed
            # A candle that was told as closed is told no more; an open one is told again when it has changed.
            if one == last and (not is_closed or last.close_ns <= self._told_version.get(stream, 0)):
                continue
            found.append(frames.kline(one, stream.interval, milliseconds(now_ns), is_closed=is_closed))
            self._told_candle[stream] = one
            if is_closed:
                self._told_version[stream] = one.close_ns
        return found

    def _average(self, symbol: str, now_ns: int) -> list[object]:
        ticker = self._venue.exchange.ticker(symbol, now_ns)
        if ticker.last is None:
            return []
        now_ms = milliseconds(now_ns)
        payload: Payload = {"e": "avgPrice", "E": now_ms, "s": symbol, "i": "5m", "w": f"{ticker.last:f}", "T": now_ms}
        return [payload]
