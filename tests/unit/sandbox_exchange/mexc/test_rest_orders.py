import json
import re
from decimal import Decimal

import pytest

from services.sandbox_exchange.core.model import TradingStatus
from services.sandbox_exchange.mexc.words import INTERVALS_NS
from shared.messages import Side

D = Decimal


async def look(rig, order_id):
    return (await rig.call("GET", "order", symbol="BTCUSDT", orderId=order_id))[1]


async def test_limit_order_rests_and_is_found_by_both_ids(rig):
    status, body = await rig.order(newClientOrderId="a-1")
    assert status == 200
    assert set(body) == {
        *("symbol", "orderId", "orderListId", "price", "origQty", "type", "side", "stpMode", "transactTime"),
    }
    assert re.fullmatch(r"C02__\d{19}", body["orderId"])
    found = await look(rig, body["orderId"])
    assert (found["status"], found["clientOrderId"], found["executedQty"]) == ("NEW", "a-1", "0")
    by_client_id = (await rig.call("GET", "order", symbol="BTCUSDT", origClientOrderId="a-1"))[1]
    assert by_client_id == found


async def test_order_without_a_client_id_shows_null(rig):
    order_id = (await rig.order())[1]["orderId"]
    assert (await look(rig, order_id))["clientOrderId"] is None


@pytest.mark.parametrize(
    ("asked", "status", "filled", "cost"),
    [
        ({"price": "101", "quantity": "1"}, "FILLED", "1", "101"),
        ({"price": "101", "quantity": "1.5"}, "PARTIALLY_FILLED", "1", "101"),
        ({"type": "IMMEDIATE_OR_CANCEL", "price": "101", "quantity": "1.5"}, "PARTIALLY_CANCELED", "1", "101"),
        ({"type": "IMMEDIATE_OR_CANCEL", "price": "100", "quantity": "1.5"}, "CANCELED", "0", "0"),
        ({"type": "FILL_OR_KILL", "price": "102", "quantity": "2"}, "FILLED", "2", "203"),
        ({"type": "FILL_OR_KILL", "price": "102", "quantity": "2.1"}, "CANCELED", "0", "0"),
        ({"type": "LIMIT_MAKER", "price": "100", "quantity": "1"}, "NEW", "0", "0"),
        ({"type": "MARKET", "price": None, "quantity": "2"}, "FILLED", "2", "203"),
        ({"type": "MARKET", "price": None, "quantity": None, "quoteOrderQty": "203"}, "FILLED", "2", "203"),
        ({"type": "MARKET", "price": "5", "quantity": None, "quoteOrderQty": "101"}, "FILLED", "1", "101"),
        ({"type": "MARKET", "price": None, "side": "SELL", "quantity": "0.5"}, "FILLED", "0.5", "49.5"),
        (
            {"type": "MARKET", "price": None, "side": "SELL", "quantity": None, "quoteOrderQty": "49.5"},
            "FILLED",
            "0.5",
            "49.5",
        ),
    ],
)
async def test_every_order_type_ends_where_it_should(rig, asked, status, filled, cost):
    order_id = (await rig.order(**asked))[1]["orderId"]
    found = await look(rig, order_id)
    assert found["status"] == status
    assert (D(found["executedQty"]), D(found["cummulativeQuoteQty"])) == (D(filled), D(cost))
    trades = (await rig.call("GET", "myTrades", symbol="BTCUSDT", orderId=order_id))[1]
    assert sum(D(one["qty"]) for one in trades) == D(filled)
    assert sum(D(one["quoteQty"]) for one in trades) == D(cost)


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"symbol": "NOPEUSDT"}, -1121),
        ({"symbol": None}, 700004),
        ({"side": "HOLD"}, 700004),
        ({"type": "STOP"}, 700004),
        ({"quantity": None}, 700004),
        ({"price": None}, 700004),
        ({"quantity": "abc"}, 700004),
        ({"quantity": "NaN"}, 700004),
        ({"quantity": "Infinity"}, 700004),
        ({"quantity": "1e400"}, 700004),
        ({"quantity": "٣"}, 700004),
        ({"quantity": "9" * 400}, 700004),
        ({"quantity": "-1"}, 10102),
        ({"quantity": "0"}, 10102),
        ({"price": "0"}, 30010),
        ({"price": "99.005"}, 30010),
        ({"quantity": "0.10001"}, 10096),
        ({"quantity": "0.0001"}, 30002),
        ({"price": "1", "quantity": "1"}, 30002),
        ({"price": "90000", "quantity": "90000"}, 30003),
        ({"price": "99", "quantity": "200"}, 30004),
        ({"side": "SELL", "price": "101", "quantity": "2"}, 30005),
        ({"type": "LIMIT_MAKER", "price": "101"}, 30041),
        ({"type": "MARKET", "quantity": None, "price": None}, 700004),
        ({"type": "MARKET", "quantity": None, "price": None, "quoteOrderQty": "4.99"}, 30002),
        ({"newClientOrderId": "with space"}, 700008),
        ({"newClientOrderId": "line\n"}, 700008),
        ({"quantity": "1\n"}, 700004),
        ({"newClientOrderId": "x" * 33}, 700008),
        ({"stpMode": "maybe"}, 700004),
    ],
)
async def test_each_bad_order_is_refused_with_its_code_and_changes_nothing(rig, asked, code):
    before = rig.exchange.dump()
    status, body = await rig.order(**asked)
    assert (status, body["code"]) == (400, code)
    assert set(body) == {"code", "msg"}
    assert (await rig.call("POST", "order/test", **{**{"symbol": "BTCUSDT"}, **asked}))[0] == 400
    assert rig.exchange.dump() == before


