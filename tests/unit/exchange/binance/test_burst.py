"""A burst over a real socket: ccxt.pro keeps 20,001 of these 40,000 trades and says nothing."""

import asyncio
import json
from random import Random

import aiohttp
from aiohttp import web

from shared.exchange.binance.feed import MarketFeed
from shared.exchange.binance.stream import MarketWire, stream_names
from shared.exchange.live.socket import LiveSocket, Timings
from shared.exchange.port import Streams
from shared.testing.market_sink import RecordingSink

TRADES = 40_000
STREAMS = Streams(bbo=False, book=False)


async def serve(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    asked = json.loads((await socket.receive()).data)
    await socket.send_str(json.dumps({"result": None, "id": asked["id"]}))
    for number in range(1, TRADES + 1):
        await socket.send_str(
            f'{{"e":"trade","E":1723161255208,"s":"BTCUSDT","t":{number},"p":"61685.99","q":"0.001",'
            '"T":1723161255208,"m":true,"M":true}'
        )
    await socket.receive()
    return socket


async def test_burst_of_40000_trades_arrives_complete_and_in_order() -> None:
    app = web.Application()
    app.router.add_get("/ws", serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    sink = RecordingSink()
    feed = MarketFeed("binance", "BTC-USDT", STREAMS, sink, stale_after_s=60.0, want_snapshot=lambda *_: None)
    wire = MarketWire(stream_names("BTCUSDT", STREAMS), {"BTCUSDT": feed}, lambda _: None)

    async def address() -> str:
        return f"ws://127.0.0.1:{port}/ws"

    try:
        async with aiohttp.ClientSession() as session:
            socket = LiveSocket("burst", address, wire, session, Timings(), random=Random(1))
            wire.socket = socket
            await socket.open(10.0)
            async with asyncio.timeout(20):
                while len(sink.trades) < TRADES:  # noqa: ASYNC110 - the sink is called, it does not call
                    await asyncio.sleep(0.01)
            await socket.close()
    finally:
        await runner.cleanup()
    assert [int(trade.trade_id) for trade in sink.trades] == list(range(1, TRADES + 1))
    assert feed.trades_lost == 0
