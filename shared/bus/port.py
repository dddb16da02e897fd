"""The message bus as services see it.

In: messages to send, handlers for messages to come. Out: deliveries, acknowledgements, last values, key-value entries.
Lossy messages (market data) are dropped and counted while disconnected. Durable ones (orders, accounts, decisions)
are stored before `publish` returns, or it raises: never silence. Adapters: `nats.py`, `memory.py`; one contract suite.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from shared.messages import AnyMessage, Message


class Delivery(msgspec.Struct, frozen=True):
    """Carry one received message. `stream_sequence` and `delivered` (1 = first time) are 0 for lossy messages."""

    subject: str
    message: AnyMessage
    stream_sequence: int = 0
    delivered: int = 0


class PublishAck(msgspec.Struct, frozen=True):
    """Confirm that a message is stored; `duplicate` when its id was seen within the window."""

    stream: str
    sequence: int
    duplicate: bool


class StreamSpec(msgspec.Struct, frozen=True):
    """Describe a durable stream; limits bound it, the oldest messages go first."""

    name: str
    subjects: tuple[str, ...]
    max_messages: int
    max_messages_per_subject: int = -1
    max_age_s: float = 0.0
    duplicate_window_s: float = 120.0
    in_memory: bool = False


class KeyValueEntry(msgspec.Struct, frozen=True):
    """Hold a stored value and the revision that a compare-and-set update must name."""

    value: bytes
    revision: int


Handler = Callable[[Delivery], Awaitable[None]]
Responder = Callable[[Delivery], Awaitable[Message]]


class Subscription(Protocol):
    """Stand for a running subscription or consumer."""

    async def stop(self) -> None:
        """Stop deliveries; a message being handled is finished first."""
        ...


class PendingAck(Protocol):
    """Stand for a durable delivery whose handler acknowledges by itself."""

    @property
    def delivery(self) -> Delivery:
        """Return what was delivered."""
        ...

    async def ack(self) -> None:
        """Confirm that the message is handled; it is not delivered again."""
        ...


class KeyValue(Protocol):
    """Keep small state durably, with compare-and-set."""

    async def get(self, key: str) -> KeyValueEntry | None:
        """Return the entry, or None when the key was never put or was deleted."""
        ...

    async def put(self, key: str, value: bytes) -> int:
        """Store the value and return its revision."""
        ...

    async def create(self, key: str, value: bytes) -> int | None:
        """Store the value if the key is absent and return its revision; None when somebody else holds it."""
        ...

    async def update(self, key: str, value: bytes, *, revision: int) -> int | None:
        """Store the value if the key is still at `revision`; None when it is not."""
        ...

    async def delete(self, key: str) -> None:
        """Remove the key."""
        ...


class Bus(Protocol):
    """Send and receive messages. All methods raise BusUnavailableError when the broker does not answer in time."""

    @property
    def is_connected(self) -> bool:
        """Tell whether the broker is connected now."""
        ...

    async def connect(self) -> None:
        """Connect, retrying with backoff until it works or the caller cancels."""
        ...

    async def close(self) -> None:
        """Stop all subscriptions, flush and disconnect."""
        ...

    async def bootstrap(self, streams: tuple[StreamSpec, ...], buckets: tuple[str, ...]) -> None:
        """Create or update streams and key-value buckets. Called by the bootstrap step alone, never by services."""
        ...

    def publish_lossy(self, subject: str, message: Message) -> bool:
        """Send without storage or waiting. Return False, and count it, when the message was dropped."""
        ...

    async def publish(self, subject: str, message: Message, *, message_id: str, timeout_s: float = 5.0) -> PublishAck:
        """Store one message durably. `message_id` makes a repetition within the stream's window harmless."""
        ...

    async def publish_all(self, items: list[tuple[str, Message, str]], *, timeout_s: float = 5.0) -> list[PublishAck]:
        """Store `(subject, message, message_id)` items in this order, pipelined; returns when all are stored."""
        ...

    async def subscribe(self, subject: str, handler: Handler, *, pending_max: int = 10_000) -> Subscription:
        """Call `handler` for each message on `subject` (wildcards allowed) from now on; overflow drops and counts."""
        ...

    async def consume(
        self,
        stream: str,
        durable: str,
        handler: Handler,
        *,
        filters: tuple[str, ...] = (),
        deliver_new: bool = False,
        ack_wait_s: float = 30.0,
        max_deliver: int = -1,
    ) -> Subscription:
        """Handle a stream's messages one at a time, in order, each at least once, across restarts.

        The message is acknowledged when `handler` returns. DeferError and UnavailableError deliver it again, after a
        delay and before any later message. A frame that cannot be decoded is dead-lettered and acknowledged.
        Any other exception ends the process (see lifecycle). `deliver_new` starts a *new* durable at the stream's end.
        """
        ...

    async def consume_manually(
        self,
        stream: str,
        durable: str,
        handler: Callable[[PendingAck], Awaitable[None]],
        *,
        filters: tuple[str, ...] = (),
        ack_wait_s: float = 60.0,
        pending_max: int = 10_000,
    ) -> Subscription:
        """Deliver up to `pending_max` unacknowledged messages in order; the handler acknowledges later.

        To the next client (after a stop, a crash) it delivers from the first one on that was not acknowledged, those
        after it that were acknowledged included.
        """
        ...

    async def last(self, stream: str, subject: str) -> Delivery | None:
        """Return the newest stored message on `subject` (one exact subject), or None."""
        ...

    async def history(
        self, stream: str, subject: str, *, start_sequence: int = 1, limit: int = 1_000
    ) -> list[Delivery]:
        """Return up to `limit` stored messages on `subject` (wildcards allowed), oldest first."""
        ...

    async def last_sequence(self, stream: str) -> int:
        """Return the sequence of the newest message that the stream ever stored, 0 when it never stored one."""
        ...

    async def request(self, subject: str, message: Message, *, timeout_s: float = 2.0) -> AnyMessage:
        """Ask and await the answer; raises BusUnavailableError when nobody answers in time."""
        ...

    async def respond(self, subject: str, responder: Responder) -> Subscription:
        """Answer requests on `subject`; an error becomes a CommandReply with `ok` False, no details."""
        ...

    async def key_value(self, bucket: str) -> KeyValue:
        """Return the bucket, which bootstrap has created."""
        ...
