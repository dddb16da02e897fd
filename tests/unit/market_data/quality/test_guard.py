"""The service publishes no untrusted bar, over kills and restarts, until an operator releases the instrument."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal

import msgspec
import pytest
import structlog
from prometheus_client import generate_latest

from services.market_data.config import MarketDataConfig, MissingBars
from services.market_data.core.candles import RawSeries
from services.market_data.core.feed import Candle, Feed, MarketStep
from services.market_data.core.quality_steps import ScreenedFeed, screen
from services.market_data.core.quality_words import Action, Finding, Limits
from services.market_data.core.replay import ReplayRules, build_replay
from services.market_data.replay_file import load_replay
from services.market_data.service import FeedReport, MarketDataService
from shared.bus import subjects
from shared.bus.memory import MemoryBroker, MemoryBus
from shared.bus.port import Delivery, PublishAck
from shared.bus.streams import AUDIT, BUCKETS, MD_BARS, STREAMS
from shared.errors import BusUnavailableError
from shared.messages import (
    Bar,
    BarsClosed,
    Command,
    CommandAudit,
    CommandReply,
    FeedState,
    MarketStatus,
    Message,
    decode,
)
from shared.metrics import Metrics
from shared.testing.data import data_file

VENUE = "sandbox"
T0 = 1_767_225_600_000
HOUR = 3_600_000
# A-USDT is redenominated at step 3; B-USDT crashes by 87 % at step 3, trading on its way.
PRICES = {"A-USDT": [(2.0, 2.0), (2.0, 2.1), (2000.0, 2050.0), (2050.0, 2040.0), (2040.0, 2040.0)]}
PRICES["B-USDT"] = [(9.0, 9.0), (9.0, 9.0), (9.0, 1.17), (1.17, 2.0), (2.0, 2.1)]


def redenominated(steps: int = 5) -> Feed:
    raw = []
    for asset, path in PRICES.items():
        columns = {
            "open": [str(opened) for opened, _ in path[:steps]],
            "high": [str(max(one)) for one in path[:steps]],
            "low": [str(min(one)) for one in path[:steps]],
            "close": [str(close) for _, close in path[:steps]],
            "volume": ["1.5"] * steps,
        }
        times = [T0 + at * HOUR for at in range(steps)]
        raw.append(RawSeries(asset, "bars.csv", range(2, 2 + steps), times, columns))
    return build_replay("bars.csv", raw, ReplayRules(None, None, None, MissingBars.HOLD, Decimal(5)))


class World:
    """Hold a broker and what runs on it."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.broker = MemoryBroker(lambda: self.now_ns)
        self.broker.bootstrap(STREAMS, BUCKETS)
        self.tasks: list[asyncio.Task[None]] = []
        self.metrics = Metrics("market_data")
        self.statuses: list[MarketStatus] = []

    def bus(self) -> MemoryBus:
        bus = MemoryBus(self.broker)
        bus.reconnect()
        return bus

    def spawn(self, work: Awaitable[None], name: str) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        assert isinstance(task, asyncio.Task)
        self.tasks.append(task)
        return task

    def service(self, feed: Feed, bus: MemoryBus | None = None, **settings: float) -> MarketDataService:
        log = structlog.stdlib.BoundLogger(logging.getLogger("test"), [structlog.stdlib.render_to_log_kwargs], {})
        config = MarketDataConfig(speed="max", participants=(), **settings)  # type: ignore[arg-type]
        self.metrics = Metrics("market_data")
        return MarketDataService(
            bus or self.bus(), feed, config, venue=VENUE, spawn=self.spawn, metrics=self.metrics, log=log
        )

    def stream(self) -> list[Message]:
        return [decode(frame.payload) for frame in self.broker.stream(MD_BARS).frames.values()]

    def closed(self) -> list[BarsClosed]:
        return [message for message in self.stream() if isinstance(message, BarsClosed)]

    def bars(self, asset: str) -> list[Bar]:
        return [message for message in self.stream() if isinstance(message, Bar) and message.instrument == asset]

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            for task in self.tasks:
                if task.done() and not task.cancelled():
                    task.result()
            await asyncio.sleep(0.001)

    async def play(self, feed: Feed, steps: int, bus: MemoryBus | None = None, **settings: float) -> None:
        service = self.service(feed, bus, **settings)
        await service.start()
        await self.until(lambda: len(self.closed()) == steps)
        await service.drain()

    async def listen(self) -> None:
        async def keep(delivery: Delivery) -> None:
            assert isinstance(delivery.message, MarketStatus)
            self.statuses.append(delivery.message)

        await self.bus().subscribe(subjects.status(VENUE), keep)

    async def ask(self, verb: str, arguments: str = "{}") -> CommandReply:
        command = Command(verb, "anna", "looked at it", f"c-{verb}-{arguments}", arguments, 1)
        reply = await self.bus().request(subjects.command("market_data", verb), command)
        assert isinstance(reply, CommandReply)
        return reply

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks.clear()

    def count(self, name: str) -> float:
        for line in generate_latest(self.metrics.registry).decode().splitlines():
            if line.startswith(f"cascade_market_data_{name} "):
                return float(line.rpartition(" ")[2])
        raise AssertionError(name)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.end()


