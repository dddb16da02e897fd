"""A replayed market: the same stream whatever dies or is lost, as fast as its slowest participant."""

import asyncio

import msgspec
import pytest
from prometheus_client import generate_latest

from services.market_data.config import MarketDataConfig
from services.market_data.core.feed import Feed
from services.market_data.core.synthetic import SyntheticFeed
from services.market_data.replay_file import load_replay
from services.market_data.service import MarketDataService
from shared.bus import subjects
from shared.bus.streams import AUDIT
from shared.errors import ConfigError
from shared.messages import (
    CommandAudit,
    FeedState,
    InstrumentDefinition,
    Progress,
    decode,
)
from shared.metrics import Metrics
from shared.testing.data import data_file
from tests.unit.market_data.replay_rig import (
    ASSETS,
    CLOSED,
    HOUR_NS,
    REAL_ASSETS,
    T0_NS,
    VENUE,
    DyingBus,
    FlakyBus,
    Participant,
    World,
    ask,
    beat,
    connected,
    play,
    replay,
    statuses,
)


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
