"""Requests that make no sense are refused in Binance's own words, and change nothing."""

import pytest

from services.sandbox_exchange.core.faults import FaultName
from services.sandbox_exchange.core.model import TradingStatus
from services.sandbox_exchange.wire.http import BODY_BYTES_MAX
from tests.unit.sandbox_exchange.binance.rig import KEY, SYMBOL, connected, rig

PLACE = "/api/v3/order"
NOON_NS = 1_795_262_400_000_000_000  # a window of every limit begins here


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"symbol": "NOPEUSDT"}, -1121, "Invalid symbol."),
        ({"symbol": "btc/usdt"}, -1100, "Illegal characters found in parameter 'symbol'"),
        ({"symbol": None}, -1102, "Mandatory parameter 'symbol'"),
        ({"side": "HOLD"}, -1117, "Invalid side."),
        ({"type": "GUESS"}, -1116, "Invalid orderType."),
        ({"type": "STOP_LOSS"}, -2010, "Stop loss orders are not supported"),
        ({"timeInForce": None}, -1102, "Mandatory parameter 'timeInForce'"),
        ({"timeInForce": "GTX"}, -1115, "Invalid timeInForce."),
        ({"quantity": None}, -1102, "Mandatory parameter 'quantity'"),
        ({"quantity": ""}, -1105, "Parameter 'quantity' was empty."),
        ({"quantity": "1e3"}, -1100, "Illegal characters found in parameter 'quantity'"),
        ({"quantity": "NaN"}, -1100, "Illegal characters found in parameter 'quantity'"),
        ({"quantity": "0.01\n"}, -1100, "Illegal characters found in parameter 'quantity'"),
        ({"quantity": "-1"}, -1100, "Illegal characters found in parameter 'quantity'"),
        ({"quantity": "0"}, -1013, "Invalid quantity."),
        ({"quantity": "0.123456789"}, -1111, "Parameter 'quantity' has too much precision."),
        ({"price": "50000.123456789"}, -1111, "Parameter 'price' has too much precision."),
        ({"price": "50000.001"}, -1013, "Filter failure: PRICE_FILTER"),
        ({"quantity": "0.000015"}, -1013, "Filter failure: LOT_SIZE"),
        ({"quantity": "0.00001"}, -1013, "Filter failure: NOTIONAL"),
        ({"quantity": "1.9", "price": "59000", "side": "BUY"}, -2010, "Account has insufficient balance"),
        ({"type": "LIMIT_MAKER", "timeInForce": None, "price": "60010"}, -2010, "Order would immediately match"),
        ({"type": "MARKET", "timeInForce": None}, -1106, "Parameter 'price' sent when not required."),
        ({"type": "MARKET", "timeInForce": None, "price": None, "quantity": None}, -1102, "Param 'quantity' or"),
        ({"newClientOrderId": "a" * 37}, -1100, "Illegal characters found in parameter 'newClientOrderId'"),
        ({"newClientOrderId": "line\n"}, -1100, "Illegal characters found in parameter 'newClientOrderId'"),
        ({"newClientOrderId": "<script>"}, -1100, "Illegal characters found in parameter 'newClientOrderId'"),
        ({"selfTradePreventionMode": "MAYBE"}, -1130, "Data sent for parameter 'selfTradePreventionMode'"),
        ({"newClientOrderID": "typo"}, -1104, "Not all sent parameters were read; read '8'"),
        ({"stopPrice": "1"}, -1106, "Parameter 'stopPrice' sent when not required."),
    ],
)
async def test_order_is_refused_with_binances_code(changes, code, words) -> None:
    async with rig() as venue:
        status, body = await venue.order(**({"quantity": "0.01", "price": "50000"} | changes))
        assert (status, body["code"]) == (400, code)
        assert body["msg"].startswith(words)
        assert venue.exchange.orders("trader", SYMBOL) == []


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"secret": "wrong"}, 400, -1022),
        ({"key": "no key!"}, 401, -2014),
        ({"key": "unknownkey"}, 401, -2015),
        ({"shift_ms": -60_000}, 400, -1021),
        ({"shift_ms": 1_500}, 400, -1021),
        ({"recvWindow": "60001"}, 400, -1131),
        ({"recvWindow": "1", "shift_ms": -50}, 400, -1021),
        ({"key": "readkey", "secret": "readsecret"}, 401, -2015),
    ],
)
async def test_caller_is_refused_with_binances_code(fields, status, code) -> None:
    order = {"symbol": SYMBOL, "side": "BUY", "type": "MARKET", "quoteOrderQty": "100"}
    async with rig() as venue:
        seen, body, _ = await venue.signed("POST", PLACE, **order, **fields)
        assert (seen, body["code"]) == (status, code)
        assert venue.exchange.orders("trader", SYMBOL) == []


