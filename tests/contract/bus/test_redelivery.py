"""What the next client of a durable consumer gets, whatever became of the one before: all of it, in order."""

import asyncio
import json
from random import Random

import pytest
from nats.aio.client import Client

from shared.bus.nats import NatsBus
from shared.bus.port import Bus, Delivery, PendingAck
from shared.messages import Progress
from shared.testing.nats import RealNats
from tests.contract.bus.conftest import SPECS, Stage, flush, note, until
from tests.contract.bus.test_durable import Worker, fill


async def test_a_stopped_consumer_resumes_where_it_was(stage: Stage, bus: Bus) -> None:
    worker = Worker()
    running = await bus.consume("ORDERS", "resuming", worker)
    await fill(bus, 1, 5)
    await until(lambda: len(worker.handled) == 5)
    await running.stop()
    await fill(bus, 6, 9)
    await bus.consume("ORDERS", "resuming", worker)
    await until(lambda: len(worker.handled) >= 9)
    assert worker.handled == list(range(1, 10))


async def test_what_a_killed_client_was_handling_comes_first_to_the_next_one(stage: Stage) -> None:
    publisher, victim = await stage.bus("publisher"), await stage.bus("worker")
    await fill(publisher, 1, 50)
    handled: list[int] = []
    stuck = asyncio.Event()

    async def hang_at_seven(delivery: Delivery) -> None:
        assert isinstance(delivery.message, Progress)
        if delivery.message.close_time_ns == 7:
            stuck.set()
            await asyncio.Event().wait()
        handled.append(delivery.message.close_time_ns)

    await victim.consume("ORDERS", "worker", hang_at_seven, ack_wait_s=30.0)
    await asyncio.wait_for(stuck.wait(), 10)
    await stage.kill(victim)
    assert handled == [1, 2, 3, 4, 5, 6]
    successor, worker = await stage.bus("worker"), Worker()
    await successor.consume("ORDERS", "worker", worker, ack_wait_s=30.0)
    await fill(publisher, 51, 60)
    await until(lambda: len(worker.handled) >= 54)
    assert worker.handled == list(range(7, 61)), "in order, without waiting for the acknowledgement to time out"
    assert worker.tries[0] == (7, 2)


async def test_manual_deliveries_come_again_from_the_first_unacknowledged_one(stage: Stage) -> None:
    publisher, victim = await stage.bus("publisher"), await stage.bus("recorder")
    held: list[PendingAck] = []

    async def hold(pending: PendingAck) -> None:
        held.append(pending)

    await victim.consume_manually("ORDERS", "recorder", hold, ack_wait_s=60.0)
    await fill(publisher, 1, 6)
    await until(lambda: len(held) == 6)
    for index in (0, 1, 3):
        await held[index].ack()
    if not hasattr(victim, "kill"):
        # An acknowledgement is sent without waiting; a round trip proves that the server has taken it.
        await victim.last("ORDERS", "ord.none")
    await stage.kill(victim)
    held.clear()
    successor = await stage.bus("recorder")
    await successor.consume_manually("ORDERS", "recorder", hold, ack_wait_s=60.0)
    await fill(publisher, 7, 8)
    await until(lambda: len(held) >= 6)
    assert [p.delivery.stream_sequence for p in held] == [3, 4, 5, 6, 7, 8], "in order; the store knows 4 already"
    assert [p.delivery.delivered for p in held] == [2, 2, 2, 2, 1, 1]


async def test_acknowledging_after_stop_still_counts(stage: Stage, bus: Bus) -> None:
    held: list[PendingAck] = []

    async def hold(pending: PendingAck) -> None:
        held.append(pending)

    await fill(bus, 1, 3)
    running = await bus.consume_manually("ORDERS", "recorder", hold)
    await until(lambda: len(held) == 3)
    await running.stop()
    for pending in held:
        await pending.ack()
    held.clear()
    await bus.consume_manually("ORDERS", "recorder", hold)
    await fill(bus, 4, 4)
    await until(lambda: bool(held))
    assert [p.delivery.stream_sequence for p in held] == [4]


