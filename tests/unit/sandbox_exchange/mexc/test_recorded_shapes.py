"""What the sandbox answers has the keys and the kinds of values that MEXC's recorded answers have."""

import json
from urllib.parse import parse_qsl, urlsplit

import pytest

from shared.testing.data import data_file

# The recorder put whole numbers into quotes that are none in MEXC's answers; `count` and the like are null or a number.
WHOLE = {"lastUpdateId", "timestamp", "orderListId", "time", "updateTime", "T", "openTime", "closeTime"}
# Newer than the recording, in MEXC's documentation.
NEWER = {"fetchOrders": {"stpMode"}}


def recorded(name):
    return json.loads(data_file(f"ccxt_static/mexc_{name}_spot.json").read_text(encoding="utf-8"))


async def answer(rig, method):
    await rig.order(price="101", quantity="1")
    return {
        "fetchOrderBook": lambda: rig.get("depth", symbol="BTCUSDT", limit=1),
        "fetchMyTrades": lambda: rig.call("GET", "myTrades", symbol="BTCUSDT"),
        "fetchOrders": lambda: rig.call("GET", "allOrders", symbol="BTCUSDT"),
        "fetchTrades": lambda: rig.get("aggTrades", symbol="BTCUSDT"),
        "fetchTicker": lambda: rig.get("ticker/24hr", symbol="BTCUSDT"),
        "fetchOHLCV": lambda: rig.get("klines", symbol="BTCUSDT", interval="60m"),
    }[method]


def kind(value, key=None):
    if key in WHOLE and isinstance(value, str):
        value = int(value)
    return type(value).__name__


def shape(value, extra=frozenset()):
    if isinstance(value, dict):
        return {name: kind(one, name) for name, one in value.items() if name not in extra}
    return [kind(one) for one in value]


@pytest.mark.parametrize("method", ["fetchOrderBook", "fetchMyTrades", "fetchOrders", "fetchTrades", "fetchTicker"])
async def test_answer_has_the_recorded_keys_and_kinds(rig, method):
    wanted = recorded("response")[method]["httpResponse"]
    status, given = await (await answer(rig, method))()
    assert status == 200
    if isinstance(wanted, list):
        wanted, given = wanted[0], given[0]
    extra = NEWER.get(method, set())
    assert extra <= set(given)
    assert shape(given, extra) == shape(wanted)
    for name, value in wanted.items():
        if isinstance(value, list):
            assert [[kind(one) for one in row] for row in given[name]] == [[kind(one) for one in row] for row in value]


async def test_candle_begins_as_the_recorded_one(rig):
    wanted = recorded("response")["fetchOHLCV"]["httpResponse"][0]
    given = (await (await answer(rig, "fetchOHLCV"))())[1][0]
    assert shape(given[: len(wanted)]) == shape(wanted)


async def test_every_recorded_request_has_a_route(rig):
    requests = recorded("request")
    methods = {name for name in requests if not name.startswith("_") and name != "skipKeys"}
    assert methods == {"createOrder", "fetchOrder", "fetchOrders", "fetchMyTrades"}
    count = 0
    for method in sorted(methods):
        for one in requests[method]:
            url = urlsplit(one["url"])
            verb = "POST" if method == "createOrder" else "GET"
            path = url.path.removeprefix("/api/v3/")
            status, body = await rig.call(verb, path, **dict(parse_qsl(url.query)))
            assert status == 400, one["url"]  # their markets are not listed here
            assert body["code"] == -1121, one["url"]
            count += 1
    assert count == 12


async def test_recorded_orders_are_understood_where_their_markets_are_listed(rig):
    for one in recorded("request")["createOrder"]:
        query = dict(parse_qsl(urlsplit(one["url"]).query)) | {"symbol": "BTCUSDT"}
        status, body = await rig.call("POST", "order/test", **query)
        assert status == 200 or body["code"] in {30002, 30004, 30005, 30010}, (one["url"], body)
