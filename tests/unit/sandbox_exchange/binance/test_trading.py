"""Orders and the user stream: answers, events, and what the faults make of them; the venue's books are the truth."""

import asyncio
from decimal import Decimal

import pytest

from services.sandbox_exchange.core.faults import FaultName
from services.sandbox_exchange.core.model import OrderStatus
from shared.messages import Side
from tests.unit.sandbox_exchange.binance.rig import SYMBOL, Reader, Rig, connected, rig

D = Decimal
PLACE = "/api/v3/order"
MARKET = {"type": "MARKET", "timeInForce": None}


def event(name: str):
    return lambda frame: frame.get("event", {}).get("e") == name


async def user_stream(venue: Rig, api: Reader) -> None:
    answer = await api.ask("userDataStream.subscribe.signature", venue.sign_ws())
    assert answer["result"] == {"subscriptionId": 0} and answer["status"] == 200


async def report(api: Reader, **wanted: object) -> dict:
    def fits(frame: dict) -> bool:
        told = frame.get("event", {})
        return told.get("e") == "executionReport" and all(told.get(name) == value for name, value in wanted.items())

    return (await api.until(fits))["event"]


@pytest.mark.parametrize(("response", "keys"), [("ACK", 5), ("RESULT", 16), ("FULL", 17)])
async def test_answers_grow_with_the_response_type(response, keys) -> None:
    async with rig() as venue:
        _, body = await venue.order(quantity="0.01", price="50000", newOrderRespType=response)
        assert len(body) == keys
        if response == "FULL":
            assert body["fills"] == [] and body["status"] == "NEW"


async def test_filled_order_tells_its_fills_exactly() -> None:
    async with rig() as venue:
        _, body = await venue.order(**MARKET, quantity="0.7")
        assert body["status"] == "FILLED" and body["executedQty"] == "0.70000000"
        assert [(one["price"], one["qty"], one["commission"]) for one in body["fills"]] == [
            ("60001.00000000", "0.50000000", "0.00050000"),
            ("60002.00000000", "0.20000000", "0.00020000"),
        ]
        assert D(body["cummulativeQuoteQty"]) == D("0.5") * 60_001 + D("0.2") * 60_002
        _, mine, _ = await venue.signed("GET", "/api/v3/myTrades", symbol=SYMBOL, orderId=body["orderId"])
        assert [one["id"] for one in mine] == [one["tradeId"] for one in body["fills"]]


async def test_life_of_an_order_on_the_user_stream() -> None:
    async with rig() as venue, connected(venue, "/ws-api/v3") as api:
        await user_stream(venue, api)
        _, placed = await venue.order(quantity="0.02", price="59999.5", newClientOrderId="mine")
        new = await report(api, x="NEW")
        assert (new["i"], new["c"], new["w"], new["C"]) == (placed["orderId"], "mine", True, "")
        locked = (await api.until(event("outboundAccountPosition")))["event"]["B"]
        assert locked == [{"a": "USDT", "f": "98800.01000000", "l": "1199.99000000"}]
        venue.strike(Side.SELL, "0.01")
        fill = await report(api, x="TRADE")
        assert (fill["X"], fill["l"], fill["m"], fill["N"]) == ("PARTIALLY_FILLED", "0.01000000", True, "BTC")
        await venue.signed("DELETE", PLACE, symbol=SYMBOL, orderId=placed["orderId"], newClientOrderId="stop")
        end = await report(api, x="CANCELED")
        assert (end["c"], end["C"], end["z"]) == ("stop", "mine", "0.01000000")


async def test_deposit_is_a_balance_update() -> None:
    async with rig() as venue, connected(venue, "/ws-api/v3") as api:
        await user_stream(venue, api)
        venue.exchange.transfer("trader", "USDT", D(7), venue.venue.now_ns(), "deposit")
        told = (await api.until(event("balanceUpdate")))["event"]
        assert (told["a"], told["d"]) == ("USDT", "7.00000000")


async def test_other_accounts_are_told_nothing() -> None:
    async with rig() as venue, connected(venue, "/ws-api/v3") as api:
        await user_stream(venue, api)
        async with connected(venue, "/ws-api/v3") as other:
            boss = venue.sign_ws(key="bosskey", secret="bosssecret")
            assert (await other.ask("userDataStream.subscribe.signature", boss))["status"] == 200
            venue.exchange.transfer("boss", "USDT", D(7), venue.venue.now_ns(), "deposit")
            order = {"symbol": SYMBOL, "side": "BUY", "type": "MARKET", "quoteOrderQty": "50"}
            await venue.signed("POST", PLACE, key="bosskey", secret="bosssecret", **order)
            assert (await report(other, x="TRADE"))["X"] == "FILLED"
        assert (await api.ask("ping"))["result"] == {}
        assert api.kept == []


