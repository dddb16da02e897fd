"""What one report from the venue changes: the order, the ledger, the events that tell of it.

In: an order, what the venue said, the ledger. Out: the order after it, new ledger entries, events in order.
Never: an event without its ledger entry or the other way round; anything half booked when a report contradicts.

A fee may be charged in an asset that is none of the market's (BNB, MX). Where the ledger holds too little of it, the
fill waits: whoever looks at everything finds out what the account holds of it, and books the fill then.
"""

import msgspec

from services.execution.core.orders import Order, settled, with_acknowledgement, with_fill, with_state
from shared.domain.instruments import split_symbol
from shared.domain.ledger import Ledger, LedgerEntry
from shared.errors import IntegrityError
from shared.exchange.port import VenueOrder
from shared.messages import Fill, OrderEvent, OrderState


class Booked(msgspec.Struct, frozen=True):
    """Hold what a step changed; `problem` says why the rest of the report was not believed.

    `waits` tells that a fill is held back, because the ledger holds too little of the asset that its fee was taken in.
    """

    order: Order
    entries: tuple[LedgerEntry, ...] = ()
    events: tuple[OrderEvent, ...] = ()
    problem: str | None = None
    waits: bool = False


def book_state(order: Order, state: OrderState, reason: str, ledger_sequence: int, now_ns: int) -> Booked:
    """Return the step of a state that we set ourselves; nothing when the order is there already."""
    return _told(Booked(order), with_state(order, state, reason), ledger_sequence, now_ns)


def book_report(order: Order, report: VenueOrder, ledger: Ledger, now_ns: int) -> Booked:
    """Return the step of a venue's answer about the order; `ledger` gets the fills that are new."""
    try:
        named = with_acknowledgement(order, report)
    except IntegrityError as error:
        return Booked(order, problem=str(error))
    return _book_fills(named, report.fills, ledger, now_ns)


def book_trade(
    order: Order, venue_order_id: str, fill: Fill, ledger: Ledger, now_ns: int, *, may_wait: bool = True
) -> Booked:
    """Return the step of one execution from the venue's list of trades; it names the order, too.

    Without `may_wait` a fee that the ledger cannot bear is a problem.
    """
    named = msgspec.structs.replace(order, venue_order_id=order.venue_order_id or venue_order_id)
    return _book_fills(named, (fill,), ledger, now_ns, may_wait=may_wait)


def is_beyond(fill: Fill, instrument: str, ledger: Ledger) -> bool:
    """Tell whether a fee was taken in a third asset of which the ledger holds less."""
    return fill.fee_asset not in split_symbol(instrument) and ledger.balance(fill.fee_asset) < fill.fee


def _book_fills(order: Order, fills: tuple[Fill, ...], ledger: Ledger, now_ns: int, *, may_wait: bool = True) -> Booked:
    entries: list[LedgerEntry] = []
    events: list[OrderEvent] = []
    waits = False
    try:
        for fill in fills:
            after = with_fill(order, fill)
            if after is order:
                continue
            if may_wait and is_beyond(fill, order.intent.instrument, ledger):
                waits = True
                continue
            if after.closing is not None and after.closing.state is OrderState.FILLED:
                after = settled(after)
            entry = ledger.book_fill(order.intent.instrument, order.intent.side, fill)
            if entry is None:
                raise IntegrityError(f"fill {fill.fill_id} is booked already, not for {order.client_order_id}")
            order = msgspec.structs.replace(after, events=after.events + 1)
            entries.append(entry)
            events.append(_event(order, fill, entry.sequence, fill.ts_event_ns))
        final = settled(order)
    except IntegrityError as error:
        return Booked(order, tuple(entries), tuple(events), str(error))
    return _told(Booked(order, tuple(entries), tuple(events), waits=waits), final, ledger.sequence, now_ns)


def _told(before: Booked, after: Order, ledger_sequence: int, now_ns: int) -> Booked:
    if after.state is before.order.state:
        return Booked(after, before.entries, before.events, waits=before.waits)
    told = msgspec.structs.replace(after, events=after.events + 1)
    events = (*before.events, _event(told, None, ledger_sequence, now_ns))
    return Booked(told, before.entries, events, waits=before.waits)


def _event(order: Order, fill: Fill | None, ledger_sequence: int, ts_event_ns: int) -> OrderEvent:
    intent = order.intent
    what = f"fill-{fill.fill_id}" if fill is not None else f"{order.events}-{order.state.value}"
    return OrderEvent(
        event_id=f"{order.client_order_id}-{what}",
        intent_id=intent.intent_id,
        client_order_id=order.client_order_id,
        venue_order_id=order.venue_order_id,
        strategy=intent.strategy,
        venue=intent.venue,
        instrument=intent.instrument,
        side=intent.side,
        type=intent.type,
        state=order.state,
        quantity=intent.quantity,
        quote_amount=intent.quote_amount,
        limit_price=intent.limit_price,
        filled_quantity=order.filled_quantity,
        filled_quote=order.filled_quote,
        fill=fill,
        reason=order.reason,
        correlation_id=intent.correlation_id,
        ledger_sequence=ledger_sequence,
        ts_event_ns=ts_event_ns,
    )
