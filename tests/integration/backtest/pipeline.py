"""Market data, rebalancer, risk and execution in one process over the in-memory bus, run to the end of a feed."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path

import msgspec
import structlog

from services.backtest.config import ACCOUNT, VENUE, BacktestSettings
from services.cli.gather import gather_run
from services.cli.summary import RunMessages
from services.execution.books import Books
from services.execution.desk import Desk
from services.execution.journal import Journal
from services.execution.service import ExecutionService
from services.market_data.config import MarketDataConfig
from services.market_data.core.feed import Feed
from services.market_data.service import MarketDataService
from services.rebalancer.service import RebalancerService
from services.risk.memory import open_memory
from services.risk.service import RiskService
from services.risk.surroundings import Setting
from shared.bus import subjects
from shared.bus.memory import MemoryBroker, MemoryBus
from shared.bus.port import Bus
from shared.bus.streams import BUCKETS, STREAMS
from shared.clock import Clock, MarketClock
from shared.config import Mode, StackConfig, timeframe_ns
from shared.exchange.paper import INITIAL_DEPOSIT, PaperVenue
from shared.logs import Log
from shared.messages import Heartbeat, Progress
from shared.metrics import Metrics

PARTICIPANTS = ("rebalancer", "risk", "execution")
PATIENCE_S = 120.0


class Host:
    """Be the process around one service."""

    def __init__(self, broker: MemoryBroker, name: str, failed: asyncio.Queue[BaseException]) -> None:
        self.name = name
        self.bus: Bus = MemoryBus(broker, service=name, on_fatal=failed.put_nowait)
        self.clock: Clock = MarketClock()
        self.metrics = Metrics(name)
        self.log: Log = structlog.get_logger(name)
        self.progress_ns = 0
        self.moved = asyncio.Event()
        self._failed = failed
        self._tasks: list[asyncio.Task[None]] = []

    def advance_clock(self, to_ns: int) -> None:
        """Move market time on."""
        assert isinstance(self.clock, MarketClock)
        self.clock.advance(to_ns)

    def report_progress(self, close_time_ns: int) -> None:
        """Publish the progress."""
        self.progress_ns = max(self.progress_ns, close_time_ns)
        self.moved.set()
        self.bus.publish_lossy(subjects.progress(self.name), Progress(self.name, VENUE, self.progress_ns))

    def spawn(self, work: Awaitable[None], name: str) -> asyncio.Task[None]:
        """Run `work`; its failure ends the test."""
        task = asyncio.ensure_future(self._watched(work))
        self._tasks.append(task)
        return task

    def is_ready(self) -> None:
        """Say that the service lives."""
        beat = Heartbeat(self.name, "0", "test", "", 0, True, "", 0, 0)
        self.bus.publish_lossy(subjects.heartbeat(self.name, "0"), beat)

    async def stop(self) -> None:
        """End what runs beside the service."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.bus.close()

    async def _watched(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception as error:
            self._failed.put_nowait(error)
            raise


async def run_pipeline(feed: Feed, settings: BacktestSettings, folder: Path, steps: int) -> RunMessages:
    """Play the feed's `steps` through the services and return everything that they published."""
    broker, failed = MemoryBroker(), asyncio.Queue[BaseException]()
    hosts = {name: Host(broker, name, failed) for name in ("market_data", *PARTICIPANTS, "outside")}
    for host in hosts.values():
        await host.bus.connect()
    await hosts["outside"].bus.bootstrap(STREAMS, BUCKETS)
    assets = tuple(instrument.symbol for instrument in feed.instruments)
    stack = StackConfig(
        mode=Mode.REPLAY,
        venue=VENUE,
        assets=assets,
        quote_asset=settings.quote_asset,
        timeframe=feed.timeframe,
        initial_usdt=settings.capital,
    )
    services = _services(hosts, settings, stack, folder)
    market = _market(hosts["market_data"], feed)
    for service in services:
        await service.start()
    await market.start()
    for name in PARTICIPANTS:
        hosts[name].is_ready()
    last = feed.step(steps)
    assert last is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            await _until(hosts, last.close_time_ns, failed)
    finally:
        await market.drain()
        for service in services:
            await service.drain()
        messages = await gather_run(hosts["outside"].bus, stack)
        for host in hosts.values():
            await host.stop()
    return messages


def _services(
    hosts: dict[str, Host], settings: BacktestSettings, stack: StackConfig, folder: Path
) -> tuple[RebalancerService, RiskService, ExecutionService]:
    rules = msgspec.structs.replace(settings.rebalancer, assets=stack.assets)
    mine = hosts["rebalancer"]
    rebalancer = RebalancerService(
        bus=mine.bus,
        clock=mine.clock,
        config=rules,
        venue=VENUE,
        timeframe=stack.timeframe,
        quote=stack.quote_asset,
        report_progress=mine.report_progress,
    )
    limits = settings.risk.limits(stack.quote_asset, timeframe_ns(stack.timeframe), is_exclusive=True)
    store, memory, damage = open_memory(folder / "risk.db", limits)
    setting = Setting(
        venue=VENUE, timeframe=stack.timeframe, assets=stack.assets, is_market_time=True, start_active=True
    )
    risk = RiskService(hosts["risk"], setting, memory, store, damage)
    journal = Journal(
        folder / "execution.sqlite3", {"venue": VENUE, "account": ACCOUNT, "quote_asset": stack.quote_asset}
    )
    books = Books(journal, stack.quote_asset)
    venue = PaperVenue(
        folder / "paper.sqlite3",
        venue=VENUE,
        model=settings.execution.fill_model(),
        initial_deposit={stack.quote_asset: books.open_account(INITIAL_DEPOSIT, stack.initial_usdt)},
    )
    desk = Desk(hosts["execution"], venue, books, settings.execution, account=ACCOUNT, simulated=venue)
    execution = ExecutionService(desk, timeframe=stack.timeframe, closers=(venue.close, journal.close))
    return rebalancer, risk, execution


def _market(host: Host, feed: Feed) -> MarketDataService:
    config = MarketDataConfig(speed="max", participants=PARTICIPANTS)
    return MarketDataService(host.bus, feed, config, venue=VENUE, spawn=host.spawn, metrics=host.metrics, log=host.log)


async def _until(hosts: dict[str, Host], last_ns: int, failed: asyncio.Queue[BaseException]) -> None:
    while any(hosts[name].progress_ns < last_ns for name in PARTICIPANTS):
        if not failed.empty():
            raise failed.get_nowait()
        for name in PARTICIPANTS:
            hosts[name].moved.clear()
        waits = [asyncio.ensure_future(hosts[name].moved.wait()) for name in PARTICIPANTS]
        waits.append(asyncio.ensure_future(asyncio.sleep(1.0)))
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
