"""Reading back what the streams know and the database does not: it is new, or a power cut took its last commits.

In: the streams' newest messages and the orders since the last one handled. Out: a gate that misses nothing.
Never: an order that is open and not reserved for, because only the stream remembers it.
"""

from services.risk.core.checks_order import is_intent_id
from services.risk.memory import GateMemory
from shared.bus import subjects
from shared.bus.port import Bus, Delivery
from shared.bus.streams import ACCOUNTS, MD_BARS, ORDERS
from shared.errors import DecodeError
from shared.messages import (
    AccountSnapshot,
    Bar,
    BarsClosed,
    InstrumentDefinition,
    OrderApproved,
    OrderEvent,
    OrderRefused,
)

PAGE = 1_000


async def rebuild(memory: GateMemory, bus: Bus, venue: str, timeframe: str, assets: tuple[str, ...]) -> None:
    """Bring the memory up to what the streams hold; harmless when it is already there."""
    await _market(memory, bus, venue, timeframe, assets)
    if not memory.gate.book.snapshots:
        last = await last_readable(bus, ACCOUNTS, subjects.account(venue))
        if last is not None and isinstance(last.message, AccountSnapshot):
            memory.on_snapshot(last.message)
    await _orders(memory, bus, venue)


async def _market(memory: GateMemory, bus: Bus, venue: str, timeframe: str, assets: tuple[str, ...]) -> None:
    market = memory.gate.market
    for symbol in assets:
        for known, subject in (
            (symbol in market.instruments, subjects.instrument(venue, symbol)),
            (symbol in market.closes, subjects.bar(timeframe, venue, symbol)),
        ):
            last = None if known else await last_readable(bus, MD_BARS, subject)
            if last is not None and isinstance(last.message, InstrumentDefinition | Bar):
                memory.on_market(last.message)
    if not market.closed_ns:
        last = await last_readable(bus, MD_BARS, subjects.bars_closed(timeframe, venue))
        if last is not None and isinstance(last.message, BarsClosed):
            memory.on_market(last.message)


async def _orders(memory: GateMemory, bus: Bus, venue: str) -> None:
    start = memory.orders_sequence + 1
    while True:
        page = await bus.history(ORDERS, subjects.ORDERS_ALL, start_sequence=start, limit=PAGE)
        for delivery in page:
            match delivery.message:
                case OrderApproved() as message if message.intent.venue == venue:
                    memory.adopt(message, message.intent.intent_id)
                case OrderRefused() as message if message.venue == venue and is_intent_id(message.intent_id):
                    memory.adopt(message, message.intent_id)
                case OrderEvent() as event if event.venue == venue:
                    memory.on_event(event, delivery.stream_sequence)
                case _:
                    pass
        if len(page) < PAGE:
            return
        start = page[-1].stream_sequence + 1


async def last_readable(bus: Bus, stream: str, subject: str) -> Delivery | None:
    """Return the newest message on a subject, or None when there is none or it is no message."""
    try:
        return await bus.last(stream, subject)
    except DecodeError:
        return None
