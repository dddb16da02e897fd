"""Messages that must not be lost: storage, duplicates, resumption, order, acknowledgement, dead letters."""

import asyncio

import pytest

from shared.bus.port import Bus, Delivery, PendingAck
from shared.errors import BusUnavailableError, DeferError, UnavailableError
from shared.messages import DeadLetter, Progress
from tests.contract.bus.conftest import Stage, note, until, until_true


class Worker:
    """Record what was handled, and fail when told to."""

    def __init__(self) -> None:
        self.handled: list[int] = []
        self.tries: list[tuple[int, int]] = []
        self.failures: dict[int, list[Exception]] = {}

    async def __call__(self, delivery: Delivery) -> None:
        assert isinstance(delivery.message, Progress)
        number = delivery.message.close_time_ns
        self.tries.append((number, delivery.delivered))
        if self.failures.get(number):
            raise self.failures[number].pop(0)
        self.handled.append(number)


async def fill(bus: Bus, first: int, last: int, subject: str = "ord.intent.s") -> None:
    await bus.publish_all(
        [(subject, note(number), f"id-{number}") for number in range(first, last + 1)], timeout_s=25.0
    )


async def test_a_stored_message_is_confirmed_with_its_sequence(stage: Stage, bus: Bus) -> None:
    first = await bus.publish("ord.a", note(1), message_id="one")
    second = await bus.publish("ord.b", note(2), message_id="two")
    assert (first.stream, first.sequence, first.duplicate) == ("ORDERS", 1, False)
    assert (second.sequence, second.duplicate) == (2, False)
    assert bus.counters()["published"] == 2


async def test_a_repeated_id_is_stored_once_within_the_window_and_again_after_it(stage: Stage, bus: Bus) -> None:
    first = await bus.publish("ord.a", note(1), message_id="same")
    again = await bus.publish("ord.a", note(1), message_id="same")
    assert (again.sequence, again.duplicate) == (first.sequence, True)
    assert len(await bus.history("ORDERS", "ord.>")) == 1

    async def is_forgotten() -> bool:
        return not (await bus.publish("ord.a", note(1), message_id="same")).duplicate

    await until_true(is_forgotten)
    assert len(await bus.history("ORDERS", "ord.>")) == 2


async def test_the_duplicate_window_belongs_to_one_stream(stage: Stage, bus: Bus) -> None:
    assert not (await bus.publish("ord.a", note(1), message_id="same")).duplicate
    assert not (await bus.publish("small.a", note(1), message_id="same")).duplicate


async def test_a_pipelined_batch_is_stored_in_order(stage: Stage, bus: Bus) -> None:
    acks = await bus.publish_all([(f"ord.{n % 3}", note(n), f"id-{n}") for n in range(400)], timeout_s=25.0)
    assert [ack.sequence for ack in acks] == list(range(1, 401))
    assert [d.message.close_time_ns for d in await bus.history("ORDERS", "ord.>")] == list(range(400))  # type: ignore[union-attr]


async def test_a_message_that_no_stream_keeps_is_refused_loudly(stage: Stage, bus: Bus) -> None:
    with pytest.raises(BusUnavailableError):
        await bus.publish("nowhere.x", note(1), message_id="x", timeout_s=0.3)
    with pytest.raises(BusUnavailableError):
        await bus.publish_all([("nowhere.x", note(1), "x")], timeout_s=0.3)


async def test_a_durable_message_also_reaches_plain_subscribers(stage: Stage, bus: Bus) -> None:
    worker = Worker()
    await bus.subscribe("ord.>", worker)
    await bus.publish("ord.a", note(1), message_id="x")
    await until(lambda: worker.handled == [1])


async def test_a_durable_consumer_handles_everything_in_order_once(stage: Stage) -> None:
    publisher, consumer = await stage.bus("publisher"), await stage.bus("consumer")
    await fill(publisher, 1, 150)
    worker = Worker()
    await consumer.consume("ORDERS", "consumer", worker)
    await fill(publisher, 151, 300)
    await until(lambda: len(worker.handled) >= 300)
    assert worker.handled == list(range(1, 301))
    assert consumer.counters()["redelivered"] == 0


