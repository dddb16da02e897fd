"""Small parts for tests of execution: approvals, venue orders, fills."""

from decimal import Decimal

import msgspec

from services.execution.core.orders import Order, client_order_id, new_order
from shared.exchange.port import VenueOrder
from shared.messages import (
    Fill,
    Liquidity,
    OrderApproved,
    OrderIntent,
    OrderState,
    OrderType,
    Side,
    TimeInForce,
)

BTC = "BTC-USDT"
HOUR_NS = 3_600_000_000_000


def intent(
    number: int = 1,
    *,
    side: Side = Side.BUY,
    quantity: str | None = "1",
    quote: str | None = None,
    limit: str | None = None,
    bound: str | None = None,
    hour: int = 1,
    expires_hour: int = 100,
    instrument: str = BTC,
    tif: TimeInForce = TimeInForce.GTC,
) -> OrderIntent:
    """Return an intent decided at `hour`."""
    return OrderIntent(
        intent_id=f"intent-{number}",
        strategy="cascade",
        venue="paper",
        instrument=instrument,
        side=side,
        type=OrderType.LIMIT if limit else OrderType.MARKET,
        quantity=None if quote else Decimal(quantity or 0),
        quote_amount=Decimal(quote) if quote else None,
        limit_price=Decimal(limit) if limit else None,
        price_bound=Decimal(bound) if bound else None,
        time_in_force=tif,
        decided_at_ns=hour * HOUR_NS,
        expires_at_ns=expires_hour * HOUR_NS,
        reason="test",
        correlation_id=f"correlation-{number}",
    )


def approve(wanted: OrderIntent, **changes: object) -> OrderApproved:
    """Return an approval that covers the intent generously."""
    bound = Decimal("0.01") if wanted.side is Side.SELL else Decimal(1_000_000)
    approval = OrderApproved(
        intent=wanted,
        approval_id=f"approval-{wanted.intent_id}",
        quantity_max=wanted.quantity or Decimal(1_000),
        notional_max_usdt=wanted.quote_amount or Decimal(100_000_000),
        price_bound=bound,
        approved_at_ns=wanted.decided_at_ns,
        expires_at_ns=wanted.expires_at_ns,
    )
    return msgspec.structs.replace(approval, **changes)


def submitted(approval: OrderApproved) -> Order:
    """Return the order of an approval, as it is when it was just sent."""
    return msgspec.structs.replace(new_order(approval), state=OrderState.SUBMITTED)


def fill(number: int, quantity: str = "0.25", price: str = "100", fee: str = "0") -> Fill:
    """Return a fill whose id follows from its number."""
    return Fill(f"fill-{number}", Decimal(price), Decimal(quantity), Decimal(fee), "BTC", Liquidity.TAKER, number)


def report(approval: OrderApproved, state: OrderState, *fills: Fill, filled: str | None = None) -> VenueOrder:
    """Return the venue's view of an order; `filled` says more than the fills shown where it is given."""
    wanted = approval.intent
    total = Decimal(filled) if filled is not None else sum((part.quantity for part in fills), Decimal(0))
    return VenueOrder(
        client_order_id=client_order_id(wanted.intent_id),
        venue_order_id=f"venue-{wanted.intent_id}",
        instrument=wanted.instrument,
        side=wanted.side,
        type=wanted.type,
        time_in_force=wanted.time_in_force,
        state=state,
        quantity=wanted.quantity,
        quote_amount=wanted.quote_amount,
        limit_price=wanted.limit_price,
        filled_quantity=total,
        filled_quote=sum((part.quantity * part.price for part in fills), Decimal(0)),
        fills=fills,
        reason="requested" if state is OrderState.CANCELED else "",
        created_at_ns=1,
        updated_at_ns=1,
    )
