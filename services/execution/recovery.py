"""Making the books and the venue agree: at start, from time to time, and whenever somebody asks.

In: the venue's orders, trades and balances. Out: outcomes by evidence, booked fills, or a demand to halt.
Never: an order taken for rejected because one question failed, a trade invented to explain a balance.
"""

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal

import msgspec

from services.execution.cancels import Cancels
from services.execution.core.booking import Booked, book_report, book_state, book_trade
from services.execution.core.bounds import check
from services.execution.core.evidence import Misses
from services.execution.core.orders import Order
from services.execution.desk import Desk
from services.execution.submission import Submission
from shared.domain.money import ZERO, plain
from shared.errors import DecodeError, RejectedError, UnavailableError, UnknownOutcomeError
from shared.exchange.port import VenueOrder, VenueTrade
from shared.messages import OrderState, TradingState

PAGE = 1_000
LOOK_AGAIN_S = (0.0, 0.5, 1.0)
# So many times longer than without one an order is waited for while a trade of nobody's may be its own.
UNCLAIMED_SPANS = 20
HALTED = "trading is halted"
_IN_QUESTION = (OrderState.SUBMITTED, OrderState.UNKNOWN, OrderState.PENDING_CANCEL)
NO_ANSWER = (UnavailableError, UnknownOutcomeError, RejectedError, DecodeError, TimeoutError, OSError, ValueError)


class Findings(msgspec.Struct, frozen=True):
    """Report one pass: whether every question was answered, and what is still wrong."""

    conclusive: bool
    detail: str
    unresolved: tuple[str, ...] = ()


class Difference(msgspec.Struct, frozen=True):
    """Hold what the venue has of an asset and what the ledger has booked."""

    asset: str
    held: Decimal
    booked: Decimal

    def __str__(self) -> str:
        return f"{self.asset} at the venue {plain(self.held)}, booked {plain(self.booked)}"


OpenBooks = Callable[[Desk], Awaitable[str | None]]


async def _already_open(_: Desk) -> str | None:
    return None


