"""A short connection to a running stack.

In: what run.json says. Out: a connected bus with the rights of the operator's command. Never: a wait without end.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from services.cli.runfile import USER, RunFile
from shared.bus.port import Bus, Delivery
from shared.bus.visit import connected

PAGE = 1_000


def ask[T](run: RunFile, question: Callable[[Bus], Awaitable[T]]) -> T:
    """Connect to the stack, ask, and return the answer."""

    async def main() -> T:
        async with connected(run.nats_url, USER, Path(run.keys_dir)) as bus:
            return await question(bus)

    return asyncio.run(main())


async def whole_history(bus: Bus, stream: str, subject: str) -> AsyncIterator[Delivery]:
    """Yield every stored message on `subject`, oldest first."""
    start = 1
    while True:
        page = await bus.history(stream, subject, start_sequence=start, limit=PAGE)
        for delivery in page:
            yield delivery
        if len(page) < PAGE:
            return
        start = page[-1].stream_sequence + 1


async def newest_history(bus: Bus, stream: str, subject: str, *, reach: int) -> tuple[list[Delivery], bool]:
    """Return what lies on `subject` among the stream's newest `reach` messages, oldest first, and whether that is all.

    A stream of months is long, and who asks for the newest twenty does not want to wait for all of it.
    """
    start = max(1, await bus.last_sequence(stream) - reach + 1)
    found = await bus.history(stream, subject, start_sequence=start, limit=reach)
    return found, start == 1