async def test_balance_texts_are_those_by_which_clients_know_them(rig):
    assert (await rig.order(quantity="200"))[1]["msg"] == "Insufficient position"
    assert (await rig.order(side="SELL", price="101", quantity="2"))[1]["msg"] == "Oversold"
    assert "5USDT" in (await rig.order(price="1", quantity="1"))[1]["msg"]


@pytest.mark.parametrize(
    ("status", "code"),
    [(TradingStatus.CANCEL_ONLY, 30000), (TradingStatus.PAUSED, 30016), (TradingStatus.DELISTED, 30014)],
)
async def test_market_that_does_not_trade_refuses_and_says_so_in_its_description(rig, status, code):
    await rig.order()
    rig.exchange.set_status("BTCUSDT", status, rig.venue.now_ns())
    assert (await rig.order())[1]["code"] == code
    listed = {one["symbol"]: one for one in (await rig.get("exchangeInfo"))[1]["symbols"]}
    assert listed["BTCUSDT"]["status"] == ("3" if status is TradingStatus.DELISTED else "2")
    assert (listed["BTCUSDT"]["isSpotTradingAllowed"], listed["ETHUSDT"]["isSpotTradingAllowed"]) == (False, True)
    assert (await rig.get("defaultSymbols"))[1]["data"] == ["ETHUSDT"]
    cancelled = (await rig.call("DELETE", "openOrders", symbol="BTCUSDT"))[1]
    assert len(cancelled) == (0 if status is TradingStatus.DELISTED else 1)


async def test_order_test_takes_a_good_order_and_places_none(rig):
    asked = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "quantity": "1", "price": "99"}
    assert await rig.call("POST", "order/test", **asked) == (200, {})
    assert rig.exchange.open_orders("trader") == []


async def test_client_id_serves_once_even_after_its_order_ended(rig):
    assert (await rig.order(newClientOrderId="once"))[0] == 200
    assert (await rig.order(newClientOrderId="once"))[1]["code"] == 603
    await rig.call("DELETE", "order", symbol="BTCUSDT", origClientOrderId="once")
    assert (await rig.order(newClientOrderId="once"))[1]["code"] == 603
    assert len(rig.exchange.orders("trader", "BTCUSDT")) == 1