@pytest.mark.parametrize("filters", [("ord.intent.>",), ("ord.intent.a", "ord.intent.b")])
async def test_a_filtered_consumer_gets_only_its_subjects(stage: Stage, bus: Bus, filters: tuple[str, ...]) -> None:
    worker = Worker()
    await bus.consume("ORDERS", "filtered", worker, filters=filters)
    subjects = ("ord.intent.a", "ord.event.a", "ord.intent.b", "ord.refused.a")
    for number, subject in enumerate(subjects * 3):
        await bus.publish(subject, note(number), message_id=str(number))
    await until(lambda: len(worker.handled) >= 6)
    assert worker.handled == [0, 2, 4, 6, 8, 10]


async def test_a_consumers_filters_can_change_between_runs(stage: Stage, bus: Bus) -> None:
    first = Worker()
    running = await bus.consume("ORDERS", "changing", first, filters=("ord.a",))
    await bus.publish("ord.a", note(1), message_id="1")
    await until(lambda: first.handled == [1])
    await running.stop()
    second = Worker()
    await bus.consume("ORDERS", "changing", second, filters=("ord.a", "ord.b"))
    await bus.publish("ord.b", note(2), message_id="2")
    await until(lambda: second.handled == [2])


async def test_deliver_new_skips_what_is_stored_only_for_a_new_consumer(stage: Stage, bus: Bus) -> None:
    await fill(bus, 1, 5)
    worker = Worker()
    running = await bus.consume("ORDERS", "late", worker, deliver_new=True)
    await fill(bus, 6, 7)
    await until(lambda: worker.handled == [6, 7])
    await running.stop()
    await fill(bus, 8, 9)
    await bus.consume("ORDERS", "late", worker, deliver_new=True)
    await until(lambda: len(worker.handled) >= 4)
    assert worker.handled == [6, 7, 8, 9]


async def test_consumers_of_one_stream_do_not_share_positions(stage: Stage, bus: Bus) -> None:
    await fill(bus, 1, 3)
    one, two = Worker(), Worker()
    await bus.consume("ORDERS", "one", one)
    await bus.consume("ORDERS", "two", two)
    await until(lambda: one.handled == two.handled == [1, 2, 3])


async def test_a_consumer_of_a_missing_stream_fails_loudly(stage: Stage, bus: Bus) -> None:
    with pytest.raises(BusUnavailableError):
        await bus.consume("NOSUCH", "x", Worker())


@pytest.mark.parametrize("error", [DeferError("later", delay_s=0.01), UnavailableError("away")])
async def test_a_deferred_message_is_tried_again_before_any_later_one(stage: Stage, bus: Bus, error: Exception) -> None:
    worker = Worker()
    worker.failures = {2: [error] * 3, 4: [error]}
    await bus.consume("ORDERS", "deferring", worker)
    await fill(bus, 1, 5)
    await until(lambda: len(worker.handled) >= 5)
    assert worker.handled == [1, 2, 3, 4, 5]
    assert worker.tries == [(1, 1), (2, 1), (2, 2), (2, 3), (2, 4), (3, 1), (4, 1), (4, 2), (5, 1)]
    assert bus.counters()["redelivered"] == 4
    assert stage.fatal == []


async def test_a_message_that_never_succeeds_is_buried_after_max_deliver(stage: Stage, bus: Bus) -> None:
    worker = Worker()
    worker.failures = {1: [DeferError("never", delay_s=0.001)] * 100}
    await bus.consume("ORDERS", "burying", worker, max_deliver=3)
    await fill(bus, 1, 2)
    await until(lambda: worker.handled == [2])
    assert [number for number, _ in worker.tries] == [1, 1, 1, 2]
    assert bus.counters()["dead_lettered"] == 1


async def test_stopping_does_not_wait_for_a_deferred_message(stage: Stage, bus: Bus) -> None:
    tried = asyncio.Event()

    async def never(delivery: Delivery) -> None:
        tried.set()
        raise DeferError("never", delay_s=60.0)

    running = await bus.consume("ORDERS", "stopping", never)
    await fill(bus, 1, 1)
    await asyncio.wait_for(tried.wait(), 5)
    await asyncio.wait_for(running.stop(), 5)
    worker = Worker()
    await bus.consume("ORDERS", "stopping", worker)
    await until(lambda: worker.handled == [1])


