"""From an approval to an order at the venue, once.

In: approvals, in order, any of them twice. Out: a journalled order, sent under its own id, and what became of it.
Never: a byte sent before the journal holds the request; a second order for a known intent; an outcome guessed.
"""

import asyncio

import msgspec

from services.execution.core.booking import Booked, book_report, book_state
from services.execution.core.bounds import Denial, DenyCode, check
from services.execution.core.orders import Order, new_order, request_of
from services.execution.desk import Desk
from shared.bus import subjects
from shared.bus.port import Delivery
from shared.clock import NANOSECONDS_PER_SECOND
from shared.domain.money import plain
from shared.errors import DeferError, IntegrityError, RejectedError
from shared.exchange.port import VenueOrder, VenueRejectCode
from shared.messages import OrderApproved, OrderState, TradingState

# How long one delivery waits for the market before it is put back, and how soon it comes again.
WAIT_S = 0.5
AGAIN_S = 0.01
REASON_MAX = 300


class Submission:
    """Handle approvals; `send` is also how recovery repeats an order under the same id."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._waiting_since_ns: dict[str, int] = {}

    async def on_approved(self, delivery: Delivery) -> None:
        """Send an approved order, or say what is known of it already. Raises DeferError until its market time came."""
        approval = delivery.message
        if not isinstance(approval, OrderApproved):
            self._desk.log.warning("not_an_approval", subject=delivery.subject, kind=type(approval).__name__)
            return
        intent_id = approval.intent.intent_id
        denial = None if self._desk.books.order(intent_id) else await self._wait(approval)
        async with self._desk.turn:
            if self._desk.books.order(intent_id) is not None:
                await self._desk.publisher.flush()
                await self._desk.publisher.repeat(intent_id)
                await self._desk.publisher.flush(repeat_snapshot=True)
                return
            if denial is None and self._not_ready(approval) is not None:
                raise DeferError("the market moved on in between", delay_s=AGAIN_S)
            if self._desk.state is not TradingState.ACTIVE:
                # An approval may overtake the message that trading was resumed.
                await self._desk.refresh_state()
            await self._open(approval, denial or self._deny(approval, delivery.subject))
            self._desk.fault_point("after_outcome_before_publish")
            await self._desk.publisher.flush()

    async def send(self, order: Order) -> Order:
        """Send a journalled order and journal what became of it; the caller has the turn."""
        desk = self._desk
        try:
            report = await desk.call(desk.venue.submit(request_of(order)))
        except RejectedError as error:
            booked = self._moved(order, OrderState.REJECTED, str(error))
            if error.code == VenueRejectCode.PERMISSION:
                # Asking again would not help: a person has to look at the key before anything else is sent.
                booked = msgspec.structs.replace(booked, problem=refused_key(error.detail))
            return await desk.commit(booked)
        except IntegrityError as error:
            unknown = self._moved(order, OrderState.UNKNOWN, str(error))
            return await desk.commit(Booked(unknown.order, unknown.entries, unknown.events, str(error)))
        except Exception as error:  # noqa: BLE001 - whatever failed after a send, nobody knows whether the order exists
            desk.log.warning("outcome_unknown", client_order_id=order.client_order_id, error=repr(error))
            return await desk.commit(self._moved(order, OrderState.UNKNOWN, _short(error)))
        desk.fault_point("after_send_before_outcome")
        self._log(order, report)
        return await desk.commit(book_report(order, report, desk.books.ledger, desk.now_ns()))

    async def _open(self, approval: OrderApproved, denial: Denial | None) -> None:
        desk = self._desk
        order = new_order(approval)
        if denial is not None:
            used_by = desk.books.journal.approval_used_by(approval.approval_id)
            desk.log.warning("order_denied", intent_id=approval.intent.intent_id, reason=denial.reason)
            booked = self._moved(order, OrderState.DENIED, denial.reason)
            await desk.commit(booked, approval_id=approval.approval_id if used_by is None else None)
            return
        desk.fault_point("before_journal")
        booked = self._moved(order, OrderState.SUBMITTED, "")
        order = await desk.commit(booked, approval_id=approval.approval_id)
        desk.fault_point("after_journal_before_send")
        await self.send(order)

    def _deny(self, approval: OrderApproved, subject: str) -> Denial | None:
        intent = approval.intent
        if subject != subjects.order_approved(intent.venue, intent.instrument):
            return Denial(DenyCode.SUBJECT_MISMATCH, f"approved for {intent.venue} {intent.instrument} on {subject}")
        return check(approval, self._desk.situation(approval))

    async def _wait(self, approval: OrderApproved) -> Denial | None:
        desk, intent_id = self._desk, approval.intent.intent_id
        since_ns = self._waiting_since_ns.setdefault(intent_id, desk.age_clock_ns())
        try:
            async with asyncio.timeout(WAIT_S), desk.market_moved:
                await desk.market_moved.wait_for(lambda: self._not_ready(approval) is None)
        except TimeoutError:
            reason = self._not_ready(approval) or ""
            waited_s = (desk.age_clock_ns() - since_ns) / NANOSECONDS_PER_SECOND
            if waited_s < desk.config.market_lag_timeout_s:
                raise DeferError(reason, delay_s=AGAIN_S) from None
            del self._waiting_since_ns[intent_id]
            code = DenyCode.MARKET_LAG if desk.is_reconciled else DenyCode.STREAM_RECONCILING
            return Denial(code, f"waited {waited_s:.0f} s: {reason}")
        del self._waiting_since_ns[intent_id]
        return None

    def _not_ready(self, approval: OrderApproved) -> str | None:
        desk, intent = self._desk, approval.intent
        desk.look_for_pause()
        if not desk.is_reconciled:
            return "the account is not reconciled with the venue"
        if desk.state is None:
            return "no trading state was heard from risk"
        # The venue heard of a step's end before the books did, so the books' memory spares the question.
        is_behind = desk.books.closed_ns < intent.decided_at_ns > desk.market_time_ns(intent.instrument)
        if is_behind or desk.books.is_within_step:
            return f"the market of {intent.instrument} is not at {intent.decided_at_ns} yet"
        return None

    def _moved(self, order: Order, state: OrderState, reason: str) -> Booked:
        return book_state(order, state, reason, self._desk.books.ledger.sequence, self._desk.now_ns())

    def _log(self, order: Order, report: VenueOrder) -> None:
        self._desk.log.info(
            "order_sent",
            client_order_id=order.client_order_id,
            instrument=order.intent.instrument,
            side=order.intent.side.value,
            state=report.state.value,
            filled=plain(report.filled_quantity),
            correlation_id=order.intent.correlation_id,
        )


def refused_key(detail: str) -> str:
    """Return what to tell a person about a key that the venue refuses."""
    return (
        f"the venue refuses the key ({detail}): look at its expiry, permissions and addresses at the venue, put a good "
        "one into exchange.key_file and exchange.secret_file, start the stack again; then `cascade adopt --reason …` "
        "and `cascade resume`"
    )


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:REASON_MAX]
