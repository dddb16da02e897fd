"""The state of the in-memory broker: streams, durable positions, key-value buckets.

In: frames from clients. Out: stored frames in order, each to its durables until acknowledged. It outlives its
clients, as a server does, so a test can kill a client and start another. Never: a task or a sleep of its own.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Protocol

import msgspec

from shared import clock
from shared.bus import subjects
from shared.bus.port import KeyValueEntry, PublishAck, StreamSpec
from shared.clock import NANOSECONDS_PER_SECOND
from shared.errors import BusUnavailableError


class StoredFrame(msgspec.Struct, frozen=True):
    """Hold one stored message as bytes, as a server would."""

    sequence: int
    subject: str
    payload: bytes
    stored_ns: int


class Durable:
    """Remember how far a durable consumer is, and which deliveries nobody has acknowledged."""

    def __init__(self, cursor: int, filters: tuple[str, ...]) -> None:
        self.cursor = cursor
        self.filters = filters
        self.attachment = 0
        self._outstanding: set[int] = set()
        self._sent_before = cursor

    def attach(self) -> int:
        """Take the consumer over: it goes on with the first delivery that was not acknowledged."""
        self.attachment += 1
        self._sent_before = max(self.cursor, self._sent_before)
        if self._outstanding:
            self.cursor = min(self._outstanding)
            self._outstanding.clear()
        return self.attachment

    @property
    def unacknowledged(self) -> int:
        """Return how many deliveries are out."""
        return len(self._outstanding)

    def next(self, stream: "MemoryStream") -> tuple[StoredFrame, int] | None:
        """Return the next frame and how often it has been delivered, this time included; 2 stands for more."""
        while self.cursor < stream.next_sequence:
            frame = stream.frames.get(self.cursor)
            self.cursor += 1
            if frame is not None and self._wants(frame.subject):
                self._outstanding.add(frame.sequence)
                return frame, 2 if frame.sequence < self._sent_before else 1
        return None

    def ack(self, sequence: int) -> None:
        """Forget a delivery for good."""
        self._outstanding.discard(sequence)

    def _wants(self, subject: str) -> bool:
        return not self.filters or any(subjects.matches(pattern, subject) for pattern in self.filters)


class MemoryStream:
    """Keep a stream's frames within its limits, oldest out first."""

    def __init__(self, spec: StreamSpec) -> None:
        self.spec = spec
        self.frames: dict[int, StoredFrame] = {}
        self.next_sequence = 1
        self.durables: dict[str, Durable] = {}
        self.wakers: set[asyncio.Event] = set()
        self._ids: dict[str, tuple[int, int]] = {}

    def append(self, subject: str, payload: bytes, message_id: str | None, now_ns: int) -> PublishAck:
        """Store a frame, unless its id was stored within the duplicate window."""
        self._forget_ids(now_ns)
        if message_id is not None and message_id in self._ids:
            return PublishAck(stream=self.spec.name, sequence=self._ids[message_id][0], duplicate=True)
        sequence = self.next_sequence
        self.next_sequence += 1
        self.frames[sequence] = StoredFrame(sequence, subject, payload, now_ns)
        if message_id is not None:
            self._ids[message_id] = (sequence, now_ns)
        self._evict(subject, now_ns)
        for waker in self.wakers:
            waker.set()
        return PublishAck(stream=self.spec.name, sequence=sequence, duplicate=False)

    def durable(self, name: str, filters: tuple[str, ...], *, deliver_new: bool) -> Durable:
        """Return the durable consumer, created at the stream's start or end when it is new."""
        durable = self.durables.get(name)
        if durable is None:
            start = self.next_sequence if deliver_new else 1
            durable = self.durables[name] = Durable(start, filters)
        durable.filters = filters
        return durable

    def matching(self, pattern: str, start_sequence: int) -> Iterator[StoredFrame]:
        """Yield the stored frames on `pattern`, oldest first."""
        for sequence, frame in self.frames.items():
            if sequence >= start_sequence and subjects.matches(pattern, frame.subject):
                yield frame

    def newest(self, subject: str) -> StoredFrame | None:
        """Return the newest frame on one subject."""
        return next((frame for frame in reversed(self.frames.values()) if frame.subject == subject), None)

    def _forget_ids(self, now_ns: int) -> None:
        oldest_ns = now_ns - int(self.spec.duplicate_window_s * NANOSECONDS_PER_SECOND)
        while self._ids:
            message_id = next(iter(self._ids))
            if self._ids[message_id][1] >= oldest_ns:
                return
            del self._ids[message_id]

    def _evict(self, subject: str, now_ns: int) -> None:
        if self.spec.max_messages_per_subject > 0:
            same = [frame.sequence for frame in self.frames.values() if frame.subject == subject]
            for sequence in same[: -self.spec.max_messages_per_subject]:
                del self.frames[sequence]
        if self.spec.max_messages > 0 and len(self.frames) > self.spec.max_messages:
            del self.frames[next(iter(self.frames))]
        if self.spec.max_age_s > 0:
            oldest_ns = now_ns - int(self.spec.max_age_s * NANOSECONDS_PER_SECOND)
            while self.frames and (first := next(iter(self.frames.values()))).stored_ns < oldest_ns:
                del self.frames[first.sequence]


