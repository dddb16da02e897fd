"""A real server with the stack's users, streams made, and a recorder process."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from shared.bus.nats import NatsBus
from shared.bus.streams import BUCKETS, STREAMS
from shared.testing.nats import RealNats, secured_nats_server
from shared.testing.recorder import RecorderProcess

__all__ = ["secured_nats_server"]


class Stack:
    """Hand out buses of the stack's users."""

    def __init__(self, server: RealNats) -> None:
        self._server = server
        self._buses: list[NatsBus] = []
        self.fatal: list[BaseException] = []

    async def bus(self, user: str) -> NatsBus:
        bus = NatsBus(self._server.url, service=user, nkey_file=self._server.seed(user), on_fatal=self.fatal.append)
        await bus.connect()
        self._buses.append(bus)
        return bus

    async def end(self) -> None:
        for bus in self._buses:
            await bus.close()
        assert self.fatal == []


@pytest.fixture
async def stack(secured_nats_server: RealNats) -> AsyncIterator[Stack]:
    stack = Stack(secured_nats_server)
    admin = await stack.bus("admin")
    await admin.bootstrap(STREAMS, BUCKETS)
    yield stack
    await stack.end()


@pytest.fixture
def recorder(secured_nats_server: RealNats, tmp_path: Path) -> Iterator[RecorderProcess]:
    process = RecorderProcess(secured_nats_server, tmp_path / "state", flush_interval_s=0.5)
    yield process
    process.kill()
