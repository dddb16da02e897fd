"""Two digests by which two runs can be compared, wherever they ran: through the services or through a backtest.

In: order events and decision records in the order they were published, any of them twice. Out: SHA-256 digests.
Never: a digest that depends on how often, or after which other message, something was published again.
"""

import hashlib
from collections.abc import Callable, Iterable
from decimal import Decimal

import msgspec

from shared.messages import DecisionRecord, OrderEvent

REFUSED = "refuse"


def unique_fills(events: Iterable[OrderEvent]) -> list[OrderEvent]:
    """Return the events that carry a fill, each business key once."""
    return unique_by((event for event in events if event.fill is not None), lambda event: event.event_id)


def unique_by[M](messages: Iterable[M], key: Callable[[M], str]) -> list[M]:
    """Return the messages without those whose key came before; a redelivery publishes the same key again."""
    found: dict[str, M] = {}
    for message in messages:
        found.setdefault(key(message), message)
    return list(found.values())


def fills_digest(fills: Iterable[OrderEvent]) -> str:
    """Return the SHA-256 of the fills in order: intent, market, side, price, quantity, fee, market time."""
    digest = hashlib.sha256()
    for event in fills:
        assert event.fill is not None
        fill = event.fill
        values = (event.intent_id, event.instrument, event.side.value, fill.price, fill.quantity, fill.fee)
        line = [*(_plain(value) for value in values), fill.fee_asset, str(fill.ts_event_ns)]
        digest.update(msgspec.json.encode(line))
    return digest.hexdigest()


def decisions_digest(decisions: Iterable[DecisionRecord]) -> str:
    """Return the SHA-256 of the decisions in order: what was decided, when in market time, and why.

    Of a plan the first record counts, which is the decision; the later ones follow its orders, and how often they
    speak depends on which message arrived first. Refusals by risk are left out for the same reason: they overtake the
    record of the plan that they belong to, and what they change stands in the fills.
    """
    digest = hashlib.sha256()
    decided = (record for record in decisions if record.action != REFUSED)
    for record in unique_by(decided, lambda record: record.correlation_id):
        digest.update(msgspec.json.encode((record.correlation_id, record.action, record.decided_at_ns, record.notes)))
    return digest.hexdigest()


def _plain(value: Decimal | str) -> str:
    # 1.0 and 1.00 are the same amount.
    return f"{value.normalize():f}" if isinstance(value, Decimal) else value
