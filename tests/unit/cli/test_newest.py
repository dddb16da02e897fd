"""The newest orders and decisions of a long stream, without reading all of it."""

from collections.abc import AsyncIterator

import msgspec
import pytest

from services.cli.commands import account as account_command
from services.cli.commands import journal as journal_command
from services.cli.commands.account import newest_orders
from services.cli.commands.journal import newest_entries
from shared.bus.memory import MemoryBroker, MemoryBus
from shared.bus.streams import BUCKETS, STREAMS
from shared.messages import OrderState
from tests.unit.cli.test_summary import account, decision, event, refusal


class CountingBus(MemoryBus):
    """Count what is read."""

    read = 0

    async def history(self, stream, subject, *, start_sequence=1, limit=1_000):
        found = await super().history(stream, subject, start_sequence=start_sequence, limit=limit)
        self.read += len(found)
        return found


@pytest.fixture
async def bus() -> AsyncIterator[CountingBus]:
    made = CountingBus(MemoryBroker(), service="cli")
    await made.connect()
    await made.bootstrap(STREAMS, BUCKETS)
    yield made
    await made.close()


@pytest.fixture(autouse=True)
def short_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account_command, "REACH_MIN", 10)
    monkeypatch.setattr(account_command, "MESSAGES_AN_ORDER", 1)
    monkeypatch.setattr(journal_command, "REACH_MIN", 10)


async def publish_orders(bus: CountingBus, count: int, *, open_number: int = 0) -> None:
    for number in range(count):
        state = OrderState.ACCEPTED if number == open_number else OrderState.FILLED
        await bus.publish(
            "ord.event.s.v.H-USDT", msgspec.structs.replace(event(number), state=state), message_id=f"{number}"
        )


async def test_the_newest_orders_come_from_the_end_of_the_stream(bus: CountingBus) -> None:
    await publish_orders(bus, 300)
    found = await newest_orders(bus, "v", 3)
    assert [order.client_order_id for order in found] == ["c297", "c298", "c299"]
    assert bus.read == 10


async def test_an_open_order_is_found_however_old_it_is(bus: CountingBus) -> None:
    await publish_orders(bus, 300, open_number=2)
    snapshot = msgspec.structs.replace(account("1"), open_orders=1)
    await bus.publish("acct.v", snapshot, message_id="a")
    assert [order.client_order_id for order in await newest_orders(bus, "v", 20, open_only=True)] == ["c2"]


async def test_nothing_is_searched_for_when_no_order_is_open(bus: CountingBus) -> None:
    await publish_orders(bus, 300, open_number=-1)
    await bus.publish("acct.v", account("1"), message_id="a")
    assert await newest_orders(bus, "v", 5, open_only=True) == []
    assert bus.read == 10


async def test_the_newest_decisions_are_found_behind_quiet_looks(bus: CountingBus) -> None:
    await bus.publish("decision.rebalancer.s", decision(1, "upside", "p"), message_id="first")
    for number in range(2, 100):
        await bus.publish("decision.rebalancer.s", decision(number), message_id=f"{number}")
    await bus.publish("ord.refused.s", refusal(), message_id="refused")
    found = await newest_entries(bus, 2, everything=False)
    assert [entry.action for entry in found] == ["upside", "refused: balance"]
    bus.read = 0
    assert len(await newest_entries(bus, 5, everything=True)) == 5
    assert bus.read == 11
