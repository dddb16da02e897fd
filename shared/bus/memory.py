"""The bus within one process: the port's semantics without a server, for tests, simulations and backtests.

In and out: as `port.py` says; frames are encoded and decoded as on a real bus. Several clients share a
`MemoryBroker`, which outlives them. Tests may `disconnect`, `reconnect` and `kill` a client.
Never: a message object handed from one service to another, which a wire would have copied.
"""

import asyncio
from collections.abc import Awaitable, Callable

from shared.bus import subjects
from shared.bus.handling import Fatal, Handling
from shared.bus.memory_broker import MemoryBroker
from shared.bus.memory_kv import MemoryKeyValue
from shared.bus.memory_running import Lossy, Manual, MemoryClient, Responding, Running, Sequential, delivery_of
from shared.bus.port import (
    Delivery,
    Handler,
    KeyValue,
    PendingAck,
    PublishAck,
    Responder,
    StreamSpec,
    Subscription,
)
from shared.errors import BusUnavailableError
from shared.messages import AnyMessage, Message, decode, encode

__all__ = ["MemoryBroker", "MemoryBus"]

RETRY_DELAY_MAX_S = 0.002


class MemoryBus:
    """Be one client of a `MemoryBroker`.

    `on_fatal` gets programmer errors of handlers; without it they are kept in `fatal_errors` and `close` raises them.
    `retry_delay_max_s` shortens the delays between deliveries of one message, since nothing has to recover here.
    """

    def __init__(
        self,
        broker: MemoryBroker,
        *,
        service: str = "memory",
        on_fatal: Fatal | None = None,
        retry_delay_max_s: float = RETRY_DELAY_MAX_S,
    ) -> None:
        self.fatal_errors: list[BaseException] = []
        self._keeps_errors = on_fatal is None
        self._handling = Handling(
            service, on_fatal or self.fatal_errors.append, self.publish_lossy, retry_delay_max_s=retry_delay_max_s
        )
        self._client = MemoryClient(broker, self._handling)

    @property
    def is_connected(self) -> bool:
        """Tell whether the client is connected."""
        return self._client.is_connected

    def counters(self) -> dict[str, int]:
        """Return what was published, dropped, delivered again and dead-lettered."""
        return self._handling.counters.as_dict()

    async def connect(self) -> None:
        """Connect to the broker, which is always there."""
        self._client.closed = False
        self._client.connected.set()

    async def close(self) -> None:
        """Stop all subscriptions and disconnect; raises the first programmer error that nobody was told of."""
        for running in list(self._client.running):
            await running.stop()
        self._client.connected.clear()
        self._client.closed = True
        if self._keeps_errors and self.fatal_errors:
            raise self.fatal_errors[0]

    def disconnect(self) -> None:
        """Lose the connection, as a broken network would."""
        self._client.connected.clear()

    def reconnect(self) -> None:
        """Find the connection again; durable consumers go on, with what was not acknowledged first."""
        if self._client.connected.is_set() or self._client.closed:
            return
        self._handling.counters.reconnects += 1
        self._client.connected.set()
        for running in self._client.running:
            running.wake.set()

    def kill(self) -> None:
        """End the client at once, as kill -9 would: nothing is finished, nothing acknowledged."""
        self._client.connected.clear()
        self._client.closed = True
        for running in list(self._client.running):
            running.kill()

    async def bootstrap(self, streams: tuple[StreamSpec, ...], buckets: tuple[str, ...]) -> None:
        """Create or update streams and buckets."""
        await self._client.reach()
        self._client.broker.bootstrap(streams, buckets)

    def publish_lossy(self, subject: str, message: Message) -> bool:
        """Send to the subscribers of now; False, and counted, while disconnected."""
        if not self.is_connected:
            self._handling.counters.dropped_disconnected += 1
            return False
        self._client.broker.send(subjects.concrete(subject), encode(message))
        self._handling.counters.published += 1
        return True

    async def publish(self, subject: str, message: Message, *, message_id: str, timeout_s: float = 5.0) -> PublishAck:
        """Store one message; waits for a connection up to `timeout_s`."""
        payload = encode(message)
        await self._client.reach(timeout_s)
        ack = self._client.broker.send(subjects.concrete(subject), payload, message_id)
        if ack is None:
            raise BusUnavailableError(f"no stream keeps {subject}: the bootstrap step creates it")
        self._handling.counters.published += 1
        await asyncio.sleep(0)
        return ack

    async def publish_all(self, items: list[tuple[str, Message, str]], *, timeout_s: float = 5.0) -> list[PublishAck]:
        """Store the items in order."""
        return [
            await self.publish(subject, message, message_id=message_id, timeout_s=timeout_s)
            for subject, message, message_id in items
        ]

    async def subscribe(self, subject: str, handler: Handler, *, pending_max: int = 10_000) -> Subscription:
        """Call `handler` for each message from now on; beyond `pending_max` waiting, the newest is dropped."""
        return self._start(Lossy(self._client, subject, handler, pending_max))

    async def consume(
        self,
        stream: str,
        durable: str,
        handler: Handler,
        *,
        filters: tuple[str, ...] = (),
        deliver_new: bool = False,
        ack_wait_s: float = 30.0,  # noqa: ARG002 - part of the port; here a delivery waits until its client ends
        max_deliver: int = -1,
    ) -> Subscription:
        """Handle a stream's messages one at a time, in order, each at least once."""
        await self._client.reach()
        kept = self._client.broker.stream(stream)
        state = kept.durable(durable, filters, deliver_new=deliver_new)
        return self._start(Sequential(self._client, kept, state, handler, max_deliver))

    async def consume_manually(
        self,
        stream: str,
        durable: str,
        handler: Callable[[PendingAck], Awaitable[None]],
        *,
        filters: tuple[str, ...] = (),
        ack_wait_s: float = 60.0,  # noqa: ARG002 - as above
        pending_max: int = 10_000,
    ) -> Subscription:
        """Deliver up to `pending_max` unacknowledged messages in order."""
        await self._client.reach()
        kept = self._client.broker.stream(stream)
        state = kept.durable(durable, filters, deliver_new=False)
        return self._start(Manual(self._client, kept, state, handler, pending_max))

    async def last(self, stream: str, subject: str) -> Delivery | None:
        """Return the newest stored message on one subject, or None."""
        await self._client.reach()
        frame = self._client.broker.stream(stream).newest(subjects.concrete(subject))
        return None if frame is None else delivery_of(frame, decode(frame.payload))

    async def history(
        self, stream: str, subject: str, *, start_sequence: int = 1, limit: int = 1_000
    ) -> list[Delivery]:
        """Return up to `limit` stored messages, oldest first; frames of another schema are dead-lettered."""
        await self._client.reach()
        found: list[Delivery] = []
        for frame in self._client.broker.stream(stream).matching(subject, start_sequence):
            if len(found) >= limit:
                break
            message = self._handling.decode(frame.subject, frame.payload)
            if message is not None:
                found.append(delivery_of(frame, message))
        return found

    async def last_sequence(self, stream: str) -> int:
        """Return the sequence of the newest message ever stored, 0 when there was none."""
        await self._client.reach()
        return self._client.broker.stream(stream).next_sequence - 1

    async def request(self, subject: str, message: Message, *, timeout_s: float = 2.0) -> AnyMessage:
        """Ask and await the answer."""
        await self._client.reach(timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                return decode(await self._client.broker.ask(subjects.concrete(subject), encode(message)))
        except TimeoutError as error:
            raise BusUnavailableError(f"no answer on {subject} within {timeout_s} s") from error

    async def respond(self, subject: str, responder: Responder) -> Subscription:
        """Answer requests; an error becomes a refusal without details."""
        return self._start(Responding(self._client, subject, responder))

    async def key_value(self, bucket: str) -> KeyValue:
        """Return a bucket."""
        await self._client.reach()
        if bucket not in self._client.broker.buckets:
            raise BusUnavailableError(f"bucket {bucket} does not exist: the bootstrap step creates it")
        return MemoryKeyValue(self._client, self._client.broker.buckets[bucket])

    def _start(self, running: Running) -> Subscription:
        self._client.running.append(running)
        running.start()
        return running
