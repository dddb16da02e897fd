"""One market's candles, built from its trades.

In: trades in their order; candles of a time before the first trade. Out: candles of any interval, gaps filled.
Never: more than the bounded number of them in memory, a candle of which a part was forgotten.
"""

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from services.sandbox_exchange.core.intervals import DAY_NS, HOUR_NS, MINUTE_NS, close_of, open_of
from services.sandbox_exchange.core.model import Kline
from shared.matching.exact import add
from shared.messages import Side

ZERO = Decimal(0)
# Two days of minutes, ninety of hours, five years of days: enough for 500 candles of what strategies ask for.
KEPT = {MINUTE_NS: 2_880, HOUR_NS: 2_160, DAY_NS: 1_830}


class Candle(msgspec.Struct):
    """Hold one candle under way."""

    open_ns: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal = ZERO
    quote_volume: Decimal = ZERO
    trades: int = 0
    taker_buy_volume: Decimal = ZERO
    taker_buy_quote: Decimal = ZERO

    def trade(self, side: Side, price: Decimal, quantity: Decimal, notional: Decimal) -> None:
        """Take in one trade."""
        self.close = price
        if price > self.high:
            self.high = price
        elif price < self.low:
            self.low = price
        self.volume = add(self.volume, quantity)
        self.quote_volume = add(self.quote_volume, notional)
        self.trades += 1
        if side is Side.BUY:
            self.taker_buy_volume = add(self.taker_buy_volume, quantity)
            self.taker_buy_quote = add(self.taker_buy_quote, notional)

    def merge(self, later: "Candle | Kline") -> None:
        """Take in a candle that follows."""
        self.close = later.close
        self.high, self.low = max(self.high, later.high), min(self.low, later.low)
        self.volume = add(self.volume, later.volume)
        self.quote_volume = add(self.quote_volume, later.quote_volume)
        self.trades += later.trades
        self.taker_buy_volume = add(self.taker_buy_volume, later.taker_buy_volume)
        self.taker_buy_quote = add(self.taker_buy_quote, later.taker_buy_quote)


class Series(msgspec.Struct):
    """Hold the candles of one base interval by their opening, oldest first."""

    interval_ns: int
    kept: int
    candles: dict[int, Candle] = msgspec.field(default_factory=dict)
    is_trimmed: bool = False

    def at(self, time_ns: int, price: Decimal) -> Candle:
        """Return the candle of that time, a new one at `price` when there is none; a time gone by counts as now."""
        open_ns = time_ns - time_ns % self.interval_ns
        candles = self.candles
        if candles:
            newest_ns = next(reversed(candles))
            if open_ns <= newest_ns:
                return candles[newest_ns]
        candle = candles[open_ns] = Candle(open_ns, price, price, price, price)
        if len(candles) > self.kept:
            del candles[next(iter(candles))]
            self.is_trimmed = True
        return candle


class Candles:
    """Build and keep the candles of one market."""

    def __init__(self, kept: dict[int, int] | None = None) -> None:
        self.series = [Series(interval_ns, count) for interval_ns, count in (kept or KEPT).items()]

    def trade(self, side: Side, price: Decimal, quantity: Decimal, notional: Decimal, *, now_ns: int) -> None:
        """Take in one trade."""
        for series in self.series:
            series.at(now_ns, price).trade(side, price, quantity, notional)

    def add_past(self, kline: Kline) -> None:
        """Take in a minute of the time before the first trade; they come in order."""
        for series in self.series:
            candle = series.at(kline.open_ns, kline.open)
            candle.merge(kline)

    def last_price(self) -> Decimal | None:
        """Return the newest price, or None."""
        candles = self.series[0].candles
        return candles[next(reversed(candles))].close if candles else None

    def since(self, start_ns: int) -> Candle | None:
        """Return everything from the minute of `start_ns` on as one candle, or None without a trade since."""
        whole: Candle | None = None
        parts: list[Candle] = []
        for candle in reversed(self.series[0].candles.values()):
            if candle.open_ns < start_ns:
                break
            parts.append(candle)
        for candle in reversed(parts):
            if whole is None:
                whole = Candle(candle.open_ns, candle.open, candle.high, candle.low, candle.open)
            whole.merge(candle)
        return whole

    def query(
        self, symbol: str, interval_ns: int, *, start_ns: int | None, end_ns: int | None, limit: int, now_ns: int
    ) -> Sequence[Kline]:
        """Return candles that open from `start_ns` to `end_ns`, oldest first; without a start the last `limit`."""
        source = max(
            (one for one in self.series if interval_ns % one.interval_ns == 0), key=lambda one: one.interval_ns
        )
        if not source.candles or limit < 1:
            return []
        opens = self._opens(source, interval_ns, start_ns, min(now_ns, end_ns if end_ns is not None else now_ns), limit)
        return _aggregated(symbol, interval_ns, opens, source) if opens else []

    def _opens(self, source: Series, interval_ns: int, start_ns: int | None, end_ns: int, limit: int) -> list[int]:
        first_ns = next(iter(source.candles))
        earliest = open_of(first_ns, interval_ns)
        if source.is_trimmed and earliest < first_ns:
            earliest = close_of(earliest, interval_ns)
        opens: list[int] = []
        if start_ns is not None:
            current = open_of(start_ns, interval_ns)
            current = max(earliest, current if current == start_ns else close_of(current, interval_ns))
            while current <= end_ns and len(opens) < limit:
                opens.append(current)
                current = close_of(current, interval_ns)
            return opens
        current = open_of(end_ns, interval_ns)
        while current >= earliest and len(opens) < limit:
            opens.append(current)
            current = open_of(current - 1, interval_ns)
        return opens[::-1]


def _aggregated(symbol: str, interval_ns: int, opens: list[int], source: Series) -> list[Kline]:
    cells: dict[int, Candle] = {}
    before: Candle | None = None
    end_ns = close_of(opens[-1], interval_ns)
    for open_ns, candle in source.candles.items():
        if open_ns < opens[0]:
            before = candle
            continue
        if open_ns >= end_ns:
            break
        cell_ns = open_of(open_ns, interval_ns)
        cell = cells.get(cell_ns)
        if cell is None:
            cell = cells[cell_ns] = Candle(cell_ns, candle.open, candle.high, candle.low, candle.open)
        cell.merge(candle)
    klines: list[Kline] = []
    close = before.close if before is not None else None
    for open_ns in opens:
        cell = cells.get(open_ns)
        if cell is None:
            if close is None:
                continue
            cell = Candle(open_ns, close, close, close, close)
        close = cell.close
        klines.append(_kline(symbol, interval_ns, cell))
    return klines


def _kline(symbol: str, interval_ns: int, candle: Candle) -> Kline:
    return Kline(
        symbol,
        interval_ns,
        candle.open_ns,
        close_of(candle.open_ns, interval_ns),
        candle.open,
        candle.high,
        candle.low,
        candle.close,
        candle.volume,
        candle.quote_volume,
        candle.trades,
        candle.taker_buy_volume,
        candle.taker_buy_quote,
    )