async def test_client_id_serves_twice_when_the_switch_says_so(rig):
    rig.arm("duplicate_id_accept", times=1)
    await rig.order(newClientOrderId="twice")
    assert (await rig.order(newClientOrderId="twice"))[0] == 200
    assert (await rig.order(newClientOrderId="twice"))[1]["code"] == 603
    assert len(rig.exchange.open_orders("trader")) == 2


async def test_cancel_is_answered_with_the_order_and_is_unknown_the_second_time(rig):
    order_id = (await rig.order(newClientOrderId="c-1"))[1]["orderId"]
    status, body = await rig.call("DELETE", "order", symbol="BTCUSDT", orderId=order_id)
    assert (status, body["status"], body["origClientOrderId"]) == (200, "CANCELED", "c-1")
    status, body = await rig.call("DELETE", "order", symbol="BTCUSDT", orderId=order_id)
    assert (status, body) == (400, {"code": -2011, "msg": "Unknown order sent."})


async def test_cancel_of_a_part_filled_order_says_so(rig):
    order_id = (await rig.order(price="101", quantity="1.5"))[1]["orderId"]
    body = (await rig.call("DELETE", "order", symbol="BTCUSDT", orderId=order_id))[1]
    assert (body["status"], body["executedQty"]) == ("PARTIALLY_CANCELED", "1")


@pytest.mark.parametrize("order_id", ["C02__4680000000000009999", "129402018493145088", "x", "-1", "C02__" + "9" * 19])
async def test_unknown_order_ids_are_unknown(rig, order_id):
    assert (await rig.call("GET", "order", symbol="BTCUSDT", orderId=order_id))[1]["code"] == -2013
    assert (await rig.call("DELETE", "order", symbol="BTCUSDT", orderId=order_id))[1]["code"] == -2011


async def test_order_of_another_market_is_unknown(rig):
    order_id = (await rig.order())[1]["orderId"]
    assert (await rig.call("GET", "order", symbol="ETHUSDT", orderId=order_id))[1]["code"] == -2013


async def test_query_without_any_id_is_refused(rig):
    assert (await rig.call("GET", "order", symbol="BTCUSDT"))[1]["code"] == 700004


async def test_cancel_all_of_a_market_and_of_all(rig):
    rig.house(Side.BUY, D("10"), D(1), "ETHUSDT")
    await rig.order()
    await rig.order(symbol="ETHUSDT", price="10", quantity="1")
    assert [one["symbol"] for one in (await rig.call("DELETE", "openOrders", symbol="BTCUSDT"))[1]] == ["BTCUSDT"]
    assert (await rig.call("DELETE", "order/all"))[1] == {"code": 200, "msg": "success"}
    assert rig.exchange.open_orders("trader") == []


async def test_open_orders_need_a_symbol_and_take_several(rig):
    await rig.order()
    await rig.order(symbol="ETHUSDT", price="10", quantity="1")
    assert (await rig.call("GET", "openOrders"))[1]["code"] == 700004
    assert len((await rig.call("GET", "openOrders", symbol="BTCUSDT"))[1]) == 1
    assert len((await rig.call("GET", "openOrders", symbol="BTCUSDT,ETHUSDT"))[1]) == 2
    assert (await rig.call("GET", "openOrders", symbol="BTCUSDT,NOPE"))[1]["code"] == -1121


