"""A venue whose wire says nothing but what the shared parts say: for tests of HTTP faults and sockets."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable

import aiohttp
from aiohttp import web

from services.sandbox_exchange.core.exchange import SandboxExchange
from services.sandbox_exchange.core.faults import Fault, FaultName, Faults
from services.sandbox_exchange.wire.context import Venue
from services.sandbox_exchange.wire.http import BODY_BYTES_MAX, CREATE_ROUTE, with_faults
from services.sandbox_exchange.wire.limits import Charge, Limits, Rule
from services.sandbox_exchange.wire.socket import ClientSocket, SocketRules


class Rig:
    """Count what a venue executes, and give its parts."""

    def __init__(self, rules: SocketRules) -> None:
        self.venue = Venue("test", SandboxExchange(), Faults(random.Random(1).random))
        self.executed = 0
        self.heard: list[str | bytes] = []
        self.opened: asyncio.Queue[ClientSocket] = asyncio.Queue()
        self.session: aiohttp.ClientSession
        self.url = ""
        self._rules = rules

    def arm(self, name: FaultName, **fields: object) -> int:
        """Arm a fault."""
        return self.venue.faults.arm(Fault(name=name, **fields))  # type: ignore[arg-type]

    async def order(self, **options: object) -> aiohttp.ClientResponse:
        """Place an order, so to say."""
        options.setdefault("data", {"symbol": "BTCUSDT"})
        async with self.session.post(self.url + "/api/v3/order", **options) as answer:  # type: ignore[arg-type]
            await answer.read()
            return answer

    @contextlib.asynccontextmanager
    async def socket(self, **options: object) -> AsyncIterator[tuple[aiohttp.ClientWebSocketResponse, ClientSocket]]:
        """Connect, and give both ends."""
        async with self.session.ws_connect(self.url + "/ws", **options) as client:  # type: ignore[arg-type]
            yield client, await asyncio.wait_for(self.opened.get(), 5)

    def routes(self) -> list[web.RouteDef]:
        """Return the venue's routes."""
        self.venue.limits = Limits({"ip": Rule(1000, 10)})

        async def place(request: web.Request) -> web.Response:
            self.venue.charge(request, [Charge("ip", "all")])
            await request.read()
            self.executed += 1
            return web.json_response({"orderId": self.executed})

        async def look(_: web.Request) -> web.Response:
            return web.json_response({"bids": []})

        async def stream(request: web.Request) -> web.WebSocketResponse:
            socket = ClientSocket(self.venue, self._rules, path="public")

            async def hear(message: str | bytes) -> None:
                self.heard.append(message)
                if message == "hello":
                    self.opened.put_nowait(socket)
                socket.post(f"heard {message!r}")

            self.opened.put_nowait(socket)
            return await socket.run(request, hear)

        return [
            web.post("/api/v3/order", with_faults(self.venue, CREATE_ROUTE, place, refuse=refuse)),
            web.get("/api/v3/depth", with_faults(self.venue, "GET /api/v3/depth", look, refuse=refuse)),
            web.get("/ws", stream),
        ]


def refuse(status: int, reason: str) -> web.Response:
    """Refuse in this venue's words."""
    return web.json_response({"code": -status, "msg": reason}, status=status)


@contextlib.asynccontextmanager
async def running(rules: SocketRules | None = None) -> AsyncIterator[Rig]:
    """Serve a rig on a free loopback port."""
    rig = Rig(rules or SocketRules())
    app = web.Application(client_max_size=BODY_BYTES_MAX)
    app.router.add_routes(rig.routes())
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    rig.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with aiohttp.ClientSession() as session:
            rig.session = session
            yield rig
    finally:
        await runner.cleanup()


async def until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Wait until it is true."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - the venue tells nobody when its counters change
            await asyncio.sleep(0.01)
