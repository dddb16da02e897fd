"""Run execution: the journal and the paper venue live as files in the state directory."""

from services.execution.books import Books
from services.execution.config import ExecutionConfig
from services.execution.desk import NAME, Desk
from services.execution.journal import Journal
from services.execution.service import ExecutionService
from shared.config import Mode
from shared.errors import ConfigError
from shared.exchange.paper import INITIAL_DEPOSIT, PaperVenue
from shared.lifecycle import Runtime, Service, run
from shared.metrics import Metrics

ACCOUNT = "paper"


async def build(runtime: Runtime) -> Service:
    """Open the journal (refused when another process has it), the venue and the books."""
    stack = runtime.settings.stack
    config = runtime.settings.section(NAME, ExecutionConfig)
    if stack.mode is Mode.LIVE:
        raise ConfigError("stack.mode: 'live' has no exchange connection yet; set it to 'sandbox'")
    identity = {"venue": stack.venue, "account": ACCOUNT, "quote_asset": stack.quote_asset}
    journal = Journal(runtime.state_dir / "execution.sqlite3", identity)
    books = Books(journal, stack.quote_asset)
    venue = PaperVenue(
        runtime.state_dir / "paper.sqlite3",
        venue=stack.venue,
        model=config.fill_model(),
        initial_deposit={stack.quote_asset: books.open_account(INITIAL_DEPOSIT, stack.initial_usdt)},
    )
    desk = Desk(runtime, venue, books, config, account=ACCOUNT)
    _expose(runtime.metrics, desk)
    return ExecutionService(desk, timeframe=stack.timeframe, closers=(venue.close, journal.close))


def _expose(metrics: Metrics, desk: Desk) -> None:
    metrics.plain_counters("order_events", "Order events by the state told", lambda: dict(desk.events_by_state))
    unresolved = metrics.gauge("orders_unresolved", "Orders of which the venue has not said what became")
    unresolved.set_function(lambda: len(desk.books.uncertain_orders()))
    open_orders = metrics.gauge("orders_open", "Orders that the venue may hold")
    open_orders.set_function(lambda: len(desk.books.open_orders()))
    halted = metrics.gauge("halted", "1 while execution itself refuses new orders")
    halted.set_function(lambda: float(desk.halt_reason is not None))


def main() -> None:
    """Run the service until it is told to stop."""
    run(NAME, build)


if __name__ == "__main__":
    main()
