from datetime import UTC, datetime
from decimal import Decimal

import pytest

from services.sandbox_exchange.core.model import TradingStatus
from services.sandbox_exchange.mexc.words import DAY_NS, INTERVALS_NS, MINUTE_NS
from shared.messages import Side

D = Decimal


async def test_public_endpoints_answer_without_a_key(rig):
    await rig.order(price="101", quantity="1")
    assert await rig.get("ping") == (200, {})
    assert set((await rig.get("time"))[1]) == {"serverTime"}
    assert (await rig.get("defaultSymbols"))[1] == {"code": 200, "data": ["BTCUSDT", "ETHUSDT"], "msg": None}
    assert (await rig.raw("GET", "/api/v1/contract/detail"))[1] == {"success": True, "code": 0, "data": []}
    for path in ("trades", "historicalTrades", "aggTrades", "depth", "avgPrice", "ticker/24hr", "ticker/price"):
        assert (await rig.get(path, symbol="BTCUSDT"))[0] == 200


@pytest.mark.parametrize(
    "path", ["depth", "trades", "historicalTrades", "aggTrades", "klines", "avgPrice", "ticker/24hr", "exchangeInfo"]
)
async def test_unknown_symbol_has_its_code(rig, path):
    assert await rig.get(path, symbol="NOPEUSDT", interval="1m") == (400, {"code": -1121, "msg": "Invalid symbol."})


async def test_missing_symbol_is_named(rig):
    assert (await rig.get("depth"))[1]["code"] == 700004
    assert "'symbol'" in (await rig.get("klines"))[1]["msg"]


async def test_exchange_info_tells_the_grid_in_decimals(rig):
    market = (await rig.get("exchangeInfo", symbol="ETHUSDT"))[1]["symbols"][0]
    assert (market["baseAssetPrecision"], market["quoteAssetPrecision"], market["quotePrecision"]) == (3, 1, 1)
    assert (market["baseSizePrecision"], market["quoteAmountPrecision"]) == ("0.001", "5")
    assert (market["makerCommission"], market["takerCommission"], market["status"]) == ("0", "0.0005", "1")


async def test_trade_side_types_tell_what_is_allowed(rig):
    import msgspec

    for sides, kind in (({Side.BUY}, 2), ({Side.SELL}, 3), (set(), 4), (set(Side), 1)):
        market = msgspec.structs.replace(rig.exchange.markets["BTCUSDT"], allowed_sides=frozenset(sides))
        rig.exchange.list_market(market)
        assert (await rig.get("exchangeInfo", symbol="BTCUSDT"))[1]["symbols"][0]["tradeSideType"] == kind
        assert ((await rig.order())[1].get("code") == 30001) == (Side.BUY not in sides)


async def test_depth_gives_best_levels_first_and_the_version(rig):
    _, body = await rig.get("depth", symbol="BTCUSDT", limit=2)
    assert body["bids"] == [["99", "1"], ["98", "1"]]
    assert body["asks"] == [["101", "1"], ["102", "1"]]
    assert body["lastUpdateId"] == rig.exchange.depth("BTCUSDT").version
    assert len((await rig.get("depth", symbol="BTCUSDT"))[1]["bids"]) == 5


async def test_stale_snapshot_is_the_book_of_then(rig):
    before = (await rig.get("depth", symbol="BTCUSDT"))[1]
    for price in ("99.5", "99.6", "99.7"):
        rig.house(Side.BUY, D(price), D(1))
    await rig.order(price="101", quantity="0.4")
    rig.arm("snapshot_stale", parameter=4)
    stale = (await rig.get("depth", symbol="BTCUSDT"))[1]
    assert (stale["lastUpdateId"], stale["bids"], stale["asks"]) == (
        before["lastUpdateId"],
        before["bids"],
        before["asks"],
    )
    assert (await rig.get("depth", symbol="BTCUSDT"))[1]["lastUpdateId"] == before["lastUpdateId"] + 4


async def test_trades_are_newest_first_and_joined_where_they_are_one(rig):
    now_ns = rig.now_ns()
    rig.now_ns = lambda: now_ns
    rig.house(Side.SELL, D("100.5"), D("0.5"))
    rig.house(Side.SELL, D("100.5"), D("0.5"))
    await rig.order(price="101", quantity="2")
    trades = (await rig.get("trades", symbol="BTCUSDT"))[1]
    assert [(one["price"], one["qty"], one["isBuyerMaker"]) for one in trades] == [
        ("101", "1", False),
        ("100.5", "0.5", False),
        ("100.5", "0.5", False),
    ]
    joined = (await rig.get("aggTrades", symbol="BTCUSDT"))[1]
    assert [(one["p"], D(one["q"]), one["m"]) for one in joined] == [("101", D(1), False), ("100.5", D(1), False)]


async def test_aggregated_trades_take_both_times_or_none(rig):
    await rig.order(price="101", quantity="1")
    now = rig.now_ns() // 1_000_000
    assert (await rig.get("aggTrades", symbol="BTCUSDT", startTime=now))[1]["code"] == 700004
    assert (await rig.get("aggTrades", symbol="BTCUSDT", startTime=now - 60_000, endTime=now - 30_000))[1] == []
    assert len((await rig.get("aggTrades", symbol="BTCUSDT", startTime=now - 60_000, endTime=now))[1]) == 1


