"""The recorder on a bus: nothing of a stream is lost or doubled, losses elsewhere are counted, the disk may fail."""

import asyncio
import errno
import threading

import pytest

from services.recorder.service import CONSUMED
from shared.bus import streams, subjects
from shared.errors import ConfigError
from shared.messages import (
    Bbo,
    Command,
    CommandAudit,
    CommandReply,
    DeadLetter,
    Message,
    Progress,
    RiskHalt,
    Side,
    Trade,
    TradeBatch,
)
from shared.store.parquet import ParquetStore
from shared.testing import samples
from tests.unit.recorder.conftest import NOW_NS, Stage, until

INSTRUMENT = "TAO-USDT"


async def send(stage: Stage, *messages: Message, prefix: str = "id") -> None:
    for number, message in enumerate(messages):
        await stage.publisher.publish(_subject(message), message, message_id=f"{prefix}-{number}-{message!r}")


def _subject(message: Message) -> str:
    kinds = {
        "AccountSnapshot": subjects.account("sandbox"),
        "DecisionRecord": subjects.decision("rebalancer", "cascade"),
        "OrderEvent": subjects.order_event("cascade", "sandbox", INSTRUMENT),
        "Bar": subjects.bar("4h", "sandbox", INSTRUMENT),
        "BarsClosed": subjects.bars_closed("4h", "sandbox"),
        "RiskState": subjects.RISK_STATE,
        "RiskHalt": subjects.RISK_HALT,
        "CommandAudit": subjects.audit("risk"),
        "DeadLetter": subjects.dead_letter("risk"),
    }
    return kinds[type(message).__name__]


def trade(sequence: int, *, ts_event_ns: int = NOW_NS) -> Trade:
    return Trade("sandbox", INSTRUMENT, f"t{sequence}", Side.BUY, 1.5, 2.0, ts_event_ns, NOW_NS, sequence)


def bbo(sequence: int) -> Bbo:
    return Bbo("sandbox", INSTRUMENT, 1.0, 1.0, 2.0, 1.0, NOW_NS, NOW_NS, sequence)


def say(stage: Stage, *messages: Message) -> None:
    for message in messages:
        kind = {"Trade": "trade", "TradeBatch": "trade", "Bbo": "bbo"}[type(message).__name__]
        assert stage.publisher.publish_lossy(f"md.{kind}.sandbox.{INSTRUMENT}", message)


async def test_what_travels_on_every_kind_of_subject_is_recorded(stage: Stage) -> None:
    await stage.start()
    audit = CommandAudit("risk", Command("halt", "me", "why", "c", "{}", 1), 2)
    halt = RiskHalt("me", "why", "c", 1)
    await send(stage, samples.account(1), samples.decision(1, "none"))
    await send(stage, samples.bar(1, INSTRUMENT, 2.0), samples.closed(1), halt, audit)
    await send(stage, samples.order_event(1, samples.OrderState.FILLED))
    say(stage, trade(1), TradeBatch.of((trade(2), trade(3))), bbo(1))
    stage.publisher.publish_lossy(subjects.heartbeat("risk", "0"), samples.heartbeat("risk", NOW_NS))
    stage.publisher.publish_lossy(subjects.progress("risk"), Progress("risk", "sandbox", 1))
    await until(lambda: stage.report().rows_recorded >= 13)
    await stage.drain()
    assert stage.recorded("accounts") == [samples.account(1)]
    assert stage.recorded("decisions") == [samples.decision(1, "none")]
    assert stage.recorded("bars") == [samples.bar(1, INSTRUMENT, 2.0)]
    assert stage.recorded("bars_closed") == [samples.closed(1)]
    assert stage.recorded("risk_halts") == [halt]
    assert stage.recorded("command_audits") == [audit]
    assert stage.recorded("order_events") == [samples.order_event(1, samples.OrderState.FILLED)]
    assert stage.recorded("trades") == [trade(1), trade(2), trade(3)]
    assert stage.recorded("bbo") == [bbo(1)]
    assert stage.recorded("heartbeats") == [samples.heartbeat("risk", NOW_NS)]
    assert stage.recorded("progress") == [Progress("risk", "sandbox", 1)]