async def test_what_was_handed_back_keeps_its_order_when_the_next_client_dies_too(stage: Stage) -> None:
    publisher, total = await stage.bus("publisher"), 600
    await fill(publisher, 1, total)
    for lives_until in (400, 100):
        victim, held = await stage.bus("recorder"), list[int]()

        async def hold(pending: PendingAck, held: list[int] = held, lives_until: int = lives_until) -> None:
            held.append(pending.delivery.stream_sequence)
            if len(held) == lives_until:
                await asyncio.Event().wait()

        await victim.consume_manually("ORDERS", "recorder", hold, ack_wait_s=60.0)
        await until(lambda held=held, lives_until=lives_until: len(held) == lives_until)  # type: ignore[misc]
        await stage.kill(victim)
        assert held == list(range(1, lives_until + 1))
    successor, seen = await stage.bus("recorder"), list[int]()

    async def keep(pending: PendingAck) -> None:
        seen.append(pending.delivery.stream_sequence)
        await pending.ack()

    await successor.consume_manually("ORDERS", "recorder", keep, ack_wait_s=60.0)
    await until(lambda: seen[-1:] == [total])
    assert seen == list(range(1, total + 1))


async def test_what_a_killed_client_was_handling_for_long_still_comes_first(stage: Stage) -> None:
    publisher, victim, total = await stage.bus("publisher"), await stage.bus("worker"), 600
    await fill(publisher, 1, total)
    stuck = asyncio.Event()

    async def hang(delivery: Delivery) -> None:
        stuck.set()
        await asyncio.Event().wait()

    await victim.consume("ORDERS", "worker", hang, ack_wait_s=0.5)
    await asyncio.wait_for(stuck.wait(), 10)
    # What was fetched behind it is overdue now, itself it is not: its client says that it works on it.
    await asyncio.sleep(1.5)
    await stage.kill(victim)
    successor, worker = await stage.bus("worker"), Worker()
    await successor.consume("ORDERS", "worker", worker, ack_wait_s=30.0)
    await until(lambda: worker.handled[-1:] == [total])
    assert worker.handled == list(range(1, total + 1))


async def test_a_new_consumer_that_was_killed_over_its_first_message_does_not_begin_at_the_streams_start(
    stage: Stage,
) -> None:
    publisher, victim = await stage.bus("publisher"), await stage.bus("worker")
    await fill(publisher, 1, 50)
    stuck = asyncio.Event()

    async def hang(delivery: Delivery) -> None:
        stuck.set()
        await asyncio.Event().wait()

    await victim.consume("ORDERS", "worker", hang, deliver_new=True)
    await fill(publisher, 51, 55)
    await asyncio.wait_for(stuck.wait(), 10)
    await stage.kill(victim)
    successor, worker = await stage.bus("worker"), Worker()
    await successor.consume("ORDERS", "worker", worker, deliver_new=True)
    await until(lambda: worker.handled[-1:] == [55])
    assert worker.handled == [51, 52, 53, 54, 55]


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_lives_and_deaths_a_consumer_has_everything_is_handled_and_in_order(
    stage: Stage, seed: int
) -> None:
    random, total = Random(seed), 1_500
    await fill(await stage.bus("publisher"), 1, total)
    handled: list[int] = []
    for _ in range(8):
        client, stuck, lives_until = await stage.bus("worker"), asyncio.Event(), len(handled) + random.randint(0, 180)

        async def work(delivery: Delivery, stuck: asyncio.Event = stuck, lives_until: int = lives_until) -> None:
            assert isinstance(delivery.message, Progress)
            if len(handled) >= lives_until:
                stuck.set()
                await asyncio.Event().wait()
            handled.append(delivery.message.close_time_ns)

        await client.consume("ORDERS", "worker", work, ack_wait_s=0.3)
        await asyncio.wait_for(stuck.wait(), 10)
        # Sometimes long enough for what was fetched to become overdue, and to be fetched again.
        await asyncio.sleep(random.choice((0.0, 0.0, 0.5)))
        await stage.kill(client)
    last, worker = await stage.bus("worker"), Worker()
    await last.consume("ORDERS", "worker", worker)
    await until(lambda: worker.handled[-1:] == [total])
    assert list(dict.fromkeys([*handled, *worker.handled])) == list(range(1, total + 1))


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_is_acknowledged_in_whatever_order_nothing_else_is_lost(stage: Stage, seed: int) -> None:
    random, total = Random(seed), 1_500
    await fill(await stage.bus("publisher"), 1, total)
    acknowledged: set[int] = set()
    for _ in range(8):
        client, held = await stage.bus("recorder"), list[PendingAck]()
        most = random.randint(1, 400)

        async def hold(pending: PendingAck, held: list[PendingAck] = held, most: int = most) -> None:
            held.append(pending)
            if len(held) == most:
                await asyncio.Event().wait()

        await client.consume_manually("ORDERS", "recorder", hold, ack_wait_s=0.3)
        await until(lambda held=held, most=most: len(held) == most)  # type: ignore[misc]
        sequences = [one.delivery.stream_sequence for one in held]
        assert sequences == list(range(sequences[0], sequences[0] + most))
        assert not set(range(1, sequences[0])) - acknowledged, "passed over before it was acknowledged"
        await asyncio.sleep(random.choice((0.0, 0.0, 0.5)))
        for one in random.sample(held, random.randint(0, most)):
            await one.ack()
            acknowledged.add(one.delivery.stream_sequence)
        await stage.kill(client)
    last, seen = await stage.bus("recorder"), list[int]()

    async def keep(pending: PendingAck) -> None:
        seen.append(pending.delivery.stream_sequence)
        await pending.ack()

    await last.consume_manually("ORDERS", "recorder", keep)
    await until(lambda: seen[-1:] == [total])
    assert not set(range(1, total + 1)) - acknowledged - set(seen)
    assert seen == sorted(set(seen))


