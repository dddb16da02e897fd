"""A sandbox venue in the test's own event loop: what `shared.testing.sandbox` gives, without a process to wait for."""

import contextlib
from collections.abc import AsyncIterator

import aiohttp
import msgspec

from services.sandbox_exchange.app import start
from services.sandbox_exchange.config import SandboxConfig, Source
from shared.testing.sandbox import AdminClient, Sandbox


@contextlib.asynccontextmanager
async def sandbox_in_process(venue: str, *, still: bool = False, **settings: object) -> AsyncIterator[Sandbox]:
    """Run a venue; `settings` are those of SandboxConfig. It must be the same loop that asks it."""
    source = {"source": Source.STILL} if still else {}
    config = msgspec.convert({"venue": venue, **source, **settings}, SandboxConfig, strict=False)
    running = await start(config)
    try:
        async with aiohttp.ClientSession() as session:
            told = msgspec.to_builtins(running.announcement)
            yield Sandbox(told, AdminClient(running.admin_url, session))
    finally:
        await running.close()
