"""How the stack's own venue does: the sandbox exchange is on no bus, so it is asked.

In: the address of its health page. Out: a heartbeat for each answer, as the other services send one by themselves.
Never: a heartbeat without an answer; a request at the trading port, where it would count as a client's.
"""

import asyncio
import contextlib
from collections.abc import Callable

import aiohttp
import msgspec

from shared.clock import NANOSECONDS_PER_SECOND, wall_ns
from shared.messages import Heartbeat

NAME = "sandbox_exchange"
TIMEOUT_S = 2.0


class _Answer(msgspec.Struct, frozen=True):
    ready: bool
    detail: str
    elapsed_s: float | None = None


class VenueWatch:
    """Ask a venue how it does, about once a second."""

    def __init__(self, url: str, *, interval_s: float = 1.0) -> None:
        self._url, self._interval_s = url, interval_s
        self._first_ns: int | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, tell: Callable[[Heartbeat], None]) -> None:
        """Ask from now on, and tell each answer."""
        self._task = asyncio.create_task(self._ask_forever(tell), name="venue")

    async def stop(self) -> None:
        """Ask no more. Raises what broke the watch, if anything did."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _ask_forever(self, tell: Callable[[Heartbeat], None]) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(TIMEOUT_S)) as session:
            while True:
                # A venue that does not answer turns silent on the page by itself.
                with contextlib.suppress(aiohttp.ClientError, TimeoutError, msgspec.MsgspecError):
                    async with session.get(self._url) as answer:
                        tell(self._heartbeat(msgspec.json.decode(await answer.read(), type=_Answer)))
                await asyncio.sleep(self._interval_s)

    def _heartbeat(self, answer: _Answer) -> Heartbeat:
        now_ns = wall_ns()
        if answer.elapsed_s is not None:
            self._first_ns = now_ns - round(answer.elapsed_s * NANOSECONDS_PER_SECOND)
        elif self._first_ns is None:
            self._first_ns = now_ns
        return Heartbeat(
            service=NAME,
            instance="0",
            build="",
            schema_hash="",
            pid=0,
            ready=answer.ready,
            detail=answer.detail,
            started_at_ns=self._first_ns,
            sent_at_ns=now_ns,
        )
