"""A live market over a memory bus, with a venue and a clock of the test's own."""

import asyncio
from collections.abc import Callable

import structlog
from prometheus_client import generate_latest

from services.market_data.config import MarketDataConfig
from services.market_data.live import LiveMarketService
from shared.bus import subjects
from shared.bus.memory import MemoryBroker, MemoryBus
from shared.bus.port import Delivery
from shared.bus.streams import BUCKETS, STREAMS
from shared.clock import monotonic_ns
from shared.config import StackConfig
from shared.messages import (
    Bar,
    BarsClosed,
    Command,
    CommandReply,
    FeedState,
    MarketStatus,
    Message,
)
from shared.metrics import Metrics
from shared.testing.fake_market import FakeVenueMarket

S = 1_000_000_000
T0 = 1_800_000_000 * S
ONE, TWO = "A-USDT", "B-USDT"
CONFIG = MarketDataConfig(candles_timeout_s=0.5)
PATIENCE_S = 10.0


class Live:
    """Run the service over a memory bus with a clock of the test's own."""

    def __init__(self, timeframe: str = "1m") -> None:
        self.now_ns = T0
        # A test's clock moves by leaps; only `sleep` is a pause.
        self.slept_ns = 0
        self.stack = StackConfig(assets=(ONE, TWO), timeframe=timeframe)
        self.broker = MemoryBroker()
        self.bus = MemoryBus(self.broker)
        self.market = FakeVenueMarket()
        self.heard: list[Message] = []
        self.failed: list[BaseException] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.metrics = Metrics("market_data")
        self.service: LiveMarketService | None = None

    async def open(self) -> None:
        await self.bus.connect()
        await self.bus.bootstrap(STREAMS, BUCKETS)

        async def hear(delivery: Delivery) -> None:
            self.heard.append(delivery.message)

        await self.bus.subscribe("md.>", hear)

    async def start(self, config: MarketDataConfig = CONFIG) -> None:
        self.metrics = Metrics("market_data")
        self.service = LiveMarketService(
            self.bus, self.market, self.stack, config,
            spawn=self._spawn, metrics=self.metrics, log=structlog.get_logger(),
            read_wall_ns=lambda: self.now_ns, read_pause_ns=lambda: self.slept_ns,
        )  # fmt: skip
        await self.service.start()

    async def kill(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for subscription in [] if self.service is None else self.service._subscriptions:
            await subscription.stop()
        self.tasks, self.market = [], FakeVenueMarket()

    async def at(self, second: float) -> None:
        self.now_ns = T0 + int(second * S)
        await asyncio.sleep(0)

    def sleep(self, seconds: float) -> None:
        """Let the computer sleep: its clock moves on, nothing else does."""
        self.now_ns += int(seconds * S)
        self.slept_ns += int(seconds * S)

    def trade(self, name: str, second: float, price: float = 2.0, *, count: int = 1, skip: int = 0) -> None:
        self.now_ns = max(self.now_ns, T0 + int(second * S))
        self.market.trade(name, T0 + int(second * S), price, count=count, skip=skip)

    async def steps(self, count: int) -> list[BarsClosed]:
        await self.until(lambda: len(self.of(BarsClosed)) >= count)
        return self.of(BarsClosed)

    def of[M: Message](self, kind: type[M]) -> list[M]:
        return [message for message in self.heard if isinstance(message, kind)]

    async def until(self, done: Callable[[], bool]) -> None:
        give_up_ns = monotonic_ns() + PATIENCE_S * S
        while not done():
            assert not self.failed, self.failed
            assert monotonic_ns() < give_up_ns, [type(one).__name__ for one in self.heard]
            await asyncio.sleep(0.005)

    async def ask(self, verb: str, arguments: str = "{}") -> CommandReply:
        command = Command(verb, "alex", "because", f"c-{len(self.heard)}", arguments, 0)
        reply = await self.bus.request(subjects.command("market_data", verb), command, timeout_s=5)
        assert isinstance(reply, CommandReply)
        return reply

    def shown(self) -> str:
        return generate_latest(self.metrics.registry).decode()

    def status(self, name: str | None) -> MarketStatus:
        unknown = MarketStatus("mexc", name, FeedState.ENDED, "", 0)
        return [unknown, *(one for one in self.of(MarketStatus) if one.instrument == name)][-1]

    def _spawn(self, work: object, name: str) -> asyncio.Task[None]:
        async def run() -> None:
            try:
                await work  # type: ignore[misc]
            except Exception as error:
                self.failed.append(error)
                raise

        self.tasks.append(asyncio.create_task(run(), name=name))
        return self.tasks[-1]


def candle(name: str, second: int, close: float = 2.5, volume: float = 3.0) -> Bar:
    start = T0 + second * S
    return Bar("mexc", name, "1m", start, start + 60 * S, 2.0, 3.0, 1.0, close, volume, 7.5, start, 1)
