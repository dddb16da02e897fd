"""One order and what each report makes of it.

In: an approval, then the venue's answers and executions in any order, any of them twice. Out: the order after them.
Never: a fill counted twice, a filled quantity that falls or passes the order's, a terminal state before its last fill
is known, an older answer over a newer one.

The same facts give the same order in whatever sequence they come: fills are a set by id, the venue's closing word is
kept until the fills that it speaks of are known, and a state is derived from both.
"""

import hashlib
from decimal import Decimal

import msgspec

from services.execution.core.transitions import LATE_FILL_STATES, move
from shared.domain.money import ZERO, add, multiply, plain
from shared.errors import IntegrityError
from shared.exchange.port import OrderRequest, VenueOrder
from shared.messages import Fill, OrderApproved, OrderIntent, OrderState, OrderType, Side, TimeInForce

_CLOSING_STATES = frozenset({OrderState.FILLED, OrderState.CANCELED, OrderState.EXPIRED, OrderState.REJECTED})
CLIENT_ORDER_ID_LENGTH = 32


class Closing(msgspec.Struct, frozen=True):
    """Keep the venue's last word: the final state, the quantity filled by then, and why."""

    state: OrderState
    filled_quantity: Decimal
    reason: str


class Order(msgspec.Struct, frozen=True):
    """Hold everything known about one order. `events` counts what was reported about it."""

    approval: OrderApproved
    client_order_id: str
    state: OrderState = OrderState.INITIALIZED
    venue_order_id: str | None = None
    fills: tuple[Fill, ...] = ()
    filled_quantity: Decimal = ZERO
    filled_quote: Decimal = ZERO
    closing: Closing | None = None
    reason: str = ""
    events: int = 0

    @property
    def intent(self) -> OrderIntent:
        """Return the intent that the order serves."""
        return self.approval.intent

    @property
    def is_settled(self) -> bool:
        """Tell whether the order is terminal and its known fills are all that the venue spoke of."""
        return self.state.is_terminal and (self.closing is None or self.filled_quantity >= self.closing.filled_quantity)


def client_order_id(intent_id: str) -> str:
    """Return the venue's id for an intent: the same after a crash, 32 characters of [0-9a-z]."""
    digest = hashlib.sha256(intent_id.encode()).hexdigest()
    return f"csc{digest}"[:CLIENT_ORDER_ID_LENGTH]


def new_order(approval: OrderApproved) -> Order:
    """Return the order of an approval, before anything was checked or sent."""
    return Order(approval=approval, client_order_id=client_order_id(approval.intent.intent_id))


def request_of(order: Order) -> OrderRequest:
    """Return what the venue is asked for; the tighter of the intent's and the approval's price bounds binds."""
    intent = order.intent
    return OrderRequest(
        client_order_id=order.client_order_id,
        instrument=intent.instrument,
        side=intent.side,
        type=intent.type,
        quantity=intent.quantity,
        quote_amount=intent.quote_amount,
        limit_price=intent.limit_price,
        price_bound=price_bound_of(order.approval),
        time_in_force=intent.time_in_force,
    )


def price_bound_of(approval: OrderApproved) -> Decimal:
    """Return the worst price that both the intent and the approval allow."""
    bound = approval.intent.price_bound
    if bound is None:
        return approval.price_bound
    tighter = min if approval.intent.side is Side.BUY else max
    return tighter(bound, approval.price_bound)


def with_state(order: Order, state: OrderState, reason: str) -> Order:
    """Return the order after a report of its state; raises IntegrityError for a contradiction."""
    after = move(order.state, state)
    return order if after is order.state else msgspec.structs.replace(order, state=after, reason=reason)


