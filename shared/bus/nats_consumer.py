"""A durable consumer over JetStream: a standing pull request whose answers come straight into a callback.

In: frames of one stream. Out: handler calls, one at a time and in order, and acknowledgements. On each attachment
(start, reconnection, a gap in the deliveries) a consumer of which deliveries are unacknowledged is set back to the
first of them, so that everything from there comes again at once, in the stream's order, whoever received it before.
The server's own redelivery (of what is overdue, or refused) keeps no order: of two lives in it, the second would take
the early messages, which come last, for ones that it has handled.
Never: a later message before an earlier one, a handler cancelled half way, a message acknowledged unhandled.
"""

import asyncio
from abc import ABC, abstractmethod

import msgspec
import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NatsSubscription

from shared.bus import nats_api as api
from shared.bus.handling import STOP_TIMEOUT_S, Handling, Outcome, backoff_s
from shared.bus.nats_connection import NatsConnection
from shared.bus.nats_requests import call
from shared.bus.port import Delivery, Handler
from shared.clock import NANOSECONDS_PER_SECOND
from shared.errors import BusUnavailableError, UnavailableError

BATCH = 256
PULL_EXPIRES_S = 30.0
HEARTBEAT_S = 3.0
HEARTBEATS_MISSED_MAX = 3
ATTACH_TIMEOUT_S = 5.0

_log = structlog.get_logger(__name__)


class ConsumerSettings(msgspec.Struct, frozen=True):
    """Say what a durable consumer reads and how."""

    stream: str
    durable: str
    filters: tuple[str, ...]
    deliver_new: bool
    ack_wait_s: float
    pending_max: int
    max_deliver: int = -1


