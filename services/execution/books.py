"""Execution's memory: open orders, ledger and marks, always what the journal holds.

In: steps made by the core. Out: orders, balances and marks. Never: a step in memory that is not on the disk, work
after a step that the disk refused.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal

from services.execution.core.booking import Booked
from services.execution.core.orders import Order
from services.execution.core.transitions import OPEN_STATES
from services.execution.journal import Journal
from shared.domain.ledger import Ledger, LedgerEntry
from shared.errors import IntegrityError
from shared.messages import OrderState

CLOSED_NS = "closed_ns"
TRADE_SEQUENCE = "trade_sequence"
OPENED, OPENED_SEQUENCE = "opened", "opened_sequence"
_UNCERTAIN = (OrderState.SUBMITTED, OrderState.UNKNOWN)


class Books:
    """Hold the account of one journal; raises IntegrityError when the journal contradicts itself."""

    def __init__(self, journal: Journal, quote_asset: str) -> None:
        self.journal = journal
        self.ledger = Ledger.replay(quote_asset, journal.entries())
        self._open = {order.client_order_id: order for order in journal.open_orders()}
        self._marks = journal.marks()
        self._closed_ns = journal.number(CLOSED_NS)
        self._broken = False
        # The assets of the stack's markets; None for whatever the account holds.
        self.traded: frozenset[str] | None = None
        self._fees_in = {entry.fee_asset for entry in self.ledger.entries if _is_third(entry, quote_asset)}
        for order in self._open.values():
            for fill in order.fills:
                if self.ledger.entry(f"fill:{fill.fill_id}") is None:
                    raise IntegrityError(f"fill {fill.fill_id} of {order.client_order_id} is not in the ledger")

    @property
    def closed_ns(self) -> int:
        """Return the last market step that was complete, nanoseconds UTC; 0 before the first."""
        return self._closed_ns

    @property
    def seen_ns(self) -> int:
        """Return the newest market time seen, complete or not."""
        return max([self.closed_ns, *(close_time_ns for _, close_time_ns in self._marks.values())])

    @property
    def is_within_step(self) -> bool:
        """Tell whether bars of a market step came whose end did not yet: marks are of two times now."""
        return self.seen_ns > self.closed_ns

    @property
    def fee_assets(self) -> frozenset[str]:
        """Return the assets that fees were taken in and that the stack does not trade, for example BNB or MX."""
        return frozenset() if self.traded is None else frozenset(self._fees_in - self.traded)

    def order(self, intent_id: str) -> Order | None:
        """Return the order of an intent, or None."""
        return self.journal.order(intent_id)

    def order_at_venue(self, client_order_id: str | None, venue_order_id: str) -> Order | None:
        """Return the order that the venue speaks of, or None when it is not ours."""
        if client_order_id:
            return self._open.get(client_order_id) or self.journal.order_by_client_id(client_order_id)
        return self.journal.order_by_venue_id(venue_order_id)

    def open_orders(self) -> list[Order]:
        """Return the orders that may be at the venue now, in the order they came."""
        return list(self._open.values())

    def uncertain_orders(self) -> list[Order]:
        """Return the open orders of which it is not known whether the venue took them, or not known what filled."""
        return [order for order in self._open.values() if order.state in _UNCERTAIN or order.closing is not None]

    def uncertain_on(self, instrument: str) -> str | None:
        """Return the client id of an order with an unknown outcome on this instrument, or None."""
        for order in self._open.values():
            if order.intent.instrument == instrument and order.state in _UNCERTAIN:
                return order.client_order_id
        return None

    def marks(self) -> Mapping[str, Decimal]:
        """Return the last close of each instrument."""
        return {instrument: price for instrument, (price, _) in self._marks.items()}

    def mark_ns(self, instrument: str) -> int:
        """Return the time of the instrument's last close; 0 before the first."""
        known = self._marks.get(instrument)
        return 0 if known is None else known[1]

    def commit(self, booked: Booked, *, approval_id: str | None = None, at_ns: int) -> Order:
        """Write a step to the disk, then remember it; with `approval_id` the approval is used up by it."""
        if self._broken:
            raise RuntimeError("the journal refused an earlier step: only a restart can tell what it holds")
        order = booked.order
        try:
            with self.journal.step():
                self.journal.save_order(order)
                if approval_id is not None:
                    self.journal.use_approval(approval_id, order.intent.intent_id)
                for entry in booked.entries:
                    self.journal.add_entry(entry)
                for event in booked.events:
                    self.journal.add_event(event)
                if booked.problem is not None:
                    self.journal.add_incident(f"{order.client_order_id}: {booked.problem}", booked.problem, at_ns)
        except BaseException:
            self._broken = True
            raise
        self._fees_in |= {entry.fee_asset for entry in booked.entries if _is_third(entry, self.ledger.quote_asset)}
        if order.state in OPEN_STATES:
            self._open[order.client_order_id] = order
        else:
            self._open.pop(order.client_order_id, None)
        return order

    def open_account(self, reference: str, amount: Decimal) -> Decimal:
        """Book a new account's first money and return it; an account that has some keeps what was booked then."""
        known = self.ledger.entry(f"deposit:{reference}")
        if known is not None:
            return known.quantity
        entry = self.ledger.book_deposit(reference, amount, 0)
        if entry is not None:
            with self.journal.step():
                self.journal.add_entry(entry)
        return amount

    @property
    def is_opened(self) -> bool:
        """Tell whether the balances of an account at a venue were booked."""
        return bool(self.journal.number(OPENED))

    @property
    def opened_sequence(self) -> int:
        """Return the account's last trade before its books were opened, by its sequence."""
        return self.journal.number(OPENED_SEQUENCE)

    def open_at_venue(self, held: Mapping[str, tuple[Decimal, Decimal]], trade_sequence: int, at_ns: int) -> None:
        """Book what an account holds (asset -> amount, price in quote units) when it is first seen, all at once."""
        quote, entries = self.ledger.quote_asset, []
        for asset, (amount, price) in sorted(held.items(), key=lambda item: (item[0] != quote, item[0])):
            if asset == quote:
                entries.append(self.ledger.book_deposit("opening", amount, at_ns))
            else:
                entries.append(self.ledger.book_transfer(f"opening-{asset}", asset, amount, price, at_ns))
        with self.journal.step():
            for entry in entries:
                if entry is not None:
                    self.journal.add_entry(entry)
            self.journal.set_number(TRADE_SEQUENCE, trade_sequence)
            self.journal.set_number(OPENED_SEQUENCE, trade_sequence)
            self.journal.set_number(OPENED, 1)

    def adopt(
        self, reference: str, changes: Mapping[str, tuple[Decimal, Decimal]], at_ns: int, *, settles: bool = True
    ) -> None:
        """Book money that came from outside or went there (asset -> signed amount, price in quote units), all at once.

        What was noted as contradictions is settled by it, unless `settles` is False. Raises IntegrityError for what
        the ledger cannot book.
        """
        entries = [
            self.ledger.book_transfer(f"{reference}-{asset}", asset, amount, price, at_ns)
            for asset, (amount, price) in sorted(changes.items())
        ]
        try:
            with self.journal.step():
                for entry in entries:
                    if entry is not None:
                        self.journal.add_entry(entry)
                if settles:
                    self.journal.resolve_incidents()
        except BaseException:
            self._broken = True
            raise

    def see_close(self, instrument: str, price: Decimal, close_time_ns: int) -> None:
        """Remember a bar's close; an older one changes nothing."""
        known = self._marks.get(instrument)
        if known is None or close_time_ns > known[1]:
            with self.journal.step(durable=False):
                self.journal.save_mark(instrument, price, close_time_ns)
            self._marks[instrument] = (price, close_time_ns)

    def close_step(self, close_time_ns: int, instruments: tuple[str, ...]) -> None:
        """Remember that a market step is complete.

        An instrument whose bar of this step never reached us has no price from now on, rather than an old one.
        """
        for instrument in instruments:
            known = self._marks.get(instrument)
            if known is not None and known[1] < close_time_ns:
                with self.journal.step(durable=False):
                    self.journal.forget_mark(instrument)
                del self._marks[instrument]
        if close_time_ns > self.closed_ns:
            with self.journal.step(durable=False):
                self.journal.set_number(CLOSED_NS, close_time_ns)
            self._closed_ns = close_time_ns

    def trade_sequence(self, market: str | None = None) -> int:
        """Return the venue's last trade that is booked, by its sequence; of one market or (None) of all."""
        return self.journal.number(_sequence_key(market))

    def set_trade_sequence(self, sequence: int, market: str | None = None) -> None:
        """Remember that every trade up to `sequence` is booked; losing this only books them again, to no effect."""
        with self.journal.step(durable=False):
            self.journal.set_number(_sequence_key(market), sequence)

    def know_markets(self, markets: Iterable[str]) -> None:
        """Begin to count each market's trades by itself; one that is new begins with the newest trade of all."""
        known = self.journal.numbers(TRADE_SEQUENCE)
        new = [market for market in markets if _sequence_key(market) not in known]
        if new:
            with self.journal.step():
                for market in new:
                    self.journal.set_number(_sequence_key(market), max(known.values(), default=0))


def _sequence_key(market: str | None) -> str:
    return TRADE_SEQUENCE if market is None else f"{TRADE_SEQUENCE}.{market}"


def _is_third(entry: LedgerEntry, quote_asset: str) -> bool:
    return bool(entry.fee) and entry.fee_asset not in (entry.asset, quote_asset)
