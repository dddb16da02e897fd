"""What runs for a client of the in-memory broker: one task for each subscription, consumer or responder.

In: frames that the broker offers or keeps. Out: calls of handlers, one at a time in each subscription, and
acknowledgements. Never: a later message handled while an earlier one of the same consumer still waits.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine

from shared.bus.handling import Handling, Outcome, finish
from shared.bus.memory_broker import Durable, MemoryBroker, MemoryStream, StoredFrame
from shared.bus.port import Delivery, Handler, PendingAck, Responder
from shared.errors import BusUnavailableError
from shared.messages import AnyMessage, encode


class MemoryClient:
    """Hold what a client's subscriptions share: the broker, the connection and who is running."""

    def __init__(self, broker: MemoryBroker, handling: Handling) -> None:
        self.broker = broker
        self.handling = handling
        self.connected = asyncio.Event()
        self.closed = False
        self.running: list[Running] = []

    @property
    def is_connected(self) -> bool:
        """Tell whether frames pass."""
        return self.connected.is_set()

    async def reach(self, timeout_s: float = 5.0) -> None:
        """Wait for the connection; raises BusUnavailableError when it does not come in time."""
        if self.closed:
            raise BusUnavailableError("this client is closed")
        if self.connected.is_set():
            return
        try:
            async with asyncio.timeout(timeout_s):
                await self.connected.wait()
        except TimeoutError as error:
            raise BusUnavailableError(f"not connected within {timeout_s} s") from error


class Running(ABC):
    """Run one subscription in its own task."""

    def __init__(self, client: MemoryClient) -> None:
        self.wake = asyncio.Event()
        self.stopping = asyncio.Event()
        self.client = client
        self.handling = client.handling
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to run."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop; a message being handled is finished first."""
        self._detach()
        self.stopping.set()
        self.wake.set()
        if self._task is not None:
            await finish(self._task)

    def kill(self) -> None:
        """End at once."""
        self._detach()
        self.stopping.set()
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while not self.stopping.is_set():
            self.wake.clear()
            step = self._next() if self.client.is_connected else None
            if step is None:
                await self.wake.wait()
            else:
                await step
                # A handler that never waits must not keep the other clients of this loop from running.
                await asyncio.sleep(0)

    @abstractmethod
    def _next(self) -> Coroutine[None, None, None] | None: ...

    def _detach(self) -> None:
        if self in self.client.running:
            self.client.running.remove(self)


class Lossy(Running):
    """Hand over frames as they pass; beyond `pending_max` waiting, the newest is dropped and counted."""

    def __init__(self, client: MemoryClient, pattern: str, handler: Handler, pending_max: int) -> None:
        super().__init__(client)
        self.pattern = pattern
        self._handler = handler
        self._pending_max = pending_max
        self._pending: deque[tuple[str, bytes]] = deque()
        client.broker.inlets.append(self)

    def offer(self, subject: str, payload: bytes) -> None:
        """Take one frame."""
        if not self.client.is_connected:
            return
        if len(self._pending) >= self._pending_max:
            self.handling.counters.dropped_slow += 1
            return
        self._pending.append((subject, payload))
        self.wake.set()

    def _next(self) -> Coroutine[None, None, None] | None:
        if not self._pending:
            return None
        subject, payload = self._pending.popleft()
        return self.handling.deliver_lossy(self._handler, subject, payload)

    def _detach(self) -> None:
        super()._detach()
        if self in self.client.broker.inlets:
            self.client.broker.inlets.remove(self)


class Responding(Running):
    """Answer requests, one at a time."""

    def __init__(self, client: MemoryClient, pattern: str, responder: Responder) -> None:
        super().__init__(client)
        self.pattern = pattern
        self._responder = responder
        self._asked: deque[tuple[str, bytes, asyncio.Future[bytes]]] = deque()
        client.broker.responders.append(self)

    def ask(self, subject: str, payload: bytes) -> "asyncio.Future[bytes]":
        """Take one request."""
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._asked.append((subject, payload, future))
        self.wake.set()
        return future

    def _next(self) -> Coroutine[None, None, None] | None:
        return self._answer(*self._asked.popleft()) if self._asked else None

    async def _answer(self, subject: str, payload: bytes, future: "asyncio.Future[bytes]") -> None:
        answer = encode(await self.handling.answer(self._responder, subject, payload))
        if not future.done():
            future.set_result(answer)

    def _detach(self) -> None:
        super()._detach()
        if self in self.client.broker.responders:
            self.client.broker.responders.remove(self)