async def test_key_without_the_right_to_read_reads_nothing() -> None:
    async with rig() as venue:
        _, body, _ = await venue.signed("GET", "/api/v3/account", key="writekey", secret="writesecret")
        assert body["code"] == -2015


async def test_missing_signature_and_time_are_named() -> None:
    async with (
        rig() as venue,
        venue.session.get(f"{venue.base}/api/v3/account?timestamp=1", headers={"X-MBX-APIKEY": KEY}) as answer,
    ):
        assert (await answer.json())["msg"].startswith("Mandatory parameter 'signature'")


async def test_clock_skew_refuses_requests_of_our_time() -> None:
    async with rig() as venue:
        venue.arm(FaultName.CLOCK_SKEW, parameter=30.0, times=None)
        sent = await venue.signed("GET", "/api/v3/account", shift_ms=-30_000)
        assert sent[1]["code"] == -1021
        assert (await venue.signed("GET", "/api/v3/account"))[0] == 200


async def test_oversized_body_is_refused_and_nothing_is_placed() -> None:
    async with rig() as venue:
        seen, body, _ = await venue.signed("POST", PLACE, symbol=SYMBOL, padding="x" * BODY_BYTES_MAX)
        assert (seen, body["code"]) == (413, -1013)


async def test_duplicate_parameters_are_refused() -> None:
    async with rig() as venue, venue.session.get(f"{venue.base}/api/v3/depth?symbol=BTCUSDT&symbol=ETHUSDT") as answer:
        assert (await answer.json())["code"] == -1101


async def test_unknown_orders_have_a_code_for_query_and_one_for_cancel() -> None:
    async with rig() as venue:
        assert (await venue.signed("GET", PLACE, symbol=SYMBOL, orderId=99))[1]["code"] == -2013
        gone = await venue.signed("DELETE", PLACE, symbol=SYMBOL, origClientOrderId="x")
        assert gone[1] == {"code": -2011, "msg": "Unknown order sent."}
        assert (await venue.signed("DELETE", PLACE, symbol=SYMBOL))[1]["code"] == -1102
        assert (await venue.signed("DELETE", "/api/v3/openOrders", symbol=SYMBOL))[1]["code"] == -2011


async def test_closed_market_takes_no_orders() -> None:
    async with rig() as venue:
        venue.exchange.set_status(SYMBOL, TradingStatus.PAUSED, venue.venue.now_ns())
        status, body = await venue.order(quantity="0.01", price="50000")
        assert (status, body) == (400, {"code": -1013, "msg": "Market is closed."})
        _, info = await venue.get("/api/v3/exchangeInfo", symbol=SYMBOL)
        assert info["symbols"][0]["status"] == "BREAK"


async def test_client_order_id_is_taken_only_while_its_order_is_open() -> None:
    async with rig() as venue:
        wanted = {"quantity": "0.01", "price": "50000", "newClientOrderId": "same"}
        first = (await venue.order(**wanted))[1]
        assert (await venue.order(**wanted))[1] == {"code": -2010, "msg": "Duplicate order sent."}
        await venue.signed("DELETE", PLACE, symbol=SYMBOL, orderId=first["orderId"])
        assert (await venue.order(**wanted))[0] == 200
        assert len(venue.exchange.orders("trader", SYMBOL)) == 2


