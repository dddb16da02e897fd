"""Taking orders back. Cancels always pass, whatever the trading state.

In: orders that rest. Out: cancel requests, journalled before they are sent, and what became of the orders.
Never: an order called cancelled because we asked for it.
"""

from services.execution.core.booking import book_report, book_state
from services.execution.core.orders import Order
from services.execution.core.transitions import can_move
from services.execution.desk import Desk
from shared.errors import DecodeError, RejectedError, UnavailableError, UnknownOutcomeError
from shared.messages import OrderState

_UNCONFIRMED = (UnavailableError, UnknownOutcomeError, RejectedError, DecodeError, TimeoutError, OSError, ValueError)


class Cancels:
    """Cancel orders; the caller has the turn."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def cancel(self, order: Order, reason: str) -> Order:
        """Ask the venue to cancel an order and return how it stands; unconfirmed, it stays PENDING_CANCEL."""
        desk = self._desk
        if can_move(order.state, OrderState.PENDING_CANCEL):
            ledger_sequence = desk.books.ledger.sequence
            booked = book_state(order, OrderState.PENDING_CANCEL, reason, ledger_sequence, desk.now_ns())
            order = await desk.commit(booked)
        desk.fault_point("after_cancel_journal_before_send")
        try:
            report = await desk.call(desk.venue.cancel(order.client_order_id, order.intent.instrument))
        except _UNCONFIRMED as error:
            desk.log.warning("cancel_unconfirmed", client_order_id=order.client_order_id, error=repr(error))
            return order
        desk.fault_point("after_cancel_before_outcome")
        if report is None:
            return order
        return await desk.commit(book_report(order, report, desk.books.ledger, desk.now_ns()))

    async def cancel_all(self, reason: str) -> int:
        """Ask for every open order's cancellation and return how many were asked for."""
        orders = self._desk.books.open_orders()
        for order in orders:
            await self.cancel(order, reason)
        if orders:
            self._desk.log.warning("all_orders_cancelled", orders=len(orders), reason=reason)
        return len(orders)