class DyingBus(MemoryBus):
    """Store `lives` messages durably, then die like a killed process."""

    def __init__(self, broker: MemoryBroker, lives: int) -> None:
        super().__init__(broker)
        self.lives, self.died = lives, asyncio.Event()
        self.reconnect()

    async def publish(self, subject: str, message: Message, *, message_id: str, timeout_s: float = 5.0) -> PublishAck:
        if self.lives == 0:
            self.died.set()
            self.kill()
            await asyncio.Event().wait()
        self.lives -= 1
        return await super().publish(subject, message, message_id=message_id, timeout_s=timeout_s)


async def test_a_redenominated_instrument_is_missing_from_its_bar_on(world):
    await world.listen()
    await world.play(redenominated(), 5)
    assert [one.missing for one in world.closed()] == [(), (), ("A-USDT",), ("A-USDT",), ("A-USDT",)]
    assert [one.instruments for one in world.closed()][2:] == [("B-USDT",)] * 3
    assert [bar.close for bar in world.bars("A-USDT")] == [2.0, 2.1]
    assert [bar.close for bar in world.bars("B-USDT")] == [9.0, 9.0, 1.17, 2.0, 2.1]
    frozen = [one for one in world.statuses if one.instrument == "A-USDT"]
    assert {one.state for one in frozen} == {FeedState.FROZEN}
    assert "952.4 times" in frozen[0].reason
    assert world.count('quality_findings_total{kind="jump"}') == 1
    assert world.count('quality_findings_total{kind="frozen"}') == 2
    assert world.count("bars_withheld_total") == 3
    assert world.count("frozen_instruments") == 1


async def test_a_kill_after_any_message_leaves_the_same_stream(world):
    await world.play(redenominated(), 5)
    whole = world.stream()
    for lives in range(len(whole)):
        again = World()
        bus = DyingBus(again.broker, lives)
        service = again.service(redenominated(), bus)
        dying = asyncio.ensure_future(service.start())
        await again.until(bus.died.is_set)
        dying.cancel()
        await again.end()
        again.now_ns += 3_600_000_000_000
        await again.play(redenominated(), 5)
        assert again.stream() == whole
        await again.end()


async def test_a_freeze_that_cannot_be_kept_holds_the_step_back(world, monkeypatch):
    bus, failures = world.bus(), 0
    bucket = await bus.key_value("state")
    put = bucket.put

    async def fail(key: str, value: bytes, **rest: int) -> int:
        nonlocal failures
        if key.endswith(".quality") and failures < 2:
            failures += 1
            assert len(world.closed()) == 2
            raise BusUnavailableError("no answer")
        return await put(key, value, **rest)

    monkeypatch.setattr(type(bucket), "put", lambda self, key, value, **rest: fail(key, value, **rest))
    await world.play(redenominated(), 5, bus)
    assert failures == 2
    assert [one.missing for one in world.closed()][2:] == [("A-USDT",)] * 3
    assert world.count('quality_findings_total{kind="jump"}') == 1
    assert world.count("bars_withheld_total") == 3


async def test_a_restart_remembers_what_is_frozen(world):
    await world.play(redenominated(3), 3)
    service = await live(world, redenominated(3))
    await world.listen()
    assert service.report.frozen == {"A-USDT": "opened at 2000.0 after 2.1: 952.4 times, at most 3"}
    assert service.report.reason.endswith("; frozen until released: A-USDT")
    await world.until(lambda: any(one.instrument == "A-USDT" for one in world.statuses))
    assert world.statuses[-1].state is FeedState.FROZEN