def with_fill(order: Order, fill: Fill) -> Order:
    """Return the order after one execution; the same one again changes nothing.

    Raises IntegrityError for an id with other content, for more than was ordered, and for an order never sent.
    """
    for known in order.fills:
        if known.fill_id == fill.fill_id:
            if not _is_same(known, fill):
                raise IntegrityError(f"fill {fill.fill_id} of {order.client_order_id} came twice, not the same")
            return order
    filled = add(order.filled_quantity, fill.quantity)
    quote = add(order.filled_quote, multiply(fill.price, fill.quantity))
    _check_bounds(order, filled, quote)
    fills = tuple(sorted((*order.fills, fill), key=lambda known: (known.ts_event_ns, known.fill_id)))
    after = msgspec.structs.replace(order, fills=fills, filled_quantity=filled, filled_quote=quote)
    if order.intent.quantity == filled:
        return with_state(after, OrderState.FILLED, "")
    if order.state not in LATE_FILL_STATES:
        after = with_state(after, OrderState.PARTIALLY_FILLED, "")
    return after


def with_acknowledgement(order: Order, report: VenueOrder) -> Order:
    """Return the order after the venue named it: its id, its closing word if it said one; no fills yet.

    Raises IntegrityError when the venue speaks of another order.
    """
    intent = order.intent
    said = (report.client_order_id, report.instrument, report.side)
    # A venue that knows no price bound has got a market order as a limit order, immediate or cancel.
    is_type = report.type is intent.type or (
        intent.type is OrderType.MARKET and report.time_in_force is TimeInForce.IOC
    )
    if said != (order.client_order_id, intent.instrument, intent.side) or not is_type:
        raise IntegrityError(f"the venue's order {report.venue_order_id} is not what {order.client_order_id} asked for")
    if order.venue_order_id not in (None, report.venue_order_id):
        raise IntegrityError(f"{order.client_order_id} is both {order.venue_order_id} and {report.venue_order_id}")
    closing = order.closing
    if report.state in _CLOSING_STATES:
        closing = _later(closing, Closing(report.state, report.filled_quantity, report.reason))
    return msgspec.structs.replace(order, venue_order_id=report.venue_order_id, closing=closing)


def settled(order: Order) -> Order:
    """Return the order in the state that its facts amount to: accepted, or closed once every fill is known."""
    closing = order.closing
    if closing is not None and order.filled_quantity >= closing.filled_quantity:
        if closing.state is OrderState.FILLED and order.filled_quantity > closing.filled_quantity:
            raise IntegrityError(f"{order.client_order_id} was filled for {plain(closing.filled_quantity)}, now more")
        return with_state(order, closing.state, closing.reason)
    if order.venue_order_id is not None:
        return with_state(order, OrderState.ACCEPTED, "")
    return order


def _is_same(known: Fill, fill: Fill) -> bool:
    # The streams and the lists of a venue may differ in who was the maker, by a millisecond, and in which asset no fee
    # was charged.
    fee_asset = known.fee_asset if known.fee or fill.fee else fill.fee_asset
    told = msgspec.structs.replace(known, liquidity=fill.liquidity, ts_event_ns=fill.ts_event_ns, fee_asset=fee_asset)
    return told == fill


def _later(one: Closing | None, other: Closing) -> Closing:
    # A venue counts fills up, so the word that knows of more of them is the later one.
    return max(one or other, other, key=lambda word: (word.filled_quantity, word.state is OrderState.FILLED))


def _check_bounds(order: Order, filled: Decimal, quote: Decimal) -> None:
    intent = order.intent
    if order.state in (OrderState.INITIALIZED, OrderState.DENIED):
        raise IntegrityError(f"{order.client_order_id} was never sent, yet the venue filled it")
    if intent.quantity is not None and filled > intent.quantity:
        raise IntegrityError(f"{order.client_order_id} is overfilled: {plain(filled)} of {plain(intent.quantity)}")
    if intent.quote_amount is not None and intent.side is Side.BUY and quote > intent.quote_amount:
        raise IntegrityError(f"{order.client_order_id} is overspent: {plain(quote)} of {plain(intent.quote_amount)}")
