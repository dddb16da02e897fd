"""MEXC's spelling of sides, types, states, times, numbers and ids.

In: the venue's words. Out: the wire's words, and back. Never: a number that loses a digit or shows an exponent.
"""

import re
from decimal import Decimal
from functools import lru_cache

from services.sandbox_exchange.core.model import AccountTrade, OrderKind, OrderStatus, TradingStatus, VenueOrder
from shared.clock import NANOSECONDS_PER_MILLISECOND
from shared.matching import SelfTradePrevention
from shared.messages import Side, TimeInForce

Payload = dict[str, object]

ORDER_PREFIX = "C02__"
ORDER_BASE = 4_680_000_000_000_000_000  # gives every id the 19 digits that MEXC's have
ORDER_ID = re.compile(r"^(?:C02__)?([0-9]{19})$")

SIDES = {"BUY": Side.BUY, "SELL": Side.SELL}
SIDE_WORDS = {side: word for word, side in SIDES.items()}
SIDE_NUMBERS = {Side.BUY: 1, Side.SELL: 2}
TYPES = {
    "LIMIT": (OrderKind.LIMIT, TimeInForce.GTC),
    "LIMIT_MAKER": (OrderKind.LIMIT_MAKER, TimeInForce.GTC),
    "IMMEDIATE_OR_CANCEL": (OrderKind.LIMIT, TimeInForce.IOC),
    "FILL_OR_KILL": (OrderKind.LIMIT, TimeInForce.FOK),
    "MARKET": (OrderKind.MARKET, TimeInForce.IOC),
}
TYPE_NUMBERS = {"LIMIT": 1, "LIMIT_MAKER": 2, "IMMEDIATE_OR_CANCEL": 3, "FILL_OR_KILL": 4, "MARKET": 5}
STATUS_NUMBERS = {"NEW": 1, "FILLED": 2, "PARTIALLY_FILLED": 3, "CANCELED": 4, "PARTIALLY_CANCELED": 5}
SELF_TRADES = {
    "": SelfTradePrevention.NONE,
    "cancel_maker": SelfTradePrevention.CANCEL_MAKER,
    "cancel_taker": SelfTradePrevention.CANCEL_TAKER,
    "cancel_both": SelfTradePrevention.CANCEL_BOTH,
}
SELF_TRADE_WORDS = {mode: word for word, mode in SELF_TRADES.items()}
MARKET_WORDS = {
    TradingStatus.TRADING: "1",
    TradingStatus.CANCEL_ONLY: "2",
    TradingStatus.PAUSED: "2",
    TradingStatus.DELISTED: "3",
}

MINUTE_NS = 60_000_000_000
DAY_NS = 1440 * MINUTE_NS
INTERVALS_NS = {
    "1m": MINUTE_NS,
    "5m": 5 * MINUTE_NS,
    "15m": 15 * MINUTE_NS,
    "30m": 30 * MINUTE_NS,
    "60m": 60 * MINUTE_NS,
    "4h": 240 * MINUTE_NS,
    "1d": DAY_NS,
}
STREAM_INTERVALS_NS = {
    "Min1": MINUTE_NS,
    "Min5": 5 * MINUTE_NS,
    "Min15": 15 * MINUTE_NS,
    "Min30": 30 * MINUTE_NS,
    "Min60": 60 * MINUTE_NS,
    "Hour4": 240 * MINUTE_NS,
    "Hour8": 480 * MINUTE_NS,
    "Day1": DAY_NS,
}


@lru_cache(maxsize=65_536)
def text(number: Decimal) -> str:
    """Return a number without an exponent and without zeros that say nothing: equal numbers have one text."""
    word = format(number, "f")
    if "." in word:
        word = word.rstrip("0").rstrip(".")
    return "0" if word == "-0" else word


def milliseconds(time_ns: int) -> int:
    """Return nanoseconds as whole milliseconds, rounded down."""
    return time_ns // NANOSECONDS_PER_MILLISECOND


def order_id_word(order_id: int) -> str:
    """Return an order's id as MEXC writes it."""
    return f"{ORDER_PREFIX}{ORDER_BASE + order_id}"


def order_id_of(word: str) -> int | None:
    """Return the order id that a word names, or None when it names none of ours."""
    match = ORDER_ID.fullmatch(word)
    if match is None or int(match[1]) <= ORDER_BASE:
        return None
    return int(match[1]) - ORDER_BASE


def client_id_word(one: VenueOrder | AccountTrade) -> str | None:
    """Return the client order id that the client gave, or None when it gave none."""
    return None if one.client_order_id == f"venue-{one.order_id}" else one.client_order_id


def trade_id_word(trade: AccountTrade) -> str:
    """Return an execution's id: one for each side of it, over all markets."""
    return f"{ORDER_BASE + trade.order_id}X{trade.trade_id}"


def type_word(order: VenueOrder) -> str:
    """Return an order's type, which tells its time in force too."""
    if order.kind is OrderKind.MARKET:
        return "MARKET"
    if order.kind is OrderKind.LIMIT_MAKER or order.time_in_force is TimeInForce.POST_ONLY:
        return "LIMIT_MAKER"
    if order.time_in_force is TimeInForce.IOC:
        return "IMMEDIATE_OR_CANCEL"
    return "FILL_OR_KILL" if order.time_in_force is TimeInForce.FOK else "LIMIT"


def status_word(order: VenueOrder) -> str:
    """Return where an order stands; MEXC knows no expiry, and tells whether a cancelled one had filled in part."""
    if order.status.is_open or order.status is OrderStatus.FILLED:
        return order.status.value.upper()
    return "PARTIALLY_CANCELED" if order.executed_quantity else "CANCELED"