async def test_what_was_published_before_the_recorder_started_is_recorded_too(stage: Stage) -> None:
    await send(stage, *(samples.account(step) for step in range(20)))
    await stage.start()
    await until(lambda: stage.report().rows_recorded == 20)
    await stage.drain()
    assert stage.recorded("accounts") == [samples.account(step) for step in range(20)]


async def test_a_kill_before_the_write_loses_nothing_that_came_from_a_stream(stage: Stage) -> None:
    await stage.start(flush_interval_s=60.0)
    await send(stage, *(samples.account(step) for step in range(5)))
    await until(lambda: stage.report().backlog_rows == 5)
    await stage.kill()
    assert stage.recorded("accounts") == []
    await stage.start()
    await until(lambda: stage.report().rows_recorded == 5)
    await stage.drain()
    assert stage.recorded("accounts") == [samples.account(step) for step in range(5)]
    assert stage.rows("accounts") == 5


async def test_kills_at_many_moments_neither_lose_nor_double_what_came_from_streams(stage: Stage) -> None:
    sent: list[Message] = []
    for life in range(6):
        await stage.start(flush_interval_s=0.05, rows_max=5, pending_max=10)
        for step in range(life * 20, life * 20 + 20):
            await send(stage, samples.account(step), prefix=str(life))
            sent.append(samples.account(step))
        await until(lambda life=life: stage.report().rows_recorded > life)
        await stage.kill()
    await stage.start()
    await until(lambda: stage.report().backlog_rows == 0)
    assert (await stage.command("flush")).ok
    await stage.drain()
    assert sorted(map(repr, stage.recorded("accounts"))) == sorted(map(repr, sent))


async def test_nothing_is_acknowledged_that_the_disk_refused(stage: Stage) -> None:
    await stage.start()
    stage.disk.fails = frozenset({"write"})
    await send(stage, *(samples.account(step) for step in range(5)))
    await until(lambda: bool(stage.report().trouble))
    assert stage.health[-1][0] is False
    assert "ENOSPC" in stage.health[-1][1]
    await stage.kill()
    stage.disk.fails = frozenset()
    await stage.start()
    await until(lambda: stage.report().rows_recorded == 5)
    await stage.drain()
    assert stage.recorded("accounts") == [samples.account(step) for step in range(5)]


@pytest.mark.parametrize("what", ["write", "rename", "sync"])
async def test_a_disk_that_recovers_gets_every_row_once_and_in_order(stage: Stage, what: str) -> None:
    stage.disk.errno = errno.EIO
    await stage.start()
    stage.disk.fails = frozenset({what})
    for number in range(1, 6):
        say(stage, trade(number))
        await send(stage, samples.account(number))
    await until(lambda: bool(stage.report().trouble))
    for number in range(6, 9):
        say(stage, trade(number))
    stage.disk.fails = frozenset()
    assert (await stage.command("flush")).ok
    assert stage.health[-1] == (True, "running")
    assert stage.report().trouble == ""
    await stage.drain()
    assert stage.recorded("trades") == [trade(number) for number in range(1, 9)]
    assert stage.recorded("accounts") == [samples.account(number) for number in range(1, 6)]
    assert stage.rows("trades") == 8


async def test_memory_stays_within_its_bounds_while_the_disk_refuses_and_the_loss_is_counted(stage: Stage) -> None:
    await stage.start(rows_max=10, pending_max=20)
    stage.disk.fails = frozenset({"write"})
    for number in range(1, 51):
        say(stage, trade(number))
        await send(stage, samples.account(number))
    await until(lambda: stage.report().lost_rows["no_room"] == 30)
    assert stage.report().backlog_rows == 40
    stage.disk.fails = frozenset()
    await until(lambda: stage.report().backlog_rows == 0 and stage.report().rows_recorded >= 70)
    await stage.drain()
    assert stage.recorded("trades") == [trade(number) for number in range(1, 21)]
    assert stage.recorded("accounts") == [samples.account(number) for number in range(1, 51)]


