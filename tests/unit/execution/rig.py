"""One execution service over the in-memory bus and a paper venue that can be made to misbehave.

`crash` ends it as kill -9 would; `start` begins anew on the same files and the same broker.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path

import structlog

from services.execution.books import Books
from services.execution.config import ExecutionConfig
from services.execution.core.orders import client_order_id
from services.execution.desk import Desk
from services.execution.journal import Journal
from services.execution.service import ExecutionService
from shared.bus import subjects
from shared.bus.memory import MemoryBroker, MemoryBus
from shared.bus.streams import ACCOUNTS, BUCKETS, ORDERS, RISK, STREAMS
from shared.clock import Clock, MarketClock
from shared.exchange.paper import INITIAL_DEPOSIT, PaperVenue
from shared.exchange.port import VenueOrder
from shared.logs import Log
from shared.messages import (
    AccountSnapshot,
    Bar,
    BarsClosed,
    Command,
    CommandReply,
    InstrumentDefinition,
    Message,
    OrderApproved,
    OrderEvent,
    OrderState,
    RiskHalt,
    RiskState,
    TradingState,
)
from shared.testing.paper import BTC, ETH, HOUR_NS, bar, closed
from tests.unit.execution.scripted import ScriptedVenue

IDENTITY = {"venue": "paper", "account": "paper", "quote_asset": "USDT"}
INITIAL = Decimal(10_000)
QUICK = ExecutionConfig(
    reconcile_interval_s=0.1, resolve_interval_s=0.01, misses_min=3, misses_span_s=0.1, venue_timeout_s=0.5
)
PATIENCE_S = 10.0


class SimulatedCrashError(Exception):
    """End the service at a fault point."""


class FakeHost:
    """Be the process that runs the service."""

    def __init__(self, bus: MemoryBus) -> None:
        self.log: Log = structlog.get_logger("test")
        self.clock: Clock = MarketClock()
        self.bus = bus
        self.progress_ns = 0
        self.tasks: list[asyncio.Task[None]] = []

    def advance_clock(self, to_ns: int) -> None:
        """Move market time on."""
        if isinstance(self.clock, MarketClock):
            self.clock.advance(to_ns)

    def report_progress(self, close_time_ns: int) -> None:
        """Remember the newest report."""
        self.progress_ns = max(self.progress_ns, close_time_ns)

    def spawn(self, work: Awaitable[None], name: str) -> asyncio.Task[None]:
        """Run `work`."""
        self.tasks.append(asyncio.ensure_future(work))
        return self.tasks[-1]


class Rig:
    """Hold the broker and the files, which outlive the service, and the service while it lives."""

    def __init__(self, directory: Path, config: ExecutionConfig = QUICK) -> None:
        self.directory = directory
        self.config = config
        self.broker = MemoryBroker()
        self.outside = MemoryBus(self.broker, service="outside")
        # Read twice a pass: by whoever takes turns, and for a miss.
        self.age_ns = itertools.count(1, 30_000_000)
        self.fault: str | None = None
        self.crashed = asyncio.Event()
        self.venue: ScriptedVenue
        self.host: FakeHost
        self.desk: Desk
        self.service: ExecutionService

    async def open(self, state: TradingState | None = TradingState.ACTIVE) -> None:
        """Prepare the broker, tell the trading state and define two instruments; the service is not started."""
        await self.outside.connect()
        await self.outside.bootstrap(STREAMS, BUCKETS)
        if state is not None:
            await self.set_state(state)
        for instrument in (BTC, ETH):
            definition = InstrumentDefinition("paper", instrument, 0)
            subject = subjects.instrument("paper", instrument.symbol)
            await self.outside.publish(subject, definition, message_id=instrument.symbol)

    async def start(self, script: Callable[[ScriptedVenue], None] | None = None) -> None:
        """Start the service; one that crashes in its recovery is started again."""
        while True:
            self.build()
            if script is not None:
                script(self.venue)
            try:
                await self.service.start()
            except SimulatedCrashError:
                await self.crash()
            else:
                return

    def build(self) -> None:
        """Make the service out of its files."""
        self.crashed.clear()
        bus = MemoryBus(self.broker, service="execution", on_fatal=self._on_fatal)
        bus._client.connected.set()
        self.host = FakeHost(bus)
        self.journal = Journal(self.directory / "execution.sqlite3", IDENTITY)
        books = Books(self.journal, "USDT")
        self.venue = ScriptedVenue(
            PaperVenue(
                self.directory / "paper.sqlite3",
                venue="paper",
                model=self.config.fill_model(),
                initial_deposit={"USDT": books.open_account(INITIAL_DEPOSIT, INITIAL)},
            )
        )
        self.desk = Desk(
            self.host,
            self.venue,
            books,
            self.config,
            account="paper",
            simulated=self.venue,
            fault_point=self._fault_point,
            age_clock_ns=lambda: next(self.age_ns),
        )
        closers = (self.venue.close, self.journal.close)
        self.service = ExecutionService(self.desk, timeframe="1h", closers=closers)

    async def crash(self) -> None:
        """End the service at once: nothing is finished, nothing acknowledged, nothing published."""
        self.host.bus.kill()
        for task in self.host.tasks:
            task.cancel()
        await asyncio.gather(*self.host.tasks, return_exceptions=True)
        await asyncio.sleep(0)
        self.journal.close()
        self.venue.close()

    async def restart(self) -> None:
        """Crash and start again."""
        await self.crash()
        await self.start()

    async def stop(self) -> None:
        """Stop cleanly."""
        await self.service.drain()
        await asyncio.gather(*self.host.tasks, return_exceptions=True)
        await self.host.bus.close()

    async def set_state(self, state: TradingState) -> None:
        """Say what risk would say."""
        message = RiskState(state, "test", "test", "c", 0)
        await self.outside.publish(subjects.RISK_STATE, message, message_id=f"{state}-{next(self.age_ns)}")

    async def bars(self, hour: int, **closes: float | Bar) -> None:
        """Publish bars by base asset (`BTC=100.0`, or a whole bar) without the step's end."""
        for base, close in closes.items():
            name = f"{base}-USDT"
            message = close if isinstance(close, Bar) else bar(hour, close, instrument=name)
            await self.outside.publish(subjects.bar("1h", "paper", name), message, message_id=f"bar-{name}-{hour}")

    async def step(self, hour: int, *, wait: bool = True, **closes: float | Bar) -> None:
        """Publish a market step and (`wait`) see it finished."""
        await self.bars(hour, **closes)
        message: BarsClosed = closed(hour, *(f"{base}-USDT" for base in closes))
        await self.outside.publish(subjects.bars_closed("1h", "paper"), message, message_id=f"closed-{hour}")
        if wait:
            await self.until(lambda: self.host.progress_ns >= hour * HOUR_NS)

    async def approve(self, approval: OrderApproved, *, copy: int = 0) -> None:
        """Publish an approval; `copy` makes a repetition that no window drops."""
        intent = approval.intent
        subject = subjects.order_approved(intent.venue, intent.instrument)
        await self.outside.publish(subject, approval, message_id=f"{approval.approval_id}-{intent.intent_id}-{copy}")

    async def command(self, verb: str, arguments: str = "{}") -> CommandReply:
        """Ask as an operator would."""
        command = Command(verb, "alex", "because", f"c-{next(self.age_ns)}", arguments, 0)
        reply = await self.outside.request(subjects.command("execution", verb), command, timeout_s=5)
        assert isinstance(reply, CommandReply)
        return reply

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait until something is so; a crash on the way is restarted from."""
        async with asyncio.timeout(PATIENCE_S):
            while not done():
                if self.crashed.is_set():
                    await self.restart()
                await asyncio.sleep(0.001)

    async def settled(self, *intents: int, states: tuple[OrderState, ...] = ()) -> list[OrderState]:
        """Wait until the intents' orders are terminal (or in one of `states`) and told; return their states."""
        names = [f"intent-{number}" for number in intents]

        def done() -> bool:
            if self.journal.unpublished(1):
                return False
            orders = [self.journal.order(name) for name in names]
            return all(order is not None and (order.state.is_terminal or order.state in states) for order in orders)

        await self.until(done)
        return [order.state for name in names if (order := self.journal.order(name)) is not None]

    async def messages[M: Message](self, stream: str, kind: type[M]) -> list[M]:
        """Return every stored message of a kind."""
        found = await self.outside.history(stream, ">", limit=100_000)
        return [delivery.message for delivery in found if isinstance(delivery.message, kind)]

    async def events(self, number: int | None = None) -> list[OrderEvent]:
        """Return the events told, each once as a consumer would count them."""
        once = {event.event_id: event for event in await self.messages(ORDERS, OrderEvent)}
        return [event for event in once.values() if number is None or event.intent_id == f"intent-{number}"]

    async def snapshots(self) -> list[AccountSnapshot]:
        """Return the account snapshots, oldest first."""
        return await self.messages(ACCOUNTS, AccountSnapshot)

    async def halts(self) -> list[RiskHalt]:
        """Return the demands to halt."""
        return await self.messages(RISK, RiskHalt)

    async def venue_order(self, number: int, instrument: str = "BTC-USDT") -> VenueOrder | None:
        """Return the order of an intent as the venue has it, whatever the script."""
        return await self.venue.real.query(client_order_id(f"intent-{number}"), instrument)

    async def assert_agreement(self) -> None:
        """Check books, venue and events against each other, to the last decimal."""
        ledger = self.desk.books.ledger
        held = {balance.asset: balance.total for balance in await self.venue.real.balances()}
        assert {asset: amount for asset, amount in ledger.balances().items() if amount} == {
            asset: amount for asset, amount in held.items() if amount
        }
        trades = await self.venue.real.trades_since(0)
        told = await self.messages(ORDERS, OrderEvent)
        fills = {event.fill.fill_id: event for event in told if event.fill is not None}
        assert {trade.fill.fill_id: trade.fill for trade in trades} == {
            fill_id: event.fill for fill_id, event in fills.items()
        }
        first_told: dict[str, OrderEvent] = {}
        for event in told:
            assert first_told.setdefault(event.event_id, event) == event
        fresh = Books(self.journal, "USDT")
        assert fresh.ledger.entries == ledger.entries
        assert fresh.open_orders() == self.desk.books.open_orders()

    def _fault_point(self, point: str) -> None:
        if point == self.fault:
            self.fault = None
            raise SimulatedCrashError(point)

    def _on_fatal(self, error: BaseException) -> None:
        if not isinstance(error, SimulatedCrashError):
            raise error
        self.crashed.set()
