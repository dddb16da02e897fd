import asyncio
from decimal import Decimal

import aiohttp
import pytest

from services.sandbox_exchange.mexc.stream import SUBSCRIPTIONS_MAX
from shared.messages import Side

D = Decimal
DEPTH = "spot@public.aggre.depth.v3.api.pb@100ms@BTCUSDT"
FAST_DEPTH = "spot@public.aggre.depth.v3.api.pb@10ms@BTCUSDT"
DEALS = "spot@public.aggre.deals.v3.api.pb@100ms@BTCUSDT"
BOOK_TICKER = "spot@public.aggre.bookTicker.v3.api.pb@100ms@BTCUSDT"
KLINE = "spot@public.kline.v3.api.pb@BTCUSDT@Min1"
LIMIT_DEPTH = "spot@public.limit.depth.v3.api.pb@BTCUSDT@5"
BLOCKED = "Not Subscribed successfully! [{}].  Reason： Blocked! "


def levels(rows):
    return [(row.price, row.quantity) for row in rows]


async def test_subscription_and_its_end_are_acknowledged_in_mexcs_form(rig):
    stream = await rig.stream()
    assert await stream.ask("SUBSCRIPTION", DEPTH) == {"id": 0, "code": 0, "msg": DEPTH}
    assert await stream.ask("SUBSCRIPTION", DEALS, KLINE) == {"id": 0, "code": 0, "msg": f"{DEALS},{KLINE}"}
    assert await stream.ask("UNSUBSCRIPTION", DEPTH) == {"id": 0, "code": 0, "msg": DEPTH}


@pytest.mark.parametrize("word", ["ping", "PING"])
async def test_both_spellings_of_ping_are_answered(rig, word):
    stream = await rig.stream()
    assert await stream.ask(word) == {"id": 0, "code": 0, "msg": "PONG"}


async def test_pong_stays_away_when_the_switch_says_so(rig):
    stream = await rig.stream()
    rig.arm("pong_missing", times=1)
    await stream.send("ping")
    assert (await stream.ask("SUBSCRIPTION", DEALS))["msg"] == DEALS  # the ping before it got no answer


@pytest.mark.parametrize(
    "channel",
    [
        "spot@public.aggre.depth.v3.api.pb@100ms@NOPE",
        "spot@public.aggre.depth.v3.api.pb@50ms@BTCUSDT",
        "spot@public.aggre.depth.v3.api.pb@BTCUSDT",
        "spot@public.kline.v3.api.pb@BTCUSDT@Min2",
        "spot@public.limit.depth.v3.api.pb@BTCUSDT@7",
        "spot@public.miniTicker.v3.api@BTCUSDT@UTC+0",
        "spot@private.orders.v3.api.pb",
        "",
        "@",
    ],
)
async def test_channel_that_is_none_is_refused_in_mexcs_form(rig, channel):
    stream = await rig.stream()
    assert await stream.ask("SUBSCRIPTION", channel) == {"id": 0, "code": 0, "msg": BLOCKED.format(channel)}


@pytest.mark.parametrize(
    "text", ["", "x", "[]", "1", '{"method":1}', '{"params":[]}', '{"method":"DANCE"}', '{"a":' * 500]
)
async def test_nonsense_is_answered_and_does_no_harm(rig, text):
    stream = await rig.stream()
    await stream.socket.send_str(text)
    assert (await stream.text())["msg"] != "PONG"
    assert (await stream.ask("ping"))["msg"] == "PONG"


async def test_thirty_first_subscription_is_refused_until_one_is_given_back(rig):
    names = [
        f"spot@public.kline.v3.api.pb@{symbol}@{each}"
        for symbol in ("BTCUSDT", "ETHUSDT")
        for each in (
            "Min1",
            "Min5",
            "Min15",
            "Min30",
            "Min60",
            "Hour4",
            "Hour8",
            "Day1",
        )
    ]
    names += [
        f"spot@public.aggre.{kind}.v3.api.pb@{period}@{symbol}"
        for kind in ("depth", "deals", "bookTicker")
        for period in ("100ms", "10ms")
        for symbol in ("BTCUSDT", "ETHUSDT")
    ]
    names += [
        f"spot@public.limit.depth.v3.api.pb@{symbol}@{count}" for symbol in ("BTCUSDT", "ETHUSDT") for count in (5, 10)
    ]
    assert len(names) > SUBSCRIPTIONS_MAX
    stream = await rig.stream()
    for name in names[:SUBSCRIPTIONS_MAX]:
        assert (await stream.ask("SUBSCRIPTION", name))["msg"] == name
    extra = names[SUBSCRIPTIONS_MAX]
    assert (await stream.ask("SUBSCRIPTION", extra))["msg"] == BLOCKED.format(extra)
    assert (await stream.ask("SUBSCRIPTION", names[0]))["msg"] == names[0]  # one that it has already
    await stream.ask("UNSUBSCRIPTION", names[0])
    assert (await stream.ask("SUBSCRIPTION", extra))["msg"] == extra


