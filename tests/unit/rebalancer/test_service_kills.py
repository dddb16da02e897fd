"""A kill at any write of the service changes neither orders nor journal."""

from functools import partial

import pytest

from shared.bus.memory import MemoryBroker, MemoryBus
from tests.unit.rebalancer.test_service import FLAT, PUMP, Stack, stack, until


class DyingBus(MemoryBus):
    """Kill the process at its n-th write: before it, or after it took effect."""

    def __init__(self, broker: MemoryBroker, at: int, *, after: bool) -> None:
        super().__init__(broker, service="rebalancer", on_fatal=lambda _: None)
        self.writes, self.at, self.after, self.is_dead = 0, at, after, False

    async def write(self, work: object) -> object:
        self.writes += 1
        if self.writes == self.at and not self.after:
            self.die(work)
        answer = await work
        if self.writes == self.at and self.after:
            self.die(None)
        return answer

    def die(self, work: object) -> None:
        if work is not None:
            work.close()
        self.is_dead = True
        self.kill()
        raise ConnectionAbortedError("killed")

    async def publish_all(self, items: list, *, timeout_s: float = 5.0) -> list:
        acks = []
        for item in items:
            acks += await self.write(super().publish_all([item], timeout_s=timeout_s))
        return acks

    async def key_value(self, bucket: str) -> object:
        return DyingKeyValue(await super().key_value(bucket), self)


class DyingKeyValue:
    def __init__(self, inner: object, bus: DyingBus) -> None:
        self.inner, self.bus = inner, bus

    async def get(self, key: str) -> object:
        return await self.inner.get(key)

    async def create(self, key: str, value: bytes) -> object:
        return await self.bus.write(self.inner.create(key, value))

    async def update(self, key: str, value: bytes, *, revision: int) -> object:
        return await self.bus.write(self.inner.update(key, value, revision=revision))


SCRIPT = (FLAT, PUMP, FLAT | {"B-USDT": "0.3"}, FLAT)


def is_over(made: Stack, bus: DyingBus | None, at_ns: int) -> bool:
    return (bus is not None and bus.is_dead) or (bool(made.progress) and made.progress[-1] >= at_ns)


async def run_script(at: int | None, *, after: bool) -> tuple[list, list, dict, bool]:
    async with stack() as made:
        bus = None if at is None else DyingBus(made.broker, at, after=after)
        await made.launch(bus=bus)
        for prices in SCRIPT:
            at_ns = await made.market(prices)
            await until(partial(is_over, made, bus, at_ns))
            if bus is not None and bus.is_dead and made.services[0][1] is bus:
                made.services.clear()
                await made.launch()
            await made.reached(at_ns)
        intents = {intent.intent_id: intent for intent in made.venue.intents.values()}
        records = [(record.decision_id, record.action, record.notes) for record in await made.records()]
        return (
            list(intents.values()),
            sorted(set(records)),
            dict(made.venue.quantities),
            bus is not None and bus.is_dead,
        )


@pytest.mark.parametrize("after", [False, True])
async def test_kill_at_any_write_changes_neither_orders_nor_journal(after: bool) -> None:
    intents, records, quantities, _ = await run_script(None, after=False)
    assert len(intents) > 8
    died = 0
    for at in range(1, 200):
        again = await run_script(at, after=after)
        if not again[3]:
            break
        died += 1
        assert again[0] == intents, f"killed at write {at}"
        assert again[1] == records, f"killed at write {at}"
        assert again[2] == quantities, f"killed at write {at}"
    assert died > 20
