"""A MEXC-speaking venue on a free port, with a small book that nobody moves but the tests."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import aiohttp
import msgspec
from aiohttp import web
from ccxt.protobuf.mexc.PushDataV3ApiWrapper_pb2 import PushDataV3ApiWrapper
from yarl import URL

from services.sandbox_exchange import mexc
from services.sandbox_exchange.core.exchange import SandboxExchange
from services.sandbox_exchange.core.faults import Fault, Faults
from services.sandbox_exchange.core.model import (
    HOUSE,
    Account,
    FeeSettings,
    Market,
    OrderKind,
    PlaceOrder,
    VenueOrder,
)
from services.sandbox_exchange.wire.context import Venue
from shared.clock import wall_ns
from shared.matching import FeeMode
from shared.messages import Instrument, Side

SECRET = "s3cret"
D = Decimal


def instrument(base: str, tick: str, step: str, least: str) -> Instrument:
    return Instrument(f"{base}-USDT", base, "USDT", D(tick), D(step), D(least), D(5))


class Rig:
    """Hold the venue and talk to it as a client does."""

    def __init__(self) -> None:
        fees = FeeSettings(third_asset="MX", third_asset_price=D("2"), mode=FeeMode.GET)
        self.exchange = SandboxExchange(fees=fees)
        self.now_ns: Callable[[], int] = wall_ns
        self.venue = Venue("mexc", self.exchange, Faults(lambda: 0.0), clock=self.tell_time)
        self.exchange.list_market(Market("BTCUSDT", instrument("BTC", "0.01", "0.0001", "0.0001")))
        self.exchange.list_market(Market("ETHUSDT", instrument("ETH", "0.1", "0.001", "0.001")))
        self.open("trader", {"USDT": D(10_000), "BTC": D(1), "MX": D(1000)})
        for level in range(1, 6):
            self.house(Side.BUY, D(100) - D(level), D(1))
            self.house(Side.SELL, D(100) + D(level), D(1))
        self.url = ""
        self.session: aiohttp.ClientSession

    def tell_time(self) -> int:
        return self.now_ns()

    def open(self, name: str, deposits: Mapping[str, Decimal] | None = None, **fields: Any) -> None:
        self.exchange.open_account(Account(name, f"key-{name}", SECRET, **fields), deposits or {}, wall_ns())

    def house(self, side: Side, price: Decimal, quantity: Decimal, symbol: str = "BTCUSDT") -> VenueOrder:
        request = PlaceOrder(HOUSE, symbol, side, OrderKind.LIMIT, quantity=quantity, price=price)
        return self.exchange.place(request, self.venue.now_ns())[0]

    def arm(self, name: str, **fields: Any) -> int:
        return self.venue.faults.arm(msgspec.convert({"name": name, **fields}, Fault))

    def signed(self, params: Mapping[str, object], *, secret: str = SECRET) -> str:
        stamped = {"timestamp": self.venue.now_ns() // 1_000_000, "recvWindow": 5000} | dict(params)
        query = urlencode({name: value for name, value in stamped.items() if value is not None})
        return f"{query}&signature={hmac.new(secret.encode(), query.encode(), hashlib.sha256).hexdigest()}"

    async def raw(self, method: str, path_and_query: str, key: str | None = None) -> tuple[int, Any]:
        headers = {} if key is None else {"X-MEXC-APIKEY": key}
        async with self.session.request(method, URL(self.url + path_and_query, encoded=True), headers=headers) as reply:
            body = await reply.text()
            return reply.status, json.loads(body) if "json" in reply.content_type else body

    async def get(self, path: str, **params: object) -> tuple[int, Any]:
        return await self.raw("GET", f"/api/v3/{path}?{urlencode(params)}")

    async def call(self, method: str, path: str, account: str = "trader", **params: object) -> tuple[int, Any]:
        return await self.raw(method, f"/api/v3/{path}?{self.signed(params)}", f"key-{account}")

    async def order(self, **params: object) -> tuple[int, Any]:
        defaults = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "quantity": "0.1", "price": "99"}
        chosen = {name: value for name, value in (defaults | params).items() if value is not None}
        return await self.call("POST", "order", **chosen)

    async def listen_key(self) -> str:
        return str((await self.call("POST", "userDataStream"))[1]["listenKey"])

    async def stream(self, *channels: str, key: str | None = None) -> "Stream":
        query = "" if key is None else f"?listenKey={key}"
        stream = Stream(await self.session.ws_connect(f"{self.url}/ws{query}"))
        if channels:
            await stream.ask("SUBSCRIPTION", *channels)
        return stream


class Stream:
    """Read one websocket, with a time limit on everything."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.frames: list[PushDataV3ApiWrapper] = []

    async def receive(self, timeout_s: float = 5.0) -> aiohttp.WSMessage:
        async with asyncio.timeout(timeout_s):
            return await self.socket.receive()

    async def text(self) -> Any:
        """Return the next text; frames that come before it are kept for `frame`."""
        while True:
            message = await self.receive()
            if message.type is aiohttp.WSMsgType.TEXT:
                return json.loads(message.data) if message.data.startswith("{") else message.data
            assert message.type is aiohttp.WSMsgType.BINARY, message
            self.frames.append(PushDataV3ApiWrapper.FromString(message.data))

    async def frame(self) -> PushDataV3ApiWrapper:
        if self.frames:
            return self.frames.pop(0)
        message = await self.receive()
        assert message.type is aiohttp.WSMsgType.BINARY, message
        return PushDataV3ApiWrapper.FromString(message.data)

    async def send(self, method: str, *channels: str) -> None:
        await self.socket.send_json({"method": method, "params": list(channels)} if channels else {"method": method})

    async def ask(self, method: str, *channels: str) -> Any:
        await self.send(method, *channels)
        return await self.text()


@asynccontextmanager
async def running_rig() -> AsyncIterator[Rig]:
    rig = Rig()
    app = web.Application(client_max_size=64 * 1024)
    app.router.add_routes(mexc.routes(rig.venue))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    rig.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with aiohttp.ClientSession() as rig.session:
            yield rig
    finally:
        for socket in list(rig.venue.sockets):
            socket.cut("test over")
        await runner.cleanup()
