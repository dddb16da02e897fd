"""Execution without its surroundings: approvals in, the paper venue's answers and the ledger's entries out.

The order core, the last look before the wire, the booking and the paper venue's rules are the live ones; what is left
out is what a backtest has none of: a journal on a disk, a bus, outcomes that nobody knows.
Never: an order without an approval, a fill that is not in the ledger.
"""

from decimal import Decimal

from services.execution.core.account import snapshot
from services.execution.core.booking import Booked, book_report, book_state, book_trade
from services.execution.core.bounds import Situation, check
from services.execution.core.orders import Order, new_order, request_of
from services.execution.core.transitions import OPEN_STATES
from shared.domain.ledger import Ledger
from shared.domain.money import ZERO, add, multiply
from shared.errors import IntegrityError, RejectedError
from shared.exchange.paper_book import INITIAL_DEPOSIT, PaperBook
from shared.exchange.paper_memory import MemoryRecords
from shared.exchange.port import VenueTrade
from shared.matching import FillModel
from shared.messages import (
    AccountSnapshot,
    Bar,
    BarsClosed,
    Instrument,
    OrderApproved,
    OrderEvent,
    OrderState,
    TradingState,
)


class Desk:
    """Hold one account of one paper venue, in memory: its own, or `paper`, which holds exactly `initial_quote`."""

    def __init__(
        self,
        *,
        venue: str,
        account: str,
        quote_asset: str,
        initial_quote: Decimal,
        model: FillModel,
        paper: PaperBook | None = None,
    ) -> None:
        self._venue, self._account = venue, account
        self.paper = paper or PaperBook(
            MemoryRecords(), venue=venue, model=model, initial_deposit={quote_asset: initial_quote}
        )
        self.ledger = Ledger(quote_asset)
        self.ledger.book_deposit(INITIAL_DEPOSIT, initial_quote, 0)
        self.orders: dict[str, Order] = {}
        self._intent_of: dict[str, str] = {}
        self.marks: dict[str, Decimal] = {}

    def define(self, instrument: Instrument) -> None:
        """Make an instrument tradable."""
        self.paper.define_instrument(instrument)

    def open_orders(self) -> list[Order]:
        """Return the orders that may still fill."""
        return [self.orders[self._intent_of[order.client_order_id]] for order in self.paper.open_orders()]

    def on_bar(self, bar: Bar, close: Decimal) -> list[OrderEvent]:
        """Take a closed bar and return what it did to resting orders; `close` is its close as money."""
        trades = self.paper.on_bar(bar)
        self.marks[bar.instrument] = close
        return self._book(trades, bar.close_time_ns)

    def at_open(self, bar: Bar) -> list[OrderEvent]:
        """Let the market stand at a bar's opening price, with its volume; returns what that did to resting orders."""
        return self._book(self.paper.on_bar(bar), bar.close_time_ns)

    def on_bars_closed(self, closed: BarsClosed) -> None:
        """Learn that a step is complete."""
        self.paper.on_bars_closed(closed)

    def submit(self, approval: OrderApproved, now_ns: int) -> list[OrderEvent]:
        """Send an approved order, or deny it at the last look; returns what became of it."""
        order = new_order(approval)
        if approval.intent.intent_id in self.orders:
            raise IntegrityError(f"intent {approval.intent.intent_id} came twice")
        denial = check(approval, Situation(state=TradingState.ACTIVE, now_ns=now_ns))
        if denial is not None:
            return self._keep(book_state(order, OrderState.DENIED, denial.reason, self.ledger.sequence, now_ns))
        sent = book_state(order, OrderState.SUBMITTED, "", self.ledger.sequence, now_ns)
        events = self._keep(sent)
        try:
            report = self.paper.submit(request_of(sent.order))
        except RejectedError as error:
            rejected = book_state(sent.order, OrderState.REJECTED, str(error), self.ledger.sequence, now_ns)
            return events + self._keep(rejected)
        return events + self._keep(book_report(sent.order, report, self.ledger, now_ns))

    def snapshot(self, as_of_ns: int) -> AccountSnapshot:
        """Return the account as the services publish it, marked at the last closes."""
        orders = [order for order in self.open_orders() if order.state in OPEN_STATES]
        return snapshot(self.ledger, orders, self.marks, venue=self._venue, account=self._account, as_of_ns=as_of_ns)

    def equity(self) -> Decimal | None:
        """Return what everything is worth at the last closes, exactly; None while a holding has no price."""
        worth = ZERO
        quote = self.ledger.quote_asset
        for asset, held in self.ledger.balances().items():
            if asset == quote:
                worth = add(worth, held)
            elif held:
                mark = self.marks.get(f"{asset}-{quote}")
                if mark is None:
                    return None
                worth = add(worth, multiply(held, mark))
        return worth

    def _book(self, trades: tuple[VenueTrade, ...], now_ns: int) -> list[OrderEvent]:
        events: list[OrderEvent] = []
        for trade in trades:
            if trade.client_order_id is None:
                raise IntegrityError(f"trade {trade.fill.fill_id} belongs to no order")
            order = self.orders[self._intent_of[trade.client_order_id]]
            events += self._keep(book_trade(order, trade.venue_order_id, trade.fill, self.ledger, now_ns))
        return events

    def _keep(self, booked: Booked) -> list[OrderEvent]:
        if booked.problem is not None:
            raise IntegrityError(booked.problem)
        order = booked.order
        self.orders[order.intent.intent_id] = order
        self._intent_of[order.client_order_id] = order.intent.intent_id
        return list(booked.events)