async def test_candles_of_each_interval_lie_on_its_grid(rig):
    await rig.order(price="101", quantity="1")
    for interval, length_ns in INTERVALS_NS.items():
        rows = (await rig.get("klines", symbol="BTCUSDT", interval=interval))[1]
        assert [len(row) for row in rows] == [8]
        assert rows[0][0] * 1_000_000 % length_ns == 0
        assert (rows[0][6] - rows[0][0]) * 1_000_000 == length_ns
        assert rows[0][1:6] == ["101", "101", "101", "101", "1"]
    assert (await rig.get("klines", symbol="BTCUSDT", interval="2m"))[1]["code"] == -1121


async def test_weeks_start_on_monday_and_months_on_the_first(rig):
    moment = int(datetime(2024, 2, 28, 12, tzinfo=UTC).timestamp()) * 1_000_000_000
    for day, price in ((0, "101"), (1, "102"), (2, "103")):  # Wednesday 28, Thursday 29 February, Friday 1 March
        rig.now_ns = lambda day=day: moment + day * DAY_NS
        await rig.order(price=price, quantity="1")
    week = (await rig.get("klines", symbol="BTCUSDT", interval="1W"))[1]
    assert [(datetime.fromtimestamp(row[0] / 1000, UTC).isoformat()[:10], *row[1:6]) for row in week] == [
        ("2024-02-26", "101", "103", "101", "103", "3")
    ]
    assert week[0][6] - week[0][0] == 7 * 86_400_000
    months = (await rig.get("klines", symbol="BTCUSDT", interval="1M"))[1]
    assert [datetime.fromtimestamp(row[0] / 1000, UTC).isoformat()[:10] for row in months] == [
        "2024-02-01",
        "2024-03-01",
    ]
    assert [row[6] for row in months[:1]] == [months[1][0]]


async def test_candles_are_five_hundred_at_most_and_within_their_bounds(rig):
    now = rig.now_ns()
    rig.now_ns = lambda: now - 600 * MINUTE_NS
    await rig.order(price="101", quantity="1")
    rig.now_ns = lambda: now
    rows = (await rig.get("klines", symbol="BTCUSDT", interval="1m", limit=1000))[1]
    assert len(rows) == 500
    start = rows[100][0]
    some = (await rig.get("klines", symbol="BTCUSDT", interval="1m", startTime=start, endTime=rows[110][0]))[1]
    assert some == rows[100:110]


async def test_average_price_weighs_by_volume(rig):
    await rig.order(price="101", quantity="1")
    await rig.order(price="102", quantity="0.5")
    assert (await rig.get("avgPrice", symbol="BTCUSDT"))[1] == {"mins": 5, "price": "101.33"}
    assert (await rig.get("avgPrice", symbol="ETHUSDT"))[1] == {"mins": 5, "price": "0"}


async def test_tickers_of_one_and_of_all(rig):
    await rig.order(price="101", quantity="1")
    await rig.order(price="102", quantity="1")
    one = (await rig.get("ticker/24hr", symbol="BTCUSDT"))[1]
    assert (one["openPrice"], one["lastPrice"], one["priceChange"], one["priceChangePercent"]) == (
        *("101", "102", "1"),
        "0.0099",
    )
    assert (D(one["volume"]), D(one["quoteVolume"]), one["bidPrice"], one["askPrice"]) == (2, 203, "99", "103")
    assert [row["symbol"] for row in (await rig.get("ticker/24hr"))[1]] == ["BTCUSDT", "ETHUSDT"]
    assert (await rig.get("ticker/price", symbol="BTCUSDT"))[1] == {"symbol": "BTCUSDT", "price": "102"}
    assert (await rig.get("ticker/bookTicker", symbol="ETHUSDT"))[1]["bidPrice"] is None
    assert len((await rig.get("ticker/price", symbols="BTCUSDT,ETHUSDT"))[1]) == 2


async def test_offline_symbols_are_told(rig):
    rig.exchange.set_status("ETHUSDT", TradingStatus.PAUSED, rig.now_ns())
    assert (await rig.get("symbol/offline"))[1] == {"data": [{"symbol": "ETHUSDT", "state": 2}]}


async def test_account_endpoints_answer(rig):
    fee = (await rig.call("GET", "tradeFee", symbol="BTCUSDT"))[1]
    assert (fee["code"], fee["data"]) == (0, {"makerCommission": 0, "takerCommission": 0.0005})
    coins = (await rig.call("GET", "capital/config/getall"))[1]
    assert [one["coin"] for one in coins] == ["BTC", "USDT", "ETH"]


async def test_stale_balances_are_those_before_the_last_change(rig):
    async def free():
        balances = (await rig.call("GET", "account"))[1]["balances"]
        return {one["asset"]: (D(one["free"]), D(one["locked"])) for one in balances}

    before = await free()
    await rig.order(price="99", quantity="1")
    after = await free()
    assert after["USDT"] != before["USDT"]
    rig.arm("balance_stale", times=1)
    assert await free() == before
    assert await free() == after


async def test_broken_and_overlong_queries_are_refused(rig):
    status, body = await rig.raw("GET", "/api/v3/depth?" + "&".join(f"a{number}=1" for number in range(80)))
    assert (status, body["code"]) == (400, 700008)
    assert (await rig.get("depth", symbol="BTCUSDT", limit="many"))[1]["code"] == 700004
    assert (await rig.get("depth", symbol="BTCUSDT", limit=10**30))[1]["code"] == 700004
    assert (await rig.raw("GET", "/api/v3/nothing"))[0] == 404