async def test_ws_api_places_asks_and_cancels() -> None:
    async with rig() as venue, connected(venue, "/ws-api/v3") as api:
        wanted = {"symbol": SYMBOL, "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "price": "50000"}
        placed = await api.ask("order.place", venue.sign_ws(**wanted, quantity="0.01"), "a")
        assert placed["id"] == "a" and placed["result"]["status"] == "NEW"
        assert [one["rateLimitType"] for one in placed["rateLimits"]] == ["ORDERS", "ORDERS", "REQUEST_WEIGHT"]
        order_id = placed["result"]["orderId"]
        asked = await api.ask("order.status", venue.sign_ws(symbol=SYMBOL, orderId=order_id, returnRateLimits="false"))
        assert asked["result"]["price"] == "50000.00000000"
        gone = await api.ask("order.cancel", venue.sign_ws(symbol=SYMBOL, orderId=order_id), 2)
        assert gone["result"]["status"] == "CANCELED"
        again = await api.ask("order.cancel", venue.sign_ws(symbol=SYMBOL, orderId=order_id), 3)
        assert (again["status"], again["error"]["code"]) == (400, -2011)


async def test_session_logon_serves_unsigned_requests_and_subscriptions() -> None:
    async with rig() as venue, connected(venue, "/ws-api/v3") as api:
        assert (await api.ask("session.logon", venue.sign_ws()))["result"]["apiKey"]
        now = venue.venue.now_ns() // 1_000_000
        assert (await api.ask("account.status", {"timestamp": now}))["status"] == 200
        assert (await api.ask("userDataStream.subscribe"))["result"] == {"subscriptionId": 0}
        assert (await api.ask("userDataStream.unsubscribe", {"subscriptionId": 0}))["result"] == {}
        assert await api.until(event("eventStreamTerminated"))


async def test_replaced_order_leaves_one_and_half_failures_are_told_apart() -> None:
    async with rig() as venue:
        first = (await venue.order(quantity="0.01", price="50000"))[1]["orderId"]
        again = {"symbol": SYMBOL, "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.01"}
        path, mode = "/api/v3/order/cancelReplace", {"cancelReplaceMode": "STOP_ON_FAILURE"}
        _, done, _ = await venue.signed("POST", path, **again, **mode, price="49000", cancelOrderId=first)
        assert done["cancelResult"] == done["newOrderResult"] == "SUCCESS"
        _, none, _ = await venue.signed("POST", path, **again, **mode, price="48000", cancelOrderId=first)
        assert none["code"] == -2022 and none["data"]["newOrderResult"] == "NOT_ATTEMPTED"
        newest = done["newOrderResponse"]["orderId"]
        status, half, _ = await venue.signed(
            "POST", path, **(again | {"quantity": "30"}), **mode, price="48000", cancelOrderId=newest
        )
        assert (status, half["code"]) == (409, -2021)
        assert half["data"]["newOrderResponse"]["code"] == -2010
        assert venue.exchange.open_orders("trader") == []


async def test_key_that_may_withdraw_says_so_and_trading_key_does_not() -> None:
    path = "/sapi/v1/account/apiRestrictions"
    async with rig() as venue:
        assert (await venue.signed("GET", path))[1]["enableWithdrawals"] is False
        boss = await venue.signed("GET", path, key="bosskey", secret="bosssecret")
        assert boss[1]["enableWithdrawals"] is True


async def test_created_order_is_not_found_for_a_while_but_exists() -> None:
    async with rig() as venue:
        venue.arm(FaultName.ORDER_NOT_FOUND, parameter=0.3)
        _, placed = await venue.order(quantity="0.01", price="50000", newClientOrderId="late")
        asked = {"symbol": SYMBOL, "origClientOrderId": "late"}
        assert (await venue.signed("GET", PLACE, **asked))[1]["code"] == -2013
        assert (await venue.signed("GET", "/api/v3/openOrders", symbol=SYMBOL))[1] == []
        assert (await venue.signed("DELETE", PLACE, **asked))[1]["code"] == -2011
        assert [one.order_id for one in venue.exchange.open_orders("trader")] == [placed["orderId"]]
        async with asyncio.timeout(5):
            while (found := (await venue.signed("GET", PLACE, **asked))[1]).get("code"):  # noqa: ASYNC110 - time passes
                await asyncio.sleep(0.05)
        assert found["orderId"] == placed["orderId"]


async def test_partial_fill_leaves_the_rest_resting_or_expired() -> None:
    async with rig() as venue:
        venue.arm(FaultName.PARTIAL_FILL, parameter=0.25, times=2)
        _, limit = await venue.order(quantity="0.4", price="60005")
        assert (limit["status"], limit["executedQty"]) == ("PARTIALLY_FILLED", "0.10000000")
        await venue.signed("DELETE", "/api/v3/openOrders", symbol=SYMBOL)
        venue.house(Side.SELL, "1", "60010")
        _, market = await venue.order(**MARKET, quantity="0.4")
        assert (market["status"], market["executedQty"]) == ("EXPIRED", "0.10000000")


async def test_duplicate_client_id_is_accepted_only_under_the_fault() -> None:
    async with rig() as venue:
        wanted = {"quantity": "0.01", "price": "50000", "newClientOrderId": "same"}
        await venue.order(**wanted)
        venue.arm(FaultName.DUPLICATE_ID_ACCEPT)
        assert (await venue.order(**wanted))[0] == 200
        assert (await venue.order(**wanted))[1]["code"] == -2010
        assert len(venue.exchange.open_orders("trader")) == 2


async def test_fee_in_a_third_asset_is_what_the_ledger_took() -> None:
    async with rig() as venue:
        venue.arm(FaultName.FEE_THIRD_ASSET)
        _, body = await venue.order(**MARKET, quantity="0.1")
        fill = body["fills"][0]
        assert fill["commissionAsset"] == "BNB"
        held = {one.asset: one.free for one in venue.exchange.holdings("trader")}
        assert held["BNB"] == 10 - D(fill["commission"]) and held["BTC"] == D("2.1")


async def test_stale_balances_are_those_before_the_last_change() -> None:
    async with rig() as venue:
        await venue.order(**MARKET, quantity="0.1")
        venue.arm(FaultName.BALANCE_STALE)
        _, stale, _ = await venue.signed("GET", "/api/v3/account")
        assert {one["asset"]: one["free"] for one in stale["balances"]}["BTC"] == "2.00000000"
        _, fresh, _ = await venue.signed("GET", "/api/v3/account")
        assert {one["asset"]: one["free"] for one in fresh["balances"]}["BTC"] == "2.09990000"


async def test_fill_is_told_before_the_create_request_is_answered() -> None:
    async with rig() as venue, connected(venue, "/ws-api/v3") as api:
        await user_stream(venue, api)
        venue.arm(FaultName.FILL_BEFORE_REPLY, parameter=30.0)
        reply = asyncio.create_task(venue.order(**MARKET, quantity="0.1"))
        assert (await report(api, x="TRADE"))["X"] == "FILLED"
        assert not reply.done()
        reply.cancel()


async def test_reports_are_doubled_dropped_and_swapped_as_armed() -> None:
    async with rig() as venue, connected(venue, "/ws-api/v3") as api:
        await user_stream(venue, api)
        venue.arm(FaultName.REPORT_DUPLICATE, route="executionReport")
        await venue.order(quantity="0.01", price="50000")
        assert (await report(api, x="NEW"))["i"] == (await report(api, x="NEW"))["i"]
        venue.arm(FaultName.REPORT_REORDER, route="executionReport")
        await venue.order(**MARKET, quantity="0.01")
        api.kept.clear()
        kinds = [(await api.until(event("executionReport")))["event"]["x"] for _ in range(2)]
        assert kinds == ["TRADE", "NEW"]
        venue.arm(FaultName.REPORT_DROP, route="executionReport", times=2)
        await venue.order(**MARKET, quantity="0.01")
        await api.ask("ping", None, "after")
        assert not [one for one in api.kept if event("executionReport")(one)]


async def test_user_stream_ends_when_the_venue_expires_it() -> None:
    async with rig() as venue, connected(venue, "/ws-api/v3") as api:
        await user_stream(venue, api)
        venue.arm(FaultName.LISTEN_KEY_EXPIRED)
        assert (await api.until(event("eventStreamTerminated")))["subscriptionId"] == 0
        await venue.order(quantity="0.01", price="50000")
        await api.ask("ping", None, "after")
        assert api.kept == []


async def test_refused_and_ignored_user_streams() -> None:
    async with rig() as venue, connected(venue, "/ws-api/v3") as api:
        venue.arm(FaultName.SUBSCRIBE_REFUSED)
        refused = await api.ask("userDataStream.subscribe.signature", venue.sign_ws())
        assert refused["error"]["code"] == -1099
        venue.arm(FaultName.SUBSCRIBE_IGNORED)
        await api.socket.send_json({"method": "userDataStream.subscribe.signature", "params": venue.sign_ws(), "id": 5})
        await api.ask("ping", None, 6)
        assert api.kept == []


async def test_ws_order_without_an_answer_was_placed() -> None:
    async with rig() as venue, connected(venue, "/ws-api/v3") as api:
        venue.arm(FaultName.TIMEOUT_AFTER, route="order.place")
        wanted = venue.sign_ws(symbol=SYMBOL, side="BUY", type="MARKET", quantity="0.01")
        await api.socket.send_json({"method": "order.place", "params": wanted, "id": 5})
        await api.ask("ping", None, 6)
        assert api.kept == []
        assert [one.status for one in venue.exchange.orders("trader", SYMBOL)] == [OrderStatus.FILLED]
