"""The account at the other end of a wire: connect, open the books once, book what the account's stream says at once.

In: the venue's stream of orders, trades and its own state, in any order, any of them twice. Out: booked fills, calls
for a reconciliation. Never: an order sent while the stream was not reconciled, a report that overtakes the step in
hand, a report that is lost without a reconciliation, a first balance that trades could still change.
"""

import asyncio
import random
from collections import deque
from decimal import Decimal

from services.execution.core.booking import book_trade
from services.execution.desk import PAUSE_LOOK_S, Desk
from services.execution.recovery import Recovery
from shared.errors import UnavailableError
from shared.exchange.port import StreamState, VenueOrder, VenueReport, VenueTrade, WireVenue

REPORTS_MAX = 10_000
RETRY_S, RETRY_MAX_S = 0.5, 30.0
OPENING_TRIES = 5
# An account's past may be long, and a venue lets it be read a page at a time.
HISTORY_TIMEOUT_S = 300.0


class WireAccount:
    """Hold a wire venue open for one desk; `symbols` are the stack's markets."""

    def __init__(self, desk: Desk, wire: WireVenue, recovery: Recovery, symbols: tuple[str, ...]) -> None:
        self._desk, self._wire, self._recovery, self._symbols = desk, wire, recovery, symbols
        self._reports: deque[VenueOrder | VenueTrade] = deque()
        self._has_reports = asyncio.Event()
        desk.trade_in(symbols)

    async def connect(self) -> None:
        """Connect and listen, however long the venue does not answer; raises ConfigError for what it refuses."""
        delay_s = RETRY_S
        while True:
            try:
                await self._wire.open(self._symbols, self.on_report)
            except (UnavailableError, TimeoutError, OSError) as error:
                self._desk.log.warning("venue_unavailable", error=repr(error), retry_s=round(delay_s, 1))
            else:
                return
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))
            delay_s = min(2 * delay_s, RETRY_MAX_S)

    async def close(self) -> None:
        """Let go of the venue."""
        await self._wire.close()

    def on_report(self, report: VenueReport) -> None:
        """Take one report of the account's stream; called from the adapter, returns at once."""
        desk = self._desk
        if isinstance(report, StreamState):
            desk.on_stream(is_live=report.is_live, reason=report.reason)
        elif len(self._reports) < REPORTS_MAX:
            self._reports.append(report)
            self._has_reports.set()
        else:
            desk.on_stream(is_live=desk.is_stream_live, reason=f"more than {REPORTS_MAX} reports wait")
        if not desk.is_reconciled:
            desk.look_again.set()

    async def watch_forever(self) -> None:
        """Look for pauses of this computer, so that the desk's own looks are never far from the last one."""
        while True:
            self._desk.look_for_pause()
            await asyncio.sleep(PAUSE_LOOK_S)

    async def book_forever(self) -> None:
        """Book reports as they come, in the turns between other work."""
        desk = self._desk
        while True:
            await self._has_reports.wait()
            try:
                async with desk.turn:
                    await self._book_waiting()
                    await desk.publisher.flush()
            except UnavailableError as error:
                # The outbox keeps what could not be published; the next pass goes on with it.
                desk.log.warning("reports_not_published", error=repr(error))
            await desk.wake()

    async def _book_waiting(self) -> None:
        while self._reports:
            await self._book(self._reports.popleft())
        self._has_reports.clear()

    async def _book(self, report: VenueOrder | VenueTrade) -> None:
        desk = self._desk
        order = desk.books.order_at_venue(report.client_order_id, report.venue_order_id)
        if order is None:
            # Not ours, or not known by this id yet: only a look at everything in its market can tell.
            self._recovery.suspect(report.instrument)
        elif isinstance(report, VenueOrder):
            await self._recovery.take(order, report)
        else:
            booked = book_trade(order, report.venue_order_id, report.fill, desk.books.ledger, desk.now_ns())
            if booked.order != order or booked.problem is not None or booked.waits:
                await desk.commit(booked)


async def open_books(desk: Desk) -> str | None:
    """Book what the account holds as its first money, once; return why that cannot be yet, or None when it is done.

    Only the stack's assets count. Trades that the account has made before are none of ours.
    """
    books = desk.books
    if books.is_opened or desk.simulated is not None:
        return None
    for _ in range(OPENING_TRIES):
        before = await _history(desk)
        held = {one.asset: one.total for one in await desk.call(desk.venue.balances()) if one.total}
        after = await _history(desk)
        if [trade.fill.fill_id for trade in before] == [trade.fill.fill_id for trade in after]:
            break
    else:
        return "somebody else trades in the account: its first balance cannot be told"
    quote, marks = books.ledger.quote_asset, books.marks()
    amounts = {asset: amount for asset, amount in held.items() if books.traded is None or asset in books.traded}
    prices = {asset: Decimal(1) if asset == quote else marks.get(f"{asset}-{quote}") for asset in amounts}
    if unknown := [asset for asset, price in prices.items() if price is None]:
        return f"{', '.join(sorted(unknown))} in the account has no price yet"
    opening = {asset: (amount, prices[asset] or Decimal(1)) for asset, amount in amounts.items()}
    books.open_at_venue(opening, max((trade.sequence for trade in after), default=0), desk.now_ns())
    desk.log.info("account_opened", balances={asset: str(amount) for asset, amount in sorted(amounts.items())})
    return None


async def _history(desk: Desk) -> tuple[VenueTrade, ...]:
    async with asyncio.timeout(HISTORY_TIMEOUT_S):
        return await desk.venue.trades_since(0)
