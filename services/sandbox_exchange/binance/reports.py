"""Orders, executions and balances in Binance's words, for answers and for the user stream.

In: the venue's orders, trades and holdings. Out: the wire's objects. Never: a field that contradicts the ledger.
"""

from collections.abc import Sequence
from decimal import Decimal

from services.sandbox_exchange.binance.words import (
    KIND_WORDS,
    SELF_TRADE_WORDS,
    SIDE_WORDS,
    STATUS_WORDS,
    TIME_IN_FORCE_WORDS,
    Payload,
    milliseconds,
    text,
)
from services.sandbox_exchange.core.model import AccountTrade, Holding, OrderKind, OrderStatus, VenueOrder
from shared.messages import Side

ZERO = Decimal(0)
NO_LIST = -1
# What the user stream tells, by the names that it gives it.
REPORTS = ("executionReport", "outboundAccountPosition", "balanceUpdate", "eventStreamTerminated")
EXECUTION_WORDS = {
    OrderStatus.CANCELED: "CANCELED",
    OrderStatus.EXPIRED: "EXPIRED",
    OrderStatus.EXPIRED_IN_MATCH: "TRADE_PREVENTION",
}


def cancel_client_id(order: VenueOrder) -> str:
    """Return the client order id that a cancel request without one is given."""
    return f"cancel-{order.order_id}"


def acknowledged(order: VenueOrder) -> Payload:
    """Return the answer ACK to a new order."""
    return {
        "symbol": order.symbol,
        "orderId": order.order_id,
        "orderListId": NO_LIST,
        "clientOrderId": order.client_order_id,
        "transactTime": milliseconds(order.updated_ns),
    }


def placed(order: VenueOrder) -> Payload:
    """Return the answer RESULT to a new order."""
    return acknowledged(order) | _amounts(order) | {"workingTime": milliseconds(order.created_ns)}


def placed_with_fills(order: VenueOrder, trades: Sequence[AccountTrade]) -> Payload:
    """Return the answer FULL to a new order."""
    fills: list[Payload] = [
        {
            "price": text(one.price),
            "qty": text(one.quantity),
            "commission": text(one.fee),
            "commissionAsset": one.fee_asset,
            "tradeId": one.trade_id,
        }
        for one in trades
    ]
    return placed(order) | {"fills": fills}


def canceled(order: VenueOrder, client_order_id: str) -> Payload:
    """Return the answer to a cancel; `client_order_id` is the cancel request's own."""
    return {
        "symbol": order.symbol,
        "origClientOrderId": order.client_order_id,
        "orderId": order.order_id,
        "orderListId": NO_LIST,
        "clientOrderId": client_order_id,
        "transactTime": milliseconds(order.updated_ns),
    } | _amounts(order)


def described(order: VenueOrder) -> Payload:
    """Return an order as queries answer it."""
    return {
        "symbol": order.symbol,
        "orderId": order.order_id,
        "orderListId": NO_LIST,
        "clientOrderId": order.client_order_id,
        "stopPrice": text(ZERO),
        "icebergQty": text(ZERO),
        "time": milliseconds(order.created_ns),
        "updateTime": milliseconds(order.updated_ns),
        "isWorking": True,
        "workingTime": milliseconds(order.created_ns),
    } | _amounts(order)


def _amounts(order: VenueOrder) -> Payload:
    return {
        "price": text(order.price or ZERO),
        "origQty": text(order.quantity or ZERO),
        "executedQty": text(order.executed_quantity),
        "origQuoteOrderQty": text(order.quote_amount or ZERO),
        "cummulativeQuoteQty": text(order.executed_quote),
        "status": STATUS_WORDS[order.status],
        "timeInForce": TIME_IN_FORCE_WORDS[order.time_in_force],
        "type": KIND_WORDS[order.kind],
        "side": SIDE_WORDS[order.side],
        "selfTradePreventionMode": SELF_TRADE_WORDS[order.self_trade],
    }


def own_trade(trade: AccountTrade) -> Payload:
    """Return one of the account's executions as myTrades answers it."""
    return {
        "symbol": trade.symbol,
        "id": trade.trade_id,
        "orderId": trade.order_id,
        "orderListId": NO_LIST,
        "price": text(trade.price),
        "qty": text(trade.quantity),
        "quoteQty": text(trade.quote_quantity),
        "commission": text(trade.fee),
        "commissionAsset": trade.fee_asset,
        "time": milliseconds(trade.time_ns),
        "isBuyer": trade.side is Side.BUY,
        "isMaker": trade.is_maker,
        "isBestMatch": True,
    }


def execution_report(order: VenueOrder, trade: AccountTrade | None, canceled_by: str | None, now_ms: int) -> Payload:
    """Return the user stream's event of an order; `canceled_by` is the cancel request's client order id."""
    is_cancel = trade is None and order.status is OrderStatus.CANCELED
    is_on_book = order.status.is_open and order.kind is not OrderKind.MARKET
    return {
        "e": "executionReport",
        "E": now_ms,
        "s": order.symbol,
        "c": (canceled_by or cancel_client_id(order)) if is_cancel else order.client_order_id,
        "S": SIDE_WORDS[order.side],
        "o": KIND_WORDS[order.kind],
        "f": TIME_IN_FORCE_WORDS[order.time_in_force],
        "q": text(order.quantity or ZERO),
        "p": text(order.price or ZERO),
        "P": text(ZERO),
        "F": text(ZERO),
        "g": NO_LIST,
        "C": order.client_order_id if is_cancel else "",
        "x": "TRADE" if trade else EXECUTION_WORDS.get(order.status, "NEW"),
        "X": STATUS_WORDS[order.status],
        "r": "NONE",
        "i": order.order_id,
        "l": text(trade.quantity if trade else ZERO),
        "z": text(order.executed_quantity),
        "L": text(trade.price if trade else ZERO),
        "n": text(trade.fee) if trade else "0",
        "N": trade.fee_asset if trade else None,
        "T": milliseconds(trade.time_ns if trade else order.updated_ns),
        "t": trade.trade_id if trade else -1,
        "I": order.order_id,
        "w": is_on_book,
        "m": trade.is_maker if trade else False,
        "M": False,
        "O": milliseconds(order.created_ns),
        "Z": text(order.executed_quote),
        "Y": text(trade.quote_quantity if trade else ZERO),
        "Q": text(order.quote_amount or ZERO),
        "W": milliseconds(order.created_ns),
        "V": SELF_TRADE_WORDS[order.self_trade],
    }


def account_position(holdings: Sequence[Holding], time_ns: int, now_ms: int) -> Payload:
    """Return the user stream's event of changed balances."""
    balances = [{"a": one.asset, "f": text(one.free), "l": text(one.locked)} for one in holdings]
    return {"e": "outboundAccountPosition", "E": now_ms, "u": milliseconds(time_ns), "B": balances}


def balance_update(asset: str, change: Decimal, time_ns: int, now_ms: int) -> Payload:
    """Return the user stream's event of a deposit or a withdrawal."""
    return {"e": "balanceUpdate", "E": now_ms, "a": asset, "d": text(change), "T": milliseconds(time_ns)}