class Bucket:
    """Keep the values of one key-value bucket."""

    def __init__(self) -> None:
        self._entries: dict[str, KeyValueEntry] = {}
        self._revision = 0

    def get(self, key: str) -> KeyValueEntry | None:
        """Return the entry, or None."""
        return self._entries.get(key)

    def store(self, key: str, value: bytes) -> int:
        """Store the value under the bucket's next revision."""
        self._revision += 1
        self._entries[key] = KeyValueEntry(value=bytes(value), revision=self._revision)
        return self._revision

    def delete(self, key: str) -> None:
        """Remove the key; its revision is used up."""
        self._revision += 1
        self._entries.pop(key, None)


class Inlet(Protocol):
    """Take frames for a lossy subscription."""

    pattern: str

    def offer(self, subject: str, payload: bytes) -> None:
        """Take one frame, or drop and count it."""
        ...


class RequestInlet(Protocol):
    """Take requests."""

    pattern: str

    def ask(self, subject: str, payload: bytes) -> "asyncio.Future[bytes]":
        """Take one request; the future is its answer."""
        ...


class MemoryBroker:
    """Be the server that several `MemoryBus` clients connect to."""

    def __init__(self, monotonic_ns: Callable[[], int] = clock.monotonic_ns) -> None:
        self.streams: dict[str, MemoryStream] = {}
        self.buckets: dict[str, Bucket] = {}
        self.inlets: list[Inlet] = []
        self.responders: list[RequestInlet] = []
        self._monotonic_ns = monotonic_ns

    def bootstrap(self, specs: tuple[StreamSpec, ...], buckets: tuple[str, ...]) -> None:
        """Create or update streams and buckets; what is stored stays."""
        for spec in specs:
            if spec.name in self.streams:
                self.streams[spec.name].spec = spec
            else:
                self.streams[spec.name] = MemoryStream(spec)
        for name in buckets:
            self.buckets.setdefault(name, Bucket())

    def stream(self, name: str) -> MemoryStream:
        """Return a stream; raises BusUnavailableError when bootstrap has not created it."""
        if name not in self.streams:
            raise BusUnavailableError(f"stream {name} does not exist: the bootstrap step creates it")
        return self.streams[name]

    def send(self, subject: str, payload: bytes, message_id: str | None = None) -> PublishAck | None:
        """Give a frame to subscribers and to the stream that keeps its subject; None when no stream does.

        Tests use this to put bytes on the bus that are no message.
        """
        for inlet in list(self.inlets):
            if subjects.matches(inlet.pattern, subject):
                inlet.offer(subject, payload)
        for stream in self.streams.values():
            if any(subjects.matches(pattern, subject) for pattern in stream.spec.subjects):
                return stream.append(subject, payload, message_id, self._monotonic_ns())
        return None

    def ask(self, subject: str, payload: bytes) -> "asyncio.Future[bytes]":
        """Give a request to its responder; raises BusUnavailableError when there is none."""
        for responder in self.responders:
            if subjects.matches(responder.pattern, subject):
                return responder.ask(subject, payload)
        raise BusUnavailableError(f"nobody answers on {subject}")
