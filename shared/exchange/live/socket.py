"""One websocket that stays connected: it subscribes, pings, ages, and comes back.

In: a venue's words (`Wire`), an address. Out: its frames, and whether it is up, by plain calls from the event loop.
Never: a socket trusted because TCP says so, a frame kept back, two reconnects at once, a wait without an end.

A connection is up when the wire says `is_settled`: everything that it asked for was acknowledged. It is given up when
that takes too long, when a ping is not answered, when nothing comes, when the wire calls `fail`, when this computer
slept, and, ahead of the venue's own cut, when it is old.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from random import Random
from typing import Protocol

import aiohttp
import msgspec

from shared.clock import NANOSECONDS_PER_SECOND, monotonic_ns, wall_ns
from shared.errors import UnavailableError
from shared.exchange.live.retry import full_jitter_s
from shared.pauses import PauseWatch, told

FRAME_BYTES_MAX = 32 * 1024 * 1024
CLOSE_TIMEOUT_S = 1.0
SEND_TIMEOUT_S = 5.0
# A connection that lived this long was a good one: the next failure counts as the first again.
GOOD_AFTER_S = 30.0
AGE_SPREAD = 0.1
_LOST = (aiohttp.ClientError, UnavailableError, OSError, TimeoutError, ValueError)
_END = (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)


class Timings(msgspec.Struct, frozen=True, kw_only=True):
    """Say how long each thing may take, in seconds. `idle_max_s` bounds the silence of a socket that is up."""

    connect_s: float = 10.0
    ack_s: float = 10.0
    ping_every_s: float = 10.0
    pong_s: float = 10.0
    idle_max_s: float = 60.0
    age_max_s: float = 23 * 3600.0
    first_s: float = 0.25
    most_s: float = 30.0


class Wire(Protocol):
    """Speak a venue's words on one socket. Calls are short; what is meant for later is the wire's own to keep."""

    @property
    def is_settled(self) -> bool:
        """Tell whether all that was asked for was acknowledged."""
        ...

    def greet(self) -> Sequence[str]:
        """Forget the last connection and return what to say first."""
        ...

    def ping(self) -> str | None:
        """Return the application's ping, or None where the venue pings us."""
        ...

    def on_frame(self, frame: bytes | str) -> None:
        """Take a frame. ValueError means that it could not be read: the connection is not to be trusted."""
        ...

    def on_up(self) -> None:
        """Learn that everything was acknowledged."""
        ...

    def on_down(self, reason: str) -> None:
        """Learn that the connection is lost, before anything is tried; also when it never came up."""
        ...


