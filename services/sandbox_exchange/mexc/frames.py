"""MEXC's binary frames: protobuf `PushDataV3ApiWrapper`, built with the classes that ccxt ships.

In: the venue's records. Out: bytes. Never: a number that went through a float.
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Protocol

from ccxt.protobuf.mexc.PushDataV3ApiWrapper_pb2 import PushDataV3ApiWrapper

from services.sandbox_exchange.core.model import AccountTrade, Depth, HoldingChanged, Kline, PublicTrade, VenueOrder
from services.sandbox_exchange.mexc import payloads
from services.sandbox_exchange.mexc.channels import Channel, ChannelKind
from services.sandbox_exchange.mexc.words import (
    SIDE_NUMBERS,
    STATUS_NUMBERS,
    TYPE_NUMBERS,
    client_id_word,
    milliseconds,
    order_id_word,
    status_word,
    text,
    trade_id_word,
    type_word,
)
from shared.clock import NANOSECONDS_PER_SECOND
from shared.matching.exact import multiply, subtract
from shared.messages import Side

ZERO = Decimal(0)
REASONS = {"place": "ENTRUST_PLACE", "cancel": "ENTRUST_CANCEL", "trade": "ENTRUST", "fee": "ENTRUST_FEE"}

Levels = Mapping[Side, Mapping[Decimal, Decimal]]
Best = tuple[Decimal, Decimal, Decimal, Decimal]


def depth_diff(channel: Channel, levels: Levels, first: int, last: int, now_ns: int) -> bytes:
    """Return the levels that changed between two versions, both inclusive, with their new quantities."""
    frame = PushDataV3ApiWrapper(channel=channel.name, symbol=channel.symbol, sendTime=milliseconds(now_ns))
    body = frame.publicAggreDepths
    _add_levels(body.asks, levels[Side.SELL].items())
    _add_levels(body.bids, levels[Side.BUY].items())
    body.eventType = _event_type(channel)
    body.fromVersion, body.toVersion = str(first), str(last)
    return bytes(frame.SerializeToString())


def limited_book(channel: Channel, book: Depth, now_ns: int) -> bytes:
    """Return the best levels of a book."""
    frame = PushDataV3ApiWrapper(channel=channel.name, symbol=channel.symbol, sendTime=milliseconds(now_ns))
    body = frame.publicLimitDepths
    _add_levels(body.asks, book.asks)
    _add_levels(body.bids, book.bids)
    body.eventType, body.version = _event_type(channel), str(book.version)
    return bytes(frame.SerializeToString())


def deals(channel: Channel, trades: Sequence[PublicTrade], now_ns: int) -> bytes:
    """Return public trades, oldest first."""
    frame = PushDataV3ApiWrapper(channel=channel.name, symbol=channel.symbol, sendTime=milliseconds(now_ns))
    body = frame.publicAggreDeals
    for one in trades:
        body.deals.add(
            price=text(one.price),
            quantity=text(one.quantity),
            tradeType=SIDE_NUMBERS[one.taker_side],
            time=milliseconds(one.time_ns),
        )
    body.eventType = _event_type(channel)
    return bytes(frame.SerializeToString())


def book_ticker(channel: Channel, best: Best, now_ns: int) -> bytes:
    """Return bid price and quantity, ask price and quantity."""
    frame = PushDataV3ApiWrapper(channel=channel.name, symbol=channel.symbol, sendTime=milliseconds(now_ns))
    body = frame.publicAggreBookTicker
    body.bidPrice, body.bidQuantity, body.askPrice, body.askQuantity = (text(number) for number in best)
    return bytes(frame.SerializeToString())


def kline(channel: Channel, one: Kline, now_ns: int) -> bytes:
    """Return a candle, which may still be open."""
    frame = PushDataV3ApiWrapper(channel=channel.name, symbol=channel.symbol, createTime=milliseconds(now_ns))
    body = frame.publicSpotKline
    body.interval = channel.interval
    body.windowStart, body.windowEnd = one.open_ns // NANOSECONDS_PER_SECOND, one.close_ns // NANOSECONDS_PER_SECOND
    body.openingPrice, body.closingPrice = text(one.open), text(one.close)
    body.highestPrice, body.lowestPrice = text(one.high), text(one.low)
    body.volume, body.amount = text(one.volume), text(one.quote_volume)
    return bytes(frame.SerializeToString())


def order(one: VenueOrder, trade: AccountTrade | None, tick: Decimal, now_ns: int) -> bytes:
    """Return how an order stands."""
    frame = PushDataV3ApiWrapper(
        channel=f"spot@{ChannelKind.ORDERS}",
        symbol=one.symbol,
        createTime=milliseconds(one.created_ns),
        sendTime=milliseconds(now_ns),
    )
    body = frame.privateOrders
    price, quantity = payloads.shown_price(one, tick), payloads.shown_quantity(one)
    amount = one.quote_amount if one.quote_amount is not None else multiply(price, quantity)
    rest = subtract(quantity, one.executed_quantity)
    body.id, body.clientId = order_id_word(one.order_id), client_id_word(one) or ""
    body.price, body.quantity, body.amount = text(price), text(quantity), text(amount)
    body.avgPrice = text(_average(one, tick))
    word = type_word(one)
    body.orderType, body.tradeType = TYPE_NUMBERS[word], SIDE_NUMBERS[one.side]
    body.isMaker = trade is not None and trade.is_maker
    body.remainAmount = text(max(ZERO, subtract(amount, one.executed_quote)))
    body.remainQuantity = text(rest)
    body.lastDealQuantity = text(ZERO if trade is None else trade.quantity)
    body.cumulativeQuantity, body.cumulativeAmount = text(one.executed_quantity), text(one.executed_quote)
    body.status, body.createTime = STATUS_NUMBERS[status_word(one)], milliseconds(one.created_ns)
    return bytes(frame.SerializeToString())


def own_deal(one: AccountTrade, now_ns: int) -> bytes:
    """Return one of the account's executions."""
    time_ms = milliseconds(one.time_ns)
    frame = PushDataV3ApiWrapper(
        channel=f"spot@{ChannelKind.OWN_DEALS}", symbol=one.symbol, createTime=time_ms, sendTime=milliseconds(now_ns)
    )
    body = frame.privateDeals
    body.price, body.quantity, body.amount = text(one.price), text(one.quantity), text(one.quote_quantity)
    body.tradeType, body.isMaker, body.isSelfTrade = SIDE_NUMBERS[one.side], one.is_maker, one.is_self_trade
    body.tradeId, body.orderId = trade_id_word(one), order_id_word(one.order_id)
    body.clientOrderId = client_id_word(one) or ""
    body.feeAmount, body.feeCurrency, body.time = text(one.fee), one.fee_asset, time_ms
    return bytes(frame.SerializeToString())


