"""The venue's life as a process: start, tell where it is, run until a signal or an error, save, end.

In: a configuration, SIGTERM or SIGINT. Out: a venue, then a clean end. Never: a process that outlives its failure.
"""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable

from services.sandbox_exchange.app import RunningSandbox, start
from services.sandbox_exchange.config import SandboxConfig

FAILURE_CHECK_S = 0.2


class SandboxService:
    """Run one venue. `sandbox` is None before `start` and after `drain`."""

    def __init__(self, config: SandboxConfig) -> None:
        self._config = config
        self.sandbox: RunningSandbox | None = None

    async def start(self) -> None:
        """Start the venue and return when it answers. Raises ConfigError and InputError."""
        self.sandbox = await start(self._config)

    async def until_failed(self) -> None:
        """Wait for the error that breaks the venue, and raise it."""
        while True:
            await asyncio.sleep(FAILURE_CHECK_S)
            if self.sandbox is not None and self.sandbox.failure is not None:
                raise self.sandbox.failure

    async def drain(self) -> None:
        """Part with every client and save the state."""
        sandbox, self.sandbox = self.sandbox, None
        if sandbox is not None:
            await sandbox.close()


async def serve(
    config: SandboxConfig,
    on_started: Callable[[RunningSandbox], Awaitable[None]],
    until: Awaitable[object] | None = None,
) -> None:
    """Run a venue until SIGTERM, SIGINT or the end of `until`; then end it in good order.

    Raises ConfigError and InputError at the start, and whatever breaks the venue later.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    service = SandboxService(config)
    waits: list[asyncio.Future[object]] = [asyncio.ensure_future(stop.wait())]
    try:
        await service.start()
        assert service.sandbox is not None
        await on_started(service.sandbox)
        waits.append(asyncio.ensure_future(service.until_failed()))
        if until is not None:
            waits.append(asyncio.ensure_future(until))
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for one in done:
            one.result()
    finally:
        for one in waits:
            one.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*waits, return_exceptions=True)
        await service.drain()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
