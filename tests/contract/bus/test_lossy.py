"""Messages that may be lost: wildcards, order, overflow, disconnection, requests."""

import asyncio

import pytest

from shared.bus.port import Bus, Delivery
from shared.errors import BusUnavailableError, DeferError, InputError, RejectedError
from shared.messages import Command, CommandReply, Message, Progress, encode
from tests.contract.bus.conftest import Stage, note, until


class Inbox:
    """Keep what a handler was given."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []

    async def __call__(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)

    @property
    def subjects(self) -> list[str]:
        return [delivery.subject for delivery in self.deliveries]

    @property
    def numbers(self) -> list[int]:
        return numbers(self.deliveries)


def numbers(deliveries: list[Delivery]) -> list[int]:
    return [d.message.close_time_ns for d in deliveries if isinstance(d.message, Progress)]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("md.bar.a", ["md.bar.a"]),
        ("md.*.a", ["md.bar.a", "md.bbo.a"]),
        ("md.bar.>", ["md.bar.a", "md.bar.a.b"]),
        ("md.>", ["md.bar.a", "md.bbo.a", "md.bar.a.b"]),
        ("*.bar.a", ["md.bar.a", "xx.bar.a"]),
    ],
)
async def test_a_subscription_receives_what_its_pattern_covers_and_no_more(
    stage: Stage, pattern: str, expected: list[str]
) -> None:
    publisher, listener = await stage.bus("publisher"), await stage.bus("listener")
    wanted, everything = Inbox(), Inbox()
    await listener.subscribe(pattern, wanted)
    await listener.subscribe("end", everything)
    for subject in ("md.bar.a", "md.bbo.a", "md.bar.a.b", "xx.bar.a", "md", "end"):
        assert publisher.publish_lossy(subject, note(1))
    await until(lambda: bool(everything.deliveries) and len(wanted.deliveries) >= len(expected))
    assert wanted.subjects == expected
    assert all(d.stream_sequence == 0 and d.delivered == 0 for d in wanted.deliveries)


async def test_lossy_messages_arrive_in_order(stage: Stage) -> None:
    publisher, listener = await stage.bus("publisher"), await stage.bus("listener")
    inbox = Inbox()
    await listener.subscribe("md.>", inbox)
    for number in range(500):
        publisher.publish_lossy(f"md.bar.{number % 7}", note(number))
    await until(lambda: len(inbox.deliveries) == 500)
    assert inbox.numbers == list(range(500))
    assert publisher.counters()["published"] == 500


async def test_an_overflowing_subscription_keeps_the_oldest_and_counts_the_rest(stage: Stage) -> None:
    publisher, listener = await stage.bus("publisher"), await stage.bus("listener")
    begun, release, handled = asyncio.Event(), asyncio.Event(), Inbox()

    async def slow(delivery: Delivery) -> None:
        begun.set()
        await release.wait()
        await handled(delivery)

    await listener.subscribe("md.slow", slow, pending_max=10)
    quick = Inbox()
    await listener.subscribe("md.*", quick)
    publisher.publish_lossy("md.slow", note(0))
    await asyncio.wait_for(begun.wait(), 5)
    for number in range(1, 31):
        publisher.publish_lossy("md.slow", note(number))
    await until(lambda: len(quick.deliveries) == 31)
    assert listener.counters()["dropped_slow"] == 20
    release.set()
    await until(lambda: len(handled.deliveries) == 11)
    assert handled.numbers == list(range(11))


async def test_lossy_messages_are_dropped_and_counted_while_disconnected(stage: Stage, bus: Bus) -> None:
    inbox = Inbox()
    await bus.subscribe("md.>", inbox)
    await stage.cut()
    assert not bus.is_connected
    for number in range(5):
        assert bus.publish_lossy("md.x", note(number)) is False
    assert bus.counters()["dropped_disconnected"] >= 5
    await stage.restore()
    assert bus.is_connected
    assert bus.publish_lossy("md.x", note(99)) is True
    await until(lambda: bool(inbox.deliveries))
    assert inbox.numbers == [99], "nothing stale may be flushed after the reconnection"
    assert bus.counters()["reconnects"] == 1


async def test_a_stopped_subscription_finishes_its_message_and_gets_no_more(stage: Stage, bus: Bus) -> None:
    begun, release, handled = asyncio.Event(), asyncio.Event(), Inbox()

    async def slow(delivery: Delivery) -> None:
        begun.set()
        await release.wait()
        await handled(delivery)

    subscription = await bus.subscribe("md.x", slow)
    bus.publish_lossy("md.x", note(1))
    bus.publish_lossy("md.x", note(2))
    await asyncio.wait_for(begun.wait(), 5)
    stopping = asyncio.create_task(subscription.stop())
    await asyncio.sleep(0)
    release.set()
    await asyncio.wait_for(stopping, 5)
    assert handled.numbers == [1]
    witness = Inbox()
    await bus.subscribe("md.x", witness)
    bus.publish_lossy("md.x", note(3))
    await until(lambda: bool(witness.deliveries))
    assert handled.numbers == [1]


async def test_a_handler_may_stop_its_own_subscription(stage: Stage, bus: Bus) -> None:
    handled = Inbox()

    async def once(delivery: Delivery) -> None:
        await handled(delivery)
        await subscription.stop()

    subscription = await bus.subscribe("md.x", once)
    witness = Inbox()
    await bus.subscribe("md.x", witness)
    bus.publish_lossy("md.x", note(1))
    bus.publish_lossy("md.x", note(2))
    await until(lambda: len(witness.deliveries) == 2)
    assert handled.numbers == [1]


async def test_a_lossy_handler_that_cannot_take_a_message_loses_it_counted(stage: Stage, bus: Bus) -> None:
    handled = Inbox()

    async def picky(delivery: Delivery) -> None:
        if len(handled.deliveries) == 0 and bus.counters()["dropped_failed"] == 0:
            raise DeferError("not now")
        await handled(delivery)

    await bus.subscribe("md.x", picky)
    bus.publish_lossy("md.x", note(1))
    bus.publish_lossy("md.x", note(2))
    await until(lambda: bool(handled.deliveries))
    assert handled.numbers == [2]
    assert bus.counters()["dropped_failed"] == 1
    assert stage.fatal == []


async def test_a_programmer_error_in_a_lossy_handler_is_fatal(stage: Stage, bus: Bus) -> None:
    async def broken(delivery: Delivery) -> None:
        raise KeyError("bug")

    await bus.subscribe("md.x", broken)
    bus.publish_lossy("md.x", note(1))
    await until(lambda: bool(stage.fatal))
    assert isinstance(stage.fatal[0], KeyError)


@pytest.mark.parametrize("subject", ["", "md.*", "md.>", "md..x", "md x", "md.x\r\nPUB y 0", ".md", "md."])
async def test_a_subject_that_cannot_be_published_on_is_refused(stage: Stage, bus: Bus, subject: str) -> None:
    with pytest.raises(InputError):
        bus.publish_lossy(subject, note(1))
    with pytest.raises(InputError):
        await bus.publish(subject, note(1), message_id="x")


COMMAND = Command(
    verb="halt", user="me", reason="test", correlation_id="c-7", arguments='{"secret": "hunter2"}', sent_at_ns=1
)


async def test_a_request_gets_the_responders_answer(stage: Stage) -> None:
    asker, answerer = await stage.bus("asker"), await stage.bus("answerer")

    async def answer(delivery: Delivery) -> Message:
        assert delivery.message == COMMAND
        return CommandReply(ok=True, detail="halted", correlation_id="c-7", result="{}")

    await answerer.respond("cmd.risk.*", answer)
    reply = await asker.request("cmd.risk.halt", COMMAND)
    assert reply == CommandReply(ok=True, detail="halted", correlation_id="c-7", result="{}")


@pytest.mark.parametrize(
    "error", [ValueError("hunter2"), RejectedError("code", "hunter2"), BusUnavailableError("hunter2")]
)
async def test_a_responders_error_becomes_a_refusal_without_details(stage: Stage, bus: Bus, error: Exception) -> None:
    async def fail(delivery: Delivery) -> Message:
        raise error

    await bus.respond("cmd.risk.*", fail)
    for _ in range(2):
        reply = await bus.request("cmd.risk.halt", COMMAND)
        assert isinstance(reply, CommandReply)
        assert reply.ok is False
        assert reply.correlation_id == "c-7"
        assert b"hunter2" not in encode(reply)
        assert type(error).__name__.encode() not in encode(reply)
    assert bus.counters()["responder_errors"] == 2
    assert stage.fatal == []


async def test_a_malformed_request_is_refused_and_dead_lettered(stage: Stage, bus: Bus) -> None:
    async def answer(delivery: Delivery) -> Message:
        raise AssertionError("a malformed request must not arrive")

    await bus.respond("cmd.x", answer)
    payload = await stage.ask_raw("cmd.x", b"\xc1junk")
    assert b"CommandReply" in payload
    assert bus.counters()["dead_lettered"] == 1


async def test_a_request_that_nobody_answers_fails(stage: Stage, bus: Bus) -> None:
    with pytest.raises(BusUnavailableError):
        await bus.request("cmd.nobody.there", COMMAND, timeout_s=0.5)


async def test_a_request_that_is_answered_too_late_fails(stage: Stage, bus: Bus) -> None:
    release = asyncio.Event()

    async def late(delivery: Delivery) -> Message:
        await release.wait()
        return CommandReply(ok=True, detail="", correlation_id="", result="{}")

    await bus.respond("cmd.late", late)
    with pytest.raises(BusUnavailableError):
        await bus.request("cmd.late", COMMAND, timeout_s=0.05)
    release.set()
