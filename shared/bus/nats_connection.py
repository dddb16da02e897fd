"""One connection to nats-server that never gives up, never fails silently and never goes deaf unnoticed.

In: frames to send, questions, subscriptions. Out: whether they were sent, answers, frames. Callbacks of nats-py are
guarded, because an exception in one of them kills its read loop while it still claims to be connected; a watchdog
that hears its own beat proves the contrary. Never: frames buffered over a disconnection, which would arrive stale
and out of order afterwards.
"""

import asyncio
import random
import re
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog
from nats import errors as nats_errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NatsSubscription

from shared.bus.handling import Counters, Fatal
from shared.bus.nats_api import HEADER_STATUS, SERVER_VERSION_MIN, STATUS_NO_RESPONDER
from shared.bus.nats_watchdog import Watchdog
from shared.bus.subjects import token
from shared.errors import BusUnavailableError, ConfigError, InputError

CONNECT_TIMEOUT_S = 2
PING_INTERVAL_S = 5
RECONNECT_WAIT_MIN_S = 0.15
RECONNECT_WAIT_MAX_S = 0.35
OUTBOUND_BYTES_MAX = 8 * 1024 * 1024
SUBSCRIBE_TIMEOUT_S = 5
COMPLAINT_INTERVAL_S = 10.0

_DENIED = re.compile(r'permissions violation for (publish|subscription) to "([^"]+)"')
_log = structlog.get_logger(__name__)


class ConnectionLostError(BusUnavailableError):
    """Report that the connection broke before the answer came."""


class NoResponderError(BusUnavailableError):
    """Report that nobody listens on the subject."""


class PermissionDeniedError(BusUnavailableError):
    """Report that this service's user may not use the subject."""


class DeafError(BusUnavailableError):
    """Report a connection that claims to work and brings nothing."""


