"""Binance's spelling of sides, types, states, times and numbers.

In: the venue's words. Out: the wire's words, and back. Never: a number that loses a digit.
"""

from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache

from services.sandbox_exchange.core.model import OrderKind, OrderStatus, TradingStatus
from shared.clock import NANOSECONDS_PER_MILLISECOND
from shared.matching import SelfTradePrevention
from shared.messages import Side, TimeInForce

Payload = dict[str, object]

DECIMALS = 8  # of every number that Binance prints, unless a market's grid is finer

KIND_WORDS = {OrderKind.LIMIT: "LIMIT", OrderKind.MARKET: "MARKET", OrderKind.LIMIT_MAKER: "LIMIT_MAKER"}
KINDS = {word: kind for kind, word in KIND_WORDS.items()}
SIDES = {"BUY": Side.BUY, "SELL": Side.SELL}
SIDE_WORDS = {side: word for word, side in SIDES.items()}
TIMES_IN_FORCE = {"GTC": TimeInForce.GTC, "IOC": TimeInForce.IOC, "FOK": TimeInForce.FOK}
TIME_IN_FORCE_WORDS = {
    TimeInForce.GTC: "GTC",
    TimeInForce.IOC: "IOC",
    TimeInForce.FOK: "FOK",
    TimeInForce.POST_ONLY: "GTC",
}
STATUS_WORDS: Mapping[OrderStatus, str] = {status: status.value.upper() for status in OrderStatus}
SELF_TRADES = {
    "NONE": SelfTradePrevention.NONE,
    "EXPIRE_TAKER": SelfTradePrevention.CANCEL_TAKER,
    "EXPIRE_MAKER": SelfTradePrevention.CANCEL_MAKER,
    "EXPIRE_BOTH": SelfTradePrevention.CANCEL_BOTH,
}
SELF_TRADE_WORDS = {mode: word for word, mode in SELF_TRADES.items()}
MARKET_WORDS = {
    TradingStatus.TRADING: "TRADING",
    TradingStatus.CANCEL_ONLY: "CANCEL_ONLY",
    TradingStatus.PAUSED: "BREAK",
    TradingStatus.DELISTED: "END_OF_DAY",
}


@lru_cache(maxsize=65_536)
def text(number: Decimal) -> str:
    """Return a number with eight decimals, or with as many more as it needs; never with an exponent."""
    exponent = number.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -DECIMALS:
        number = number.normalize()
        exponent = number.as_tuple().exponent
        if isinstance(exponent, int) and exponent < -DECIMALS:
            return format(number, "f")
    return format(number, f".{DECIMALS}f")


def milliseconds(time_ns: int) -> int:
    """Return nanoseconds as whole milliseconds, rounded down."""
    return time_ns // NANOSECONDS_PER_MILLISECOND


MINUTE_NS = 60_000_000_000
INTERVALS_NS = {
    "1s": MINUTE_NS // 60,
    "1m": MINUTE_NS,
    "3m": 3 * MINUTE_NS,
    "5m": 5 * MINUTE_NS,
    "15m": 15 * MINUTE_NS,
    "30m": 30 * MINUTE_NS,
    "1h": 60 * MINUTE_NS,
    "2h": 120 * MINUTE_NS,
    "4h": 240 * MINUTE_NS,
    "6h": 360 * MINUTE_NS,
    "8h": 480 * MINUTE_NS,
    "12h": 720 * MINUTE_NS,
    "1d": 1440 * MINUTE_NS,
    "3d": 3 * 1440 * MINUTE_NS,
    "1w": 7 * 1440 * MINUTE_NS,
}