async def test_depth_frames_span_every_version_and_rebuild_the_book(rig):
    stream = await rig.stream(FAST_DEPTH)
    snapshot = (await rig.get("depth", symbol="BTCUSDT"))[1]
    book = {Side.BUY: dict(snapshot["bids"]), Side.SELL: dict(snapshot["asks"])}
    version = snapshot["lastUpdateId"]
    for number in range(40):
        rig.house(Side.BUY, D("99") + D(number) / 100, D(1))
        if number % 4 == 0:
            await rig.order(price="101", quantity="0.1") if number < 8 else await asyncio.sleep(0)
        if number % 10 == 9:
            await asyncio.sleep(0.02)
    last = rig.exchange.depth("BTCUSDT")
    while version < last.version:
        frame = await stream.frame()
        assert (frame.channel, frame.symbol) == (FAST_DEPTH, "BTCUSDT")
        body = frame.publicAggreDepths
        assert body.eventType == "spot@public.aggre.depth.v3.api.pb@10ms"
        assert int(body.fromVersion) == version + 1
        assert int(body.toVersion) >= int(body.fromVersion)
        version = int(body.toVersion)
        for side, rows in ((Side.BUY, body.bids), (Side.SELL, body.asks)):
            for price, quantity in levels(rows):
                if quantity == "0":
                    book[side].pop(price, None)
                else:
                    book[side][price] = quantity
    final = (await rig.get("depth", symbol="BTCUSDT"))[1]
    assert book == {Side.BUY: dict(final["bids"]), Side.SELL: dict(final["asks"])}


async def test_levels_that_change_within_a_period_come_once_with_their_last_quantity(rig):
    stream = await rig.stream(DEPTH)
    first = rig.house(Side.BUY, D("99.5"), D(1))
    rig.house(Side.BUY, D("99.5"), D(2))
    rig.exchange.cancel("house", "BTCUSDT", rig.now_ns(), order_id=first.order_id)
    body = (await stream.frame()).publicAggreDepths
    assert (levels(body.bids), levels(body.asks)) == ([("99.5", "2")], [])
    assert int(body.toVersion) - int(body.fromVersion) == 2


async def test_clients_of_one_channel_get_the_very_same_bytes(rig):
    one, other = await rig.stream(DEPTH), await rig.stream(DEPTH)
    rig.house(Side.BUY, D("99.5"), D(1))
    assert (await one.receive()).data == (await other.receive()).data


async def test_deals_come_in_order_with_the_takers_side(rig):
    stream = await rig.stream(DEALS)
    await rig.order(price="102", quantity="1.5")
    await rig.order(side="SELL", type="MARKET", price=None, quantity="0.5")
    deals = list((await stream.frame()).publicAggreDeals.deals)
    while len(deals) < 3:
        deals += (await stream.frame()).publicAggreDeals.deals
    assert [(one.price, one.quantity, one.tradeType) for one in deals] == [
        ("101", "1", 1),
        ("102", "0.5", 1),
        ("99", "0.5", 2),
    ]


async def test_burst_of_trades_arrives_complete(rig):
    rig.open("rich", {"USDT": D(10**9)})
    stream = await rig.stream(DEALS)
    rig.house(Side.SELL, D("100.5"), D(1000))
    from services.sandbox_exchange.core.model import OrderKind, PlaceOrder

    for _ in range(5000):
        rig.exchange.place(
            PlaceOrder("rich", "BTCUSDT", Side.BUY, OrderKind.MARKET, quantity=D("0.1")), rig.venue.now_ns()
        )
    deals = []
    while len(deals) < 5000:
        deals += (await stream.frame()).publicAggreDeals.deals
    assert len(deals) == 5000


async def test_book_ticker_comes_at_once_and_then_only_when_it_changes(rig):
    stream = await rig.stream(BOOK_TICKER)
    first = (await stream.frame()).publicAggreBookTicker
    assert (first.bidPrice, first.bidQuantity, first.askPrice, first.askQuantity) == ("99", "1", "101", "1")
    rig.house(Side.BUY, D("50"), D(1))  # far from the top
    rig.house(Side.SELL, D("100.5"), D(3))
    second = (await stream.frame()).publicAggreBookTicker
    assert (second.bidPrice, second.askPrice, second.askQuantity) == ("99", "100.5", "3")


