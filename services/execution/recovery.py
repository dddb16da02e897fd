"""Making the books and the venue agree: at start, from time to time, and whenever somebody asks.

In: the venue's orders, trades and balances. Out: outcomes by evidence, booked fills, or a demand to halt.
Never: an order taken for rejected because one question failed, a trade invented to explain a balance.
"""

from collections.abc import Awaitable, Callable
from decimal import Decimal

import msgspec

from services.execution.attention import Attention
from services.execution.balances import Balances, Difference
from services.execution.cancels import Cancels
from services.execution.core.booking import Booked, book_report, book_state
from services.execution.core.bounds import check
from services.execution.core.evidence import Misses
from services.execution.core.orders import Order
from services.execution.desk import Desk
from services.execution.submission import Submission, refused_key
from services.execution.trades import REMEDY, PriceOf, Trades, no_price, note_foreign
from shared.errors import DecodeError, RejectedError, UnavailableError, UnknownOutcomeError
from shared.exchange.port import VenueOrder, VenueRejectCode, refusal_code
from shared.messages import OrderState, TradingState

# So many times longer than without one an order is waited for while a trade of nobody's may be its own.
UNCLAIMED_SPANS = 20
HALTED = "trading is halted"
# One refusal of a key may be the venue's own trouble; so many passes in a row are not.
KEY_REFUSALS_MIN = 3
_IN_QUESTION = (OrderState.SUBMITTED, OrderState.UNKNOWN, OrderState.PENDING_CANCEL)
NO_ANSWER = (UnavailableError, UnknownOutcomeError, RejectedError, DecodeError, TimeoutError, OSError, ValueError)


class Findings(msgspec.Struct, frozen=True):
    """Report one pass: whether every question was answered, and what is still wrong."""

    conclusive: bool
    detail: str
    unresolved: tuple[str, ...] = ()


OpenBooks = Callable[[Desk], Awaitable[str | None]]


async def _already_open(_: Desk) -> str | None:
    return None