async def test_too_much_weight_is_429_and_asking_on_is_a_ban() -> None:
    async with rig(clock=lambda: NOON_NS) as venue:
        headers = None
        for number in range(60):
            async with venue.session.get(f"{venue.base}/api/v3/depth?symbol={SYMBOL}&limit=5000") as answer:
                headers = answer.headers
                if answer.status == 429:
                    break
                assert int(headers["X-MBX-USED-WEIGHT-1M"]) == 250 * (number + 1)
        assert answer.status == 429 and 1 <= int(headers["Retry-After"]) <= 60
        for _ in range(40):
            async with venue.session.get(f"{venue.base}/api/v3/ping") as answer:
                body = await answer.json()
        assert answer.status == 418 and body["code"] == -1003 and int(answer.headers["Retry-After"]) > 60


async def test_too_many_orders_have_their_own_code() -> None:
    async with rig(clock=lambda: NOON_NS) as venue:
        codes = []
        for _ in range(101):
            status, body = await venue.order(quantity="0.001", price="50000", newOrderRespType="ACK")
            codes.append((status, body.get("code")))
        assert codes == [(200, None)] * 100 + [(429, -1015)]


@pytest.mark.parametrize(
    ("path", "params", "code"),
    [
        ("/api/v3/depth", {"symbol": "NOPEUSDT"}, -1121),
        ("/api/v3/depth", {}, -1102),
        ("/api/v3/depth", {"symbol": SYMBOL, "limit": "many"}, -1100),
        ("/api/v3/klines", {"symbol": SYMBOL, "interval": "7m"}, -1120),
        ("/api/v3/ticker/24hr", {"symbol": "NOPEUSDT"}, -1121),
        ("/api/v3/exchangeInfo", {"symbols": '["BTCUSDT","BTCUSDT"]'}, -1151),
        ("/api/v3/aggTrades", {"symbol": SYMBOL, "fromId": "1", "startTime": "1"}, -1128),
    ],
)
async def test_public_questions_are_refused_with_binances_code(path, params, code) -> None:
    async with rig() as venue:
        status, body = await venue.get(path, **params)
        assert (status, body["code"]) == (400, code)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", 3),
        ('{"id":1}', 2),
        ('{"method":"LISTEN","id":1}', 2),
        ('{"method":"SUBSCRIBE","params":["btcusdt@nonsense"],"id":1}', 2),
        ('{"method":"SUBSCRIBE","params":[],"id":1}', 2),
        ('{"method":"SET_PROPERTY","params":["speed",true],"id":1}', 0),
        ('{"method":"SET_PROPERTY","params":["combined","yes"],"id":1}', 1),
    ],
)
async def test_stream_requests_are_refused_with_binances_code(text, code) -> None:
    async with rig() as venue, connected(venue, "/ws") as stream:
        await stream.socket.send_str(text)
        assert (await stream.next())["error"]["code"] == code


async def test_ws_api_refuses_what_it_does_not_understand() -> None:
    async with rig() as venue, connected(venue, "/ws-api/v3") as api:
        await api.socket.send_str("nonsense")
        assert (await api.next())["error"]["code"] == -1135
        assert (await api.ask("order.guess"))["error"]["code"] == -1000
        unsigned = await api.ask("account.status", {"apiKey": KEY, "timestamp": 1})
        assert unsigned["error"]["code"] == -1102
        wrong = venue.sign_ws(symbol=SYMBOL) | {"symbol": "ETHUSDT"}
        assert (await api.ask("openOrders.status", wrong))["error"]["code"] == -1022
        assert (await api.ask("userDataStream.subscribe"))["status"] == 401
