"""The public questions: books, trades, candles, tickers.

In: parameters. Out: Binance's answers. Never: a number that the venue does not hold.
"""

from collections.abc import Awaitable
from decimal import Decimal

import msgspec

from services.sandbox_exchange.binance import shapes
from services.sandbox_exchange.binance.errors import ApiError
from services.sandbox_exchange.binance.operation import Call
from services.sandbox_exchange.binance.symbols import exchange_info
from services.sandbox_exchange.binance.words import INTERVALS_NS, Payload, milliseconds, text
from services.sandbox_exchange.core.model import Market, Ticker
from shared.clock import NANOSECONDS_PER_MILLISECOND

ZERO = Decimal(0)
TRADES_LOOKED_THROUGH = 10_000
AVERAGE_MINUTES = 5


def market_of(call: Call) -> Market:
    """Return the market that `symbol` names; -1121 for none."""
    market = call.venue.exchange.markets.get(call.params.symbol())
    if market is None:
        raise ApiError(-1121, "Invalid symbol.")
    return market


def markets_of(call: Call) -> tuple[Market, ...]:
    """Return the markets of `symbol` or `symbols`, or all of them."""
    markets = call.venue.exchange.markets
    if call.params.has("symbol"):
        return (market_of(call),)
    listed = call.params.text_or_none("symbols")
    if listed is None:
        return tuple(markets.values())
    try:
        names = msgspec.json.decode(listed, type=list[str])
    except msgspec.DecodeError:
        raise ApiError(-1100, "Illegal characters found in parameter 'symbols'.") from None
    if len(set(names)) != len(names):
        raise ApiError(-1151, "Symbol is present multiple times in the list.")
    if not names or any(name not in markets for name in names):
        raise ApiError(-1121, "Invalid symbol.")
    return tuple([markets[name] for name in names])


def ping(_call: Call) -> Payload:
    """Answer that the venue is there."""
    return {}


def server_time(call: Call) -> Payload:
    """Return the venue's time."""
    return {"serverTime": milliseconds(call.now_ns)}


def information(call: Call) -> Payload:
    """Return the markets with their filters."""
    return exchange_info(markets_of(call), milliseconds(call.now_ns))


def depth(call: Call) -> Payload | Awaitable[msgspec.Raw]:
    """Return a book; of a recorded market the recorded snapshot, once the stream has come to its place."""
    market = market_of(call)
    limit = call.params.limit(100, 5_000)
    if market.symbol in call.feed.recorded:
        return call.feed.recorded[market.symbol].snapshot(limit)
    book = call.feed.book(market.symbol, limit)
    return {"lastUpdateId": book.version, "bids": shapes.levels(book.bids), "asks": shapes.levels(book.asks)}


def trades(call: Call) -> list[Payload]:
    """Return the newest trades, oldest first."""
    market = market_of(call)
    return [shapes.trade(one) for one in call.venue.exchange.trades(market.symbol, call.params.limit(500, 1_000))]


def historical_trades(call: Call) -> list[Payload]:
    """Return trades from an id on."""
    market = market_of(call)
    limit, from_id = call.params.limit(500, 1_000), call.params.whole_or_none("fromId")
    if from_id is None:
        return trades(call)
    kept = call.venue.exchange.trades(market.symbol, TRADES_LOOKED_THROUGH)
    return [shapes.trade(one) for one in kept if one.trade_id >= from_id][:limit]


def aggregate_trades(call: Call) -> list[Payload]:
    """Return trades as aggregates of one each, from an id on, of a time, or the newest."""
    market, params = market_of(call), call.params
    limit, from_id = params.limit(500, 1_000), params.whole_or_none("fromId")
    start, end = params.whole_or_none("startTime"), params.whole_or_none("endTime")
    if from_id is not None and (start is not None or end is not None):
        raise ApiError(-1128, "Combination of optional parameters invalid.")
    kept = call.venue.exchange.trades(market.symbol, TRADES_LOOKED_THROUGH)
    chosen = [
        one
        for one in kept
        if (from_id is None or one.trade_id >= from_id)
        and (start is None or milliseconds(one.time_ns) >= start)
        and (end is None or milliseconds(one.time_ns) <= end)
    ]
    chosen = chosen[-limit:] if from_id is None and start is None else chosen[:limit]
    return [shapes.aggregate(one) for one in chosen]


def klines(call: Call) -> list[shapes.Row]:
    """Return candles, oldest first; the last one may be open."""
    market, params = market_of(call), call.params
    interval = params.text("interval")
    if interval not in INTERVALS_NS:
        raise ApiError(-1120, "Invalid interval.")
    start, end = params.whole_or_none("startTime"), params.whole_or_none("endTime")
    if start is not None and end is not None and start > end:
        return []
    candles = call.venue.exchange.klines(
        market.symbol,
        INTERVALS_NS[interval],
        start_ns=None if start is None else start * NANOSECONDS_PER_MILLISECOND,
        end_ns=None if end is None else (end + 1) * NANOSECONDS_PER_MILLISECOND,
        limit=params.limit(500, 1_000),
        now_ns=call.now_ns,
    )
    return [shapes.candle(one) for one in candles]


def average_price(call: Call) -> Payload:
    """Return the volume-weighted price of the last five minutes, or the last price when nothing was traded."""
    market = market_of(call)
    start_ns = call.now_ns - AVERAGE_MINUTES * INTERVALS_NS["1m"]
    kept = call.venue.exchange.trades(market.symbol, TRADES_LOOKED_THROUGH)
    recent = [one for one in kept if one.time_ns >= start_ns] or list(kept[-1:])
    volume = sum((one.quantity for one in recent), ZERO)
    quote = sum((one.price * one.quantity for one in recent), ZERO)
    return {
        "mins": AVERAGE_MINUTES,
        "price": shapes.rounded(quote / volume if volume else ZERO, 8),
        "closeTime": milliseconds(recent[-1].time_ns) if recent else milliseconds(call.now_ns),
    }


def ticker_day(call: Call) -> Payload | list[Payload]:
    """Return the last 24 hours of one market, or of several."""
    markets = markets_of(call)
    is_mini = call.params.has("type") and call.params.text("type") == "MINI"
    answers = [shapes.day_statistics(_ticker(call, one), is_mini=is_mini) for one in markets]
    return answers[0] if call.params.has("symbol") else answers


def ticker_price(call: Call) -> Payload | list[Payload]:
    """Return the last price of one market, or of several."""
    answers: list[Payload] = [
        {"symbol": one.symbol, "price": text(_ticker(call, one).last or ZERO)} for one in markets_of(call)
    ]
    return answers[0] if call.params.has("symbol") else answers


def ticker_book(call: Call) -> Payload | list[Payload]:
    """Return the best bid and ask of one market, or of several."""
    answers: list[Payload] = []
    for one in markets_of(call):
        ticker = _ticker(call, one)
        answers.append(
            {
                "symbol": one.symbol,
                "bidPrice": text(ticker.bid or ZERO),
                "bidQty": text(ticker.bid_quantity or ZERO),
                "askPrice": text(ticker.ask or ZERO),
                "askQty": text(ticker.ask_quantity or ZERO),
            }
        )
    return answers[0] if call.params.has("symbol") else answers


def _ticker(call: Call, market: Market) -> Ticker:
    return call.venue.exchange.ticker(market.symbol, call.now_ns)
