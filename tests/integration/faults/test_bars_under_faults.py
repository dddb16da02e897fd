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
from shared.bus.streams import BUCKETS, MD_BARS, STREAMS
from shared.config import StackConfig
from shared.messages import Bar, BarsClosed, Side
from shared.metrics import Metrics
from tests.integration.faults.market_rig import TOKEN, TRADES, TrueMarket, make_market, seconds, true_market, until
from tests.integration.faults.rig import VENUES

MINUTE = seconds(60)


class Feed:
    """Run the service over a memory bus."""

    def __init__(self, true: TrueMarket) -> None:
        self.true = true
        self.bus = MemoryBus(MemoryBroker())
        self.tasks: list[asyncio.Task[None]] = []
        self.service: LiveMarketService

    async def start(self) -> None:
        """Start the service."""
        await self.bus.connect()
        await self.bus.bootstrap(STREAMS, BUCKETS)
        await self.restart()

    async def restart(self) -> None:
        """Begin anew, as after kill -9, over the same broker."""
        self.service = LiveMarketService(
            self.bus, make_market(self.true.running), StackConfig(assets=(TOKEN, "ETH-USDT"), timeframe="1m",
            venue=self.true.running.announcement.venue), MarketDataConfig(candles_timeout_s=1.0, bar_grace_ms=200),
            spawn=self._spawn, metrics=Metrics("market_data"), log=structlog.get_logger(),
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

    async def minute(self) -> None:
        """Let the rest of the venue's minute pass at once, and wait for its step."""
        now_ns = self.true.venue.now_ns()
        end_ns = now_ns - now_ns % MINUTE + MINUTE
        self.true.ahead_ns += end_ns - now_ns
        async with asyncio.timeout(15):
            while not any(one.close_time_ns == end_ns for one in (await self.published())[1]):  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.02)

    def _spawn(self, work: Awaitable[None], name: str) -> asyncio.Task[None]:
        self.tasks.append(asyncio.ensure_future(work))
        return self.tasks[-1]


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
    assert ends == list(range(ends[0], ends[-1] + 1, MINUTE)), "a step is missing, or came twice"
    for one in whole:
        tape = [trade for trade in feed.true.tape if one.open_time_ns <= trade.time_ns < one.close_time_ns]
        assert (one.open, one.high, one.low, one.close, round(one.volume, 9)) == bar_of(tape)


async def trade(true: TrueMarket, count: int = 6) -> None:
    for number in range(count):
        true.trade(Side.BUY if number % 2 else Side.SELL)
        await asyncio.sleep(0.02)


async def seen(feed: Feed, how_many_frames_s: float = 0.15) -> None:
    """Let the frames of the last trades arrive (they are sent each 100 ms), so that a fault comes after them."""
    await asyncio.sleep(how_many_frames_s)


@pytest.mark.parametrize("fault", ["none", "kill", "silent", "duplicate", "restart", "drop"])
@pytest.mark.parametrize("venue", VENUES)
async def test_bars_equal_the_tape_though_trades_were_lost_on_the_way(venue: str, fault: str) -> None:
    if (venue, fault) == ("mexc", "drop"):
        pytest.skip("MEXC numbers no trades, so a lost frame cannot be seen; the comparison with its candles tells")
    async with true_market(venue, symbols=("BTCUSDT", "ETHUSDT")) as true:
        feed = Feed(true)
        try:
            await feed.start()
            await trade(true)
            await feed.minute()
            await trade(true)
            await seen(feed)
            await spoil(feed, fault)
            await trade(true)
            await feed.minute()
            true.faults.disarm()
            for _ in range(2):
                await trade(true)
                await seen(feed)
                await feed.minute()
            await assert_true_bars(feed, least=3)
        finally:
            await feed.kill()


async def spoil(feed: Feed, fault: str) -> None:
    """Let trades be lost, or come twice."""
    true, route = feed.true, TRADES[feed.true.running.announcement.venue]
    if fault == "kill":
        true.kill()
    elif fault == "restart":
        await feed.kill()
        await trade(true)
        await feed.restart()
    elif fault != "none":
        name = {"silent": F.SOCKET_SILENT, "duplicate": F.FRAME_DUPLICATE, "drop": F.FRAME_DROP}[fault]
        true.arm(name, route=route, times=1 if fault == "silent" else 2)
        await trade(true, 4)
        await until(lambda: true.faults.fired.get(name))
        if fault == "silent":
            await until(lambda: len(true.venue.sockets) and true.venue.counts.get("socket_opened_public", 0) > 1)


async def test_a_frame_that_mexc_lost_shows_in_the_comparison_with_its_candles() -> None:
    async with true_market("mexc", symbols=("BTCUSDT", "ETHUSDT")) as true:
        feed = Feed(true)
        try:
            await feed.start()
            await trade(true)
            await feed.minute()
            await trade(true)
            await seen(feed)
            await spoil(feed, "drop")
            await trade(true)
            await seen(feed)
            await feed.minute()
            await trade(true)
            await seen(feed)
            await feed.minute()
            try:
                await assert_true_bars(feed, least=2)  # a restart of the stream may have had it repaired
            except AssertionError:
                await until(lambda: "differs from the venue's candle" in feed.service.report.reason)
        finally:
            await feed.kill()