async def test_batch_answers_for_each_order(rig):
    orders = [
        {
            "symbol": "BTCUSDT",
            "side": "BUY",
            "type": "LIMIT",
            "quantity": "0.1",
            "price": "99",
            "newClientOrderId": "b1",
        },
        {
            "symbol": "BTCUSDT",
            "side": "BUY",
            "type": "LIMIT",
            "quantity": "0.1",
            "price": "0.001",
            "newClientOrderId": "b2",
        },
        {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quoteOrderQty": 101},
    ]
    status, body = await rig.call("POST", "batchOrders", batchOrders=json.dumps(orders))
    assert status == 200
    assert "orderId" in body[0]
    assert body[1] == {"newClientOrderId": "b2", "msg": "no valid trade price", "code": 30010}
    assert "orderId" in body[2]


@pytest.mark.parametrize("batch", ["", "{", "[]", "{}", "[1]", json.dumps([{"symbol": "BTCUSDT"}] * 21)])
async def test_batch_that_is_none_is_refused(rig, batch):
    assert (await rig.call("POST", "batchOrders", batchOrders=batch))[1]["code"] == 700004


async def test_batch_of_two_markets_is_refused(rig):
    batch = json.dumps([{"symbol": "BTCUSDT"}, {"symbol": "ETHUSDT"}])
    assert (await rig.call("POST", "batchOrders", batchOrders=batch))[1]["code"] == 700004


async def test_all_orders_are_of_the_last_day_and_of_seven_days_at_most(rig):
    day_ns = INTERVALS_NS["1d"]
    old, now = rig.now_ns() - 3 * day_ns, rig.now_ns()
    rig.now_ns = lambda: old
    await rig.order(newClientOrderId="old")
    rig.now_ns = lambda: now
    await rig.order(newClientOrderId="new")

    async def ids(**span):
        return [one["clientOrderId"] for one in (await rig.call("GET", "allOrders", symbol="BTCUSDT", **span))[1]]

    ms = 1_000_000
    assert await ids() == ["new"]
    assert await ids(startTime=old // ms) == ["new", "old"]
    assert await ids(startTime=old // ms, limit=1) == ["new"]
    assert await ids(startTime=old // ms, endTime=old // ms) == ["old"]
    span = {"startTime": (now - 8 * day_ns) // ms, "endTime": now // ms}
    assert (await rig.call("GET", "allOrders", symbol="BTCUSDT", **span))[1]["code"] == 400


async def test_own_trades_tell_maker_and_taker_and_the_fee(rig):
    await rig.order(price="101", quantity="1")
    trade = (await rig.call("GET", "myTrades", symbol="BTCUSDT"))[1][0]
    assert (trade["isBuyer"], trade["isMaker"], trade["commissionAsset"]) == (True, False, "BTC")
    assert D(trade["commission"]) == D("0.0005")
    await rig.order(side="SELL", price="100.5", quantity="0.5", newClientOrderId="m")
    rig.house(Side.BUY, D("100.5"), D("0.5"))
    trade = (await rig.call("GET", "myTrades", symbol="BTCUSDT"))[1][0]
    assert (trade["isBuyer"], trade["isMaker"], trade["clientOrderId"]) == (False, True, "m")
    assert trade["commissionAsset"] == "USDT"


async def test_both_sides_of_a_self_trade_have_ids_of_their_own(rig):
    await rig.order(side="SELL", price="100", quantity="0.5")
    await rig.order(side="BUY", price="100", quantity="0.5")
    trades = (await rig.call("GET", "myTrades", symbol="BTCUSDT"))[1]
    assert [one["isSelfTrade"] for one in trades] == [True, True]
    assert len({one["id"] for one in trades}) == 2


async def test_self_trade_prevention_takes_out_the_maker(rig):
    maker = (await rig.order(side="SELL", price="100", quantity="0.5"))[1]["orderId"]
    await rig.order(side="BUY", price="100", quantity="0.5", stpMode="cancel_maker")
    assert (await look(rig, maker))["status"] == "CANCELED"
    assert (await rig.call("GET", "myTrades", symbol="BTCUSDT"))[1] == []


async def test_open_orders_have_a_most(rig):
    rig.exchange._placing._open_orders_max = 1
    await rig.order()
    assert (await rig.order())[1]["code"] == 30029