async def test_a_release_is_audited_said_and_refused_for_what_is_not_frozen(world):
    await world.listen()
    await world.play(redenominated(4), 4)
    service = await live(world, redenominated(4))
    assert (await world.ask("release", '{"instrument": "B-USDT"}')).detail == "B-USDT is not frozen; A-USDT is"
    assert not (await world.ask("release", "{}")).ok
    assert not (await world.ask("release", '{"instrument": 1}')).ok
    done = await world.ask("release", '{"instrument": "A-USDT"}')
    assert done.ok
    assert msgspec.json.decode(done.result, type=FeedReport).frozen == {}
    assert (await world.ask("release", '{"instrument":"A-USDT"}')).detail == "A-USDT is not frozen; nothing is"
    audits = [decode(frame.payload) for frame in world.broker.stream(AUDIT).frames.values()]
    assert [one.command.verb for one in audits if isinstance(one, CommandAudit)] == ["release"] * 5
    await world.until(lambda: any(one.instrument and one.state is FeedState.LIVE for one in world.statuses))
    await service.drain()


async def live(world: World, feed: Feed) -> MarketDataService:
    service = world.service(feed)
    await service.start()
    return service


async def test_after_a_release_the_new_price_is_the_good_one(world):
    await world.play(redenominated(3), 3)
    service = await live(world, redenominated(3))
    assert (await world.ask("release", '{"instrument": "A-USDT"}')).ok
    await service.drain()
    await world.play(redenominated(5), 5)
    assert [bar.close for bar in world.bars("A-USDT")] == [2.0, 2.1, 2040.0, 2040.0]
    assert [one.missing for one in world.closed()] == [(), (), ("A-USDT",), (), ()]


async def test_the_guard_can_be_switched_off(world):
    await world.play(redenominated(), 5, jump_factor_max=float("inf"), bar_factor_max=float("inf"))
    assert [one.missing for one in world.closed()] == [()] * 5
    for name in ("jump_factor_max", "bar_factor_max"):
        for value in (1.0, 0.0, -3.0, float("nan")):
            with pytest.raises(ValueError, match=name):
                MarketDataConfig(**{name: value})  # type: ignore[arg-type]


async def test_a_screened_feed_gives_what_the_service_publishes(world):
    await world.play(redenominated(), 5)
    feed = ScreenedFeed(redenominated(), MarketDataConfig().limits)
    assert feed.step(5) == feed.step(5)
    for closed in world.closed():
        step = feed.step(closed.step)
        assert step is not None
        assert (step.missing, step.final) == (closed.missing, closed.final)
        assert tuple(one.instrument for one in step.candles) == closed.instruments
    assert feed.step(6) is None
    plain = redenominated()
    assert (feed.timeframe, feed.instruments, feed.identity) == (plain.timeframe, plain.instruments, plain.identity)
    assert (feed.first_open_ns, feed.description) == (plain.first_open_ns, plain.description)


def candle(price: float) -> Candle:
    return Candle("A-USDT", price, price, price, price, 1.0, None)


def step(number: int, *candles: Candle) -> MarketStep:
    begin = (T0 + number * HOUR) * 1_000_000
    return MarketStep(number, begin, begin + HOUR * 1_000_000, candles, ("Z-USDT",), False)


def test_a_bad_bar_is_left_out_for_its_step_only():
    first = screen({}, step(1, candle(2.0)), Limits())
    assert first.step == step(1, candle(2.0))
    second = screen(first.states, step(2, candle(float("nan"))), Limits())
    assert second.step.candles == ()
    assert second.step.missing == ("Z-USDT", "A-USDT")
    assert second.verdicts["A-USDT"].action is Action.DROP
    third = screen(second.states, step(3, candle(2.1)), Limits())
    assert third.step.missing == ("Z-USDT",)
    fourth = screen(third.states, step(4, candle(210.0)), Limits())
    assert fourth.verdicts["A-USDT"].findings == (Finding.JUMP,)


async def test_the_real_swaps_are_frozen_in_a_replay(world, tmp_path):
    source = data_file("binance_spot_1h_2021")
    for name in ("BTCUSDT", "COCOSUSDT", "SUNUSDT", "BTCSTUSDT"):
        (tmp_path / f"{name}_1h.csv.gz").write_bytes((source / f"{name}_1h.csv.gz").read_bytes())
    config = MarketDataConfig(missing_bars=MissingBars.HOLD)
    assets = ("BTC-USDT", "COCOS-USDT", "SUN-USDT", "BTCST-USDT")
    feed = load_replay(tmp_path, assets, config)
    states, frozen, number = {}, {}, 1
    while (one := feed.step(number)) is not None:
        screened = screen(states, one, Limits())
        states = screened.states
        for asset, verdict in screened.verdicts.items():
            if verdict.action is Action.FREEZE:
                frozen.setdefault(asset, verdict.detail.split(": ")[1])
                assert asset in screened.step.missing
        number += 1
    assert frozen == {
        "COCOS-USDT": "1000 times, at most 3",
        "SUN-USDT": "0.0009999 times, at most 3",
        "BTCST-USDT": "0.1 times, at most 3",
    }
