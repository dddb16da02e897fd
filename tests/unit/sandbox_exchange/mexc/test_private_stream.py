import aiohttp
import pytest

from services.sandbox_exchange.mexc.errors import ApiError
from services.sandbox_exchange.mexc.listen_keys import KEYS_MAX, SOCKETS_MAX, VALID_NS, ListenKeys
from shared.messages import Side

ORDERS = "spot@private.orders.v3.api.pb"
DEALS = "spot@private.deals.v3.api.pb"
ACCOUNT = "spot@private.account.v3.api.pb"


async def closing(stream):
    """Return the texts before the connection ends."""
    texts = []
    while (message := await stream.receive()).type not in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED}:
        texts.append(message.data)
    return texts


async def test_order_fill_and_balance_are_told_as_they_happen(rig):
    stream = await rig.stream(ORDERS, DEALS, ACCOUNT, key=await rig.listen_key())
    reply = (await rig.order(price="102", quantity="1.5", newClientOrderId="p-1"))[1]
    frames = [await stream.frame() for _ in range(10)]
    orders = [one.privateOrders for one in frames if one.channel == ORDERS]
    deals = [one.privateDeals for one in frames if one.channel == DEALS]
    accounts = [one.privateAccount for one in frames if one.channel == ACCOUNT]
    assert [one.status for one in orders] == [1, 3, 2]
    assert {(one.id, one.clientId, one.orderType, one.tradeType) for one in orders} == {(reply["orderId"], "p-1", 1, 1)}
    assert [one.cumulativeQuantity for one in orders] == ["0", "1", "1.5"]
    assert [one.remainQuantity for one in orders] == ["1.5", "0.5", "0"]
    assert [one.cumulativeAmount for one in orders] == ["0", "101", "152"]
    assert (orders[2].avgPrice, orders[2].lastDealQuantity) == ("101.33", "0.5")
    assert [(one.price, one.quantity, one.feeCurrency, one.feeAmount) for one in deals] == [
        ("101", "1", "BTC", "0.0005"),
        ("102", "0.5", "BTC", "0.00025"),
    ]
    assert accounts[0].type == "ENTRUST_PLACE"
    assert (accounts[0].vcoinName, accounts[0].frozenAmountChange) == ("USDT", "153")
    rest = (await rig.call("GET", "myTrades", symbol="BTCUSDT"))[1]
    assert [one["id"] for one in reversed(rest)] == [one.tradeId for one in deals]
    holdings = {one.asset: one for one in rig.exchange.holdings("trader")}
    last = {one.vcoinName: one for one in accounts}
    assert (last["USDT"].balanceAmount, last["USDT"].frozenAmount) == (
        f"{holdings['USDT'].free:f}".rstrip("0").rstrip("."),
        "0",
    )


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        ({}, 1),
        ({"type": "LIMIT_MAKER"}, 2),
        ({"type": "IMMEDIATE_OR_CANCEL"}, 3),
        ({"type": "FILL_OR_KILL"}, 4),
        ({"type": "MARKET", "price": None, "side": "SELL"}, 5),
    ],
)
async def test_type_numbers_are_mexcs(rig, asked, kind):
    stream = await rig.stream(ORDERS, key=await rig.listen_key())
    await rig.order(**asked)
    assert (await stream.frame()).privateOrders.orderType == kind


async def test_cancel_of_a_part_filled_order_has_status_five(rig):
    stream = await rig.stream(ORDERS, key=await rig.listen_key())
    order_id = (await rig.order(price="101", quantity="1.5"))[1]["orderId"]
    await rig.call("DELETE", "order", symbol="BTCUSDT", orderId=order_id)
    statuses = [(await stream.frame()).privateOrders.status for _ in range(3)]
    assert statuses == [1, 3, 5]


async def test_maker_fill_says_so(rig):
    stream = await rig.stream(DEALS, key=await rig.listen_key())
    await rig.order(side="SELL", price="100.5", quantity="0.5")
    from decimal import Decimal

    rig.house(Side.BUY, Decimal("100.5"), Decimal("0.5"))
    body = (await stream.frame()).privateDeals
    assert (body.isMaker, body.isSelfTrade, body.tradeType, body.clientOrderId) == (True, False, 2, "")