class Recovery:
    """Reconcile; the caller has the turn. `open_books` says why the account's books cannot be opened yet, or None."""

    def __init__(
        self,
        desk: Desk,
        submission: Submission,
        cancels: Cancels,
        open_books: OpenBooks = _already_open,
        price_of: PriceOf = no_price,
    ) -> None:
        self._desk = desk
        self._open_books = open_books
        self._submission = submission
        self._cancels = cancels
        # Kept in memory alone: after a restart the counting begins anew, which only makes it more careful.
        self._misses: dict[str, Misses] = {}
        self._trades = Trades(desk, price_of)
        self._balances = Balances(desk, self._trades)
        self._attention = Attention(desk)
        self._key_refusals = 0

    async def run(self) -> Findings:
        """Resolve what is unknown, book what is missing, compare the balances. A second pass at once finds nothing."""
        desk = self._desk
        desk.look_for_pause()
        losses = desk.stream_losses
        try:
            if (obstacle := await self._open_books(desk)) is not None:
                return Findings(False, obstacle, self._unresolved())
            await self._look()
        except NO_ANSWER as error:
            # An answer that did not come is no answer: nothing follows from it.
            desk.log.warning("reconciliation_inconclusive", error=repr(error))
            await self._on_refusal(error)
            return Findings(False, f"no answer: {error!r}", self._unresolved())
        self._key_refusals, desk.key_refusal = 0, None
        desk.look_for_pause()
        if not desk.is_stream_live or desk.stream_losses != losses:
            # What the stream lost while we asked, these answers may lack.
            return Findings(False, "the account's stream was not up all the time", self._unresolved())
        desk.is_reconciled = True
        await desk.wake()
        if desk.halt_reason is not None:
            await desk.demand_halt(desk.halt_reason)
        return Findings(True, desk.halt_reason or "books and venue agree", self._unresolved())

    async def pull_trades(self) -> None:
        """Book every trade of a simulated account that is not booked yet, in the venue's order."""
        await self._trades.pull()

    async def settle_by_operator(self) -> list[Difference]:
        """Book the fills that wait for a fee, since balances changed from outside; return what differs then."""
        markets = {order.intent.instrument for order in self._desk.books.open_orders()}
        await self._trades.pull(sorted(markets), by_operator=True)
        return await self._balances.differences()

    async def worth(self, asset: str) -> Decimal:
        """Return an asset's price to book it at; zero when none is to be had."""
        return await self._trades.worth(asset)

    def suspect(self, market: str) -> None:
        """Look soon, and at this market too."""
        self._attention.suspect(market)
        self._desk.look_again.set()

    async def take(self, order: Order, report: VenueOrder) -> Order:
        """Book what the venue says of an order of ours; while trading is halted it is cancelled."""
        return await self._take(order, report)

    async def _look(self) -> None:
        desk, attention = self._desk, self._attention
        desk.books.know_markets(desk.markets)
        attention.begin()
        await self._ask_for_orders_in_question()
        await self._match_resting(await self._resting())
        await self._trades.pull(attention.for_trades())
        await self._conclude_absences()
        desk.mismatch = await self._balances.mismatch()
        attention.end()

    async def _on_refusal(self, error: BaseException) -> None:
        if refusal_code(error) is not VenueRejectCode.PERMISSION:
            return
        self._key_refusals += 1
        if self._key_refusals >= KEY_REFUSALS_MIN:
            self._desk.key_refusal = refused_key(str(error))
            await self._desk.demand_halt(self._desk.key_refusal)

    async def _resting(self) -> tuple[VenueOrder, ...]:
        desk = self._desk
        if desk.simulated is not None:
            return await desk.call(desk.venue.open_orders())
        found: list[VenueOrder] = []
        for market in self._attention.for_orders():
            found += await desk.ask_of_market(market, desk.venue.open_orders(market), ())
        return tuple(found)

    async def _query(self, order: Order) -> VenueOrder | None:
        desk, market = self._desk, order.intent.instrument
        return await desk.ask_of_market(market, desk.venue.query(order.client_order_id, market), None)

    async def _ask_for_orders_in_question(self) -> None:
        desk = self._desk
        for order in desk.books.open_orders():
            if order.state not in _IN_QUESTION and order.closing is None:
                continue
            report = await self._query(order)
            if report is not None:
                await self._take(order, report)
            elif order.state in (OrderState.SUBMITTED, OrderState.UNKNOWN) and self._may_resend(order):
                desk.log.warning("order_sent_again", client_order_id=order.client_order_id)
                await self._submission.send(order)
            else:
                await self._miss(order)

    async def _match_resting(self, resting: tuple[VenueOrder, ...]) -> None:
        desk = self._desk
        seen: set[str] = set()
        for report in resting:
            order = desk.books.order_at_venue(report.client_order_id, report.venue_order_id)
            if order is not None:
                seen.add(order.client_order_id)
                order = await self._take(order, report)
                if order.state.is_terminal:
                    # The venue holds what we had given up: nobody plans with it any more.
                    await self._cancels.cancel(order, "found after it was given up")
            elif not report.client_order_id and desk.books.uncertain_on(report.instrument) is not None:
                # A venue does not always say the name: it may be the order of which nothing is known yet.
                self._trades.unclaimed.add(report.instrument)
            else:
                name = f"order {report.venue_order_id} of {report.instrument} is none of ours"
                await note_foreign(desk, name, f"{name}: cancel it at the venue, or leave it there; {REMEDY}")
        for order in desk.books.open_orders():
            if order.client_order_id in seen or order.state in _IN_QUESTION:
                continue
            answer = await self._query(order)
            if answer is None:
                await self._miss(order)
            else:
                await self._take(order, answer)

    async def _take(self, order: Order, report: VenueOrder) -> Order:
        desk = self._desk
        self._misses.pop(order.client_order_id, None)
        if not report.client_order_id and report.venue_order_id == order.venue_order_id:
            # Known by the venue's own id: it did not say ours.
            report = msgspec.structs.replace(report, client_order_id=order.client_order_id)
        if report.filled_quantity > order.filled_quantity:
            self._attention.suspect(order.intent.instrument)
        booked = book_report(order, report, desk.books.ledger, desk.now_ns())
        order = await self._commit(order, booked)
        is_to_go = desk.state is TradingState.HALTED or order.state is OrderState.PENDING_CANCEL
        if is_to_go and not order.state.is_terminal and order.closing is None and booked.problem is None:
            order = await self._cancels.cancel(order, HALTED)
        return order

    async def _commit(self, before: Order, booked: Booked) -> Order:
        if booked.order == before and booked.problem is None and not booked.waits:
            return before
        return await self._desk.commit(booked)

    async def _miss(self, order: Order) -> None:
        known = self._misses.get(order.client_order_id, Misses())
        self._misses[order.client_order_id] = known.after(self._desk.age_clock_ns())
        if order.state is OrderState.SUBMITTED:
            await self._desk.commit(self._moved(order, OrderState.UNKNOWN, "the venue does not know it yet"))

    async def _conclude_absences(self) -> None:
        # Orders and trades were looked through after the last miss was counted; a found order has no misses left.
        config = self._desk.config
        for order in self._desk.books.open_orders():
            misses = self._misses.get(order.client_order_id)
            if misses is None or not misses.are_enough(config.misses_min, config.misses_span_s):
                continue
            is_claimed = order.venue_order_id is not None or order.intent.instrument not in self._trades.unclaimed
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

    def _may_resend(self, order: Order) -> bool:
        if not self._desk.config.resend_same_id or self._desk.simulated is None:
            # No venue at a wire promises that it never executes one id twice.
            return False
        return check(order.approval, self._desk.situation(order.approval, is_resend=True)) is None

    def _moved(self, order: Order, state: OrderState, reason: str) -> Booked:
        return book_state(order, state, reason, self._desk.books.ledger.sequence, self._desk.now_ns())

    def _unresolved(self) -> tuple[str, ...]:
        return tuple(order.client_order_id for order in self._desk.books.uncertain_orders())