class NatsConnection:
    """Hold the connection of one service; its inboxes lie under `_INBOX.<service>`."""

    def __init__(
        self,
        url: str,
        *,
        service: str,
        nkey_file: Path | None,
        counters: Counters,
        fail: Fatal,
    ) -> None:
        self.service = token(service)
        self.counters = counters
        self.on_reconnect: list[Callable[[], None]] = []
        self._url = url
        self._nkey_file = nkey_file
        self._fail = fail
        self._inbox = f"_INBOX.{service}.{secrets.token_hex(8)}"
        self.watchdog = Watchdog(lambda: self.is_connected, lambda beat: self.send(f"{self._inbox}.beat", beat))
        self._client: Client | None = None
        self._up = asyncio.Event()
        self._closing = False
        self._refused: asyncio.Future[None] | None = None
        self._refusal = ""
        self._asked = 0
        self._waiting: dict[str, tuple[str, asyncio.Future[Msg], list[Msg] | None]] = {}
        self._denied: set[str] = set()
        self._complained_at = float("-inf")
        self._watching: asyncio.Task[None] | None = None

    @property
    def is_connected(self) -> bool:
        """Tell whether frames pass now."""
        return self._client is not None and self._up.is_set() and self._client.is_connected

    async def connect(self) -> None:
        """Connect, trying for ever; raises ConfigError when the server refuses the credentials or is too old."""
        if self._client is not None:
            return
        client = Client()
        self._refused = asyncio.get_running_loop().create_future()
        connecting = asyncio.create_task(self._connect(client))
        try:
            await asyncio.wait({connecting, self._refused}, return_when=asyncio.FIRST_COMPLETED)
            if not connecting.done():
                raise ConfigError(
                    f"the NATS server at {self._url} refused the user of {self.service} ({self._refusal}): "
                    "check CASCADE_NKEY_FILE"
                )
            connecting.result()
        finally:
            self._refused = None
            if not connecting.done():
                connecting.cancel()
                await asyncio.wait({connecting})
                # A cancelled attempt leaves its socket open.
                await client.close()
        version = client.connected_server_version
        if (version.major, version.minor, version.patch) < SERVER_VERSION_MIN:
            await client.close()
            have, need = f"{version.major}.{version.minor}.{version.patch}", ".".join(map(str, SERVER_VERSION_MIN))
            raise ConfigError(f"the server at {self._url} is nats-server {have}; Cascade needs {need} or later")
        self._client = client
        await client.subscribe(f"{self._inbox}.r.*", cb=self._on_answer)
        await client.subscribe(f"{self._inbox}.beat", cb=self.watchdog.hear)
        self._up.set()
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Flush and disconnect for good."""
        self._closing = True
        if self._watching is not None:
            self._watching.cancel()
        client = self._client
        if client is None:
            return
        try:
            if self.is_connected:
                await self.round_trip(CONNECT_TIMEOUT_S)
        except BusUnavailableError as error:
            _log.warning("bus_flush_failed", error=repr(error))
        self._client = None
        self._up.clear()
        self._break_waiting("this client is closed")
        await client.close()

    async def reach(self, timeout_s: float) -> None:
        """Wait until connected; raises BusUnavailableError when it takes longer than `timeout_s`."""
        if self.is_connected:
            return
        if self._closing:
            raise BusUnavailableError("this client is closed")
        try:
            async with asyncio.timeout(timeout_s):
                await self._up.wait()
        except TimeoutError as error:
            raise BusUnavailableError(f"no connection to {self._url} within {timeout_s:g} s") from error

    def send(self, subject: str, payload: bytes, *, reply: str = "", headers: dict[str, str] | None = None) -> bool:
        """Hand one frame to the socket without waiting; False when the connection cannot take it now."""
        client = self._client
        if client is None or not self.is_connected:
            self.counters.dropped_disconnected += 1
            return False
        if client.pending_data_size > OUTBOUND_BYTES_MAX:
            self.counters.dropped_slow += 1
            return False
        # nats-py's publish only suspends when its buffer must be flushed, which its own flusher task does for us.
        step = client.publish(subject, payload, reply=reply, headers=headers)
        try:
            step.send(None)
        except StopIteration:
            return True
        except nats_errors.MaxPayloadError as error:
            raise InputError(f"a message of {len(payload)} bytes on {subject} is larger than NATS allows") from error
        except nats_errors.BadSubjectError as error:
            raise InputError(f"{subject!r} is no subject") from error
        except nats_errors.Error:
            self.counters.dropped_disconnected += 1
            return False
        step.close()
        return True

    def ask(
        self, subject: str, payload: bytes, *, headers: dict[str, str] | None = None, batch: list[Msg] | None = None
    ) -> "tuple[str, asyncio.Future[Msg]]":
        """Send a question; the future is the answer, or fails when the connection breaks or the subject is denied.

        With `batch`, answers with a body go there and the first one without ends it. Call `forget` in the end.
        """
        self._asked += 1
        key = str(self._asked)
        future: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        self._waiting[key] = (subject.lower(), future, batch)
        if not self.send(subject, payload, reply=f"{self._inbox}.r.{key}", headers=headers):
            future.set_exception(ConnectionLostError(f"not connected to {self._url}"))
        return key, future

    def forget(self, key: str) -> None:
        """Expect no more answers to a question."""
        waiting = self._waiting.pop(key, None)
        if waiting is not None and waiting[1].done() and not waiting[1].cancelled():
            waiting[1].exception()

    async def request(
        self,
        subject: str,
        payload: bytes,
        *,
        timeout_s: float,
        headers: dict[str, str] | None = None,
        batch: list[Msg] | None = None,
    ) -> Msg:
        """Ask once and return the answer; raises BusUnavailableError."""
        key, future = self.ask(subject, payload, headers=headers, batch=batch)
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError as error:
            raise BusUnavailableError(f"no answer on {subject} within {timeout_s:g} s") from error
        finally:
            self.forget(key)

    async def round_trip(self, timeout_s: float) -> None:
        """Return when the server has taken everything sent before; raises BusUnavailableError.

        nats-py's own flush writes its PING past what still waits in its buffer, and so proves nothing.
        """
        key, future = self.ask(f"{self._inbox}.r.{self._asked + 1}", b"")
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError as error:
            raise BusUnavailableError(f"{self._url} does not answer within {timeout_s:g} s") from error
        finally:
            self.forget(key)

    def new_inbox(self) -> str:
        """Return a subject that only this client receives."""
        self._asked += 1
        return f"{self._inbox}.s.{self._asked}"

    async def subscribe(
        self, subject: str, callback: Callable[[Msg], Awaitable[None]], *, pending_max: int
    ) -> NatsSubscription:
        """Subscribe, and return once the server knows; raises BusUnavailableError."""
        await self.reach(SUBSCRIBE_TIMEOUT_S)
        client = self._require()
        self._denied.discard(subject.lower())
        try:
            found = await client.subscribe(
                subject, cb=callback, pending_msgs_limit=pending_max, pending_bytes_limit=OUTBOUND_BYTES_MAX * 8
            )
            await self.round_trip(SUBSCRIBE_TIMEOUT_S)
        except nats_errors.BadSubjectError as error:
            raise InputError(f"{subject!r} is no subject to subscribe to") from error
        except (nats_errors.Error, OSError) as error:
            raise BusUnavailableError(f"cannot subscribe to {subject}: {error!r}") from error
        if subject.lower() in self._denied:
            await self.unsubscribe(found)
            raise PermissionDeniedError(f"the user of {self.service} may not subscribe to {subject}")
        return found

    async def unsubscribe(self, subscription: NatsSubscription) -> None:
        """Drop a subscription; a broken connection has dropped it already."""
        try:
            await subscription.unsubscribe()
        except (nats_errors.Error, OSError) as error:
            _log.debug("bus_unsubscribe_failed", error=repr(error))

    async def _connect(self, client: Client) -> None:
        try:
            await client.connect(
                servers=[self._url],
                name=self.service,
                error_cb=self._guard_error(self._on_error),
                disconnected_cb=self._guard(self._on_disconnected),
                reconnected_cb=self._guard(self._on_reconnected),
                closed_cb=self._guard(self._on_closed),
                connect_timeout=CONNECT_TIMEOUT_S,
                # nats-py declares whole seconds and only ever compares and sleeps.
                reconnect_time_wait=random.uniform(RECONNECT_WAIT_MIN_S, RECONNECT_WAIT_MAX_S),  # type: ignore[arg-type]
                max_reconnect_attempts=-1,
                ping_interval=PING_INTERVAL_S,
                max_outstanding_pings=2,
                inbox_prefix=f"_INBOX.{self.service}",
                pending_size=0,
                nkeys_seed=str(self._nkey_file) if self._nkey_file is not None else None,
            )
        except FileNotFoundError as error:
            raise ConfigError(f"CASCADE_NKEY_FILE names {self._nkey_file}, which does not exist") from error

    def _require(self) -> Client:
        if self._client is None:
            raise BusUnavailableError("connect has not been called, or the client is closed")
        return self._client

    async def _on_answer(self, message: Msg) -> None:
        waiting = self._waiting.get(message.subject.rpartition(".")[2])
        if waiting is None or waiting[1].done():
            return
        subject, future, batch = waiting
        status = (message.headers or {}).get(HEADER_STATUS)
        if status == STATUS_NO_RESPONDER and not message.data:
            future.set_exception(NoResponderError(f"nobody answers on {subject}"))
        elif batch is not None and status is None:
            batch.append(message)
        else:
            future.set_result(message)

    def _break_waiting(self, reason: str) -> None:
        for _, future, _ in self._waiting.values():
            if not future.done():
                future.set_exception(ConnectionLostError(reason))

    async def _on_error(self, error: Exception) -> None:
        if isinstance(error, nats_errors.SlowConsumerError):
            self.counters.dropped_slow += 1
            return
        text = str(error).lower()
        denied = _DENIED.search(text)
        if denied is not None:
            self._on_denied(denied[1], denied[2])
            return
        if "authorization violation" in text and self._refused is not None and not self._refused.done():
            self._refusal = str(error)
            self._refused.set_result(None)
        now = asyncio.get_running_loop().time()
        if not self.is_connected and now - self._complained_at > COMPLAINT_INTERVAL_S:
            self._complained_at = now
            _log.warning("bus_unreachable", url=self._url, error=repr(error))

    def _on_denied(self, what: str, subject: str) -> None:
        self.counters.denied += 1
        _log.error("bus_permission_denied", action=what, subject=subject, user=self.service)
        if what == "subscription":
            self._denied.add(subject)
            return
        for asked, future, _ in self._waiting.values():
            if asked == subject and not future.done():
                future.set_exception(PermissionDeniedError(f"the user of {self.service} may not publish on {subject}"))

    async def _on_disconnected(self) -> None:
        self._up.clear()
        client = self._client
        if client is not None:
            # What nats-py has not written yet would be sent after the reconnection, before and out of order with
            # what we send again by ourselves.
            client._pending.clear()
            client._pending_data_size = 0
        self._break_waiting(f"the connection to {self._url} was lost")
        if not self._closing:
            _log.warning("bus_disconnected", url=self._url)

    async def _on_reconnected(self) -> None:
        self.counters.reconnects += 1
        self._up.set()
        _log.info("bus_reconnected", url=self._url)
        for callback in self.on_reconnect:
            callback()

    async def _on_closed(self) -> None:
        self._up.clear()
        if not self._closing and self._client is not None:
            self._fail(BusUnavailableError(f"nats-py closed the connection for good: {self._client.last_error!r}"))

    async def _watch(self) -> None:
        await self.watchdog.run()
        self._fail(DeafError(f"connected to {self._url}, yet the own beats come not back"))

    def _guard(self, callback: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        async def guarded() -> None:
            try:
                await callback()
            except Exception:  # noqa: BLE001 - an exception here would stop nats-py from reading or reconnecting
                self.counters.callback_errors += 1
                _log.error("bus_callback_failed", exc_info=True)

        return guarded

    def _guard_error(self, callback: Callable[[Exception], Awaitable[None]]) -> Callable[[Exception], Awaitable[None]]:
        async def guarded(error: Exception) -> None:
            try:
                await callback(error)
            except Exception:  # noqa: BLE001 - as above
                self.counters.callback_errors += 1
                _log.error("bus_callback_failed", exc_info=True)

        return guarded
