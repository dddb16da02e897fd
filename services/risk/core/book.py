"""The account as the gate may count on it: a snapshot, and what was approved but is not in it yet.

In: account snapshots and, in the order of the stream ORDERS, approvals and order events. Out: the one snapshot that
goes with the events seen so far, and the orders still open. Never: money counted twice as free.

Snapshots and orders come over different streams, so either may be ahead. Events behind: a snapshot has fills whose
events were not seen, and reserving for these orders too would count them twice. Snapshots behind: money is spent that
still looks free. So, while orders are open, the view stays at the oldest snapshot that has everything seen in events,
and moves on only with them; without open orders the newest is right. A snapshot older than the events seen is never
used: the caller waits.
"""

from decimal import Decimal

import msgspec

from services.risk.core.exposure import is_amount
from services.risk.core.view import ApprovedOrder
from shared.messages import AccountSnapshot, OrderEvent

SNAPSHOTS_MAX = 1_000
_ZERO = Decimal(0)


class AccountBook:
    """Follow one account. `seen_sequence` is the newest ledger entry that an order event named."""

    def __init__(self) -> None:
        self.orders: dict[str, ApprovedOrder] = {}
        self.snapshots: dict[int, AccountSnapshot] = {}
        self.seen_sequence = 0
        self.used_sequence = 0

    @property
    def has_open_orders(self) -> bool:
        """Tell whether anything approved has not ended."""
        return any(order.is_open for order in self.orders.values())

    def snapshot(self) -> AccountSnapshot | None:
        """Return the snapshot to judge by, or None while none has everything that the events told."""
        least = max(self.seen_sequence, self.used_sequence if self.has_open_orders else 0)
        usable = [sequence for sequence in self.snapshots if sequence >= least]
        if not usable:
            return None
        return self.snapshots[min(usable) if self.has_open_orders else max(usable)]

    def on_snapshot(self, snapshot: AccountSnapshot) -> bool:
        """Take a snapshot; False when it is older than one of the same ledger entry, or an amount in it cannot be."""
        if not all(is_amount(balance.free) and is_amount(balance.locked) for balance in snapshot.balances):
            return False
        known = self.snapshots.get(snapshot.ledger_sequence)
        if known is not None and (known == snapshot or known.as_of_ns > snapshot.as_of_ns):
            return False
        self.snapshots[snapshot.ledger_sequence] = snapshot
        return True

    def on_event(self, event: OrderEvent) -> ApprovedOrder | None:
        """Take an order event, any number of times; returns the order when it has changed."""
        self.seen_sequence = max(self.seen_sequence, event.ledger_sequence)
        known = self.orders.get(event.intent_id)
        if known is None:
            return None
        changed = msgspec.structs.replace(
            known,
            filled_quantity=max(known.filled_quantity, event.filled_quantity),
            filled_quote=max(known.filled_quote, event.filled_quote),
            is_open=known.is_open and not event.state.is_terminal,
        )
        if changed == known:
            return None
        self.orders[event.intent_id] = changed
        return changed

    def approve(self, order: ApprovedOrder, used_sequence: int) -> None:
        """Reserve for an approval that was judged by the snapshot `used_sequence`."""
        self.orders[order.intent_id] = order
        self.used_sequence = used_sequence

    def forget(self, *, before_ns: int) -> list[str]:
        """Forget orders that have ended and were approved at or before `before_ns`; returns their intents' ids."""
        old = [key for key, order in self.orders.items() if not order.is_open and order.approved_at_ns <= before_ns]
        for key in old:
            del self.orders[key]
        return old

    def forget_snapshots(self) -> list[int]:
        """Forget snapshots that no verdict can need any more; returns their ledger entries."""
        current = self.snapshot()
        if current is None:
            # Everything is older than the events seen: only the newest may still tell anything, namely how far.
            old = sorted(self.snapshots)[:-1]
        else:
            old = [sequence for sequence in self.snapshots if sequence < current.ledger_sequence]
            waiting = sorted(sequence for sequence in self.snapshots if sequence > current.ledger_sequence)
            old += waiting[:-SNAPSHOTS_MAX]
        for sequence in old:
            del self.snapshots[sequence]
        return old
