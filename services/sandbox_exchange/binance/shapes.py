"""What REST and the streams write alike: levels, trades, candles, the statistics of a day.

In: the venue's own words. Out: Binance's. Never: a look at a venue, a request or a stream.
"""

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal

from services.sandbox_exchange.binance.words import Payload, milliseconds, text
from services.sandbox_exchange.core.model import Kline, PublicTrade, Ticker
from shared.messages import Side

ZERO = Decimal(0)
Row = list[object]


def levels(side: Sequence[tuple[Decimal, Decimal]]) -> list[tuple[str, str]]:
    """Return levels as texts."""
    return [(text(price), text(quantity)) for price, quantity in side]


def trade(one: PublicTrade) -> Payload:
    """Return a trade as REST lists it."""
    return {
        "id": one.trade_id,
        "price": text(one.price),
        "qty": text(one.quantity),
        "quoteQty": text(one.price * one.quantity),
        "time": milliseconds(one.time_ns),
        "isBuyerMaker": one.taker_side is Side.SELL,
        "isBestMatch": True,
    }


def aggregate(trade: PublicTrade) -> Payload:
    """Return a trade as an aggregate of one."""
    return {
        "a": trade.trade_id,
        "p": text(trade.price),
        "q": text(trade.quantity),
        "f": trade.trade_id,
        "l": trade.trade_id,
        "T": milliseconds(trade.time_ns),
        "m": trade.taker_side is Side.SELL,
        "M": True,
    }


def candle(one: Kline) -> Row:
    """Return a candle as REST lists it."""
    return [
        milliseconds(one.open_ns),
        text(one.open),
        text(one.high),
        text(one.low),
        text(one.close),
        text(one.volume),
        milliseconds(one.close_ns) - 1,
        text(one.quote_volume),
        one.trades,
        text(one.taker_buy_volume),
        text(one.taker_buy_quote),
        "0",
    ]


def day_statistics(ticker: Ticker, *, is_mini: bool = False) -> Payload:
    """Return the answer of ticker/24hr for one market."""
    first, last = ticker.open or ZERO, ticker.last or ZERO
    answer: Payload = {
        "symbol": ticker.symbol,
        "openPrice": text(first),
        "highPrice": text(ticker.high or ZERO),
        "lowPrice": text(ticker.low or ZERO),
        "lastPrice": text(last),
        "volume": text(ticker.volume),
        "quoteVolume": text(ticker.quote_volume),
        "openTime": milliseconds(ticker.open_ns),
        "closeTime": milliseconds(ticker.close_ns),
        "firstId": 0 if ticker.trades else -1,
        "lastId": ticker.trades - 1,
        "count": ticker.trades,
    }
    if is_mini:
        return answer
    return answer | {
        "priceChange": text(last - first),
        "priceChangePercent": change_percent(ticker),
        "weightedAvgPrice": weighted_price(ticker),
        "prevClosePrice": text(first),
        "lastQty": text(ZERO),
        "bidPrice": text(ticker.bid or ZERO),
        "bidQty": text(ticker.bid_quantity or ZERO),
        "askPrice": text(ticker.ask or ZERO),
        "askQty": text(ticker.ask_quantity or ZERO),
    }


def change_percent(ticker: Ticker) -> str:
    """Return the last 24 hours' change in percent, with three decimals."""
    if not ticker.open or ticker.last is None:
        return "0.000"
    return rounded((ticker.last / ticker.open - 1) * 100, 3)


def weighted_price(ticker: Ticker) -> str:
    """Return the volume-weighted price of the last 24 hours."""
    return rounded(ticker.quote_volume / ticker.volume if ticker.volume else ZERO, 8)


def rounded(number: Decimal, decimals: int) -> str:
    """Return a number rounded half up: for statistics, never for money that moves."""
    return format(number.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_UP), "f")
