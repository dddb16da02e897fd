import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest
import structlog
from prometheus_client import generate_latest

from services.market_data.config import MarketDataConfig, MissingBars
from services.market_data.core.candles import RawSeries
from services.market_data.core.feed import Feed
from services.market_data.core.replay import ReplayRules, build_replay
from services.market_data.core.synthetic import SyntheticFeed
from services.market_data.replay_file import load_replay
from services.market_data.service import MarketDataService
from shared.bus import subjects
from shared.bus.memory import MemoryBroker, MemoryBus
from shared.bus.port import Delivery, PublishAck
from shared.bus.streams import AUDIT, BUCKETS, MD_BARS, STREAMS
from shared.errors import BusUnavailableError, ConfigError
from shared.messages import (
    Bar,
    BarsClosed,
    Command,
    CommandAudit,
    CommandReply,
    FeedState,
    Heartbeat,
    InstrumentDefinition,
    MarketStatus,
    Message,
    Progress,
    decode,
)
from shared.metrics import Metrics
from shared.testing.data import data_file

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


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.end()


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


async def test_a_feed_is_published_definitions_first_then_bars_then_their_end(world):
    frames = await play(world, replay(3), 3)
    bars = [subjects.bar("1h", VENUE, asset) for asset in ASSETS]
    definitions = [subjects.instrument(VENUE, asset) for asset in ASSETS]
    assert [subject for subject, _ in frames] == [*definitions, *[*bars, CLOSED] * 3]
    definition = decode(frames[0][1])
    assert isinstance(definition, InstrumentDefinition)
    assert definition.instrument == replay(3).instruments[0]
    assert [(one.step, one.final) for one in world.closed()] == [(1, False), (2, False), (3, True)]
    assert [bar.sequence for bar in world.bars()] == [1, 1, 2, 2, 3, 3]
    assert all(bar.close_time_ns == bar.open_time_ns + HOUR_NS == bar.ts_recv_ns for bar in world.bars())


async def test_a_missing_bar_is_named_and_its_sequence_has_no_hole(world):
    await play(world, replay(4, absent=frozenset({1, 2})), 4)
    assert [one.missing for one in world.closed()] == [(), ("B-USDT",), ("B-USDT",), ()]
    assert [one.instruments for one in world.closed()][1] == ("A-USDT",)
    assert [bar.sequence for bar in world.bars() if bar.instrument == "B-USDT"] == [1, 2]


async def test_a_kill_after_any_message_leaves_the_same_stream(world):
    whole = await play(world, replay(3), 3)
    for lives in range(len(whole)):
        again = World()
        bus = DyingBus(again.broker, lives)
        dying = asyncio.ensure_future(start_quietly(again.service(replay(3), bus=bus)))
        await again.until(bus.died.is_set)
        dying.cancel()
        await again.end()
        assert len(again.frames()) == lives
        again.now_ns += 3_600_000_000_000  # The duplicate window is over: only the stream itself can tell.
        assert await play(again, replay(3), 3) == whole
        await again.end()


async def start_quietly(service: MarketDataService) -> None:
    await service.start()


async def test_lost_answers_change_nothing_in_the_stream(world):
    whole = await play(world, replay(5), 5)
    other = World()
    bus = FlakyBus(other.broker)
    await bus.connect()
    service = other.service(replay(5), bus=bus)
    await service.start()
    await other.until(lambda: len(other.closed()) == 5)
    await service.drain()
    assert other.frames() == whole


async def test_the_same_feed_twice_is_the_same_stream(world):
    shape = MarketDataConfig(seed=3).synthetic

    def feed() -> Feed:
        return SyntheticFeed(shape, ASSETS, "1h", start_ns=T0_NS, steps_max=40)

    other = World()
    assert await play(world, feed(), 40) == await play(other, feed(), 40)
    await other.end()


async def test_a_restart_adds_nothing_to_a_stream_that_is_complete(world):
    whole = await play(world, replay(3), 3)
    world.now_ns += 3_600_000_000_000
    service = world.service(replay(3))
    async with statuses(world) as found:
        await service.start()
        await world.until(lambda: bool(found) and found[-1].state is FeedState.ENDED)
    assert world.frames() == whole


async def test_a_longer_replay_continues_a_shorter_one(world):
    await play(world, replay(3), 3)
    await play(world, replay(5), 5)
    assert [one.step for one in world.closed()] == [1, 2, 3, 4, 5]
    assert [bar.sequence for bar in world.bars() if bar.instrument == "A-USDT"] == [1, 2, 3, 4, 5]


async def test_another_feed_does_not_continue_the_stream(world):
    await play(world, replay(3), 3)
    with pytest.raises(ConfigError, match="first bar of A-USDT"):
        await world.service(replay(3, price="2.6")).start()
    shape = MarketDataConfig().synthetic
    with pytest.raises(ConfigError, match="feed was replay, now it is synthetic"):
        await world.service(SyntheticFeed(shape, ASSETS, "1h", start_ns=T0_NS)).start()
    assert len(world.closed()) == 3


async def test_an_earlier_start_of_the_same_market_does_not_continue_the_stream(world):
    shape = MarketDataConfig().synthetic
    await play(world, SyntheticFeed(shape, ASSETS, "1h", start_ns=T0_NS, steps_max=3), 3)
    with pytest.raises(ConfigError, match="start_ns"):
        await world.service(SyntheticFeed(shape, ASSETS, "1h", start_ns=T0_NS - HOUR_NS)).start()


async def test_a_changed_definition_is_announced_again(world):
    await play(world, replay(2), 2)
    finer = replay(3)
    instruments = tuple(msgspec.structs.replace(one, notional_min=one.notional_min + 1) for one in finer.instruments)
    finer._instruments = instruments
    await play(world, finer, 3)
    stored = [decode(payload) for subject, payload in world.frames() if subject.startswith("md.instrument")]
    assert len(stored) == 4


