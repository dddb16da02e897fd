"""What every adapter does with a received frame: decode it, call the handler, retry, bury or give up.

In: frames and handlers. Out: an outcome that tells the adapter whether to acknowledge. A message that must be tried
again is tried here, so no later message can overtake it. Never: a frame that is lost without being counted.
"""

import asyncio
import random
from collections.abc import Callable
from enum import Enum, auto

import msgspec
import structlog

from shared import clock
from shared.bus import subjects
from shared.bus.port import Delivery, Handler, Responder
from shared.errors import CascadeError, DecodeError, DeferError, UnavailableError
from shared.messages import AnyMessage, Command, CommandReply, DeadLetter, Message, decode

BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 5.0
STOP_TIMEOUT_S = 10.0
DEAD_PAYLOAD_MAX = 256 * 1024
REASON_MAX = 500

_log = structlog.get_logger(__name__)

Fatal = Callable[[BaseException], None]


class Counters(msgspec.Struct):
    """Count what the bus did since it was made; plain integers, read by the metrics."""

    published: int = 0
    dropped_disconnected: int = 0
    dropped_slow: int = 0
    dropped_failed: int = 0
    redelivered: int = 0
    dead_lettered: int = 0
    reconnects: int = 0
    callback_errors: int = 0
    responder_errors: int = 0
    denied: int = 0

    def as_dict(self) -> dict[str, int]:
        """Return the counts by name."""
        return {name: getattr(self, name) for name in self.__struct_fields__}


class Outcome(Enum):
    """Name what became of a durable message."""

    DONE = auto()
    STOPPED = auto()
    FATAL = auto()


class Handling:
    """Hand frames to handlers for one bus client."""

    def __init__(
        self,
        service: str,
        on_fatal: Fatal,
        publish_lossy: Callable[[str, Message], bool],
        *,
        retry_delay_max_s: float = BACKOFF_MAX_S,
    ) -> None:
        self.counters = Counters()
        self._service = service
        self._on_fatal = on_fatal
        self._publish_lossy = publish_lossy
        self._retry_delay_max_s = retry_delay_max_s

    def decode(self, subject: str, payload: bytes) -> AnyMessage | None:
        """Return the message, or None after the frame was counted and sent to the dead letters."""
        try:
            return decode(payload)
        except DecodeError as error:
            self.bury(subject, payload, str(error))
            return None

    def bury(self, subject: str, payload: bytes, reason: str) -> None:
        """Count a frame that cannot be handled and keep it on the service's dead-letter subject."""
        self.counters.dead_lettered += 1
        if subject.startswith("dead."):
            return
        letter = DeadLetter(
            service=self._service,
            subject=subject,
            reason=reason[:REASON_MAX],
            payload=payload[:DEAD_PAYLOAD_MAX],
            received_at_ns=clock.wall_ns(),
        )
        self._publish_lossy(subjects.dead_letter(self._service), letter)

    async def deliver_lossy(self, handler: Handler, subject: str, payload: bytes) -> None:
        """Hand over one lossy frame; a handler that cannot take it now loses it, counted."""
        message = self.decode(subject, payload)
        if message is None:
            return
        try:
            await handler(Delivery(subject=subject, message=message))
        except (DeferError, UnavailableError):
            self.counters.dropped_failed += 1
        except Exception as error:  # noqa: BLE001 - the bus must survive to report it; lifecycle ends the process
            self.fail(error)

    async def deliver(
        self, handler: Handler, delivery: Delivery, payload: bytes, *, max_deliver: int, stopping: asyncio.Event
    ) -> Outcome:
        """Hand over one durable message until it is handled, buried, or the subscription stops."""
        unavailable = 0
        while True:
            try:
                await handler(delivery)
            except (DeferError, UnavailableError) as error:
                if 0 < max_deliver <= delivery.delivered:
                    self.bury(delivery.subject, payload, f"given up after {delivery.delivered} deliveries: {error}")
                    return Outcome.DONE
                if isinstance(error, DeferError):
                    delay_s = error.delay_s
                else:
                    unavailable += 1
                    delay_s = backoff_s(unavailable)
            except Exception as error:  # noqa: BLE001 - as above; the message stays unacknowledged
                self.fail(error)
                return Outcome.FATAL
            else:
                return Outcome.DONE
            if await _stops_within(stopping, min(delay_s, self._retry_delay_max_s)):
                return Outcome.STOPPED
            self.counters.redelivered += 1
            delivery = msgspec.structs.replace(delivery, delivered=delivery.delivered + 1)

    async def answer(self, responder: Responder, subject: str, payload: bytes) -> Message:
        """Return the responder's answer, or a refusal that tells nothing about the error."""
        message = self.decode(subject, payload)
        if message is None:
            return _refusal("", "the request is no message of this schema")
        correlation_id = message.correlation_id if isinstance(message, Command) else ""
        try:
            return await responder(Delivery(subject=subject, message=message))
        except CascadeError as error:
            self.counters.responder_errors += 1
            _log.warning("request_refused", subject=subject, correlation_id=correlation_id, error=str(error))
        except Exception:  # noqa: BLE001 - a bad command must not end a service that holds orders
            self.counters.responder_errors += 1
            _log.error("responder_failed", subject=subject, correlation_id=correlation_id, exc_info=True)
        return _refusal(correlation_id, "the service could not carry this out; its log has the reason")

    def fail(self, error: BaseException) -> None:
        """Report an error that must end the process; a reporter that fails itself is logged."""
        try:
            self._on_fatal(error)
        except Exception:  # noqa: BLE001 - an exception here would kill the client's read loop
            self.counters.callback_errors += 1
            _log.error("fatal_callback_failed", exc_info=True)


def backoff_s(attempt: int) -> float:
    """Return a jittered delay in seconds that doubles with each attempt (from 1) up to a cap."""
    ceiling = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(attempt - 1, 10))
    return ceiling * random.uniform(0.5, 1.0)


async def finish(task: "asyncio.Task[None]") -> None:
    """Wait for a stopping task, within a bound; a task that stops itself is not waited for."""
    if task.done() or task is asyncio.current_task():
        return
    _, late = await asyncio.wait({task}, timeout=STOP_TIMEOUT_S)
    if late:
        task.cancel()
        await asyncio.wait({task}, timeout=STOP_TIMEOUT_S)


def _refusal(correlation_id: str, detail: str) -> CommandReply:
    return CommandReply(ok=False, detail=detail, correlation_id=correlation_id, result="{}")


async def _stops_within(stopping: asyncio.Event, delay_s: float) -> bool:
    try:
        async with asyncio.timeout(delay_s):
            await stopping.wait()
    except TimeoutError:
        return stopping.is_set()
    return True
