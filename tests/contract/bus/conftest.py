"""Run each contract test over the in-memory broker and over a real server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Protocol

import pytest
from nats.aio.client import Client

from shared.bus.memory import MemoryBroker, MemoryBus
from shared.bus.nats import NatsBus
from shared.bus.port import Bus, StreamSpec
from shared.messages import Progress
from shared.testing.nats import RealNats, nats_binary, nats_server, secured_nats_server

__all__ = ["nats_server", "secured_nats_server"]

STREAM = StreamSpec(name="ORDERS", subjects=("ord.>",), max_messages=10_000, duplicate_window_s=0.5)
SMALL = StreamSpec(name="SMALL", subjects=("small.>",), max_messages=5)
PER_SUBJECT = StreamSpec(name="LATEST", subjects=("latest.>",), max_messages=100, max_messages_per_subject=1)
DEAD = StreamSpec(name="DEAD", subjects=("dead.>",), max_messages=100)
SPECS = (STREAM, SMALL, PER_SUBJECT, DEAD)


def note(number: int) -> Progress:
    """Make a message that a test can tell from others."""
    return Progress(service="test", venue="sandbox", close_time_ns=number)


async def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Poll until the condition holds; fails the test when it does not in time."""

    async def check() -> bool:
        return condition()

    await until_true(check, timeout_s)


async def until_true(condition: Callable[[], Awaitable[bool]], timeout_s: float = 10.0) -> None:
    """Poll until the condition, which may ask the bus, holds."""
    try:
        async with asyncio.timeout(timeout_s):
            while not await condition():  # noqa: ASYNC110 - what is waited for happens in another program
                await asyncio.sleep(0.002)
    except TimeoutError:
        pytest.fail("the condition did not come true in time")


async def flush(client: Client) -> None:
    """Return when the server has taken what a raw client sent; its own flush can overtake its own buffer."""
    await until(lambda: client.pending_data_size == 0)
    await client.flush()


class Stage(Protocol):
    """Give tests buses, and break them."""

    fatal: list[BaseException]

    async def bus(self, service: str = "test") -> Bus: ...

    async def send_raw(self, subject: str, payload: bytes) -> None: ...

    async def ask_raw(self, subject: str, payload: bytes) -> bytes: ...

    async def kill(self, bus: Bus) -> None: ...

    async def cut(self) -> None: ...

    async def restore(self) -> None: ...

    async def end(self) -> None: ...


class MemoryStage:
    def __init__(self) -> None:
        self.fatal: list[BaseException] = []
        self._broker = MemoryBroker()
        self._buses: list[MemoryBus] = []

    async def bus(self, service: str = "test") -> Bus:
        bus = MemoryBus(self._broker, service=service, on_fatal=self.fatal.append)
        await bus.connect()
        self._buses.append(bus)
        return bus

    async def send_raw(self, subject: str, payload: bytes) -> None:
        self._broker.send(subject, payload)

    async def ask_raw(self, subject: str, payload: bytes) -> bytes:
        return await self._broker.ask(subject, payload)

    async def kill(self, bus: Bus) -> None:
        assert isinstance(bus, MemoryBus)
        bus.kill()

    async def cut(self) -> None:
        for bus in self._buses:
            bus.disconnect()

    async def restore(self) -> None:
        for bus in self._buses:
            bus.reconnect()

    async def end(self) -> None:
        for bus in self._buses:
            await bus.close()


class NatsStage:
    def __init__(self, server: RealNats) -> None:
        self.fatal: list[BaseException] = []
        self._server = server
        self._buses: list[NatsBus] = []

    async def bus(self, service: str = "test") -> Bus:
        bus = NatsBus(self._server.url, service=service, on_fatal=self.fatal.append)
        await bus.connect()
        self._buses.append(bus)
        return bus

    async def send_raw(self, subject: str, payload: bytes) -> None:
        client = Client()
        await client.connect(self._server.url)
        await client.publish(subject, payload)
        await flush(client)
        await client.close()

    async def ask_raw(self, subject: str, payload: bytes) -> bytes:
        client = Client()
        await client.connect(self._server.url)
        answer = await client.request(subject, payload, timeout=5)
        await client.close()
        return answer.data

    async def kill(self, bus: Bus) -> None:
        assert isinstance(bus, NatsBus)
        self._buses.remove(bus)
        await kill_client(bus)

    async def cut(self) -> None:
        await self._server.kill_while_running()
        await until(lambda: not any(bus.is_connected for bus in self._buses))

    async def restore(self) -> None:
        await self._server.start_while_running()
        await until(lambda: all(bus.is_connected for bus in self._buses))

    async def end(self) -> None:
        await asyncio.gather(*(bus.close() for bus in self._buses))


async def kill_client(bus: NatsBus) -> None:
    """End a client as kill -9 would: the socket closes, handlers stop where they are, nothing is acknowledged."""
    connection = bus._connection
    connection._closing = True
    client = connection._client
    assert client is not None
    for running in bus._running:
        if (task := getattr(running, "_supervisor", None)) is not None:
            task.cancel()
    if connection._watching is not None:
        connection._watching.cancel()
    await client.close()


@pytest.fixture(params=["memory", pytest.param("nats", marks=pytest.mark.nats)])
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    if request.param == "memory":
        stage: Stage = MemoryStage()
        await (await stage.bus("admin")).bootstrap(SPECS, ("state",))
        yield stage
        await stage.end()
        return
    binary = nats_binary()
    server = RealNats(tmp_path, binary)
    await server.start_while_running()
    stage = NatsStage(server)
    try:
        await (await stage.bus("admin")).bootstrap(SPECS, ("state",))
        yield stage
        await stage.end()
    finally:
        server.kill()


@pytest.fixture
async def bus(stage: Stage) -> Bus:
    """Connect one client."""
    return await stage.bus()