class Recovery:
    """Reconcile; the caller has the turn. `open_books` says why the account's books cannot be opened yet, or None."""

    def __init__(
        self, desk: Desk, submission: Submission, cancels: Cancels, open_books: OpenBooks = _already_open
    ) -> None:
        self._desk = desk
        self._open_books = open_books
        self._submission = submission
        self._cancels = cancels
        # Kept in memory alone: after a restart the counting begins anew, which only makes it more careful.
        self._misses: dict[str, Misses] = {}
        # Markets with a trade of which it is not known yet whose it is.
        self._unclaimed: set[str] = set()

    async def run(self) -> Findings:
        """Resolve what is unknown, book what is missing, compare the balances. A second pass at once finds nothing."""
        desk = self._desk
        losses = desk.stream_losses
        try:
            if (obstacle := await self._open_books(desk)) is not None:
                return Findings(False, obstacle, self._unresolved())
            await self._ask_for_orders_in_question()
            resting = await desk.call(desk.venue.open_orders())
            await self._match_resting(resting)
            await self.pull_trades()
            await self._conclude_absences()
            desk.mismatch = await self._mismatch()
        except NO_ANSWER as error:
            # An answer that did not come is no answer: nothing follows from it.
            desk.log.warning("reconciliation_inconclusive", error=repr(error))
            return Findings(False, f"no answer: {error!r}", self._unresolved())
        if not desk.is_stream_live or desk.stream_losses != losses:
            # What the stream lost while we asked, these answers may lack.
            return Findings(False, "the account's stream was not up all the time", self._unresolved())
        desk.is_reconciled = True
        await desk.wake()
        if desk.halt_reason is not None:
            await desk.demand_halt(desk.halt_reason)
        return Findings(True, desk.halt_reason or "books and venue agree", self._unresolved())

    async def pull_trades(self) -> None:
        """Book every trade of the account that is not booked yet, in the venue's order."""
        desk = self._desk
        while True:
            trades = await desk.call(desk.venue.trades_since(desk.books.trade_sequence, limit=PAGE))
            are_booked = [await self._book_trade(trade) for trade in trades]
            self._unclaimed = {
                trade.instrument for trade, is_booked in zip(trades, are_booked, strict=True) if not is_booked
            }
            if trades and all(are_booked):
                desk.books.set_trade_sequence(trades[-1].sequence)
            if desk.simulated is None or len(trades) < PAGE:
                # A wire venue says everything at once, and says the newest ones again next time.
                return

    async def take(self, order: Order, report: VenueOrder) -> Order:
        """Book what the venue says of an order of ours; while trading is halted it is cancelled."""
        return await self._take(order, report)

    async def _book_trade(self, trade: VenueTrade) -> bool:
        """Book one trade of the account; False while it is not known yet whose it is."""
        desk = self._desk
        order = desk.books.order_at_venue(trade.client_order_id, trade.venue_order_id)
        if order is not None:
            booked = book_trade(order, trade.venue_order_id, trade.fill, desk.books.ledger, desk.now_ns())
            await self._commit(order, booked)
            return True
        if desk.simulated is None and trade.sequence <= desk.books.opened_sequence:
            return True
        if trade.client_order_id is None and desk.books.uncertain_on(trade.instrument) is not None:
            # It may be of the order whose name at the venue we have not heard yet.
            return False
        detail = f"trade {trade.fill.fill_id} of {trade.instrument} is of no order of ours"
        if not self._desk.books.journal.knows_incident(detail):
            # A venue at a wire tells its newest trades again and again: what a person has settled stays settled.
            await self._note(detail)
        return True

    async def _ask_for_orders_in_question(self) -> None:
        desk = self._desk
        for order in desk.books.open_orders():
            if order.state not in _IN_QUESTION and order.closing is None:
                continue
            report = await desk.call(desk.venue.query(order.client_order_id, order.intent.instrument))
            if report is not None:
                await self._take(order, report)
            elif order.state in (OrderState.SUBMITTED, OrderState.UNKNOWN) and self._may_resend(order):
                desk.log.warning("order_sent_again", client_order_id=order.client_order_id)
                await self._submission.send(order)
            else:
                await self._miss(order)

    async def _match_resting(self, resting: tuple[VenueOrder, ...]) -> None:
        desk = self._desk
        seen = {report.client_order_id for report in resting}
        for report in resting:
            order = desk.books.order_at_venue(report.client_order_id, report.venue_order_id)
            if order is None:
                await self._note(f"order {report.venue_order_id} of {report.instrument} is none of ours")
            else:
                order = await self._take(order, report)
                if order.state.is_terminal:
                    # The venue holds what we had given up: nobody plans with it any more.
                    await self._cancels.cancel(order, "found after it was given up")
        for order in desk.books.open_orders():
            if order.client_order_id in seen or order.state in _IN_QUESTION:
                continue
            answer = await desk.call(desk.venue.query(order.client_order_id, order.intent.instrument))
            if answer is None:
                await self._miss(order)
            else:
                await self._take(order, answer)

    async def _take(self, order: Order, report: VenueOrder) -> Order:
        desk = self._desk
        self._misses.pop(order.client_order_id, None)
        booked = book_report(order, report, desk.books.ledger, desk.now_ns())
        order = await self._commit(order, booked)
        is_to_go = desk.state is TradingState.HALTED or order.state is OrderState.PENDING_CANCEL
        if is_to_go and not order.state.is_terminal and order.closing is None and booked.problem is None:
            order = await self._cancels.cancel(order, HALTED)
        return order

    async def _commit(self, before: Order, booked: Booked) -> Order:
        if booked.order == before and booked.problem is None:
            return before
        return await self._desk.commit(booked)

    async def _miss(self, order: Order) -> None:
        known = self._misses.get(order.client_order_id, Misses())
        self._misses[order.client_order_id] = known.after(self._desk.wall_clock_ns())
        if order.state is OrderState.SUBMITTED:
            await self._desk.commit(self._moved(order, OrderState.UNKNOWN, "the venue does not know it yet"))

    async def _conclude_absences(self) -> None:
        # Orders and trades were looked through after the last miss was counted; a found order has no misses left.
        config = self._desk.config
        for order in self._desk.books.open_orders():
            misses = self._misses.get(order.client_order_id)
            if misses is None or not misses.are_enough(config.misses_min, config.misses_span_s):
                continue
            is_claimed = order.venue_order_id is not None or order.intent.instrument not in self._unclaimed
            if not is_claimed and not misses.are_enough(config.misses_min, config.misses_span_s * UNCLAIMED_SPANS):
                # The trade may be this order's: it exists then, and the venue does not show it yet. After so long
                # the trade is somebody else's, which halts.
                continue
            if order.state is OrderState.UNKNOWN and order.venue_order_id is None:
                state, reason = OrderState.REJECTED_UNCONFIRMED, f"{misses.count} times not found, no trade of it"
            else:
                state, reason = OrderState.CANCELED, f"the venue has forgotten it: {misses.count} times not found"
            del self._misses[order.client_order_id]
            await self._desk.commit(self._moved(order, state, reason))

    async def _mismatch(self) -> str | None:
        if self._desk.books.uncertain_orders():
            # What is unknown may explain a difference; its instruments are blocked until it is known.
            return self._desk.mismatch
        differences = await self.differences()
        return f"balances differ from the ledger: {'; '.join(map(str, differences))}" if differences else None

    async def differences(self) -> list[Difference]:
        """Return where balances and ledger differ, after looking again: trades and balances may lag behind."""
        differences = await self._compare()
        for delay_s in (0.0,) if self._desk.simulated is not None else LOOK_AGAIN_S:
            if not differences:
                break
            # A trade may have come between the two questions; a venue's balances may lag behind its trades.
            await asyncio.sleep(delay_s)
            await self.pull_trades()
            differences = await self._compare()
        return differences

    async def _compare(self) -> list[Difference]:
        desk = self._desk
        held = {balance.asset: balance.total for balance in await desk.call(desk.venue.balances())}
        booked = desk.books.ledger.balances()
        return [
            Difference(asset, held.get(asset, ZERO), booked.get(asset, ZERO))
            for asset in sorted(held.keys() | booked.keys())
            if (desk.assets is None or asset in desk.assets) and held.get(asset, ZERO) != booked.get(asset, ZERO)
        ]

    async def _note(self, detail: str) -> None:
        journal = self._desk.books.journal
        with journal.step():
            journal.add_incident(detail, detail, self._desk.now_ns())
        await self._desk.demand_halt(detail)

    def _may_resend(self, order: Order) -> bool:
        if not self._desk.config.resend_same_id or self._desk.simulated is None:
            # No venue at a wire promises that it never executes one id twice.
            return False
        return check(order.approval, self._desk.situation(order.approval, is_resend=True)) is None

    def _moved(self, order: Order, state: OrderState, reason: str) -> Booked:
        return book_state(order, state, reason, self._desk.books.ledger.sequence, self._desk.now_ns())

    def _unresolved(self) -> tuple[str, ...]:
        return tuple(order.client_order_id for order in self._desk.books.uncertain_orders())