def holding(one: HoldingChanged, now_ns: int) -> bytes:
    """Return what an account holds of a currency now; `balanceAmount` is the free amount."""
    time_ms = milliseconds(one.time_ns)
    frame = PushDataV3ApiWrapper(
        channel=f"spot@{ChannelKind.ACCOUNT}", createTime=time_ms, sendTime=milliseconds(now_ns)
    )
    body = frame.privateAccount
    body.vcoinName, body.coinId = one.holding.asset, one.holding.asset
    body.balanceAmount, body.balanceAmountChange = text(one.holding.free), text(one.free_change)
    body.frozenAmount, body.frozenAmountChange = text(one.holding.locked), text(one.locked_change)
    body.type, body.time = REASONS.get(one.reason, one.reason.upper()), time_ms
    return bytes(frame.SerializeToString())


def _average(one: VenueOrder, tick: Decimal) -> Decimal:
    if not one.executed_quantity:
        return ZERO
    return (one.executed_quote / one.executed_quantity).quantize(tick.normalize(), ROUND_HALF_EVEN)


class Rows(Protocol):
    """Be a repeated field of a protobuf message."""

    def add(self, *, price: str, quantity: str) -> object:
        """Append a row."""
        ...


def _add_levels(rows: Rows, levels: Iterable[tuple[Decimal, Decimal]]) -> None:
    for price, quantity in levels:
        rows.add(price=text(price), quantity=text(quantity))


def _event_type(channel: Channel) -> str:
    return channel.name.rpartition("@")[0]