async def connected(server: RealNats, service: str) -> NatsBus:
    bus = NatsBus(server.url, service=service, on_fatal=print)
    await bus.connect()
    return bus


@pytest.mark.nats
async def test_what_went_to_a_predecessor_that_only_seems_to_live_is_not_passed_over(nats_server: RealNats) -> None:
    publisher, first = await connected(nats_server, "publisher"), await connected(nats_server, "worker")
    await publisher.bootstrap(SPECS, ())
    await (await first.consume("ORDERS", "worker", Worker())).stop()
    # The server knows of a request for five messages, of a client that will never read them.
    dead = Client()
    await dead.connect(nats_server.url)
    await dead.subscribe("_INBOX.dead")
    request = json.dumps({"batch": 5, "expires": 60_000_000_000}).encode()
    await dead.publish("$JS.API.CONSUMER.MSG.NEXT.ORDERS.worker", request, reply="_INBOX.dead")
    await flush(dead)
    successor, worker = await connected(nats_server, "worker"), Worker()
    await successor.consume("ORDERS", "worker", worker, ack_wait_s=1.0)
    await fill(publisher, 1, 20)
    await until(lambda: worker.handled[-1:] == [20])
    assert worker.handled == list(range(1, 21))
    await dead.close()
    await asyncio.gather(publisher.close(), first.close(), successor.close())


@pytest.mark.nats
async def test_an_acknowledgement_of_a_stream_that_is_gone_settles_nothing_of_the_next(nats_server: RealNats) -> None:
    publisher, recorder = await connected(nats_server, "publisher"), await connected(nats_server, "recorder")
    await publisher.bootstrap(SPECS, ())
    held: list[PendingAck] = []

    async def hold(pending: PendingAck) -> None:
        held.append(pending)

    await recorder.consume_manually("ORDERS", "recorder", hold)
    await fill(publisher, 1, 3)
    await until(lambda: len(held) == 3)
    admin = Client()
    await admin.connect(nats_server.url)
    await admin.request("$JS.API.STREAM.DELETE.ORDERS", b"", timeout=5)
    await publisher.bootstrap(SPECS, ())
    await publisher.publish_all([("ord.intent.s", note(number), f"new-{number}") for number in range(1, 4)])
    await until(lambda: len(held) == 6)
    for pending in held[:3]:
        await pending.ack()
    await recorder.last("ORDERS", "ord.none")
    info = json.loads((await admin.request("$JS.API.CONSUMER.INFO.ORDERS.recorder", b"", timeout=5)).data)
    assert info["num_ack_pending"] == 3, "nobody has acknowledged these"
    for pending in held[3:]:
        await pending.ack()
    await recorder.last("ORDERS", "ord.none")
    info = json.loads((await admin.request("$JS.API.CONSUMER.INFO.ORDERS.recorder", b"", timeout=5)).data)
    assert info["num_ack_pending"] == 0
    await admin.close()
    await asyncio.gather(publisher.close(), recorder.close())
