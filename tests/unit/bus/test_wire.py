"""The pure parts of the adapters."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.bus import nats_api as api
from shared.bus.handling import BACKOFF_FIRST_S, BACKOFF_MAX_S, backoff_s
from shared.bus.memory import MemoryBroker, MemoryBus
from shared.bus.port import Delivery, PendingAck, StreamSpec
from shared.errors import BusUnavailableError
from shared.messages import Progress

NUMBERS = st.integers(min_value=0, max_value=2**63)


@given(sequence=NUMBERS, consumer=NUMBERS, delivered=NUMBERS)
def test_both_forms_of_acknowledgement_subjects_tell_the_place(sequence: int, consumer: int, delivered: int) -> None:
    expected = api.Place(stream_sequence=sequence, consumer_sequence=consumer, delivered=delivered)
    tail = f"ORDERS.risk.{delivered}.{sequence}.{consumer}.1700000000000000000.5"
    assert api.place_of(f"$JS.ACK.{tail}") == expected
    assert api.place_of(f"$JS.ACK._.AB12.{tail}.token") == expected
    assert api.place_of(f"$JS.ACK.hub.AB12.{tail}.token") == expected


@pytest.mark.parametrize(
    "reply",
    ["", "_INBOX.a.b", "$JS.ACK.a.b", "$JS.FC.a.b.c.d.e.f.g", "$JS.ACK.s.c.x.y.z.1.2", "$JS.ACK.a.b.c.d.e.f.g.h"],
)
def test_another_subject_is_no_acknowledgement(reply: str) -> None:
    assert api.place_of(reply) is None


@given(payload=st.binary(max_size=60))
def test_an_unreadable_answer_is_an_unavailable_bus(payload: bytes) -> None:
    try:
        api.parse(api.StoredAnswer, payload)
    except BusUnavailableError:
        return


@given(attempt=st.integers(min_value=1, max_value=10_000))
def test_backoff_grows_and_stays_bounded(attempt: int) -> None:
    assert BACKOFF_FIRST_S / 2 <= backoff_s(attempt) <= BACKOFF_MAX_S


async def test_the_memory_bus_raises_programmer_errors_that_nobody_was_told_of() -> None:
    broker = MemoryBroker()
    bus = MemoryBus(broker)
    await bus.connect()
    await bus.bootstrap((StreamSpec(name="S", subjects=("s.>",), max_messages=10),), ())

    reached = asyncio.Event()

    async def broken(delivery: Delivery) -> None:
        reached.set()
        raise ZeroDivisionError("bug")

    await bus.consume("S", "d", broken)
    await bus.publish("s.a", Progress("a", "b", 1), message_id="1")
    await asyncio.wait_for(reached.wait(), 5)
    with pytest.raises(ZeroDivisionError):
        await bus.close()


async def test_a_disconnected_memory_client_acknowledges_nothing() -> None:
    broker = MemoryBroker()
    first, second = MemoryBus(broker), MemoryBus(broker)
    await first.connect()
    await second.connect()
    await first.bootstrap((StreamSpec(name="S", subjects=("s.>",), max_messages=10),), ())
    seen: asyncio.Queue[PendingAck] = asyncio.Queue()
    await first.consume_manually("S", "d", seen.put)
    await second.publish("s.a", Progress("a", "b", 1), message_id="1")
    pending = await asyncio.wait_for(seen.get(), 5)
    first.disconnect()
    await pending.ack()
    first.kill()
    await second.consume_manually("S", "d", seen.put)
    again = await asyncio.wait_for(seen.get(), 5)
    assert (again.delivery.stream_sequence, again.delivery.delivered) == (1, 2)
    await second.close()
