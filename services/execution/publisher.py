"""The way out: the outbox of order events, and the account after them.

In: what the journal holds. Out: every event, in order, at least once under its own id; account snapshots.
Never: an event before it is on the disk, a snapshot with prices of two market steps.
"""

from services.execution.books import Books
from services.execution.core.account import snapshot
from services.execution.faults import FaultPoint
from shared.bus import subjects
from shared.bus.port import Bus
from shared.messages import AccountSnapshot, Message, OrderEvent

BATCH_MAX = 500


class Publisher:
    """Publish for one account. Raises BusUnavailableError when the bus did not take it; calling again goes on."""

    def __init__(self, bus: Bus, books: Books, *, venue: str, account: str, fault_point: FaultPoint) -> None:
        self._bus = bus
        self._books = books
        self._venue = venue
        self._account = account
        self._fault_point = fault_point
        self._last_snapshot_id = ""

    async def flush(self, *, repeat_snapshot: bool = False) -> None:
        """Publish what waits in the outbox, then the account if it changed, with `repeat_snapshot` in any case.

        The account goes out right behind the last events, without waiting until these are stored: nobody may take
        either to be the first to arrive, since they are read from two streams.
        """
        journal = self._books.journal
        is_more = True
        while is_more:
            waiting = journal.unpublished(BATCH_MAX)
            is_more = len(waiting) == BATCH_MAX
            items = [_item(event) for _, event in waiting]
            snapshot_id = None if is_more else self._due_snapshot(repeat=repeat_snapshot)
            if snapshot_id is not None:
                items.append((subjects.account(self._venue), self.account(), snapshot_id))
            if items:
                await self._bus.publish_all(items)
            if waiting:
                self._fault_point("after_publish_before_mark")
                with journal.step(durable=False):
                    journal.mark_published(waiting[-1][0])
            self._last_snapshot_id = snapshot_id or self._last_snapshot_id

    async def repeat(self, intent_id: str) -> None:
        """Publish again everything that was told of an intent."""
        await self._bus.publish_all([_item(event) for event in self._books.journal.events_of(intent_id)])

    def account(self) -> AccountSnapshot:
        """Return the account as it stands, marked at the last complete market step."""
        books = self._books
        return snapshot(
            books.ledger,
            books.open_orders(),
            books.marks(),
            venue=self._venue,
            account=self._account,
            as_of_ns=books.closed_ns,
            traded=books.traded,
        )

    def _due_snapshot(self, *, repeat: bool) -> str | None:
        if self._books.is_within_step:
            return None
        # Orders lock money without a ledger entry, so the outbox's number belongs to the snapshot's identity, too.
        state = (self._books.closed_ns, self._books.ledger.sequence, self._books.journal.event_count())
        snapshot_id = f"acct-{self._venue}-" + "-".join(map(str, state))
        return snapshot_id if repeat or snapshot_id != self._last_snapshot_id else None


def _item(event: OrderEvent) -> tuple[str, Message, str]:
    return subjects.order_event(event.strategy, event.venue, event.instrument), event, event.event_id
