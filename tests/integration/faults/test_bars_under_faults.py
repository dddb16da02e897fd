"""The live market service under faults: bars that equal the venue's tape, repaired ones included, and none twice."""

import asyncio
from collections.abc import Awaitable
from decimal import Decimal

import pytest
import structlog

from services.market_data.config import MarketDataConfig
from services.market_data.live import LiveMarketService
from services.sandbox_exchange.core.faults import FaultName as F
from services.sandbox_exchange.core.model import PublicTrade
from shared.bus.memory import MemoryBroker, MemoryBus
from shared.bus.port import Delivery
from shared.bus.streams import BUCKETS, MD_BARS, STREAMS
from shared.config import StackConfig, timeframe_ns
from shared.messages import Bar, BarsClosed, Side, Trade, TradeBatch
from shared.metrics import Metrics
from tests.integration.faults.market_rig import TOKEN, TRADES, TrueMarket, make_market, true_market, until
from tests.integration.faults.rig import VENUES


class Feed:
    """Run the service over a memory bus."""

    def __init__(self, true: TrueMarket, timeframe: str = "1m") -> None:
        self.true, self.timeframe = true, timeframe
        self.interval_ns = timeframe_ns(timeframe)
        self.bus = MemoryBus(MemoryBroker())
        self.tasks: list[asyncio.Task[None]] = []
        self.heard: list[Trade] = []
        self.closed: set[int] = set()
        self.service: LiveMarketService

    async def start(self) -> None:
        """Start the service."""
        await self.bus.connect()
        await self.bus.bootstrap(STREAMS, BUCKETS)
        await self.bus.subscribe("md.trade.>", self._hear)
        await self.bus.subscribe("md.closed.>", self._close)
        await self.restart()

    async def restart(self) -> None:
        """Begin anew, as after kill -9, over the same broker."""
        self.metrics = Metrics("market_data")
        self.service = LiveMarketService(
            self.bus, make_market(self.true.running),
            StackConfig(
                assets=(TOKEN, "ETH-USDT"), timeframe=self.timeframe, venue=self.true.running.announcement.venue
            ),
            MarketDataConfig(candles_timeout_s=1.0, bar_grace_ms=200),
            spawn=self._spawn, metrics=self.metrics, log=structlog.get_logger(),
        )  # fmt: skip
        await self.service.start()

    async def kill(self) -> None:
        """End it without a word."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for subscription in self.service._subscriptions:
            await subscription.stop()
        await self.service._market.close()
        self.tasks = []

    async def published(self) -> tuple[list[Bar], list[BarsClosed]]:
        """Return every bar and every step's end."""
        messages = [one.message for one in await self.bus.history(MD_BARS, ">", limit=10_000)]
        bars = [one for one in messages if isinstance(one, Bar) and one.instrument == TOKEN]
        return bars, [one for one in messages if isinstance(one, BarsClosed)]

    def counter(self, name: str) -> float:
        """Return how much was counted."""
        return self.metrics.registry.get_sample_value(f"cascade_market_data_{name}_total") or 0.0

    async def minute(self) -> None:
        """Let the rest of the venue's interval pass at once, and wait for its step."""
        now_ns = self.true.venue.now_ns()
        end_ns = now_ns - now_ns % self.interval_ns + self.interval_ns
        self.true.ahead_ns += end_ns - now_ns
        await until(lambda: end_ns in self.closed)

    async def seen(self) -> None:
        """Wait until the newest trade has come, so that a fault comes after it."""
        newest = told_of(self.true.tape[-1])
        await until(lambda: newest in map(told, self.heard))

    async def _hear(self, delivery: Delivery) -> None:
        assert isinstance(delivery.message, TradeBatch)
        self.heard += delivery.message.trades

    async def _close(self, delivery: Delivery) -> None:
        assert isinstance(delivery.message, BarsClosed)
        self.closed.add(delivery.message.close_time_ns)

    def _spawn(self, work: Awaitable[None], name: str) -> asyncio.Task[None]:
        self.tasks.append(asyncio.ensure_future(work))
        return self.tasks[-1]


def told(trade: Trade) -> tuple[int, float, float, Side]:
    """Return what a trade says."""
    return trade.ts_event_ns // 10**6, trade.price, trade.quantity, trade.side


def told_of(trade: PublicTrade) -> tuple[int, float, float, Side]:
    """Return what is to be told of the venue's trade."""
    return trade.time_ns // 10**6, float(trade.price), float(trade.quantity), trade.taker_side


def bar_of(trades: list[PublicTrade]) -> tuple[float, ...]:
    """Return open, high, low, close and volume of trades, by the simplest sum there is."""
    prices = [float(one.price) for one in trades]
    volume = float(sum((one.quantity for one in trades), Decimal(0)))
    return prices[0], max(prices), min(prices), prices[-1], round(volume, 9)