async def test_sigterm_writes_everything_that_has_arrived(stage: Stage) -> None:
    await stage.start(flush_interval_s=60.0)
    await send(stage, samples.account(1))
    say(stage, *(trade(number) for number in range(1, 101)))
    await stage.drain()
    assert stage.recorded("trades") == [trade(number) for number in range(1, 101)]
    assert stage.recorded("accounts") == [samples.account(1)]


async def test_a_full_buffer_is_written_before_its_time(stage: Stage) -> None:
    await stage.start(flush_interval_s=60.0, rows_max=10, pending_max=100)
    say(stage, *(trade(number) for number in range(1, 12)))
    await until(lambda: stage.report().rows_recorded >= 10)


async def test_the_loop_goes_on_while_the_disk_hangs(stage: Stage) -> None:
    service = await stage.start()
    hang, entered = threading.Event(), threading.Event()
    original = ParquetStore.append

    def append(store, batch):
        entered.set()
        assert hang.wait(20)
        return original(store, batch)

    ParquetStore.append = append
    try:
        say(stage, trade(1))
        await until(entered.is_set)
        say(stage, trade(2))
        await until(lambda: service.report.backlog_rows == 2)
        assert (await stage.command("status")).ok
    finally:
        hang.set()
        ParquetStore.append = original
    await until(lambda: service.report.rows_recorded == 2)


async def test_the_flush_command_answers_when_all_is_on_disk_and_is_audited(stage: Stage) -> None:
    await stage.start(flush_interval_s=60.0)
    say(stage, *(trade(number) for number in range(1, 6)))
    await until(lambda: stage.report().backlog_rows == 5)
    reply = await stage.command("flush")
    assert reply.ok
    assert reply.correlation_id == "correlation-flush"
    assert len(stage.recorded("trades")) == 5
    (audit,) = stage.recorded("command_audits")
    assert isinstance(audit, CommandAudit)
    assert (audit.service, audit.command.user, audit.command.verb) == ("recorder", "tester", "flush")


async def test_the_flush_command_says_why_it_cannot(stage: Stage) -> None:
    await stage.start(flush_interval_s=60.0)
    stage.disk.fails = frozenset({"write"})
    say(stage, trade(1))
    reply = await stage.command("flush")
    assert not reply.ok
    assert "ENOSPC" in reply.detail
    status = await stage.command("status")
    assert status.ok
    assert "ENOSPC" in status.detail
    assert "backlog_rows" in status.result


async def test_a_request_that_is_no_command_is_refused(stage: Stage) -> None:
    await stage.start()
    reply = await stage.publisher.request("cmd.recorder.flush", trade(1))
    assert isinstance(reply, CommandReply)
    assert not reply.ok


async def test_progress_is_reported_for_each_step_of_this_venue(stage: Stage) -> None:
    await stage.start(flush_interval_s=60.0)
    await send(stage, samples.closed(1), samples.closed(2))
    foreign = samples.BarsClosed("elsewhere", "4h", 5, (), (), 1, final=False)
    await stage.publisher.publish(subjects.bars_closed("4h", "elsewhere"), foreign, message_id="foreign")
    await send(stage, samples.closed(3))
    await until(lambda: len(stage.progress) == 3)
    assert stage.progress == [samples.closed(step).close_time_ns for step in (1, 2, 3)]


async def test_a_restarted_recorder_says_again_which_step_it_finished_last(stage: Stage) -> None:
    await stage.start()
    await send(stage, samples.closed(1), samples.closed(2))
    assert await flushed(stage)
    await stage.drain()
    stage.progress.clear()
    await stage.start()
    assert stage.progress == [samples.closed(2).close_time_ns]
    await stage.kill()
    stage.progress.clear()
    await send(stage, samples.closed(3))
    await stage.start()
    await until(lambda: bool(stage.progress))
    assert stage.progress == [samples.closed(3).close_time_ns]


async def flushed(stage: Stage) -> bool:
    await until(lambda: stage.report().rows_recorded + stage.report().backlog_rows > 0)
    return (await stage.command("flush")).ok


