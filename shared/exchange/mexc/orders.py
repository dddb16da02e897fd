"""MEXC's orders and executions in our words. Pure.

In: REST records, protobuf bodies, what was asked for. Out: `VenueOrder`, `VenueTrade`, request parameters.
Never: a state that MEXC did not say; a number through binary floating point.

A market order with a price bound is sent as a limit order, so an order that we remember is told as it was asked for.
"""

import re
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation

import msgspec

from shared.clock import NANOSECONDS_PER_MILLISECOND
from shared.errors import RejectedError
from shared.exchange.live.filters import WireKind, WireOrder, wire_text
from shared.exchange.mexc.shapes import CreatedInfo, OrderInfo, TradeInfo
from shared.exchange.mexc.words import (
    SIDE_NUMBERS,
    SIDE_WORDS,
    SIDES,
    STATE_WORDS,
    STATES,
    TYPE_WORDS,
    TYPES,
)
from shared.exchange.port import OrderRequest, VenueCancelReason, VenueOrder, VenueRejectCode, VenueTrade
from shared.messages import Fill, Liquidity, OrderState, OrderType, Side, TimeInForce

CLIENT_ID = re.compile(r"[a-zA-Z0-9_-]{1,32}")
ORDER_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_LIMIT_WORDS = {TimeInForce.IOC: "IMMEDIATE_OR_CANCEL", TimeInForce.FOK: "FILL_OR_KILL"}
_REASONS = {
    TimeInForce.IOC: VenueCancelReason.UNFILLED,
    TimeInForce.FOK: VenueCancelReason.FOK_UNFILLABLE,
}


def check_client_id(client_order_id: str) -> None:
    """Raise RejectedError for an id that MEXC does not take."""
    if CLIENT_ID.fullmatch(client_order_id) is None:
        detail = f"client order id {client_order_id!r} must be 1 to 32 letters, digits, - or _"
        raise RejectedError(VenueRejectCode.REQUEST_MALFORMED.value, detail)


def parameters(order: WireOrder, market_id: str, client_order_id: str) -> dict[str, str | int]:
    """Return what is sent for an order."""
    if order.kind is WireKind.LIMIT:
        word = _LIMIT_WORDS.get(order.time_in_force or TimeInForce.GTC, "LIMIT")
    else:
        word = order.kind.value.upper()
    sent: dict[str, str | int] = {"symbol": market_id, "side": SIDE_WORDS[order.side], "type": word}
    for name, number in (
        ("quantity", order.quantity), ("quoteOrderQty", order.quote_amount), ("price", order.price),
    ):  # fmt: skip
        if number is not None:
            sent[name] = wire_text(number)
    sent["newClientOrderId"] = client_order_id
    return sent


def is_order_id(word: str | int) -> bool:
    """Tell whether a word can be an order's id."""
    return ORDER_ID.fullmatch(str(word)) is not None


def acknowledged(request: OrderRequest, created: CreatedInfo, sent_ns: int) -> VenueOrder:
    """Return an order that MEXC has taken and said nothing more about."""
    at_ns = created.transact_time * NANOSECONDS_PER_MILLISECOND if created.transact_time else sent_ns
    return VenueOrder(
        client_order_id=request.client_order_id, venue_order_id=str(created.order_id), instrument=request.instrument,
        side=request.side, type=request.type, time_in_force=request.time_in_force, state=OrderState.ACCEPTED,
        quantity=request.quantity, quote_amount=request.quote_amount, limit_price=request.limit_price,
        filled_quantity=Decimal(0), filled_quote=Decimal(0), fills=(), reason="", created_at_ns=at_ns,
        updated_at_ns=at_ns,
    )  # fmt: skip


def order_of(
    info: OrderInfo, instrument: str, fills: Iterable[Fill], request: OrderRequest | None, *, was_cancelled: bool
) -> VenueOrder:
    """Return an order of REST; ValueError for words that MEXC has not. `was_cancelled`: by us."""
    side, state, known = SIDES.get(info.side), STATES.get(info.status), TYPES.get(info.type)
    if side is None or state is None or known is None or not is_order_id(info.order_id):
        raise ValueError(f"order {info.order_id}: {info.side} {info.type} {info.status}")
    kind, force = known
    is_by_quote = kind is OrderType.MARKET and side is Side.BUY and bool(info.orig_quote_order_qty)
    order = VenueOrder(
        client_order_id=info.client_order_id or "", venue_order_id=str(info.order_id), instrument=instrument,
        side=side, type=kind, time_in_force=force, state=state,
        quantity=None if is_by_quote else info.orig_qty,
        quote_amount=info.orig_quote_order_qty if is_by_quote else None,
        limit_price=info.price if kind is OrderType.LIMIT else None,
        filled_quantity=info.executed_qty, filled_quote=info.cummulative_quote_qty, fills=tuple(fills),
        reason="", created_at_ns=info.time * NANOSECONDS_PER_MILLISECOND,
        updated_at_ns=(info.update_time or info.time) * NANOSECONDS_PER_MILLISECOND,
    )  # fmt: skip
    return as_asked(order, request, was_cancelled=was_cancelled)


