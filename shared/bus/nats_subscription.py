"""A core subscription whose callback is never cancelled half way."""

import asyncio
from collections.abc import Awaitable, Callable

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NatsSubscription

from shared.bus.handling import STOP_TIMEOUT_S
from shared.bus.nats_connection import NatsConnection


class NatsCallback:
    """Call `receive` for each frame, one at a time, until stopped."""

    def __init__(self, connection: NatsConnection, receive: Callable[[Msg], Awaitable[None]]) -> None:
        self._connection = connection
        self._receive = receive
        self._subscription: NatsSubscription | None = None
        self._is_stopping = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None

    async def start(self, subject: str, pending_max: int) -> None:
        """Subscribe; raises BusUnavailableError."""
        self._subscription = await self._connection.subscribe(subject, self._on_frame, pending_max=pending_max)

    async def stop(self) -> None:
        """Stop; a frame being handled is finished first, unless its handler is the caller."""
        self._is_stopping = True
        if self._subscription is None or self._task is asyncio.current_task():
            return
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._idle.wait()
        except TimeoutError:
            pass
        subscription, self._subscription = self._subscription, None
        await self._connection.unsubscribe(subscription)

    async def _on_frame(self, message: Msg) -> None:
        if self._is_stopping:
            return
        self._idle.clear()
        self._task = asyncio.current_task()
        try:
            await self._receive(message)
        finally:
            self._task = None
            self._idle.set()
