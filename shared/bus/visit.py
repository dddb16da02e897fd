"""A short connection to a running stack, for a program that asks and goes.

In: where the bus is, whose key. Out: a connected bus. Never: a wait without end, a failure behind the caller's back.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from shared.bus.nats import NatsBus
from shared.bus.port import Bus
from shared.bus.server import seed_file
from shared.errors import BusUnavailableError

CONNECT_TIMEOUT_S = 5.0


@asynccontextmanager
async def connected(url: str, user: str, keys_dir: Path) -> AsyncIterator[Bus]:
    """Connect as `user`; raises BusUnavailableError when the server does not answer in time."""
    failed: list[BaseException] = []
    bus = NatsBus(url, service=user, nkey_file=seed_file(keys_dir, user), on_fatal=failed.append)
    try:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await bus.connect()
        except TimeoutError as error:
            raise BusUnavailableError(f"the message bus at {url} does not answer: see `cascade status`") from error
        yield bus
    finally:
        await bus.close()
    if failed:
        raise failed[0]
