"""A replayed market over a memory bus, with participants, and clients that die or lose answers."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog

from services.market_data.config import MarketDataConfig, MissingBars
from services.market_data.core.candles import RawSeries
from services.market_data.core.feed import Feed
from services.market_data.core.replay import ReplayRules, build_replay
from services.market_data.service import MarketDataService
from shared.bus import subjects
from shared.bus.memory import MemoryBroker, MemoryBus
from shared.bus.port import Delivery, PublishAck
from shared.bus.streams import BUCKETS, MD_BARS, STREAMS
from shared.errors import BusUnavailableError
from shared.messages import (
    Bar,
    BarsClosed,
    Command,
    CommandReply,
    Heartbeat,
    MarketStatus,
    Message,
    Progress,
    decode,
)
from shared.metrics import Metrics

VENUE = "sandbox"
ASSETS = ("A-USDT", "B-USDT")
T0_NS = 1_767_225_600_000_000_000
HOUR_NS = 3_600_000_000_000
CLOSED = subjects.bars_closed("1h", VENUE)
REAL_ASSETS = ("RIVER-USDT", "H-USDT", "PENGU-USDT", "TAO-USDT")


def replay(steps: int = 4, *, price: str = "2.5", absent: frozenset[int] = frozenset()) -> Feed:
    raw = []
    for asset in ASSETS:
        hours = [at for at in range(steps) if asset == "A-USDT" or at not in absent]
        columns = {name: [price] * len(hours) for name in ("open", "high", "low", "close", "volume")}
        times = [(T0_NS + at * HOUR_NS) // 1_000_000 for at in hours]
        raw.append(RawSeries(asset, "bars.csv", range(2, 2 + len(hours)), times, columns))
    rules = ReplayRules(None, None, None, MissingBars.HOLD, MarketDataConfig().notional_min)
    return build_replay("bars.csv", raw, rules)


def connected(broker: MemoryBroker) -> MemoryBus:
    bus = MemoryBus(broker)
    bus.reconnect()
    return bus


class World:
    """Hold a broker, the services that run on it, and what they broke."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.broker = MemoryBroker(lambda: self.now_ns)
        self.broker.bootstrap(STREAMS, BUCKETS)
        self.tasks: list[asyncio.Task[None]] = []

    def spawn(self, work: Awaitable[None], name: str) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        assert isinstance(task, asyncio.Task)
        task.set_name(name)
        self.tasks.append(task)
        return task

    def service(
        self,
        feed: Feed,
        *participants: str,
        bus: MemoryBus | None = None,
        speed: float | str = "max",
        metrics: Metrics | None = None,
    ) -> MarketDataService:
        log = structlog.stdlib.BoundLogger(logging.getLogger("test"), [structlog.stdlib.render_to_log_kwargs], {})
        return MarketDataService(
            bus or connected(self.broker),
            feed,
            MarketDataConfig(speed=speed, participants=participants),
            venue=VENUE,
            spawn=self.spawn,
            metrics=metrics or Metrics("market_data"),
            log=log,
        )

    def frames(self) -> list[tuple[str, bytes]]:
        return [(frame.subject, frame.payload) for frame in self.broker.stream(MD_BARS).frames.values()]

    def closed(self) -> list[BarsClosed]:
        messages = [decode(payload) for subject, payload in self.frames() if subject.startswith("md.closed.")]
        return [message for message in messages if isinstance(message, BarsClosed)]

    def bars(self) -> list[Bar]:
        messages = [decode(payload) for subject, payload in self.frames() if subject.startswith("md.bar.")]
        return [message for message in messages if isinstance(message, Bar)]

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            for task in self.tasks:
                if task.done() and not task.cancelled():
                    task.result()
            await asyncio.sleep(0.001)

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks.clear()


class Participant:
    """Handle BarsClosed as a consumer does, and repeat the newest progress while `is_talking`."""

    def __init__(self, world: World, name: str, *, holds: bool = False) -> None:
        self.world, self.name, self.bus = world, name, connected(world.broker)
        self.may_finish = asyncio.Event()
        self.newest_ns: int | None = None
        if not holds:
            self.may_finish.set()

    async def start(self) -> None:
        await self.bus.consume(MD_BARS, self.name, self._handle, filters=("md.closed.>",))
        self.world.spawn(self._talk(), self.name)

    async def _handle(self, delivery: Delivery) -> None:
        assert isinstance(delivery.message, BarsClosed)
        await self.may_finish.wait()
        self.newest_ns = delivery.message.close_time_ns
        self._say()

    async def _talk(self) -> None:
        while True:
            self._say()
            self.bus.publish_lossy(subjects.heartbeat(self.name, "0"), beat(self.name))
            await asyncio.sleep(0.005)

    def _say(self) -> None:
        if self.newest_ns is not None:
            report = Progress(service=self.name, venue=VENUE, close_time_ns=self.newest_ns)
            self.bus.publish_lossy(subjects.progress(self.name), report)


def beat(service: str, *, ready: bool = True) -> Heartbeat:
    return Heartbeat(service, "0", "test", "hash", 1, ready, "", 0, 0)


class DyingBus(MemoryBus):
    """Store `lives` messages durably, then die like a killed process."""

    def __init__(self, broker: MemoryBroker, lives: int) -> None:
        super().__init__(broker)
        self.lives = lives
        self.died = asyncio.Event()
        self.reconnect()

    async def publish(self, subject: str, message: Message, *, message_id: str, timeout_s: float = 5.0) -> PublishAck:
        if self.lives == 0:
            self.died.set()
            self.kill()
            await asyncio.Event().wait()
        self.lives -= 1
        return await super().publish(subject, message, message_id=message_id, timeout_s=timeout_s)


class FlakyBus(MemoryBus):
    """Lose every third answer, before or after the message was stored."""

    calls = 0

    async def publish(self, subject: str, message: Message, *, message_id: str, timeout_s: float = 5.0) -> PublishAck:
        self.calls += 1
        if subject.startswith("md.instrument"):
            return await super().publish(subject, message, message_id=message_id, timeout_s=timeout_s)
        if self.calls % 6 == 3:
            raise BusUnavailableError("lost before it was stored")
        ack = await super().publish(subject, message, message_id=message_id, timeout_s=timeout_s)
        if self.calls % 6 == 0:
            raise BusUnavailableError("stored, but the answer was lost")
        return ack


async def play(world: World, feed: Feed, steps: int) -> list[tuple[str, bytes]]:
    service = world.service(feed)
    await service.start()
    await world.until(lambda: len(world.closed()) == steps)
    await service.drain()
    return world.frames()


async def ask(world: World, verb: str) -> CommandReply:
    command = Command(verb, "anna", "test", f"c-{verb}", "{}", 1)
    reply = await connected(world.broker).request(subjects.command("market_data", verb), command)
    assert isinstance(reply, CommandReply)
    return reply


@asynccontextmanager
async def statuses(world: World) -> AsyncIterator[list[MarketStatus]]:
    found: list[MarketStatus] = []

    async def keep(delivery: Delivery) -> None:
        assert isinstance(delivery.message, MarketStatus)
        found.append(delivery.message)

    subscription = await connected(world.broker).subscribe(subjects.status(VENUE), keep)
    yield found
    await subscription.stop()