async def test_kline_shows_the_candle_as_it_grows(rig):
    await rig.order(price="101", quantity="1")
    stream = await rig.stream(KLINE)
    first = (await stream.frame()).publicSpotKline
    assert (first.interval, first.openingPrice, first.closingPrice, first.volume) == ("Min1", "101", "101", "1")
    assert first.windowEnd - first.windowStart == 60
    await rig.order(price="102", quantity="0.5")
    body = (await stream.frame()).publicSpotKline
    while body.closingPrice != "102":
        body = (await stream.frame()).publicSpotKline
    assert (body.highestPrice, body.volume, body.amount) == (
        "102",
        "1.5",
        "152",
    ) or body.windowStart > first.windowStart


async def test_kline_closes_the_old_candle_before_it_opens_the_new_one(rig):
    start = rig.now_ns() // 60_000_000_000 * 60_000_000_000
    rig.now_ns = lambda: start + 59_900_000_000
    await rig.order(price="101", quantity="1")
    stream = await rig.stream(KLINE)
    assert (await stream.frame()).publicSpotKline.volume == "1"
    await rig.order(price="102", quantity="0.5")
    rig.now_ns = lambda: start + 60_000_000_000
    bodies = [(await stream.frame()).publicSpotKline for _ in range(2)]
    assert [(one.windowStart * 1_000_000_000 - start) // 1_000_000_000 for one in bodies] == [0, 60]
    assert [one.volume for one in bodies] == ["1.5", "0"]
    assert bodies[1].openingPrice == "102"


async def test_limited_book_shows_its_levels(rig):
    stream = await rig.stream(LIMIT_DEPTH)
    body = (await stream.frame()).publicLimitDepths
    assert levels(body.bids)[0] == ("99", "1")
    assert len(body.asks) == 5
    assert int(body.version) == rig.exchange.depth("BTCUSDT").version


async def test_snapshot_may_lie_inside_a_streamed_range(rig):
    stream = await rig.stream(DEPTH)
    before = rig.exchange.depth("BTCUSDT").version
    for price in ("99.1", "99.2", "99.3"):
        rig.house(Side.BUY, D(price), D(1))
    rig.arm("snapshot_straddle", times=2)
    first = (await rig.get("depth", symbol="BTCUSDT"))[1]
    assert first["lastUpdateId"] == before + 1
    assert [row[0] for row in first["bids"]][:2] == ["99.1", "99"]
    body = (await stream.frame()).publicAggreDepths
    assert int(body.fromVersion) <= first["lastUpdateId"] < int(body.toVersion)
    again = (await rig.get("depth", symbol="BTCUSDT"))[1]
    assert again["lastUpdateId"] == first["lastUpdateId"]  # inside the range that was sent
    assert (await rig.get("depth", symbol="BTCUSDT"))[1]["lastUpdateId"] == before + 3


async def test_subscription_may_be_refused_or_forgotten(rig):
    rig.arm("subscribe_refused", route="spot@public.aggre.depth", times=1)
    rig.arm("subscribe_ignored", route="spot@public.aggre.deals", times=1)
    stream = await rig.stream()
    assert (await stream.ask("SUBSCRIPTION", DEPTH))["msg"] == BLOCKED.format(DEPTH)
    await stream.send("SUBSCRIPTION", DEALS)
    assert (await stream.ask("ping"))["msg"] == "PONG"
    assert (await stream.ask("SUBSCRIPTION", DEPTH, DEALS))["msg"] == f"{DEPTH},{DEALS}"


async def test_lost_frame_leaves_a_gap_that_shows(rig):
    stream = await rig.stream(FAST_DEPTH)
    rig.arm("frame_drop", route="spot@public.aggre.depth", times=1)
    before = rig.exchange.depth("BTCUSDT").version
    rig.house(Side.BUY, D("99.1"), D(1))
    await asyncio.sleep(0.05)
    rig.house(Side.BUY, D("99.2"), D(1))
    assert int((await stream.frame()).publicAggreDepths.fromVersion) == before + 2


async def test_socket_is_cut_after_its_age(rig):
    stream = await rig.stream(DEPTH)
    rig.arm("socket_age", parameter=0.1, times=1)
    while (message := await stream.receive()).type is aiohttp.WSMsgType.BINARY:
        pass
    assert message.type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED}


async def test_client_that_leaves_is_forgotten(rig):
    stream = await rig.stream(DEPTH)
    await stream.socket.close()
    async with asyncio.timeout(5):
        while rig.venue.sockets:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
    rig.house(Side.BUY, D("99.1"), D(1))
    other = await rig.stream(DEPTH)
    rig.house(Side.BUY, D("99.2"), D(1))
    assert levels((await other.frame()).publicAggreDepths.bids) == [("99.2", "1")]