class NatsConsumer(ABC):
    """Read one durable; subclasses say what a delivery means."""

    def __init__(self, connection: NatsConnection, handling: Handling, settings: ConsumerSettings) -> None:
        self.settings = settings
        self._connection = connection
        self._handling = handling
        self._batch = min(BATCH, settings.pending_max)
        self._stopping = asyncio.Event()
        self._stale = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._handler_task: asyncio.Task[None] | None = None
        self._current_reply = ""
        self._supervisor: asyncio.Task[None] | None = None
        self._subscription: NatsSubscription | None = None
        self._inbox = ""
        self._wanted = 0
        self._consumer_sequence = 0
        self._seen_at = 0.0
        self._stream_created = ""
        self._has_attached = False
        self._handled = 0
        self._sent_before = 0

    async def start(self) -> None:
        """Attach for the first time; raises BusUnavailableError when that does not work."""
        self._connection.on_reconnect.append(self._stale.set)
        try:
            await self._attach()
        except BaseException:
            self._connection.on_reconnect.remove(self._stale.set)
            raise
        self._supervisor = asyncio.create_task(self._supervise())

    async def stop(self) -> None:
        """Stop deliveries; a message being handled is finished first, unless its handler is the caller."""
        self._stopping.set()
        self._stale.set()
        if self._supervisor is None or asyncio.current_task() in (self._handler_task, self._supervisor):
            return
        _, late = await asyncio.wait({self._supervisor}, timeout=STOP_TIMEOUT_S)
        if late:
            self._supervisor.cancel()

    def settle(self, reply: str) -> None:
        """Acknowledge a delivery; when that is lost, the delivery comes again and is acknowledged again."""
        self._connection.send(reply, api.ACK)

    @abstractmethod
    async def _receive(self, delivery: Delivery, payload: bytes, reply: str) -> Outcome: ...

    @abstractmethod
    def _is_repetition(self, sequence: int, reply: str) -> bool: ...

    def _forget_positions(self) -> None:
        self._handled = self._sent_before = 0

    async def _supervise(self) -> None:
        tick_s = min(HEARTBEAT_S, self.settings.ack_wait_s / 3)
        failures = 0
        while not self._stopping.is_set():
            try:
                async with asyncio.timeout(tick_s):
                    await self._stale.wait()
            except TimeoutError:
                self._keep_alive()
            if self._stopping.is_set() or not self._stale.is_set():
                continue
            async with self._one_at_a_time:
                self._stale.clear()
                try:
                    await self._attach()
                    failures = 0
                except UnavailableError as error:
                    failures += 1
                    _log.warning("bus_consumer_waits", durable=self.settings.durable, error=str(error))
            if failures:
                await asyncio.sleep(backoff_s(failures))
                self._stale.set()
        await self._detach()

    async def _detach(self) -> None:
        if self._stale.set in self._connection.on_reconnect:
            self._connection.on_reconnect.remove(self._stale.set)
        async with self._one_at_a_time:
            if self._subscription is not None:
                await self._connection.unsubscribe(self._subscription)
                self._subscription = None

    def _keep_alive(self) -> None:
        if self._current_reply:
            self._connection.send(self._current_reply, api.IN_PROGRESS)
            return
        silence_s = asyncio.get_running_loop().time() - self._seen_at
        if self._connection.is_connected and silence_s > HEARTBEAT_S * HEARTBEATS_MISSED_MAX:
            _log.warning("bus_consumer_silent", durable=self.settings.durable, silence_s=round(silence_s, 1))
            self._stale.set()

    async def _attach(self) -> None:
        old, self._subscription = self._subscription, None
        if old is not None:
            await self._connection.unsubscribe(old)
        info = await self._ensure()
        self._sent_before = max(info.delivered.stream_seq, self._sent_before)
        # The first delivery that comes must be the very next one: else somebody whom the server takes for alive, a
        # predecessor whose connection broke without a sign, has received what was in between.
        self._consumer_sequence = info.delivered.consumer_seq
        if info.num_ack_pending:
            await self._set_back()
            self._consumer_sequence = 0
        self._inbox = inbox = self._connection.new_inbox()
        self._wanted = 0
        self._seen_at = asyncio.get_running_loop().time()

        async def on_frame(message: Msg) -> None:
            await self._on_frame(message, inbox)

        self._subscription = await self._connection.subscribe(inbox, on_frame, pending_max=0)
        self._has_attached = True
        self._pull()

    async def _ensure(self) -> api.ConsumerAnswer:
        stream = await self._look_at_stream()
        name = f"{self.settings.stream}.{self.settings.durable}"
        info = await call(
            self._connection, api.ConsumerAnswer, f"{api.API}.CONSUMER.INFO.{name}", b"", timeout_s=ATTACH_TIMEOUT_S
        )
        if info.error is None:
            wanted = self._wanted_config()
            if all(info.config.get(key, _ABSENT[key]) == value for key, value in wanted.items()):
                return info
            return await self._create(info.config)
        if info.error.err_code != api.ERROR_CONSUMER_NOT_FOUND:
            raise BusUnavailableError(f"consumer {name}: {info.error.description}")
        if self.settings.deliver_new and not self._has_attached:
            self._handled = stream.state.last_seq
        # A durable that vanished under us is made again where this process was.
        return await self._create({"deliver_policy": "by_start_sequence", "opt_start_seq": self._handled + 1})

    async def _look_at_stream(self) -> api.StreamAnswer:
        name = self.settings.stream
        stream = await call(
            self._connection, api.StreamAnswer, f"{api.API}.STREAM.INFO.{name}", b"", timeout_s=ATTACH_TIMEOUT_S
        )
        if stream.error is not None:
            raise BusUnavailableError(f"stream {name}: {stream.error.description}")
        if self._stream_created != stream.created or stream.state.last_seq < self._handled:
            # Another stream under the same name: its sequences mean nothing of what was handled before.
            self._stream_created = stream.created
            self._forget_positions()
        return stream

    def _wanted_config(self) -> dict[str, object]:
        filters = self.settings.filters
        return {
            "ack_wait": int(self.settings.ack_wait_s * NANOSECONDS_PER_SECOND),
            "max_ack_pending": self.settings.pending_max,
            "filter_subject": filters[0] if len(filters) == 1 else "",
            "filter_subjects": list(filters) if len(filters) > 1 else [],
        }

    async def _create(self, base: dict[str, object]) -> api.ConsumerAnswer:
        stream, durable = self.settings.stream, self.settings.durable
        config = {
            **base,
            "durable_name": durable,
            "ack_policy": "explicit",
            "replay_policy": "instant",
            "max_deliver": -1,
            **{key: value for key, value in self._wanted_config().items() if value not in ("", [])},
        }
        for key, value in self._wanted_config().items():
            if value in ("", []):
                config.pop(key, None)
        subject = f"{api.API}.CONSUMER.CREATE.{stream}.{durable}"
        if "filter_subject" in config:
            subject = f"{subject}.{config['filter_subject']}"
        request = msgspec.json.encode({"stream_name": stream, "config": config})
        info = await call(self._connection, api.ConsumerAnswer, subject, request, timeout_s=ATTACH_TIMEOUT_S)
        if info.error is not None:
            raise BusUnavailableError(f"consumer {durable} on {stream}: {info.error.description}")
        return info

    async def _set_back(self) -> None:
        """Let the server deliver again from the first message on that nobody acknowledged."""
        name = f"{self.settings.stream}.{self.settings.durable}"
        answer = await call(
            self._connection, api.ConsumerAnswer, f"{api.API}.CONSUMER.RESET.{name}", b"", timeout_s=ATTACH_TIMEOUT_S
        )
        if answer.error is not None:
            raise BusUnavailableError(f"consumer {name} cannot be set back: {answer.error.description}")

    def _pull(self) -> None:
        missing = self._batch - self._wanted
        if missing * 2 < self._batch:
            return
        request = {
            "batch": missing,
            "expires": int(PULL_EXPIRES_S * NANOSECONDS_PER_SECOND),
            "idle_heartbeat": int(HEARTBEAT_S * NANOSECONDS_PER_SECOND),
        }
        subject = f"{api.API}.CONSUMER.MSG.NEXT.{self.settings.stream}.{self.settings.durable}"
        if self._connection.send(subject, msgspec.json.encode(request), reply=self._inbox):
            self._wanted += missing

    async def _on_frame(self, message: Msg, inbox: str) -> None:
        if inbox != self._inbox:
            return
        self._seen_at = asyncio.get_running_loop().time()
        place = api.place_of(message.reply)
        if place is None:
            self._on_status(message.headers or {})
            return
        async with self._one_at_a_time:
            if inbox != self._inbox or self._stopping.is_set():
                return
            self._wanted -= 1
            self._pull()
            if place.consumer_sequence != self._consumer_sequence + 1:
                _log.warning("bus_consumer_gap", durable=self.settings.durable, at=place.stream_sequence)
                self._reattach()
                return
            self._consumer_sequence = place.consumer_sequence
            await self._take(message, place)
        self._seen_at = asyncio.get_running_loop().time()

    async def _take(self, message: Msg, place: api.Place) -> None:
        if self._is_repetition(place.stream_sequence, message.reply):
            return
        # A consumer that was set back counts its deliveries anew.
        delivered = max(place.delivered, 2 if place.stream_sequence <= self._sent_before else 1)
        if delivered > 1:
            self._handling.counters.redelivered += 1
        if api.HEADER_SUBJECT in (message.headers or {}):
            # Whoever may look messages up may have the answer sent anywhere, also where it must not publish.
            self._handling.bury(message.subject, message.data, "the answer to a lookup, published by nobody")
            decoded = None
        else:
            decoded = self._handling.decode(message.subject, message.data)
        if decoded is None:
            self._handled = place.stream_sequence
            self.settle(message.reply)
            return
        delivery = Delivery(
            subject=message.subject,
            message=decoded,
            stream_sequence=place.stream_sequence,
            delivered=delivered,
        )
        self._current_reply = message.reply
        self._handler_task = asyncio.current_task()
        try:
            outcome = await self._receive(delivery, message.data, message.reply)
        finally:
            self._current_reply = ""
            self._handler_task = None
        if outcome is not Outcome.DONE:
            self._stopping.set()
            self._stale.set()

    def _on_status(self, headers: dict[str, str]) -> None:
        status = headers.get(api.HEADER_STATUS)
        if status == api.STATUS_HEARTBEAT:
            return
        if status == api.STATUS_EXPIRED:
            self._wanted = max(0, self._wanted - int(headers.get(api.HEADER_PENDING_MESSAGES, self._batch)))
            self._pull()
            return
        _log.info(
            "bus_consumer_status",
            durable=self.settings.durable,
            status=status,
            text=headers.get(api.HEADER_DESCRIPTION),
        )
        self._reattach()

    def _reattach(self) -> None:
        self._inbox = ""
        self._stale.set()


_ABSENT: dict[str, object] = {"ack_wait": 0, "max_ack_pending": 0, "filter_subject": "", "filter_subjects": []}


class SequentialConsumer(NatsConsumer):
    """Acknowledge each message when its handler has returned."""

    def __init__(
        self, connection: NatsConnection, handling: Handling, settings: ConsumerSettings, handler: Handler
    ) -> None:
        super().__init__(connection, handling, settings)
        self._handler = handler

    def _is_repetition(self, sequence: int, reply: str) -> bool:
        if sequence > self._handled:
            return False
        self.settle(reply)
        return True

    async def _receive(self, delivery: Delivery, payload: bytes, reply: str) -> Outcome:
        outcome = await self._handling.deliver(
            self._handler, delivery, payload, max_deliver=self.settings.max_deliver, stopping=self._stopping
        )
        if outcome is Outcome.DONE:
            self._handled = delivery.stream_sequence
            self.settle(reply)
        return outcome