async def assert_true_bars(feed: Feed, least: int) -> None:
    """Hold every published bar next to the tape; a bar that is missing must have been reported missing."""
    bars, closed = await feed.published()
    whole = [one for one in bars if one.close_time_ns > closed[0].close_time_ns]
    assert len(whole) >= least
    assert len({one.close_time_ns for one in bars}) == len(bars), "a bar came twice"
    ends = [one.close_time_ns for one in closed]
    assert ends == list(range(ends[0], ends[-1] + 1, feed.interval_ns)), "a step is missing, or came twice"
    for one in whole:
        tape = [trade for trade in feed.true.tape if one.open_time_ns <= trade.time_ns < one.close_time_ns]
        assert (one.open, one.high, one.low, one.close, round(one.volume, 9)) == bar_of(tape)


@pytest.mark.parametrize("fault", ["none", "kill", "silent", "duplicate", "restart", "drop"])
@pytest.mark.parametrize("venue", VENUES)
async def test_bars_equal_the_tape_though_trades_were_lost_on_the_way(venue: str, fault: str) -> None:
    async with true_market(venue, symbols=("BTCUSDT", "ETHUSDT")) as true:
        feed = Feed(true)
        try:
            await feed.start()
            await true.spread(6)
            await feed.seen()
            await feed.minute()
            await true.spread(6)
            await feed.seen()
            await spoil(feed, fault)
            await true.spread(6)
            if fault not in ("kill", "silent"):
                # The clock is to leap: what is on its way then would be called too old.
                await feed.seen()
            await feed.minute()
            true.faults.disarm()
            for _ in range(2):
                await true.spread(6)
                await feed.seen()
                await feed.minute()
            await assert_true_bars(feed, least=3)
            heard = [told(one) for one in feed.heard]
            assert len(set(heard)) == len(heard), "a trade was told twice"
            if (venue, fault) == ("mexc", "drop"):
                assert sorted(heard) == sorted(map(told_of, true.tape)), "lost trades are had from the venue's list"
                assert feed.counter("trades_recovered") > 0
        finally:
            await feed.kill()


async def spoil(feed: Feed, fault: str) -> None:
    """Let trades be lost, or come twice."""
    true, route = feed.true, TRADES[feed.true.running.announcement.venue]
    if fault == "kill":
        true.kill()
    elif fault == "restart":
        await feed.kill()
        await true.spread(6)
        await feed.restart()
    elif fault != "none":
        name = {"silent": F.SOCKET_SILENT, "duplicate": F.FRAME_DUPLICATE, "drop": F.FRAME_DROP}[fault]
        times = 1 if fault == "silent" else 2
        true.arm(name, route=route, times=times)
        while true.faults.fired.get(name, 0) < times:
            await true.spread(1)
        if fault == "silent":
            await until(lambda: len(true.venue.sockets) and true.venue.counts.get("socket_opened_public", 0) > 1)


async def test_a_bar_of_15_s_that_mexc_has_no_candle_of_is_mended_from_its_list_of_trades() -> None:
    async with true_market("mexc", symbols=("BTCUSDT", "ETHUSDT")) as true:
        feed = Feed(true, "15s")
        try:
            await feed.start()
            await true.spread(6)
            await feed.seen()
            await feed.minute()
            for fault in ("drop", "kill"):
                await true.spread(6)
                await feed.seen()
                await spoil(feed, fault)
                await true.spread(6)
                await feed.minute()
            await assert_true_bars(feed, least=2)
            assert feed.service.report.unproven == {}
        finally:
            await feed.kill()


async def test_a_bar_that_nothing_confirms_is_published_and_called_that() -> None:
    async with true_market("mexc", symbols=("BTCUSDT", "ETHUSDT")) as true:
        feed = Feed(true, "15s")
        try:
            await feed.start()
            await true.spread(6)
            await feed.seen()
            await feed.minute()
            true.arm(F.HTTP_5XX, route="GET /api/v3/trades", times=None)
            await true.spread(6)
            await feed.seen()
            await spoil(feed, "drop")
            await true.spread(6)
            await feed.seen()
            await feed.minute()
            assert TOKEN in feed.service.report.unproven
            assert "not proven" in feed.service.report.reason
            assert feed.counter("bars_unproven") > 0
            true.faults.disarm()
            await true.spread(6)
            await feed.seen()
            await feed.minute()
            assert feed.service.report.unproven == {}
        finally:
            await feed.kill()


async def test_with_no_list_of_trades_a_lost_frame_is_mended_by_mexcs_candle() -> None:
    async with true_market("mexc", symbols=("BTCUSDT", "ETHUSDT")) as true:
        feed = Feed(true)
        try:
            await feed.start()
            true.arm(F.HTTP_5XX, route="GET /api/v3/trades", times=None)
            await true.spread(6)
            await feed.seen()
            await feed.minute()
            await true.spread(6)
            await feed.seen()
            await spoil(feed, "drop")
            await true.spread(6)
            await feed.seen()
            await feed.minute()
            await true.spread(6)
            await feed.seen()
            await feed.minute()
            await assert_true_bars(feed, least=2)
        finally:
            await feed.kill()