async def test_stream_of_one_account_tells_nothing_of_another(rig):
    rig.open("other")
    key = (await rig.call("POST", "userDataStream", "other"))[1]["listenKey"]
    stream = await rig.stream(ORDERS, key=key)
    await rig.order()
    assert (await stream.ask("ping"))["msg"] == "PONG"
    assert stream.frames == []


async def test_socket_hears_only_what_it_subscribed(rig):
    stream = await rig.stream(DEALS, key=await rig.listen_key())
    await rig.order(price="101", quantity="1")
    assert (await stream.frame()).channel == DEALS
    await stream.ask("UNSUBSCRIPTION", DEALS)
    await rig.order(price="102", quantity="1")
    assert (await stream.ask("ping"))["msg"] == "PONG"
    assert stream.frames == []


async def test_invalid_listen_key_is_told_and_the_socket_closed(rig):
    stream = await rig.stream(key="nothing")
    assert await closing(stream) == ["Invalid listen key"]


async def test_sixth_socket_of_a_key_is_refused(rig):
    key = await rig.listen_key()
    open_ones = [await rig.stream(ORDERS, key=key) for _ in range(SOCKETS_MAX)]
    assert await closing(await rig.stream(key=key)) == ["Invalid listen key"]
    assert (await open_ones[0].ask("ping"))["msg"] == "PONG"


async def test_key_that_is_closed_ends_its_sockets(rig):
    key = await rig.listen_key()
    stream = await rig.stream(ORDERS, key=key)
    assert (await rig.call("GET", "userDataStream"))[1] == {"listenKey": [key]}
    assert (await rig.call("DELETE", "userDataStream", listenKey=key))[1] == {"listenKey": key}
    assert await closing(stream) == []
    assert (await rig.call("PUT", "userDataStream", listenKey=key))[1]["code"] == 700004
    assert await closing(await rig.stream(key=key)) == ["Invalid listen key"]


async def test_listen_key_ends_after_an_hour_unless_it_is_kept(rig):
    start = rig.now_ns()
    rig.now_ns = lambda: start
    key = await rig.listen_key()
    stream = await rig.stream(ORDERS, key=key)
    rig.now_ns = lambda: start + VALID_NS - 1
    assert (await rig.call("PUT", "userDataStream", listenKey=key))[1] == {"listenKey": key}
    rig.now_ns = lambda: start + 2 * VALID_NS - 2
    await rig.order()
    assert (await stream.frame()).privateOrders.status == 1
    rig.now_ns = lambda: start + 2 * VALID_NS - 1
    await rig.order()
    assert await closing(stream) == []


async def test_expired_key_tells_nothing_more(rig):
    stream = await rig.stream(ORDERS, key=await rig.listen_key())
    rig.arm("listen_key_expired", times=1)
    await rig.order()
    assert await closing(stream) == []
    assert (await rig.call("GET", "userDataStream"))[1] == {"listenKey": []}


async def test_reports_may_be_lost_doubled_or_swapped(rig):
    stream = await rig.stream(ORDERS, key=await rig.listen_key())

    async def statuses(fault, count):
        rig.arm(fault, route=ORDERS, times=1)
        order_id = (await rig.order())[1]["orderId"]
        await rig.call("DELETE", "order", symbol="BTCUSDT", orderId=order_id)
        return [(await stream.frame()).privateOrders.status for _ in range(count)]

    assert await statuses("report_drop", 1) == [4]
    assert await statuses("report_duplicate", 3) == [1, 1, 4]
    assert await statuses("report_reorder", 2) == [4, 1]


async def test_fills_come_before_the_reply_when_the_switch_says_so(rig):
    import asyncio

    stream = await rig.stream(DEALS, key=await rig.listen_key())
    rig.arm("fill_before_reply", route="POST /api/v3/order", parameter=5.0)
    create = asyncio.create_task(rig.order(price="101", quantity="1"))
    assert (await stream.frame()).privateDeals.quantity == "1"
    assert not create.done()
    create.cancel()


def test_an_account_has_sixty_keys_at_most():
    numbers = iter(range(1000))
    keys = ListenKeys(lambda: str(next(numbers)))
    issued = [keys.issue("a", 0) for _ in range(KEYS_MAX)]
    assert len(set(issued)) == KEYS_MAX
    with pytest.raises(ApiError):
        keys.issue("a", 0)
    assert keys.issue("b", 0)
    assert keys.issue("a", VALID_NS)  # the first ones have ended
    with pytest.raises(ApiError):
        keys.extend("b", "0", 0)