def as_asked(order: VenueOrder, request: OrderRequest | None, *, was_cancelled: bool) -> VenueOrder:
    """Return the order in the words of the request, where we remember it, with the reason of its end."""
    reason = ""
    if order.state is OrderState.CANCELED:
        reason = VenueCancelReason.REQUESTED if was_cancelled else _REASONS.get(order.time_in_force, "")
        if not was_cancelled and request is not None and request.type is OrderType.MARKET and request.price_bound:
            reason = VenueCancelReason.PRICE_BOUND
    order = msgspec.structs.replace(order, reason=str(reason))
    if request is None:
        return order
    return msgspec.structs.replace(
        order, client_order_id=request.client_order_id, type=request.type, time_in_force=request.time_in_force,
        quantity=request.quantity, quote_amount=request.quote_amount, limit_price=request.limit_price,
    )  # fmt: skip


def trade_of(info: TradeInfo, instrument: str) -> VenueTrade:
    """Return an execution of REST."""
    if info.price <= 0 or info.qty <= 0 or not is_order_id(info.order_id):
        raise ValueError(f"trade {info.id} of order {info.order_id}: {info.qty} at {info.price}")
    fill = Fill(
        fill_id=str(info.id), price=info.price, quantity=info.qty, fee=info.commission,
        fee_asset=info.commission_asset, liquidity=Liquidity.MAKER if info.is_maker else Liquidity.TAKER,
        ts_event_ns=info.time * NANOSECONDS_PER_MILLISECOND,
    )  # fmt: skip
    side = Side.BUY if info.is_buyer else Side.SELL
    return VenueTrade(info.time, info.client_order_id or None, str(info.order_id), instrument, side, fill)


class OrderBody(msgspec.Struct, frozen=True):
    """Hold what an order frame says, as texts and numbers."""

    id: str
    client_id: str
    price: str
    quantity: str
    amount: str
    order_type: int
    trade_type: int
    filled: str
    filled_quote: str
    status: int
    created_ms: int


def order_of_frame(body: OrderBody, instrument: str, sent_ms: int) -> VenueOrder:
    """Return an order of the stream, in MEXC's words; ValueError for what MEXC has not."""
    word, status, side = (
        TYPE_WORDS.get(body.order_type),
        STATE_WORDS.get(body.status),
        SIDE_NUMBERS.get(body.trade_type),
    )
    if word is None or status is None or side is None or not is_order_id(body.id):
        raise ValueError(f"order {body.id}: type {body.order_type}, side {body.trade_type}, status {body.status}")
    kind, force = TYPES[word]
    amount, quantity = number_of(body.amount), number_of(body.quantity)
    is_by_quote = kind is OrderType.MARKET and side is Side.BUY and amount > 0
    created_ms = body.created_ms or sent_ms
    return VenueOrder(
        client_order_id=body.client_id, venue_order_id=body.id, instrument=instrument, side=side, type=kind,
        time_in_force=force, state=STATES[status], quantity=None if is_by_quote else quantity,
        quote_amount=amount if is_by_quote else None,
        limit_price=number_of(body.price) if kind is OrderType.LIMIT else None,
        filled_quantity=number_of(body.filled), filled_quote=number_of(body.filled_quote), fills=(), reason="",
        created_at_ns=created_ms * NANOSECONDS_PER_MILLISECOND, updated_at_ns=sent_ms * NANOSECONDS_PER_MILLISECOND,
    )  # fmt: skip


def number_of(text: str) -> Decimal:
    """Return a number of a frame, where an absent one is zero; ValueError for anything else."""
    try:
        number = Decimal(text) if text else Decimal(0)
    except InvalidOperation:
        raise ValueError(f"{text!r} is no number") from None
    if not number.is_finite() or number < 0:
        raise ValueError(f"{text!r} is no amount")
    return number