async def test_no_step_is_published_before_every_participant_is_ready(world):
    service = world.service(replay(3), "risk", "execution")
    await service.start()
    bus = connected(world.broker)
    bus.publish_lossy(subjects.heartbeat("risk", "0"), beat("risk"))
    bus.publish_lossy(subjects.heartbeat("execution", "0"), beat("execution", ready=False))
    await world.until(lambda: service.report.waiting_for == ("execution",))
    assert not world.closed()
    assert service.report.reason == "the first step waits for execution"
    bus.publish_lossy(subjects.heartbeat("execution", "0"), beat("execution"))
    await world.until(lambda: len(world.closed()) == 1)


@pytest.mark.parametrize("speed", ["max", 1e9])
async def test_the_next_step_waits_for_the_slowest_participant_at_any_speed(world, speed):
    fast, slow = Participant(world, "risk"), Participant(world, "execution", holds=True)
    service = world.service(replay(4), "risk", "execution", speed=speed)
    await service.start()
    await fast.start()
    await slow.start()
    await world.until(lambda: service.report.waiting_for == ("execution",) and len(world.closed()) == 1)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(world.closed()) == 1
    slow.may_finish.set()
    await world.until(lambda: len(world.closed()) == 4)


async def test_progress_of_another_venue_does_not_count(world):
    service = world.service(replay(3), "risk")
    await service.start()
    bus = connected(world.broker)
    bus.publish_lossy(subjects.progress("risk"), Progress("risk", "elsewhere", T0_NS * 2))
    bus.publish_lossy(subjects.progress("nobody"), Progress("nobody", VENUE, T0_NS * 2))
    bus.publish_lossy(subjects.heartbeat("risk", "0"), beat("risk"))
    await world.until(lambda: len(world.closed()) == 1 and service.report.waiting_for == ("risk",))


async def test_a_restarted_feed_waits_for_the_progress_that_it_has_not_heard(world):
    await play(world, replay(2), 2)
    service = world.service(replay(4), "risk")
    await service.start()
    connected(world.broker).publish_lossy(subjects.heartbeat("risk", "0"), beat("risk"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(world.closed()) == 2
    await Participant(world, "risk").start()
    await world.until(lambda: len(world.closed()) == 4)


async def test_a_finite_speed_lets_real_time_pass(world):
    service = world.service(replay(3), speed=1e-6)
    await service.start()
    await world.until(lambda: len(world.closed()) == 1)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(world.closed()) == 1
    assert service.report.state is FeedState.LIVE
    await service.drain()


async def test_the_end_is_announced_when_everybody_has_finished(world):
    slow = Participant(world, "risk", holds=True)
    one_step = SyntheticFeed(MarketDataConfig().synthetic, ASSETS, "1h", start_ns=T0_NS, steps_max=1)
    service = world.service(one_step, "risk")
    async with statuses(world) as found:
        await service.start()
        await slow.start()
        await world.until(lambda: service.report.reason == "the end waits for risk")
        assert all(status.state is FeedState.LIVE for status in found)
        slow.may_finish.set()
        await world.until(lambda: bool(found) and found[-1].state is FeedState.ENDED)
        assert found[-1].ts_event_ns == T0_NS + HOUR_NS


async def test_pause_holds_the_market_over_a_restart_until_resume(world):
    service = world.service(replay(3), "risk")
    await service.start()
    reply = await ask(world, "pause")
    assert reply.ok
    assert reply.correlation_id == "c-pause"
    await service.drain()
    again = world.service(replay(3), "risk")
    await again.start()
    await Participant(world, "risk").start()
    await world.until(lambda: again.report.state is FeedState.FROZEN)
    status = msgspec.json.decode((await ask(world, "status")).result, type=dict)
    assert (status["paused"], status["step"], status["state"]) == (True, 0, "frozen")
    assert not world.closed()
    assert (await ask(world, "resume")).ok
    await world.until(lambda: len(world.closed()) == 3)
    audits = await connected(world.broker).history(AUDIT, subjects.audit("market_data"))
    verbs = [one.message.command.verb for one in audits if isinstance(one.message, CommandAudit)]
    assert verbs == ["pause", "resume"]


async def test_a_command_that_cannot_be_audited_is_not_obeyed(world):
    service = world.service(replay(3), "risk")
    await service.start()
    del world.broker.streams[AUDIT]
    assert not (await ask(world, "pause")).ok
    assert not service.report.paused


async def test_waiting_and_steps_are_counted(world):
    metrics = Metrics("market_data")
    service = world.service(replay(2), "risk", metrics=metrics)
    await service.start()
    await Participant(world, "risk").start()
    await world.until(lambda: len(world.closed()) == 2)
    await service.drain()
    text = generate_latest(metrics.registry).decode()
    assert "cascade_market_data_steps_published_total 2.0" in text
    assert 'cascade_market_data_waiting_seconds_total{service="risk"}' in text


async def test_a_drain_ends_a_wait_at_once(world):
    service = world.service(replay(3), "risk")
    await service.start()
    await service.drain()
    assert not world.closed()


async def test_the_real_file_is_published_whole(world):
    feed = load_replay(data_file("mexc_spot/mexc_spot_4h.csv.gz"), REAL_ASSETS)
    await play(world, feed, 685)
    closed = world.closed()
    assert len(world.bars()) == 2740
    assert closed[-1].final
    assert [one.close_time_ns for one in closed] == [feed.first_open_ns + k * 4 * HOUR_NS for k in range(1, 686)]
