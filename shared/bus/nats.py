"""The bus over a real nats-server: core NATS for what may be lost, JetStream for what may not.

In and out: as `port.py` says. Durable messages are stored and synced before `publish` returns, or it raises; while
disconnected it waits and sends the same id again. Lossy ones are dropped and counted while disconnected.
The parts: `nats_connection` (one guarded connection), `nats_consumer` (durables), `nats_kv`, `nats_bootstrap`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
from nats.aio.msg import Msg

from shared.bus import nats_api as api
from shared.bus import subjects
from shared.bus.handling import Fatal, Handling
from shared.bus.nats_bootstrap import bucket_config, ensure_stream, stream_config
from shared.bus.nats_connection import ConnectionLostError, NatsConnection, PermissionDeniedError
from shared.bus.nats_consumer import BATCH, ConsumerSettings, NatsConsumer, SequentialConsumer
from shared.bus.nats_kv import NatsKeyValue
from shared.bus.nats_manual import ManualConsumer
from shared.bus.nats_requests import ask_until, store
from shared.bus.nats_subscription import NatsCallback
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

PIPELINE = 256
LOOKUP_TIMEOUT_S = 5.0
HISTORY_PAGE = 500


class NatsBus:
    """Be one service's client of nats-server at `url`.

    `service` names its inboxes and dead letters, `nkey_file` holds its seed. `on_fatal` gets programmer errors of
    handlers and a connection that went deaf or closed for good: it must end the process.
    """

    def __init__(self, url: str, *, service: str, on_fatal: Fatal, nkey_file: Path | None = None) -> None:
        self._handling = Handling(service, on_fatal, self.publish_lossy)
        self._connection = NatsConnection(
            url, service=service, nkey_file=nkey_file, counters=self._handling.counters, fail=self._handling.fail
        )
        self._running: list[NatsConsumer | NatsCallback] = []

    @property
    def is_connected(self) -> bool:
        """Tell whether the server is connected now."""
        return self._connection.is_connected

    def counters(self) -> dict[str, int]:
        """Return what was published, dropped, delivered again, dead-lettered, reconnected."""
        return self._handling.counters.as_dict()

    async def connect(self) -> None:
        """Connect, trying for ever; raises ConfigError when the server refuses the credentials."""
        await self._connection.connect()

    async def close(self) -> None:
        """Stop all subscriptions, flush and disconnect."""
        await asyncio.gather(*(running.stop() for running in self._running))
        self._running.clear()
        await self._connection.close()

    async def bootstrap(self, streams: tuple[StreamSpec, ...], buckets: tuple[str, ...]) -> None:
        """Create or update streams and key-value buckets; raises ConfigError when the server refuses one."""
        for spec in streams:
            await ensure_stream(self._connection, stream_config(spec))
        for name in buckets:
            await ensure_stream(self._connection, bucket_config(name))

    def publish_lossy(self, subject: str, message: Message) -> bool:
        """Send without storage or waiting; False, and counted, when the connection cannot take it."""
        sent = self._connection.send(subjects.concrete(subject), encode(message))
        self._handling.counters.published += sent
        return sent

    async def publish(self, subject: str, message: Message, *, message_id: str, timeout_s: float = 5.0) -> PublishAck:
        """Store one message; the same id is sent again over reconnections until `timeout_s` is over."""
        answer = await store(
            self._connection,
            subjects.concrete(subject),
            encode(message),
            headers={api.HEADER_ID: message_id},
            timeout_s=timeout_s,
        )
        return self._acknowledged(subject, answer)

    async def publish_all(self, items: list[tuple[str, Message, str]], *, timeout_s: float = 5.0) -> list[PublishAck]:
        """Store the items in this order, many under way at a time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        frames = [(subjects.concrete(subject), encode(message), message_id) for subject, message, message_id in items]
        acks: list[PublishAck] = []
        while len(acks) < len(frames):
            left_s = max(0.0, deadline - loop.time())
            await self._connection.reach(left_s)
            try:
                async with asyncio.timeout(left_s):
                    await self._pipeline(frames[len(acks) : len(acks) + PIPELINE], acks)
            except TimeoutError as error:
                raise BusUnavailableError(f"{len(frames) - len(acks)} messages not stored in time") from error
            except PermissionDeniedError:
                raise
            except BusUnavailableError:
                # Frames reach the server in order, so everything from the first unconfirmed one on is sent again.
                if loop.time() >= deadline:
                    raise
                await asyncio.sleep(0.05)
        return acks

    async def subscribe(self, subject: str, handler: Handler, *, pending_max: int = 10_000) -> Subscription:
        """Call `handler` for each message from now on; beyond `pending_max` waiting, the newest is dropped."""

        async def receive(message: Msg) -> None:
            await self._handling.deliver_lossy(handler, message.subject, message.data)

        return await self._listen(subject, receive, pending_max)

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
        """Handle a stream's messages one at a time, in order, each at least once, across restarts."""
        settings = ConsumerSettings(
            stream=subjects.token(stream),
            durable=subjects.token(durable),
            filters=filters,
            deliver_new=deliver_new,
            ack_wait_s=ack_wait_s,
            pending_max=BATCH,
            max_deliver=max_deliver,
        )
        return await self._attach(SequentialConsumer(self._connection, self._handling, settings, handler))

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
        """Deliver up to `pending_max` unacknowledged messages in order; the handler acknowledges later."""
        settings = ConsumerSettings(
            stream=subjects.token(stream),
            durable=subjects.token(durable),
            filters=filters,
            deliver_new=False,
            ack_wait_s=ack_wait_s,
            pending_max=pending_max,
        )
        return await self._attach(ManualConsumer(self._connection, self._handling, settings, handler))

    async def last(self, stream: str, subject: str) -> Delivery | None:
        """Return the newest stored message on one subject, or None; raises DecodeError when it is unreadable."""
        subjects.concrete(subject)
        found = await ask_until(
            self._connection,
            f"{api.API}.DIRECT.GET.{subjects.token(stream)}.{subject}",
            b"",
            timeout_s=LOOKUP_TIMEOUT_S,
        )
        if not _is_found(found):
            return None
        return _looked_up(found, decode(found.data))

    async def history(
        self, stream: str, subject: str, *, start_sequence: int = 1, limit: int = 1_000
    ) -> list[Delivery]:
        """Return up to `limit` stored messages, oldest first; frames of another schema are dead-lettered."""
        found: list[Delivery] = []
        next_sequence = max(1, start_sequence)
        while len(found) < limit:
            page = await self._page(stream, subject, next_sequence, min(HISTORY_PAGE, limit - len(found)))
            if not page:
                break
            for frame in page:
                headers = frame.headers or {}
                next_sequence = int(headers[api.HEADER_SEQUENCE]) + 1
                message = self._handling.decode(headers[api.HEADER_SUBJECT], frame.data)
                if message is not None:
                    found.append(_looked_up(frame, message))
        return found

    async def last_sequence(self, stream: str) -> int:
        """Return the sequence of the newest message ever stored, 0 when there was none."""
        subject = f"{api.API}.STREAM.INFO.{subjects.token(stream)}"
        found = await ask_until(self._connection, subject, b"", timeout_s=LOOKUP_TIMEOUT_S)
        answer = api.parse(api.StreamAnswer, found.data)
        if answer.error is not None:
            raise BusUnavailableError(f"stream {stream} cannot be asked for its end: {answer.error.description}")
        return answer.state.last_seq

    async def request(self, subject: str, message: Message, *, timeout_s: float = 2.0) -> AnyMessage:
        """Ask once and await the answer; raises BusUnavailableError, at once when nobody listens."""
        await self._connection.reach(timeout_s)
        answer = await self._connection.request(subjects.concrete(subject), encode(message), timeout_s=timeout_s)
        return decode(answer.data)

    async def respond(self, subject: str, responder: Responder) -> Subscription:
        """Answer requests one at a time; an error becomes a refusal without details."""

        async def receive(message: Msg) -> None:
            answer = await self._handling.answer(responder, message.subject, message.data)
            if message.reply:
                self._connection.send(message.reply, encode(answer))

        return await self._listen(subject, receive, pending_max=1_000)

    async def key_value(self, bucket: str) -> KeyValue:
        """Return the bucket, which bootstrap has created."""
        return NatsKeyValue(self._connection, bucket)

    async def _attach(self, consumer: NatsConsumer) -> Subscription:
        await consumer.start()
        self._running.append(consumer)
        return consumer

    async def _listen(self, subject: str, receive: Callable[[Msg], Awaitable[None]], pending_max: int) -> Subscription:
        running = NatsCallback(self._connection, receive)
        await running.start(subject, pending_max)
        self._running.append(running)
        return running

    def _acknowledged(self, subject: str, answer: api.StoredAnswer) -> PublishAck:
        if answer.error is not None:
            raise BusUnavailableError(f"{subject} was not stored: {answer.error.description}")
        self._handling.counters.published += 1
        return PublishAck(stream=answer.stream, sequence=answer.seq, duplicate=answer.duplicate)

    async def _pipeline(self, frames: list[tuple[str, bytes, str]], acks: list[PublishAck]) -> None:
        asked = []
        for subject, payload, message_id in frames:
            if not self._connection.is_connected:
                break
            asked.append((subject, self._connection.ask(subject, payload, headers={api.HEADER_ID: message_id})))
        try:
            for subject, (_, future) in asked:
                acks.append(self._acknowledged(subject, api.parse(api.StoredAnswer, (await future).data)))
            if len(asked) < len(frames):
                raise ConnectionLostError("the connection broke while sending")
        finally:
            for _, (key, _) in asked:
                self._connection.forget(key)

    async def _page(self, stream: str, subject: str, start_sequence: int, size: int) -> list[Msg]:
        lookup = f"{api.API}.DIRECT.GET.{subjects.token(stream)}"
        wanted: dict[str, object] = {"seq": start_sequence, "next_by_subj": subject}
        await self._connection.reach(LOOKUP_TIMEOUT_S)
        batch: list[Msg] = []
        payload = msgspec.json.encode({**wanted, "batch": size})
        end = await self._connection.request(lookup, payload, timeout_s=LOOKUP_TIMEOUT_S, batch=batch)
        status = (end.headers or {}).get(api.HEADER_STATUS)
        if status not in (api.STATUS_BATCH_END, api.STATUS_NOT_FOUND):
            raise BusUnavailableError(f"stream {stream} answers a lookup with status {status}")
        return batch


def _is_found(found: Msg) -> bool:
    status = (found.headers or {}).get(api.HEADER_STATUS)
    if status not in (None, api.STATUS_NOT_FOUND):
        raise BusUnavailableError(f"the server answers a lookup with status {status}")
    return status is None


def _looked_up(found: Msg, message: AnyMessage) -> Delivery:
    headers = found.headers or {}
    return Delivery(
        subject=headers[api.HEADER_SUBJECT], message=message, stream_sequence=int(headers[api.HEADER_SEQUENCE])
    )