async def test_a_price_with_a_time_in_milliseconds_is_dead_lettered_or_counted(stage: Stage) -> None:
    await stage.start()
    odd = samples.bar(1, INSTRUMENT, 1.0)
    odd = odd.__class__(*[getattr(odd, name) if name != "close_time_ns" else 1_780_000_000_000 for name in names(odd)])
    await send(stage, odd, samples.bar(2, INSTRUMENT, 2.0))
    say(stage, trade(1, ts_event_ns=1_780_000_000_000), trade(2))
    await until(lambda: len(stage.recorded("dead_letters")) == 1)
    (letter,) = stage.recorded("dead_letters")
    assert isinstance(letter, DeadLetter)
    assert "nanoseconds" in letter.reason
    assert stage.report().lost_rows == {"no_room": 0, "before_arrival": 0, "unusable": 1, "dead_lettered": 1}
    await stage.drain()
    assert stage.recorded("bars") == [samples.bar(2, INSTRUMENT, 2.0)]
    assert stage.recorded("trades") == [trade(2)]


def names(message: Message) -> tuple[str, ...]:
    return message.__struct_fields__


async def test_a_number_that_no_column_holds_is_dead_lettered_and_the_rest_goes_on(stage: Stage) -> None:
    await stage.start()
    huge = samples.account(1, ledger_sequence=2**64 - 1)
    await send(stage, huge, samples.account(2))
    await until(lambda: len(stage.recorded("dead_letters")) == 1)
    await stage.kill()
    await stage.start()
    assert (await stage.command("flush")).ok
    await stage.drain()
    assert stage.recorded("accounts") == [samples.account(2)]
    assert len(stage.recorded("dead_letters")) == 1


async def test_dead_letters_are_recorded_once_over_restarts(stage: Stage) -> None:
    letters = [DeadLetter("risk", "s", f"reason {number}", b"\x00\xff", NOW_NS + number) for number in range(3)]
    await send(stage, letters[0], letters[1])
    for _ in range(3):
        await stage.start()
        await until(lambda: stage.rows("dead_letters") >= 2)
        await stage.drain()
    await send(stage, letters[2], prefix="later")
    await stage.start()
    await until(lambda: stage.rows("dead_letters") >= 3)
    await stage.drain()
    assert stage.recorded("dead_letters") == letters
    assert stage.rows("dead_letters") == 3


async def test_ticks_that_were_published_while_the_recorder_was_dead_are_counted_as_lost(stage: Stage) -> None:
    await stage.start()
    say(stage, trade(1), trade(2))
    assert await flushed(stage)
    await stage.kill()
    say(stage, trade(3), trade(4), trade(5))
    await stage.start()
    say(stage, trade(6), trade(7), trade(10))
    await until(lambda: stage.report().lost_rows["before_arrival"] == 5)
    await stage.drain()
    assert stage.recorded("trades") == [trade(number) for number in (1, 2, 6, 7, 10)]


async def test_repeated_progress_is_recorded_once(stage: Stage) -> None:
    await stage.start()
    for step in (1, 1, 1, 2, 2):
        stage.publisher.publish_lossy(subjects.progress("risk"), Progress("risk", "sandbox", step))
    assert await flushed(stage)
    await stage.drain()
    assert stage.recorded("progress") == [Progress("risk", "sandbox", 1), Progress("risk", "sandbox", 2)]


async def test_a_second_recorder_on_one_store_refuses_to_start(stage: Stage) -> None:
    await stage.start()
    store = ParquetStore(stage.root, lambda: NOW_NS)
    with pytest.raises(ConfigError, match="another recorder"):
        await asyncio.to_thread(store.open)


async def test_a_stream_that_was_made_anew_is_recorded_beside_the_old_one(stage: Stage) -> None:
    await stage.start()
    await send(stage, samples.account(1))
    await flushed(stage)
    await stage.drain()
    fresh = Stage(stage.root)
    await fresh.begin()
    await fresh.start()
    await send(fresh, samples.account(2))
    await flushed(fresh)
    await fresh.end()
    assert stage.recorded("accounts") == [samples.account(1), samples.account(2)]


def test_every_stream_is_recorded() -> None:
    assert {*CONSUMED, streams.DEAD} == {spec.name for spec in streams.STREAMS}