class LiveSocket:
    """Keep one connection. `address` is asked before each attempt; the session stays its owner's."""

    def __init__(
        self, name: str, address: Callable[[], Awaitable[str]], wire: Wire, session: aiohttp.ClientSession,
        timings: Timings, *, random: Random, now_ns: Callable[[], int] = monotonic_ns,
        read_wall_ns: Callable[[], int] = wall_ns,
    ) -> None:  # fmt: skip
        self.name, self._address, self._wire, self._session = name, address, wire, session
        self._timings, self._random, self._now_ns, self._wall_ns = timings, random, now_ns, read_wall_ns
        self._task: asyncio.Task[None] | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._settled = asyncio.Event()
        self._urge = asyncio.Event()
        self._fault: str | None = None
        self._heard_ns = self._pinged_ns = 0
        self._is_ping_open = False
        self.is_up = False
        self.connections = 0
        self.last_problem = "not connected yet"

    async def open(self, timeout_s: float) -> None:
        """Connect and wait until everything was acknowledged; afterwards stay connected until `close`.

        Raises UnavailableError, with the last problem, when that takes longer than `timeout_s`.
        """
        self._task = asyncio.create_task(self._stay(), name=f"socket {self.name}")
        try:
            async with asyncio.timeout(timeout_s):
                await self._settled.wait()
        except TimeoutError:
            problem = self.last_problem
            await self.close()
            raise UnavailableError(f"{self.name} was not ready in {timeout_s:g} s: {problem}") from None
        except asyncio.CancelledError:
            await self.close()
            raise

    async def close(self) -> None:
        """Disconnect and stop; closing twice is no error."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def pong(self) -> None:
        """Learn from the wire that the last ping was answered."""
        self._is_ping_open = False

    def fail(self, reason: str) -> None:
        """Give the connection up, and make another one after a wait."""
        self._fault = self._fault or reason
        self._urge.set()

    async def say(self, text: str) -> bool:
        """Send a frame; False when there is no connection, which then greets anew anyway."""
        socket = self._socket
        if socket is None or socket.closed:
            return False
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await socket.send_str(text)
        except _LOST as error:
            self.fail(f"nothing could be sent: {_name(error)}")
            return False
        return True

    async def _stay(self) -> None:
        failures = 0
        while True:
            since_ns = self._now_ns()
            was_up = await self._attempt()
            is_good = was_up and _seconds(self._now_ns() - since_ns) >= GOOD_AFTER_S
            failures = 1 if is_good else failures + 1
            await asyncio.sleep(
                full_jitter_s(failures, self._random, first_s=self._timings.first_s, most_s=self._timings.most_s)
            )

    async def _attempt(self) -> bool:
        """Hold one connection as long as it is good; return whether it ever was up."""
        socket: aiohttp.ClientWebSocketResponse | None = None
        reason, was_up = "closed", False
        try:
            socket = await self._dial()
            reason = await self._serve(socket)
        except _LOST as error:
            reason = _name(error)
        except Exception as error:  # noqa: BLE001 - one bad frame must not end the market's data for good
            reason = f"programmer error: {_name(error)}"
            context = {"message": f"socket {self.name} failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
        finally:
            # Told before the goodbye, which a dead peer lets us wait for.
            was_up, self.is_up, self._socket, self.last_problem = self.is_up, False, None, reason
            self._wire.on_down(reason)
            if socket is not None:
                await socket.close()
        return was_up

    async def _dial(self) -> aiohttp.ClientWebSocketResponse:
        async with asyncio.timeout(self._timings.connect_s):
            address = await self._address()
            return await self._session.ws_connect(
                address, max_msg_size=FRAME_BYTES_MAX, timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT_S)
            )

    async def _serve(self, socket: aiohttp.ClientWebSocketResponse) -> str:
        now_ns = self._now_ns()
        self._fault, self._is_ping_open = None, False
        self._urge.clear()
        self._socket, self._heard_ns, self._pinged_ns = socket, now_ns, now_ns
        self.connections += 1
        # Greeted before listening: nothing that is said before it is a reply to us.
        greeting = self._wire.greet()
        both = {asyncio.create_task(self._listen(socket)), asyncio.create_task(self._watch(now_ns))}
        try:
            for text in greeting:
                if not await self.say(text):
                    break
            done, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            return next(iter(done)).result()
        finally:
            for task in both:
                task.cancel()
            await asyncio.wait(both)
            for task in both:
                if not task.cancelled():
                    # Of two failures one is raised; the other must not be reported as never retrieved.
                    task.exception()

    async def _listen(self, socket: aiohttp.ClientWebSocketResponse) -> str:
        take, text, binary = self._wire.on_frame, aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY
        while True:
            message = await socket.receive()
            if message.type is not binary and message.type is not text:
                if message.type in _END:
                    return f"the venue closed the connection ({socket.close_code or 'no code'})"
                continue
            self._heard_ns = self._now_ns()
            take(message.data)
            if not self.is_up and self._wire.is_settled and self._fault is None:
                self.is_up = True
                self._wire.on_up()
                self._settled.set()

    async def _watch(self, since_ns: int) -> str:
        timings = self._timings
        age_max_s = timings.age_max_s * (1.0 - AGE_SPREAD * self._random.random())
        tick_s = min(timings.ack_s, timings.ping_every_s, timings.pong_s, timings.idle_max_s, age_max_s) / 4
        pauses = PauseWatch(every_s=tick_s, now_ns=self._wall_ns)
        while self._fault is None:
            if pause_s := pauses.look():
                # Neither its end nor an unanswered ping may have been noticed.
                return told(pause_s)
            now_ns = self._now_ns()
            age_s = _seconds(now_ns - since_ns)
            if not self.is_up and age_s > timings.ack_s:
                return f"not everything was acknowledged in {timings.ack_s:g} s"
            if _seconds(now_ns - self._heard_ns) > timings.idle_max_s:
                return f"nothing came for {timings.idle_max_s:g} s"
            if age_s > age_max_s:
                return "the connection is old: a new one before the venue cuts it"
            if self._is_ping_open and _seconds(now_ns - self._pinged_ns) > timings.pong_s:
                return f"a ping was not answered in {timings.pong_s:g} s"
            if not self._is_ping_open and _seconds(now_ns - self._pinged_ns) >= timings.ping_every_s:
                await self._ping(now_ns)
            try:
                async with asyncio.timeout(tick_s):
                    await self._urge.wait()
            except TimeoutError:
                continue
        return self._fault

    async def _ping(self, now_ns: int) -> None:
        self._pinged_ns = now_ns
        text = self._wire.ping()
        if text is not None:
            self._is_ping_open = True
            await self.say(text)


def shards[T](groups: Iterable[Sequence[T]], most: int) -> list[list[T]]:
    """Return the groups packed into lists of at most `most`, in order; a group stays together where it fits.

    Raises ValueError for a group larger than `most`.
    """
    packed: list[list[T]] = []
    for group in groups:
        if len(group) > most:
            raise ValueError(f"{len(group)} subscriptions of one market do not fit into {most}")
        if not packed or len(packed[-1]) + len(group) > most:
            packed.append([])
        packed[-1].extend(group)
    return packed


def _seconds(nanoseconds: int) -> float:
    return nanoseconds / NANOSECONDS_PER_SECOND


def _name(error: BaseException) -> str:
    # The class and the first line: an address with a listen key in it must not get into a log.
    text = str(error).partition("\n")[0].partition("?")[0]
    return f"{type(error).__name__}: {text}"[:200] if text else type(error).__name__
