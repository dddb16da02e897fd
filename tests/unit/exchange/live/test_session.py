"""What a venue's answer must not make of a signed request, at both adapters' REST sides."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from shared.errors import UnavailableError, UnknownOutcomeError
from shared.exchange.binance.orders import OrderRow
from shared.exchange.binance.rest import BinanceRest
from shared.exchange.live.config import WireConfig
from shared.exchange.live.limits import PriorityBucket
from shared.exchange.mexc.rest import MexcRest
from shared.exchange.mexc.shapes import CreatedInfo

DEEP = b'{"new":' * 5_000
ORDER = {"symbol": "BTCUSDT", "newClientOrderId": "one"}


@asynccontextmanager
async def server(answer: web.Response, seen: list[str]) -> AsyncIterator[str]:
    """Serve one answer to everything but the venue's time, and note who asks."""

    async def handle(request: web.Request) -> web.Response:
        if request.path.endswith("/time"):
            return web.json_response({"serverTime": 1})
        seen.append(f"{request.method} {request.path}")
        return web.Response(status=answer.status, headers=answer.headers, body=answer.body)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def client(venue: str, url: str) -> AsyncIterator[MexcRest | BinanceRest]:
    config = WireConfig(
        venue=venue, rest_url=url, ws_url="ws://127.0.0.1:1", api_key="key", secret="secret", read_attempts_max=1
    )
    rest = MexcRest(config) if venue == "mexc" else BinanceRest(config)
    try:
        if isinstance(rest, BinanceRest):
            await rest.start()
        yield rest
    finally:
        await rest.close()


async def order(rest: MexcRest | BinanceRest) -> object:
    if isinstance(rest, MexcRest):
        return await rest.order("order", CreatedInfo, ORDER)
    return await rest.order("privatePostOrder", ORDER, OrderRow)


async def question(rest: MexcRest | BinanceRest) -> object:
    if isinstance(rest, MexcRest):
        return await rest.read("order", CreatedInfo, ORDER, signed=True)
    return await rest.read("privateGetOrder", ORDER, OrderRow, weight=1)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("venue", ["mexc", "binance"])
async def test_an_order_does_not_follow_a_redirect(venue: str, status: int) -> None:
    elsewhere: list[str] = []
    asked: list[str] = []
    async with server(web.Response(body=b'{"symbol":"BTCUSDT","orderId":"C1"}'), elsewhere) as other:
        redirect = web.Response(status=status, headers={"Location": f"{other}/api/v3/order"})
        async with server(redirect, asked) as url, client(venue, url) as rest:
            with pytest.raises(UnknownOutcomeError):
                await order(rest)
            with pytest.raises(UnavailableError):
                await question(rest)
    assert (asked, elsewhere) == (["POST /api/v3/order", "GET /api/v3/order"], [])


@pytest.mark.parametrize("venue", ["mexc", "binance"])
async def test_an_answer_too_deep_to_read_is_no_answer(venue: str) -> None:
    async with server(web.Response(body=DEEP), []) as url, client(venue, url) as rest:
        with pytest.raises(UnknownOutcomeError):
            await order(rest)
        with pytest.raises(UnavailableError):
            await question(rest)


async def test_mexcs_limit_counts_what_a_question_weighs() -> None:
    async with server(web.Response(body=b"[]"), []) as url, client("mexc", url) as rest:
        assert isinstance(rest, MexcRest)
        # Time stands still: what is spent does not come back.
        for path in ("myTrades", "openOrders"):
            rest._endpoints[path] = PriorityBucket(450.0, 10.0, burst=150.0, now_ns=lambda: 0)
        for _ in range(15):
            await rest.read("myTrades", list[CreatedInfo], ORDER, signed=True)
        await rest.read("openOrders", list[CreatedInfo], ORDER, signed=True)
        # 500 in ten seconds for each endpoint: fifty lists of trades, not sixteen a second for as long as it takes.
        assert rest._endpoints["myTrades"].wait_s(10) > 0
        assert rest._endpoints["openOrders"].wait_s(3) == 0
