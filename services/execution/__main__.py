"""Run execution: the journal lives in the state directory, the venue there too or at the other end of a wire."""

import os

from services.execution.books import Books
from services.execution.config import ExecutionConfig
from services.execution.desk import NAME, Desk
from services.execution.journal import Journal
from services.execution.quotes import Quotes
from services.execution.service import ExecutionService
from shared.config import Mode, StackConfig
from shared.exchange.access import access_of, trading_wire
from shared.exchange.paper import INITIAL_DEPOSIT, PaperVenue
from shared.exchange.venues import make_venue
from shared.lifecycle import Runtime, Service, run
from shared.metrics import Metrics


async def build(runtime: Runtime) -> Service:
    """Open the journal (refused when another process has it), the venue and the books."""
    stack = runtime.settings.stack
    config = runtime.settings.section(NAME, ExecutionConfig)
    service = _simulated(runtime, stack, config) if stack.mode.is_simulated else _at_wire(runtime, stack, config)
    _expose(runtime.metrics, service.desk)
    return service


def account_name(mode: Mode) -> str:
    """Return the account's name, which its journal keeps: no mode goes on with another's books."""
    return "paper" if mode.is_simulated else mode.value


def _simulated(runtime: Runtime, stack: StackConfig, config: ExecutionConfig) -> ExecutionService:
    journal = _journal(runtime, stack)
    books = Books(journal, stack.quote_asset)
    venue = PaperVenue(
        runtime.state_dir / "paper.sqlite3",
        venue=stack.venue,
        model=config.fill_model(),
        initial_deposit={stack.quote_asset: books.open_account(INITIAL_DEPOSIT, stack.initial_usdt)},
        durable_books=not stack.mode.is_wire,
    )
    desk = Desk(runtime, venue, books, config, account=account_name(stack.mode), simulated=venue)
    quotes = Quotes(desk, venue) if stack.mode.is_wire else None
    return ExecutionService(desk, timeframe=stack.timeframe, closers=(venue.close, journal.close), quotes=quotes)


def _at_wire(runtime: Runtime, stack: StackConfig, config: ExecutionConfig) -> ExecutionService:
    # Whatever forbids it is found before the journal is touched.
    wire = make_venue(trading_wire(stack, access_of(runtime.settings), os.environ))
    journal = _journal(runtime, stack)
    books = Books(journal, stack.quote_asset)
    desk = Desk(runtime, wire, books, config, account=account_name(stack.mode), simulated=None)
    return ExecutionService(desk, timeframe=stack.timeframe, closers=(journal.close,), wire=wire, symbols=stack.assets)


def _journal(runtime: Runtime, stack: StackConfig) -> Journal:
    identity = {"venue": stack.venue, "account": account_name(stack.mode), "quote_asset": stack.quote_asset}
    return Journal(runtime.state_dir / "execution.sqlite3", identity)


def _expose(metrics: Metrics, desk: Desk) -> None:
    metrics.plain_counters("order_events", "Order events by the state told", lambda: dict(desk.events_by_state))
    unresolved = metrics.gauge("orders_unresolved", "Orders of which the venue has not said what became")
    unresolved.set_function(lambda: len(desk.books.uncertain_orders()))
    open_orders = metrics.gauge("orders_open", "Orders that the venue may hold")
    open_orders.set_function(lambda: len(desk.books.open_orders()))
    halted = metrics.gauge("halted", "1 while execution itself refuses new orders")
    halted.set_function(lambda: float(desk.halt_reason is not None))
    reconciled = metrics.gauge("reconciled", "1 while books and venue are known to agree")
    reconciled.set_function(lambda: float(desk.is_reconciled))


def main() -> None:
    """Run the service until it is told to stop."""
    run(NAME, build)


if __name__ == "__main__":
    main()
