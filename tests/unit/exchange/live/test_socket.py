"""A socket comes up when all is acknowledged, is given up when it lies, and always comes back."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from shared.clock import NANOSECONDS_PER_SECOND, wall_ns
from shared.errors import UnavailableError
from shared.exchange.live.socket import LiveSocket, Timings, shards

FAST = Timings(
    connect_s=2.0, ack_s=0.3, ping_every_s=0.05, pong_s=0.2, idle_max_s=0.5, age_max_s=60.0, first_s=0.01, most_s=0.05
)
Behaviour = Callable[[web.WebSocketResponse, str], Awaitable[None]]


class Wire:
    """Ask for one thing; keep what came."""

    def __init__(self) -> None:
        self.socket: LiveSocket | None = None
        self.is_settled = False
        self.frames: list[bytes | str] = []
        self.states: list[str] = []
        self.greetings = 0
        self.pings = True

    def greet(self) -> Sequence[str]:
        self.is_settled = False
        self.greetings += 1
        return ["hello"]

    def ping(self) -> str | None:
        return "ping" if self.pings else None

    def on_frame(self, frame: bytes | str) -> None:
        if frame == "pong":
            assert self.socket is not None
            self.socket.pong()
        elif frame == "ack":
            self.is_settled = True
        elif frame == "bad":
            raise ValueError("unreadable")
        elif frame == "bug":
            raise RuntimeError("a bug")
        else:
            self.frames.append(frame)

    def on_up(self) -> None:
        self.states.append("up")

    def on_down(self, reason: str) -> None:
        self.states.append(reason)


class Server:
    """Be a websocket server whose connections behave as `behaviours` say, the last one for ever."""

    def __init__(self, *behaviours: Behaviour) -> None:
        self._behaviours = list(behaviours)
        self.connections = 0
        self.open: list[web.WebSocketResponse] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(timeout=0.1)
        await socket.prepare(request)
        self.open.append(socket)
        behaviour = self._behaviours[min(self.connections, len(self._behaviours) - 1)]
        self.connections += 1
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await behaviour(socket, message.data)
        return socket


async def good(socket: web.WebSocketResponse, text: str) -> None:
    await socket.send_str({"hello": "ack", "ping": "pong"}.get(text, text))


def answering(**answers: str | None) -> Behaviour:
    async def behave(socket: web.WebSocketResponse, text: str) -> None:
        answer = {"hello": "ack", "ping": "pong", **answers}.get(text)
        if answer is not None:
            await socket.send_str(answer)

    return behave


@asynccontextmanager
async def connected(
    *behaviours: Behaviour,
    timings: Timings = FAST,
    is_open: bool = True,
    read_wall_ns: Callable[[], int] = wall_ns,
) -> AsyncIterator[tuple[LiveSocket, Wire, Server]]:
    server, wire = Server(*behaviours), Wire()
    app = web.Application()
    app.router.add_get("/ws", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/ws"

    async def address() -> str:
        return server.url

    async with aiohttp.ClientSession() as session:
        socket = LiveSocket("test", address, wire, session, timings, random=Random(1), read_wall_ns=read_wall_ns)
        wire.socket = socket
        try:
            if is_open:
                await socket.open(5.0)
            yield socket, wire, server
        finally:
            await socket.close()
            await runner.cleanup()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


async def test_opening_waits_for_the_acknowledgement() -> None:
    async with connected(good) as (socket, wire, _):
        assert wire.states == ["up"]
        assert socket.is_up


async def test_closing_tells_it_once_and_twice_is_no_error() -> None:
    async with connected(good) as (socket, wire, server):
        await socket.close()
        await socket.close()
        assert wire.states == ["up", "closed"]
        assert not socket.is_up
        assert not await socket.say("anything")
        assert server.connections == 1


async def test_a_frame_is_handed_on_as_it_came() -> None:
    async with connected(good) as (_, wire, server):
        await server.open[0].send_bytes(b"\x01")
        await server.open[0].send_str("text")
        await until(lambda: wire.frames == [b"\x01", "text"])


async def test_a_burst_of_40000_frames_arrives_complete_and_in_order() -> None:
    async with connected(good) as (_, wire, server):
        for number in range(40_000):
            await server.open[0].send_bytes(number.to_bytes(4, "big"))
        await until(lambda: len(wire.frames) == 40_000)
        assert wire.frames == [number.to_bytes(4, "big") for number in range(40_000)]


async def test_a_connection_of_before_the_computer_slept_is_replaced() -> None:
    slept_ns = 0
    async with connected(good, read_wall_ns=lambda: wall_ns() + slept_ns) as (socket, wire, server):
        await asyncio.sleep(FAST.ping_every_s)
        assert wire.states == ["up"]
        slept_ns = 60 * NANOSECONDS_PER_SECOND
        await until(lambda: server.connections == 2 and socket.is_up)
        assert wire.states == ["up", "this computer slept for 60 s, or its clock was set", "up"]


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (answering(hello=None), "acknowledged"),
        (answering(ping=None), "ping was not answered"),
        (answering(ping="bad"), "unreadable"),
    ],
)
async def test_a_connection_that_cannot_be_trusted_is_replaced(first: Behaviour, words: str) -> None:
    async with connected(first, good, is_open=False) as (socket, wire, server):
        await socket.open(5.0)
        await until(lambda: server.connections >= 2 and socket.is_up)
        assert any(words in state for state in wire.states)
        assert wire.states[-1] == "up"
        assert wire.greetings == server.connections


async def test_a_silent_socket_is_replaced_though_tcp_is_alive() -> None:
    async with connected(answering(ping=None), good, is_open=False) as (socket, wire, server):
        wire.pings = False
        await socket.open(5.0)
        await until(lambda: server.connections >= 2)
        assert any("nothing came" in state for state in wire.states)


async def test_a_killed_connection_is_made_again_and_greeted_again() -> None:
    async with connected(good) as (socket, wire, server):
        await server.open[0].close()
        await until(lambda: server.connections == 2 and socket.is_up)
        assert wire.states[0] == "up"
        assert "closed the connection" in wire.states[1]
        assert wire.states[-1] == "up"


async def test_an_old_connection_is_replaced_before_the_venue_cuts_it() -> None:
    async with connected(good, timings=Timings(age_max_s=0.2, first_s=0.01)) as (_, wire, server):
        await until(lambda: server.connections >= 3)
        assert any("old" in state for state in wire.states)


async def test_a_bug_in_a_handler_is_reported_and_does_not_end_the_data() -> None:
    reported: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    async with connected(good) as (socket, wire, server):
        await server.open[0].send_str("bug")
        await until(lambda: server.connections == 2 and socket.is_up)
        assert "programmer error" in wire.states[1]
    assert [type(one["exception"]) for one in reported] == [RuntimeError]


async def test_a_venue_that_is_not_there_is_unavailable_with_the_reason() -> None:
    async with connected(good, is_open=False) as (socket, wire, server):
        server.url = "http://127.0.0.1:9/ws?listenKey=secret"
        with pytest.raises(UnavailableError, match="not ready in") as refused:
            await socket.open(0.3)
        assert "secret" not in str(refused.value)
        assert all("secret" not in state for state in wire.states)
        assert not socket.is_up


def test_subscriptions_of_a_market_share_a_socket_where_they_fit() -> None:
    assert shards([[1, 2, 3], [4, 5, 6], [7, 8]], 5) == [[1, 2, 3], [4, 5, 6, 7, 8]]
    assert shards([[number] for number in range(31)], 30)[1] == [30]
    assert shards([], 30) == []
    with pytest.raises(ValueError, match="do not fit"):
        shards([[1, 2]], 1)
