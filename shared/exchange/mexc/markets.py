"""Which markets MEXC lists, on which grids, and their closed candles.

In: REST answers. Out: rules by bus token, names by market id, bars. Never: ccxt's renamed assets: MEXC's own names are
the keys on both sides; an open candle.
"""

import difflib
import math
from collections.abc import Mapping, Sequence

import msgspec

from shared.clock import NANOSECONDS_PER_MILLISECOND, wall_ns
from shared.errors import ConfigError, RejectedError, UnavailableError
from shared.exchange.live.filters import MarketRules
from shared.exchange.mexc.rest import MexcRest
from shared.exchange.mexc.shapes import ExchangeInfo, SymbolInfo, rules_of
from shared.exchange.mexc.words import BARS_PER_PAGE, INTERVALS, VENUE
from shared.messages import Bar

SUGGESTIONS = 3
PAGES_MAX = 10_000
# open time, open, high, low, close, volume, close time, quote volume
Kline = tuple[int, str, str, str, str, str, int, str]


class Markets:
    """Know the venue's markets, after `load`."""

    def __init__(self) -> None:
        self._rules: dict[str, MarketRules] = {}
        self._ids: dict[str, str] = {}
        self._tokens: dict[str, str] = {}

    @property
    def tokens(self) -> Mapping[str, str]:
        """Return the bus token of each market id."""
        return self._tokens

    async def load(self, rest: MexcRest, *, again: bool = False) -> None:
        """Ask which markets there are, once. Raises UnavailableError when the venue does not say."""
        if self._rules and not again:
            return
        info = await rest.read("exchangeInfo", ExchangeInfo)
        if not info.symbols:
            raise UnavailableError(f"{VENUE} lists no market: try again later")
        self._take(info)

    async def listed(self, rest: MexcRest, symbols: Sequence[str]) -> Mapping[str, MarketRules]:
        """Ask anew for some markets, learn their rules, and return those that are listed."""
        ids = ",".join(self.market_id(symbol) for symbol in symbols)
        try:
            info = await rest.read("exchangeInfo", ExchangeInfo, {"symbols": ids})
        except RejectedError:
            # One that is gone may spoil the question for the others.
            info = await rest.read("exchangeInfo", ExchangeInfo)
        return {token: rules for token, rules in self._take(info).items() if token in symbols}

    def _take(self, info: ExchangeInfo) -> dict[str, MarketRules]:
        taken: dict[str, MarketRules] = {}
        for one in info.symbols:
            try:
                listed = msgspec.json.decode(one, type=SymbolInfo, strict=False)
                rules = rules_of(listed)
            except (ValueError, ArithmeticError):
                # A market without a grid, or with an impossible one, is none; the others are not to suffer.
                continue
            token = rules.instrument.symbol
            taken[token] = self._rules[token] = rules
            self._ids[token], self._tokens[listed.symbol] = listed.symbol, token
        return taken

    def rules(self, symbol: str) -> MarketRules:
        """Return what a market takes. Raises ConfigError, with suggestions, for one that is not there."""
        if symbol not in self._rules:
            close = difflib.get_close_matches(symbol, self._rules, n=SUGGESTIONS, cutoff=0.5)
            some = f": did you mean {' or '.join(close)}?" if close else f" among its {len(self._rules)} markets"
            raise ConfigError(f"{VENUE} trades no {symbol}{some}")
        return self._rules[symbol]

    def market_id(self, symbol: str) -> str:
        """Return the venue's name of a market. Raises ConfigError for one that is not there."""
        self.rules(symbol)
        return self._ids[symbol]

    async def bars(
        self, rest: MexcRest, instrument: str, timeframe: str, start_ns: int, end_ns: int
    ) -> tuple[Bar, ...]:
        """Return the closed candles that open in [start, end), oldest first."""
        market_id = self.market_id(instrument)
        if timeframe not in INTERVALS:
            raise ConfigError(f"{VENUE} has no {timeframe} candles: choose one of {', '.join(INTERVALS)}")
        word, interval_ns = INTERVALS[timeframe]
        found: dict[int, Bar] = {}
        open_ns = -(-start_ns // interval_ns) * interval_ns
        for _ in range(PAGES_MAX):
            # A candle is closed when the venue's clock says so, not when ours does.
            until_ns = min(end_ns, wall_ns() + rest.clock.offset_ns - interval_ns + 1)
            if open_ns >= until_ns:
                break
            last_ns = min(until_ns - 1, open_ns + (BARS_PER_PAGE - 1) * interval_ns)
            params: dict[str, str | int] = {
                "symbol": market_id, "interval": word, "limit": BARS_PER_PAGE,
                "startTime": open_ns // NANOSECONDS_PER_MILLISECOND,
                # MEXC leaves out a candle that opens at the end.
                "endTime": last_ns // NANOSECONDS_PER_MILLISECOND + 1,
            }  # fmt: skip
            rows = await rest.read("klines", list[list[object]], params)
            for row in rows:
                bar = _bar(row, instrument, timeframe, interval_ns)
                if open_ns <= bar.open_time_ns <= last_ns:
                    found[bar.open_time_ns] = bar
            open_ns = (last_ns // interval_ns + 1) * interval_ns
        return tuple(found[key] for key in sorted(found))


def _bar(row: list[object], instrument: str, timeframe: str, interval_ns: int) -> Bar:
    try:
        open_ms, *texts, _, quote = msgspec.convert(row[:8], Kline, strict=False)
    except msgspec.ValidationError as error:
        raise UnavailableError(f"{VENUE} sent a candle that cannot be read: {str(row)[:100]}") from error
    prices = [float(text) for text in texts]
    if not all(math.isfinite(price) and price >= 0 for price in prices):
        raise UnavailableError(f"{VENUE} sent a candle that no market can have: {str(row)[:100]}")
    open_, high, low, close, volume = prices
    open_ns = open_ms * NANOSECONDS_PER_MILLISECOND
    return Bar(
        venue=VENUE, instrument=instrument, timeframe=timeframe, open_time_ns=open_ns,
        close_time_ns=open_ns + interval_ns, open=open_, high=high, low=low, close=close, volume=volume,
        quote_volume=float(quote), ts_recv_ns=wall_ns(), sequence=0,
    )  # fmt: skip
