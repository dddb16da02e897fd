from services.sandbox_exchange.mexc.rest import RULES
from shared.clock import wall_ns

SECOND_NS = 1_000_000_000


def stand_still(rig):
    now_ns = wall_ns() // (10 * SECOND_NS) * 10 * SECOND_NS  # a window of every rule starts here
    rig.now_ns = lambda: now_ns
    return now_ns


async def test_rules_are_mexcs():
    assert {name: (rule.weight_max, rule.window_s) for name, rule in RULES.items()} == {
        "ip": (500, 10),
        "uid": (500, 10),
        "orders": (12, 1),
        "batches": (2, 1),
    }


async def test_weight_of_an_endpoint_is_its_own_and_comes_back_after_the_window(rig):
    now_ns = stand_still(rig)
    for _ in range(20):
        assert (await rig.get("exchangeInfo"))[0] == 200
    async with rig.session.get(f"{rig.url}/api/v3/exchangeInfo") as reply:
        assert reply.status == 429
        assert reply.headers["Retry-After"] == "10"
        assert await reply.json() == {"code": 429, "msg": "Too Many Requests"}
    assert (await rig.get("ticker/24hr"))[0] == 200
    rig.now_ns = lambda: now_ns + 10 * SECOND_NS
    assert (await rig.get("exchangeInfo"))[0] == 200


async def test_orders_and_cancels_share_twelve_a_second(rig):
    now_ns = stand_still(rig)
    ids = [(await rig.order())[1]["orderId"] for _ in range(8)]
    for order_id in ids[:4]:
        assert (await rig.call("DELETE", "order", symbol="BTCUSDT", orderId=order_id))[0] == 200
    assert (await rig.order())[0] == 429
    assert (await rig.call("DELETE", "order", symbol="BTCUSDT", orderId=ids[4]))[0] == 429
    assert len(rig.exchange.open_orders("trader")) == 4
    rig.now_ns = lambda: now_ns + SECOND_NS
    assert (await rig.order())[0] == 200


async def test_who_asks_on_is_banned_and_the_ban_ends(rig):
    now_ns = stand_still(rig)
    statuses = [(await rig.order())[0] for _ in range(12 + 21)]
    assert statuses[:12] == [200] * 12
    assert statuses[12:32] == [429] * 20
    assert statuses[32] == 418
    async with rig.session.get(f"{rig.url}/api/v3/ping") as reply:
        assert reply.status == 418
        assert int(reply.headers["Retry-After"]) == 120
        assert "json" not in reply.content_type
    async with rig.session.get(f"{rig.url}/ws") as reply:
        assert reply.status == 403
    rig.now_ns = lambda: now_ns + 121 * SECOND_NS
    assert await rig.get("ping") == (200, {})


async def test_accounts_have_limits_of_their_own(rig):
    stand_still(rig)
    rig.open("other")
    for _ in range(50):
        assert (await rig.call("GET", "account"))[0] == 200
    assert (await rig.call("GET", "account"))[0] == 429
    assert (await rig.call("GET", "account", "other"))[0] == 200


async def test_bad_signatures_count_against_the_address(rig):
    stand_still(rig)
    query = rig.signed({}, secret="wrong")
    statuses = [(await rig.raw("GET", f"/api/v3/account?{query}", "key-trader"))[0] for _ in range(51)]
    assert statuses == [400] * 50 + [429]


async def test_oversized_body_gets_the_venues_own_refusal(rig):
    url = f"{rig.url}/api/v3/order?{rig.signed({'symbol': 'BTCUSDT'})}"
    async with rig.session.post(url, data=b"x" * 100_000, headers={"X-MEXC-APIKEY": "key-trader"}) as reply:
        assert reply.status == 413
        assert (await reply.json())["code"] == 513
    assert await rig.get("ping") == (200, {})


async def test_maintenance_has_its_code(rig):
    rig.arm("maintenance", times=1)
    assert await rig.get("time") == (503, {"code": 604, "msg": "Sorry, this feature is under maintenance"})


async def test_server_errors_after_execution_keep_the_order(rig):
    rig.arm("http_5xx_after", route="POST /api/v3/order")
    assert (await rig.order(newClientOrderId="alive")) == (
        503,
        {"code": 503, "msg": "service not available, please try again"},
    )
    assert (await rig.call("GET", "order", symbol="BTCUSDT", origClientOrderId="alive"))[1]["status"] == "NEW"
    rig.arm("http_5xx", route="POST /api/v3/order", parameter=500)
    assert (await rig.order(newClientOrderId="dead")) == (500, {"code": 500, "msg": "Internal error"})
    assert (await rig.call("GET", "order", symbol="BTCUSDT", origClientOrderId="dead"))[1]["code"] == -2013


async def test_created_order_is_not_found_for_a_while(rig):
    now_ns = stand_still(rig)
    rig.arm("order_not_found", route="POST /api/v3/order", parameter=2.0)
    order_id = (await rig.order(newClientOrderId="late"))[1]["orderId"]

    async def query():
        return (await rig.call("GET", "order", symbol="BTCUSDT", orderId=order_id))[1]

    assert (await query()) == {"code": -2013, "msg": "Order does not exist."}
    assert (await rig.call("GET", "openOrders", symbol="BTCUSDT"))[1] == []
    assert (await rig.call("GET", "allOrders", symbol="BTCUSDT"))[1] == []
    rig.now_ns = lambda: now_ns + 2 * SECOND_NS
    assert (await query())["status"] == "NEW"
    rig.arm("order_not_found", route="GET /api/v3/order", parameter=0.0, times=2)
    assert "status" in await query()  # a lag of nothing


async def test_only_a_part_fills_at_once(rig):
    rig.arm("partial_fill", parameter=0.5)
    order_id = (await rig.order(price="101", quantity="1"))[1]["orderId"]
    found = (await rig.call("GET", "order", symbol="BTCUSDT", orderId=order_id))[1]
    assert (found["status"], float(found["executedQty"])) == ("PARTIALLY_FILLED", 0.5)
    rig.arm("partial_fill", parameter=0.5)
    order_id = (await rig.order(type="MARKET", price=None, quantity="1"))[1]["orderId"]
    found = (await rig.call("GET", "order", symbol="BTCUSDT", orderId=order_id))[1]
    assert (found["status"], float(found["executedQty"])) == ("PARTIALLY_CANCELED", 0.5)


async def test_refused_order_uses_up_no_fault(rig):
    rig.arm("partial_fill", parameter=0.5)
    assert (await rig.order(price="0.001"))[0] == 400
    assert len(rig.venue.faults.armed) == 1


async def test_fee_comes_out_of_a_third_asset(rig):
    rig.arm("fee_third_asset", times=1)
    await rig.order(price="101", quantity="1")
    trade = (await rig.call("GET", "myTrades", symbol="BTCUSDT"))[1][0]
    assert (trade["commissionAsset"], float(trade["commission"])) == ("MX", 0.02525)