async def test_a_programmer_error_is_fatal_and_the_message_is_not_acknowledged(stage: Stage) -> None:
    broken, publisher = await stage.bus("worker"), await stage.bus("publisher")
    worker = Worker()
    worker.failures = {2: [ZeroDivisionError("bug")]}
    await broken.consume("ORDERS", "worker", worker)
    await fill(publisher, 1, 3)
    await until(lambda: bool(stage.fatal))
    assert isinstance(stage.fatal[0], ZeroDivisionError)
    await broken.close()
    assert worker.handled == [1], "nothing may be handled after the error"
    restarted = await stage.bus("worker")
    await restarted.consume("ORDERS", "worker", worker)
    await until(lambda: len(worker.handled) >= 3)
    assert worker.handled == [1, 2, 3]


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xc1", b"not msgpack", b"\x93\xa7Unknown\x01\x02", b"\x92\xa8Progress\xa1x", b"\xff" * 2_000],
    ids=["empty", "reserved", "text", "unknown-tag", "truncated", "long"],
)
async def test_a_frame_that_is_no_message_is_dead_lettered_and_passed_over(
    stage: Stage, bus: Bus, payload: bytes
) -> None:
    worker = Worker()
    await bus.consume("ORDERS", "careful", worker)
    await fill(bus, 1, 1)
    await stage.send_raw("ord.a", payload)
    await fill(bus, 2, 2)
    await until(lambda: len(worker.handled) >= 2)
    assert worker.handled == [1, 2]
    assert bus.counters()["dead_lettered"] == 1

    async def is_kept() -> bool:
        return bool(await bus.history("DEAD", "dead.>"))

    await until_true(is_kept)
    kept = await bus.history("DEAD", "dead.>")
    letter = kept[0].message
    assert isinstance(letter, DeadLetter)
    assert (kept[0].subject, letter.service, letter.subject, letter.payload) == (
        "dead.test",
        "test",
        "ord.a",
        payload,
    )
    assert stage.fatal == []


async def test_a_bad_frame_in_the_dead_letters_does_not_breed_more(stage: Stage, bus: Bus) -> None:
    worker = Worker()
    await bus.consume("DEAD", "undertaker", worker)
    await stage.send_raw("dead.test", b"\xc1")
    await bus.publish("dead.test", note(1), message_id="x")
    await until(lambda: worker.handled == [1])
    assert bus.counters()["dead_lettered"] == 1
    assert [d.stream_sequence for d in await bus.history("DEAD", "dead.>")] == [2]


async def test_manual_deliveries_come_in_order_and_stop_at_the_limit(stage: Stage, bus: Bus) -> None:
    held: list[PendingAck] = []

    async def hold(pending: PendingAck) -> None:
        held.append(pending)

    await fill(bus, 1, 10)
    running = await bus.consume_manually("ORDERS", "recorder", hold, pending_max=4)
    await until(lambda: len(held) == 4)
    assert [p.delivery.stream_sequence for p in held] == [1, 2, 3, 4]
    for pending in held[:4]:
        await pending.ack()
    await until(lambda: len(held) == 8)
    assert [p.delivery.stream_sequence for p in held] == list(range(1, 9))
    await running.stop()


async def test_publishing_while_disconnected_waits_until_it_works(stage: Stage, bus: Bus) -> None:
    await stage.cut()
    waiting = asyncio.create_task(bus.publish("ord.a", note(1), message_id="one", timeout_s=20.0))
    batch = asyncio.create_task(bus.publish_all([("ord.b", note(n), f"id-{n}") for n in range(2, 5)], timeout_s=20.0))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    assert not batch.done()
    await stage.restore()
    assert not (await waiting).duplicate
    assert len(await batch) == 3
    stored = await bus.history("ORDERS", "ord.b")
    assert [d.message.close_time_ns for d in stored] == [2, 3, 4]  # type: ignore[union-attr]


async def test_publishing_while_disconnected_raises_when_it_takes_too_long(stage: Stage, bus: Bus) -> None:
    await stage.cut()
    with pytest.raises(BusUnavailableError):
        await bus.publish("ord.a", note(1), message_id="one", timeout_s=0.1)
    with pytest.raises(BusUnavailableError):
        await bus.publish_all([("ord.a", note(1), "two")], timeout_s=0.1)
    await stage.restore()
    assert await bus.history("ORDERS", "ord.>") == [], "what was reported as failed must not arrive later"


async def test_a_consumer_goes_on_after_a_disconnection(stage: Stage, bus: Bus) -> None:
    worker = Worker()
    await bus.consume("ORDERS", "steady", worker)
    await fill(bus, 1, 20)
    await until(lambda: len(worker.handled) == 20)
    await stage.cut()
    await stage.restore()
    await fill(bus, 21, 40)
    await until(lambda: len(worker.handled) >= 40)
    assert worker.handled == list(range(1, 41))
