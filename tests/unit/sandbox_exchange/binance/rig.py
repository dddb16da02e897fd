"""A Binance venue in this process, on a free port of loopback, with a still book."""

import asyncio
import hashlib
import hmac
import json
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from urllib.parse import urlencode

import aiohttp
from aiohttp import web

from services.sandbox_exchange import binance
from services.sandbox_exchange.core.exchange import SandboxExchange
from services.sandbox_exchange.core.faults import Fault, FaultName, Faults
from services.sandbox_exchange.core.model import (
    HOUSE,
    Account,
    FeeSettings,
    Market,
    OrderKind,
    Permission,
    PlaceOrder,
)
from services.sandbox_exchange.markets.recorded import RecordedMarket
from services.sandbox_exchange.wire.context import Venue
from services.sandbox_exchange.wire.http import BODY_BYTES_MAX
from services.sandbox_exchange.wire.socket import kill_sockets
from shared.clock import wall_ns
from shared.messages import Instrument, Side

D = Decimal
SYMBOL, KEY, SECRET = "BTCUSDT", "traderkey", "tradersecret"
WITHDRAWER = Account("boss", "bosskey", "bosssecret", frozenset(Permission))
WRITER = Account("writer", "writekey", "writesecret", frozenset({Permission.TRADE}))
READER = Account("reader", "readkey", "readsecret", frozenset({Permission.READ}))
BTC = Instrument("BTC-USDT", "BTC", "USDT", D("0.01"), D("0.00001"), D("0.00001"), D(5))
ETH = Instrument("ETH-USDT", "ETH", "USDT", D("0.01"), D("0.0001"), D("0.0001"), D(5))
TIMEOUT_S = 10.0
Json = dict  # what a client sees of an answer


class Rig:
    """Hold a running venue and a plain client."""

    def __init__(self, venue: Venue, base: str, session: aiohttp.ClientSession) -> None:
        self.venue, self.exchange, self.session = venue, venue.exchange, session
        self.base, self.ws_base = base, base.replace("http", "ws")

    def arm(self, name: FaultName, **fields) -> int:
        return self.venue.faults.arm(Fault(name=name, **fields))

    def house(self, side: Side, quantity: str, price: str, symbol: str = SYMBOL) -> None:
        """Rest an order of the background market."""
        order = PlaceOrder(HOUSE, symbol, side, OrderKind.LIMIT, quantity=D(quantity), price=D(price))
        self.exchange.place(order, self.venue.now_ns())

    def strike(self, side: Side, quantity: str, symbol: str = SYMBOL) -> None:
        """Let the background market take."""
        self.exchange.place(
            PlaceOrder(HOUSE, symbol, side, OrderKind.MARKET, quantity=D(quantity)), self.venue.now_ns()
        )

    async def get(self, path: str, **params):
        async with self.session.get(self.base + path, params=params) as answer:
            return answer.status, await answer.json()

    async def signed(
        self, method: str, path: str, *, key: str = KEY, secret: str = SECRET, shift_ms: int = 0, **params
    ):
        """Send a signed request and return status, body and headers."""
        text = urlencode({"timestamp": self.venue.now_ns() // 1_000_000 + shift_ms, **params})
        text += "&signature=" + hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
        url, data = self.base + path, None
        if method in {"POST", "PUT"}:
            data = text
        else:
            url += "?" + text
        headers = {"X-MBX-APIKEY": key, "Content-Type": "application/x-www-form-urlencoded"}
        async with self.session.request(method, url, data=data, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None), answer.headers

    async def order(self, **params):
        """Place an order; returns status and body."""
        defaults = {"symbol": SYMBOL, "side": "BUY", "type": "LIMIT", "timeInForce": "GTC"}
        wanted = {name: value for name, value in (defaults | params).items() if value is not None}
        status, body, _ = await self.signed("POST", "/api/v3/order", **wanted)
        return status, body

    def sign_ws(self, *, key: str = KEY, secret: str = SECRET, **params) -> Json:
        """Return parameters of the ws-api with key, time and signature."""
        values = {"apiKey": key, "timestamp": self.venue.now_ns() // 1_000_000, **params}
        text = "&".join(f"{name}={values[name]}" for name in sorted(values))
        return values | {"signature": hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()}


class Reader:
    """Read a websocket's JSON frames and keep those that nobody has asked for yet."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.kept: list[Json] = []

    async def ask(self, method: str, params: object = None, number: object = 1) -> Json:
        """Send a request and return the answer with its id."""
        request = {"method": method, "id": number}
        await self.socket.send_str(json.dumps(request if params is None else request | {"params": params}))
        return await self.until(lambda frame: frame.get("id") == number and "event" not in frame)

    async def until(self, wanted: Callable[[Json], bool], timeout_s: float = TIMEOUT_S) -> Json:
        """Return the first frame, kept or new, that is wanted; others are kept."""
        for place, frame in enumerate(self.kept):
            if wanted(frame):
                return self.kept.pop(place)
        async with asyncio.timeout(timeout_s):
            while True:
                frame = await self.next()
                if wanted(frame):
                    return frame
                self.kept.append(frame)

    async def next(self) -> Json:
        """Return the next frame from the wire."""
        message = await self.socket.receive(TIMEOUT_S)
        assert message.type is aiohttp.WSMsgType.TEXT, message
        return json.loads(message.data)


@asynccontextmanager
async def rig(
    recorded: Sequence[RecordedMarket] = (),
    speed: float | None = None,
    clock: Callable[[], int] = wall_ns,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Rig]:
    fees = FeeSettings(third_asset="BNB", third_asset_price=D(500))
    exchange = SandboxExchange(fees=fees)
    venue = Venue("binance", exchange, Faults(lambda: 0.5), clock=clock)
    now_ns = venue.now_ns()
    for symbol, grid in (("BTCUSDT", BTC), ("ETHUSDT", ETH)):
        if symbol not in {one.symbol for one in recorded}:
            exchange.list_market(Market(symbol, grid, maker_rate=D("0.001"), taker_rate=D("0.001")))
    exchange.open_account(Account("trader", KEY, SECRET), {"USDT": D(100_000), "BTC": D(2), "BNB": D(10)}, now_ns)
    exchange.open_account(WITHDRAWER, {"USDT": D(100)}, now_ns)
    exchange.open_account(WRITER, {"USDT": D(100)}, now_ns)
    exchange.open_account(READER, {"USDT": D(100)}, now_ns)
    app = web.Application(client_max_size=BODY_BYTES_MAX)
    app.router.add_routes(binance.routes(venue, recorded, recorded_speed=speed))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    try:
        async with aiohttp.ClientSession() as session:
            found = Rig(venue, f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}", session)
            if not recorded:
                fill_books(found)
            yield found
    finally:
        kill_sockets(venue)
        await runner.cleanup()


def fill_books(found: Rig) -> None:
    for symbol, middle in (("BTCUSDT", 60_000), ("ETHUSDT", 3_000)):
        for level in range(1, 31):
            found.house(Side.BUY, "0.5", str(middle - level), symbol)
            found.house(Side.SELL, "0.5", str(middle + level), symbol)


@asynccontextmanager
async def connected(found: Rig, path: str) -> AsyncIterator[Reader]:
    async with found.session.ws_connect(found.ws_base + path) as socket:
        yield Reader(socket)
