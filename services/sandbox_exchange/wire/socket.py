"""One websocket of one client: a bounded queue outwards, frame faults, and every reason for which a venue cuts it.

In: frames of the venue's modules, messages of the client. Out: the same, or what the armed faults make of them.
Never: a frame left out or swapped without a fault: a client that does not read is cut, not thinned.

A venue module makes one `ClientSocket`, posts to it from anywhere on the loop, and awaits `run` in its request handler.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import ClientConnectionResetError, WSCloseCode, WSMessage, WSMsgType, web

from services.sandbox_exchange.core.faults import FaultName
from services.sandbox_exchange.wire.context import Venue, abort
from shared.clock import NANOSECONDS_PER_SECOND, monotonic_ns

TICK_S = 0.1
WRITE_TIMEOUT_S = 15.0
MESSAGE_BYTES_MAX = 64 * 1024

Receive = Callable[[str | bytes], Awaitable[None]]


class SocketRules(msgspec.Struct, frozen=True):
    """Say when a venue cuts a socket; None is never. Seconds, frames and bytes.

    `idle_max_s` counts from the last frame in either direction, `unsubscribed_max_s` from the start while
    `has_subscription` is false. `ping_every_s` makes the server send websocket pings and expect a pong in
    `pong_within_s`. `inbound_max_per_s` bounds the client's messages in each second.
    """

    age_max_s: float | None = 86_400.0
    idle_max_s: float | None = None
    unsubscribed_max_s: float | None = None
    ping_every_s: float | None = None
    pong_within_s: float = 60.0
    inbound_max_per_s: int | None = None
    queue_frames_max: int = 100_000
    queue_bytes_max: int = 32 * 1024 * 1024


class ClientSocket:
    """Be one client's websocket. `path` (`public`, `user`, `ws-api`) is what the admin kills by."""

    def __init__(self, venue: Venue, rules: SocketRules, *, path: str) -> None:
        self.path = path
        self.has_subscription = False
        self.cut_reason: str | None = None
        self._venue, self._rules = venue, rules
        self._socket = web.WebSocketResponse(
            autoping=False, autoclose=True, compress=False, timeout=1.0, max_msg_size=MESSAGE_BYTES_MAX
        )
        self._transport: asyncio.BaseTransport | None = None
        self._queue: deque[str | bytes] = deque()
        self._queued_bytes = 0
        self._wake = asyncio.Event()
        self._held: dict[tuple[str, str | None, bool], str | bytes] = {}
        self._is_silent = False
        self._opened_ns = self._last_ns = self._pinged_ns = self._ponged_ns = monotonic_ns()
        self._second, self._inbound = 0, 0

    @property
    def is_open(self) -> bool:
        """Tell whether frames still go out."""
        return self.cut_reason is None and not self._socket.closed

    @property
    def age_s(self) -> float:
        """Return for how long the socket has been open."""
        return _since_s(self._opened_ns)

    async def send(
        self, payload: str | bytes, *, route: str = "", symbol: str | None = None, report: bool = False
    ) -> None:
        """Do what `post` does."""
        self.post(payload, route=route, symbol=symbol, report=report)

    def post(self, payload: str | bytes, *, route: str = "", symbol: str | None = None, report: bool = False) -> None:
        """Queue a frame: text or binary. An empty `route` is an answer or a pong, which frame faults leave alone.

        `report` says that it is an order, fill or balance report of a user stream.
        """
        if not self.is_open:
            return
        if route and not self._venue.faults.is_quiet:
            self._post_spoilt(payload, route, symbol, report)
        else:
            self._put(payload)
            if self._held and route:
                self._release((route, symbol, report))

    def cut(self, reason: str) -> None:
        """End the connection at once, without a close frame; frames that were queued are lost."""
        if self.cut_reason is None:
            self.cut_reason = reason
            self._venue.count(f"socket_cut_{reason}")
            self._queue.clear()
            self._wake.set()
            abort(self._transport)

    def finish(self, reason: str) -> None:
        """Say goodbye with a close frame after what is queued, as a venue does at the end of a connection's life."""
        if self.cut_reason is None:
            self.cut_reason = reason
            self._venue.count(f"socket_cut_{reason}")
            self._wake.set()

    async def run(self, request: web.Request, receive: Receive) -> web.WebSocketResponse:
        """Shake hands, serve until the connection ends, and return the response for aiohttp.

        `receive` is awaited with each text or binary message, one after the other.
        """
        venue = self._venue
        if fault := venue.take(FaultName.SOCKET_AGE, route=self.path):
            self._rules = msgspec.structs.replace(self._rules, age_max_s=fault.parameter or 0.0)
        await self._socket.prepare(request)
        self._transport = request.transport
        self._opened_ns = self._last_ns = self._pinged_ns = self._ponged_ns = monotonic_ns()
        venue.sockets.add(self)
        venue.count(f"socket_opened_{self.path}")
        tasks = [asyncio.create_task(self._write_forever()), asyncio.create_task(self._watch_forever())]
        try:
            async for message in self._socket:
                if self.cut_reason is None:
                    await self._take_in(message, receive)
        finally:
            venue.sockets.discard(self)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self.cut_reason is None:
                self.cut_reason = "client_left"
        return self._socket

    async def _take_in(self, message: WSMessage, receive: Receive) -> None:
        self._last_ns = monotonic_ns()
        if message.type is WSMsgType.PING:
            if not self._is_silent and not self._venue.take(FaultName.PONG_MISSING, route=self.path):
                with contextlib.suppress(ClientConnectionResetError):
                    await self._socket.pong(message.data)
        elif message.type is WSMsgType.PONG:
            self._ponged_ns = self._last_ns
        elif message.type in {WSMsgType.TEXT, WSMsgType.BINARY}:
            if self._asks_too_much():
                self.finish("too_many_messages")
            else:
                await receive(message.data)

    def _asks_too_much(self) -> bool:
        limit = self._rules.inbound_max_per_s
        if limit is None:
            return False
        second = self._last_ns // NANOSECONDS_PER_SECOND
        self._inbound = self._inbound + 1 if second == self._second else 1
        self._second = second
        return self._inbound > limit

    def _post_spoilt(self, payload: str | bytes, route: str, symbol: str | None, report: bool) -> None:
        def take(name: FaultName) -> bool:
            return self._venue.take(name, route=route, symbol=symbol) is not None

        if take(FaultName.SOCKET_KILL):
            self.cut("killed")
            return
        if take(FaultName.SOCKET_SILENT):
            self._is_silent = True
        drop, double, swap = (
            (FaultName.REPORT_DROP, FaultName.REPORT_DUPLICATE, FaultName.REPORT_REORDER)
            if report
            else (FaultName.FRAME_DROP, FaultName.FRAME_DUPLICATE, FaultName.FRAME_REORDER)
        )
        key = (route, symbol, report)
        if take(drop):
            return
        if key not in self._held and take(swap):
            self._held[key] = payload
            return
        self._put(payload)
        if take(double):
            self._put(payload)
        self._release(key)

    def _release(self, key: tuple[str, str | None, bool]) -> None:
        held = self._held.pop(key, None)
        if held is not None:
            self._put(held)

    def _put(self, payload: str | bytes) -> None:
        if self._is_silent or not self.is_open:
            return
        self._queue.append(payload)
        self._queued_bytes += len(payload)
        rules = self._rules
        if len(self._queue) > rules.queue_frames_max or self._queued_bytes > rules.queue_bytes_max:
            self.cut("slow_client")
            return
        self._wake.set()

    async def _write_forever(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self._write_queued()
                if self.cut_reason is not None:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(1.0):
                            await self._socket.close(code=WSCloseCode.GOING_AWAY, message=self.cut_reason.encode())
                    abort(self._transport)
                    return
        except TimeoutError:
            self.cut("slow_client")
        except (ClientConnectionResetError, ConnectionResetError):
            self.cut("gone")
        except OSError:
            self.cut("state_not_kept")

    async def _write_queued(self) -> None:
        while self._queue:
            await self._venue.settle()
            payload = self._queue.popleft()
            self._queued_bytes -= len(payload)
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                if isinstance(payload, str):
                    await self._socket.send_str(payload)
                else:
                    await self._socket.send_bytes(payload)
            self._last_ns = monotonic_ns()

    async def _watch_forever(self) -> None:
        while self.cut_reason is None:
            await asyncio.sleep(TICK_S)
            reason = self._end_of_life()
            if reason is not None:
                self.finish(reason)
            elif self._rules.ping_every_s is not None and _since_s(self._pinged_ns) >= self._rules.ping_every_s:
                self._pinged_ns = monotonic_ns()
                if not self._is_silent:
                    with contextlib.suppress(ClientConnectionResetError):
                        await self._socket.ping(str(self._venue.now_ns() // 1_000_000).encode())

    def _end_of_life(self) -> str | None:
        rules, venue = self._rules, self._venue
        if venue.standing(FaultName.MAINTENANCE, route=self.path):
            return "maintenance"
        fault = venue.standing(FaultName.SOCKET_AGE, route=self.path)
        if fault and self.age_s >= (fault.parameter or 0.0) and venue.take(FaultName.SOCKET_AGE, route=self.path):
            return "age"
        if rules.age_max_s is not None and self.age_s >= rules.age_max_s:
            return "age"
        if rules.idle_max_s is not None and _since_s(self._last_ns) >= rules.idle_max_s:
            return "idle"
        is_unused = not self.has_subscription and rules.unsubscribed_max_s is not None
        if is_unused and self.age_s >= (rules.unsubscribed_max_s or 0.0):
            return "unsubscribed"
        if rules.ping_every_s is not None and self._pinged_ns > self._ponged_ns:
            return "no_pong" if _since_s(self._ponged_ns) >= rules.pong_within_s + rules.ping_every_s else None
        return None


def kill_sockets(venue: Venue, path: str | None = None) -> int:
    """Cut every open socket, or those of one path; returns how many."""
    chosen = [one for one in venue.sockets if path is None or one.path == path]
    for one in chosen:
        one.cut("killed")
    return len(chosen)


def _since_s(then_ns: int) -> float:
    return (monotonic_ns() - then_ns) / NANOSECONDS_PER_SECOND