class DurableRunning(Running):
    """Read a durable consumer, from what nobody acknowledged on."""

    def __init__(self, client: MemoryClient, stream: MemoryStream, durable: Durable) -> None:
        super().__init__(client)
        self.stream = stream
        self.durable = durable
        self._attachment = durable.attach()
        stream.wakers.add(self.wake)

    @property
    def _owns(self) -> bool:
        return self._attachment == self.durable.attachment

    def _next(self) -> Coroutine[None, None, None] | None:
        if not self._owns or not self._has_room():
            return None
        found = self.durable.next(self.stream)
        if found is None:
            return None
        frame, times = found
        if times > 1:
            self.handling.counters.redelivered += 1
        message = self.handling.decode(frame.subject, frame.payload)
        if message is None:
            return self._skip(frame.sequence)
        return self._hand_over(delivery_of(frame, message, times), frame.payload)

    def _has_room(self) -> bool:
        return True

    async def _skip(self, sequence: int) -> None:
        self.ack(sequence)

    @abstractmethod
    async def _hand_over(self, delivery: Delivery, payload: bytes) -> None: ...

    def ack(self, sequence: int) -> None:
        """Acknowledge one delivery."""
        self.durable.ack(sequence)
        self.wake.set()

    def _detach(self) -> None:
        super()._detach()
        self.stream.wakers.discard(self.wake)


class Sequential(DurableRunning):
    """Handle one message at a time and acknowledge it."""

    def __init__(
        self, client: MemoryClient, stream: MemoryStream, durable: Durable, handler: Handler, max_deliver: int
    ) -> None:
        super().__init__(client, stream, durable)
        self._handler = handler
        self._max_deliver = max_deliver

    async def _hand_over(self, delivery: Delivery, payload: bytes) -> None:
        outcome = await self.handling.deliver(
            self._handler, delivery, payload, max_deliver=self._max_deliver, stopping=self.stopping
        )
        if outcome is Outcome.DONE:
            self.ack(delivery.stream_sequence)
        else:
            self.stopping.set()


class Manual(DurableRunning):
    """Hand over messages that the handler acknowledges later."""

    def __init__(
        self,
        client: MemoryClient,
        stream: MemoryStream,
        durable: Durable,
        handler: Callable[[PendingAck], Awaitable[None]],
        pending_max: int,
    ) -> None:
        super().__init__(client, stream, durable)
        self._handler = handler
        self._pending_max = pending_max

    def _has_room(self) -> bool:
        return self.durable.unacknowledged < self._pending_max

    async def _hand_over(self, delivery: Delivery, payload: bytes) -> None:
        async def hand(current: Delivery) -> None:
            await self._handler(MemoryPendingAck(self, current))

        outcome = await self.handling.deliver(hand, delivery, payload, max_deliver=-1, stopping=self.stopping)
        if outcome is not Outcome.DONE:
            self.stopping.set()


class MemoryPendingAck:
    """Acknowledge one durable delivery of the in-memory bus."""

    def __init__(self, consumer: Manual, delivery: Delivery) -> None:
        self._consumer = consumer
        self._delivery = delivery

    @property
    def delivery(self) -> Delivery:
        """Return what was delivered."""
        return self._delivery

    async def ack(self) -> None:
        """Confirm that the message is handled; a client that is gone confirms nothing."""
        if self._consumer.client.is_connected:
            self._consumer.ack(self._delivery.stream_sequence)


def delivery_of(frame: StoredFrame, message: AnyMessage, times: int = 0) -> Delivery:
    """Return a stored frame as a delivery; `times` is 0 when it was looked up."""
    return Delivery(subject=frame.subject, message=message, stream_sequence=frame.sequence, delivered=times)
