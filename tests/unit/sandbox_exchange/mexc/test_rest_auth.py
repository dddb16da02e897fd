import hashlib
import hmac

import pytest

from services.sandbox_exchange.core.model import Permission
from shared.clock import wall_ns


async def test_account_answers_a_signed_request(rig):
    status, body = await rig.call("GET", "account")
    assert status == 200
    balances = {one["asset"]: one for one in body["balances"]}
    assert balances["USDT"] == {"asset": "USDT", "free": "10000", "locked": "0", "available": "10000"}
    assert body["canTrade"] is True
    assert body["canWithdraw"] is False


async def test_signature_is_checked_over_the_query_as_it_was_sent(rig):
    odd = f"timestamp={wall_ns() // 1_000_000}&x=%7e~%20+a,b&recvWindow=5000"
    signature = hmac.new(b"s3cret", odd.encode(), hashlib.sha256).hexdigest()
    assert (await rig.raw("GET", f"/api/v3/account?{odd}&signature={signature}", "key-trader"))[0] == 200
    changed = odd.replace("%7e", "%7E")
    status, body = await rig.raw("GET", f"/api/v3/account?{changed}&signature={signature}", "key-trader")
    assert (status, body["code"]) == (400, 700002)


async def test_parameter_after_the_signature_is_not_accepted(rig):
    query = rig.signed({})
    assert (await rig.raw("GET", f"/api/v3/account?{query}&recvWindow=60000", "key-trader"))[1]["code"] == 700002


async def test_wrong_secret_is_refused_and_nothing_happens(rig):
    query = rig.signed(
        {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "quantity": "1", "price": "99"}, secret="other"
    )
    status, body = await rig.raw("POST", f"/api/v3/order?{query}", "key-trader")
    assert (status, body) == (400, {"code": 700002, "msg": "Signature for this request is not valid."})
    assert rig.exchange.open_orders("trader") == []


@pytest.mark.parametrize(
    ("key", "code"), [(None, 700001), ("", 700001), ("nobody", 10072)], ids=["none", "empty", "unknown"]
)
async def test_key_that_is_none_is_refused(rig, key, code):
    assert (await rig.raw("GET", f"/api/v3/account?{rig.signed({})}", key))[1]["code"] == code


async def test_missing_signature_and_timestamp_are_named(rig):
    status, body = await rig.raw("GET", "/api/v3/account?timestamp=1", "key-trader")
    assert (status, body["code"]) == (400, 700004)
    assert "'signature'" in body["msg"]
    body = (await rig.call("GET", "account", timestamp=None))[1]
    assert body["code"] == 700004
    assert "'timestamp'" in body["msg"]
    assert (await rig.call("GET", "account", timestamp="soon"))[1]["code"] == 700004


@pytest.mark.parametrize(
    ("ahead_ms", "window", "code"),
    [
        (999, 5000, None),
        (1000, 5000, 700003),
        (-5000, 5000, None),
        (-5001, 5000, 700003),
        (-59_999, 60_000, None),
        (0, 60_001, 700005),
        (-1, 0, 700003),
        (0, 0, None),
    ],
)
async def test_clock_rule_holds_to_the_millisecond(rig, ahead_ms, window, code):
    now_ns = wall_ns()
    rig.now_ns = lambda: now_ns
    _, body = await rig.call("GET", "account", timestamp=now_ns // 1_000_000 + ahead_ms, recvWindow=window)
    assert body.get("code") == code


async def test_skewed_clock_refuses_a_request_that_is_on_time(rig):
    rig.arm("clock_skew", parameter=60.0, times=None)
    query = rig.signed({"timestamp": wall_ns() // 1_000_000})
    assert (await rig.raw("GET", f"/api/v3/account?{query}", "key-trader"))[1]["code"] == 700003
    assert (await rig.get("time"))[1]["serverTime"] > wall_ns() // 1_000_000 + 50_000


async def test_each_lacking_permission_has_its_code(rig):
    rig.open("reader", permissions=frozenset({Permission.READ}))
    rig.open("writer", permissions=frozenset({Permission.TRADE}))
    rig.open("late", expires_ns=wall_ns() - 1)
    rig.open("far", allowed_ips=frozenset({"10.1.2.3"}))
    asked = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "quantity": "1", "price": "99"}
    assert (await rig.call("POST", "order", "reader", **asked))[1]["code"] == 704
    assert (await rig.call("DELETE", "order", "reader", symbol="BTCUSDT", orderId="1"))[1]["code"] == 704
    assert (await rig.call("GET", "account", "writer"))[1]["code"] == 703
    assert (await rig.call("GET", "account", "late"))[1]["code"] == 402
    body = (await rig.call("GET", "account", "far"))[1]
    assert body == {"code": 700006, "msg": "IP [127.0.0.1] not in the ip white list"}


async def test_key_that_may_withdraw_says_so(rig):
    rig.open("rich", permissions=frozenset(Permission))
    assert (await rig.call("GET", "account", "rich"))[1]["canWithdraw"] is True


async def test_accounts_do_not_see_each_other(rig):
    rig.open("other")
    order_id = (await rig.order())[1]["orderId"]
    assert (await rig.call("GET", "order", "other", symbol="BTCUSDT", orderId=order_id))[1]["code"] == -2013
    assert (await rig.call("DELETE", "order", "other", symbol="BTCUSDT", orderId=order_id))[1]["code"] == -2011
    assert (await rig.call("GET", "openOrders", "other", symbol="BTCUSDT"))[1] == []
    assert len(rig.exchange.open_orders("trader")) == 1
