"""The unmodified ccxt client, REST and pro, trades at the sandbox as it does at Binance."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

import ccxt
import ccxt.pro
import pytest

from services.sandbox_exchange.core.faults import FaultName
from services.sandbox_exchange.core.model import TradingStatus
from shared.messages import Side
from tests.unit.sandbox_exchange.binance.rig import KEY, SECRET, SYMBOL, Rig, rig

PAIR = "BTC/USDT"
D = Decimal
WAIT_S = 10.0


@asynccontextmanager
async def clients() -> AsyncIterator[tuple[Rig, ccxt.pro.binance]]:
    async with rig() as venue:
        client = make_client(venue)
        try:
            yield venue, client
        finally:
            await client.close()


def make_client(venue: Rig, **extra) -> ccxt.pro.binance:
    client = ccxt.pro.binance(
        {
            "apiKey": KEY,
            "secret": SECRET,
            "enableRateLimit": False,
            "options": {"fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False, "fetchMargins": False},
            **extra,
        }
    )
    api = client.urls["api"]
    api["public"] = api["private"] = venue.base + "/api/v3"
    api["sapi"] = venue.base + "/sapi/v1"
    api["ws"]["spot"] = venue.ws_base + "/ws"
    api["ws"]["ws-api"]["spot"] = venue.ws_base + "/ws-api/v3"
    return client


async def within[T](work) -> T:
    async with asyncio.timeout(WAIT_S):
        return await work


async def test_markets_carry_grid_minimum_and_status() -> None:
    async with clients() as (venue, client):
        markets = await client.load_markets()
        market = markets[PAIR]
        assert market["active"] and market["spot"]
        assert D(str(market["precision"]["price"])) == D("0.01")
        assert D(str(market["precision"]["amount"])) == D("0.00001")
        assert market["limits"]["cost"]["min"] == 5
        venue.exchange.set_status("ETHUSDT", TradingStatus.PAUSED, venue.venue.now_ns())
        assert (await client.load_markets(reload=True))["ETH/USDT"]["active"] is False


async def test_market_loading_with_keys_and_every_default_finds_its_endpoints() -> None:
    async with rig() as venue:
        client = make_client(venue, options={})
        client.urls["api"]["fapiPublic"] = venue.base + "/fapi/v1"
        client.urls["api"]["dapiPublic"] = venue.base + "/dapi/v1"
        try:
            await client.load_markets()
            assert "USDT" in client.currencies and PAIR in client.markets
        finally:
            await client.close()


async def test_tickers_books_trades_and_candles() -> None:
    async with clients() as (venue, client):
        for _ in range(3):
            venue.strike(Side.BUY, "0.01")
        ticker = await client.fetch_ticker(PAIR)
        assert ticker["last"] == 60_001 and ticker["bid"] == 59_999 and ticker["ask"] == 60_001
        assert set(await client.fetch_tickers()) == {PAIR, "ETH/USDT"}
        assert (await client.fetch_bids_asks([PAIR]))[PAIR]["bid"] == 59_999
        assert (await client.fetch_last_prices([PAIR]))[PAIR]["price"] == 60_001
        book = await client.fetch_order_book(PAIR, 5)
        assert len(book["bids"]) == len(book["asks"]) == 5 and book["asks"][0] == [60_001, 0.47]
        assert book["nonce"] == venue.exchange.depth(SYMBOL).version
        trades = await client.fetch_trades(PAIR)
        assert [one["amount"] for one in trades] == [0.01] * 3 and trades[0]["side"] == "buy"
        assert len(await client.fetch_trades(PAIR, limit=2)) == 2
        candles = await client.fetch_ohlcv(PAIR, "1m", limit=1)
        assert candles[-1][4] == 60_001 and candles[-1][5] == pytest.approx(0.03)
        assert abs(await client.fetch_time() - venue.venue.now_ns() // 10**6) < 5_000


async def test_balances_fees_and_key() -> None:
    async with clients() as (_, client):
        balance = await client.fetch_balance()
        assert balance["USDT"]["free"] == 100_000 and balance["BTC"]["total"] == 2
        assert (await client.fetch_trading_fee(PAIR))["taker"] == 0.001
        assert PAIR in await client.fetch_trading_fees()
        assert (await client.sapi_get_account_apirestrictions())["enableWithdrawals"] is False


async def test_limit_order_rests_is_found_and_cancelled() -> None:
    async with clients() as (_, client):
        placed = await client.create_order(PAIR, "limit", "buy", 0.01, 50_000, {"clientOrderId": "mine-1"})
        assert placed["status"] == "open" and placed["clientOrderId"] == "mine-1"
        assert (await client.fetch_balance())["USDT"]["used"] == 500
        assert [one["id"] for one in await client.fetch_open_orders(PAIR)] == [placed["id"]]
        found = await client.fetch_order(placed["id"], PAIR)
        assert found["price"] == 50_000 and found["remaining"] == 0.01
        by_client_id = await client.fetch_order(None, PAIR, {"clientOrderId": "mine-1"})
        assert by_client_id["id"] == placed["id"]
        canceled = await client.cancel_order(placed["id"], PAIR)
        assert canceled["status"] == "canceled"
        assert (await client.fetch_balance())["USDT"]["used"] == 0
        with pytest.raises(ccxt.OrderNotFound):
            await client.cancel_order(placed["id"], PAIR)
        assert [one["status"] for one in await client.fetch_orders(PAIR)] == ["canceled"]


async def test_market_orders_by_quantity_and_by_cost_tell_fills_and_fees() -> None:
    async with clients() as (_, client):
        bought = await client.create_order(PAIR, "market", "buy", 0.7)
        assert bought["status"] == "closed" and bought["filled"] == 0.7 and len(bought["trades"]) == 2
        assert bought["fees"][0]["currency"] == "BTC" and bought["fees"][0]["cost"] == pytest.approx(0.0007)
        spent = await client.create_market_buy_order_with_cost(PAIR, 600)
        assert spent["status"] == "closed" and spent["cost"] <= 600
        sold = await client.create_order(PAIR, "market", "sell", 0.1)
        assert sold["average"] == 59_999 and sold["fees"][0]["currency"] == "USDT"
        mine = await client.fetch_my_trades(PAIR)
        assert sum(one["amount"] for one in mine if one["order"] == bought["id"]) == pytest.approx(0.7)
        of_order = await client.fetch_order_trades(sold["id"], PAIR)
        assert len(of_order) == 1 and of_order[0]["takerOrMaker"] == "taker"


async def test_every_time_in_force() -> None:
    async with clients() as (_, client):
        part = await client.create_order(PAIR, "limit", "buy", 0.9, 60_001, {"timeInForce": "IOC"})
        assert part["status"] == "expired" and part["filled"] == 0.5
        none = await client.create_order(PAIR, "limit", "buy", 1.1, 60_003, {"timeInForce": "FOK"})
        assert none["status"] == "expired" and none["filled"] == 0
        maker = await client.create_order(PAIR, "limit", "buy", 0.1, 59_000, {"postOnly": True})
        assert (await client.fetch_order(maker["id"], PAIR))["type"] == "limit"
        with pytest.raises(ccxt.OrderImmediatelyFillable):
            await client.create_order(PAIR, "limit", "buy", 0.1, 60_010, {"postOnly": True})


async def test_cancel_all_edit_and_test_orders() -> None:
    async with clients() as (_, client):
        first = await client.create_order(PAIR, "limit", "buy", 0.01, 50_000)
        await client.create_order(PAIR, "limit", "sell", 0.01, 70_000)
        edited = await client.edit_order(first["id"], PAIR, "limit", "buy", 0.02, 49_000)
        assert edited["price"] == 49_000 and edited["id"] != first["id"]
        assert len(await client.cancel_all_orders(PAIR)) == 2
        client.options["fetchOpenOrders"] = {"warnWithoutSymbol": False}
        assert await client.fetch_open_orders() == []
        await client.create_order(PAIR, "limit", "buy", 0.01, 50_000, {"test": True})
        assert await client.fetch_open_orders(PAIR) == []


async def test_self_trade_is_prevented_as_asked() -> None:
    async with clients() as (_, client):
        resting = await client.create_order(PAIR, "limit", "buy", 0.01, 60_000)
        taking = await client.create_order(
            PAIR, "limit", "sell", 0.01, 60_000, {"selfTradePreventionMode": "EXPIRE_TAKER"}
        )
        assert taking["info"]["status"] == "EXPIRED_IN_MATCH"
        assert (await client.fetch_order(resting["id"], PAIR))["status"] == "open"


async def test_streams_of_books_trades_tickers_and_candles() -> None:
    async with clients() as (venue, client):
        await client.load_markets()

        async def move() -> None:
            while True:
                venue.strike(Side.BUY, "0.001")
                venue.strike(Side.SELL, "0.001")
                await asyncio.sleep(0.05)

        moving = asyncio.create_task(move())
        try:
            book = await within(client.watch_order_book(PAIR))
            assert book["bids"][0][0] == 59_999
            assert len(await within(client.watch_trades(PAIR))) >= 1
            assert (await within(client.watch_ticker(PAIR)))["last"] in {60_001, 59_999}
            assert PAIR in await within(client.watch_bids_asks([PAIR]))
            assert (await within(client.watch_ohlcv(PAIR, "1m")))[-1][5] > 0
        finally:
            moving.cancel()


async def test_a_watched_book_equals_the_venues_book() -> None:
    async with clients() as (venue, client):
        await within(client.watch_order_book(PAIR))
        for _ in range(30):
            venue.strike(Side.BUY, "0.3")
            venue.house(Side.BUY, "0.2", "59999.5")
            venue.house(Side.SELL, "0.4", "60100.25")
        version = venue.exchange.depth(SYMBOL).version
        book = client.orderbooks[PAIR]
        while book["nonce"] < version:
            book = await within(client.watch_order_book(PAIR))
        truth = venue.exchange.depth(SYMBOL)
        assert [[float(p), float(q)] for p, q in truth.bids] == [list(one) for one in book["bids"]]
        assert [[float(p), float(q)] for p, q in truth.asks] == [list(one) for one in book["asks"]]


async def test_user_stream_tells_orders_fills_and_balances() -> None:
    async with clients() as (venue, client):
        await client.load_markets()
        orders = asyncio.create_task(client.watch_orders(PAIR))
        await subscribed(venue)
        placed = await client.create_order(PAIR, "limit", "buy", 0.01, 59_999.5, {"clientOrderId": "mine-2"})
        told = (await within(orders))[-1]
        assert told["id"] == placed["id"] and told["clientOrderId"] == "mine-2" and told["status"] == "open"
        trades = asyncio.create_task(client.watch_my_trades(PAIR))
        balances = asyncio.create_task(client.watch_balance())
        await asyncio.sleep(0)
        venue.strike(Side.SELL, "0.01")
        fill = (await within(trades))[-1]
        assert fill["order"] == placed["id"] and fill["amount"] == 0.01 and fill["takerOrMaker"] == "maker"
        balance = await within(balances)
        while balance.get("BTC", {"total": 0})["total"] <= 2:
            balance = await within(client.watch_balance())
        assert balance["BTC"]["total"] == pytest.approx(2.00999)


async def test_orders_over_the_ws_api() -> None:
    async with clients() as (_, client):
        await client.load_markets()
        placed = await within(client.create_order_ws(PAIR, "limit", "buy", 0.01, 50_000))
        assert placed["status"] == "open"
        assert (await within(client.fetch_order_ws(placed["id"], PAIR)))["price"] == 50_000
        assert len(await within(client.fetch_open_orders_ws(PAIR))) == 1
        # ccxt itself parses no spot balances here: it forgets to say that they are spot.
        told = (await within(client.fetch_balance_ws()))["info"]["balances"]
        assert {one["asset"]: one["locked"] for one in told}["USDT"] == "500.00000000"
        assert (await within(client.cancel_order_ws(placed["id"], PAIR)))["status"] == "canceled"
        assert len(await within(client.fetch_orders_ws(PAIR))) == 1
        sold = await within(client.create_order_ws(PAIR, "market", "sell", 0.01))
        assert sold["status"] == "closed"
        assert len(await within(client.fetch_my_trades_ws(PAIR))) == 1
        with pytest.raises(ccxt.OrderNotFound):
            await within(client.cancel_order_ws("999", PAIR))


async def subscribed(venue: Rig) -> None:
    """Wait until a client has its user stream."""
    async with asyncio.timeout(WAIT_S):
        while not any(one.has_subscription and one.path == "ws-api" for one in venue.venue.sockets):  # noqa: ASYNC110 - the venue tells nobody
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("limit", "buy", 10, 50_000), ccxt.InsufficientFunds),
        (("limit", "buy", 0.00002, 50_000), ccxt.BadRequest),
        (("limit", "buy", 0.01, 50_000, {"newOrderRespType": "NO"}), ccxt.BadRequest),
    ],
)
async def test_refused_orders_raise_ccxts_own_errors(arguments, error) -> None:
    async with clients() as (_, client):
        with pytest.raises(error):
            await client.create_order(PAIR, *arguments)


async def test_http_faults_raise_what_they_raise_at_the_venue() -> None:
    async with clients() as (venue, client):
        await client.load_markets()
        for name, parameter, error in (
            (FaultName.HTTP_429, 1, ccxt.DDoSProtection),
            (FaultName.HTTP_403, None, ccxt.ExchangeNotAvailable),
            (FaultName.HTTP_5XX, 503, ccxt.NetworkError),
            (FaultName.RESET_BEFORE, None, ccxt.ExchangeNotAvailable),
            (FaultName.MAINTENANCE, None, ccxt.OnMaintenance),
        ):
            venue.arm(name, route="POST /api/v3/order", parameter=parameter)
            with pytest.raises(error):
                await client.create_order(PAIR, "limit", "buy", 0.01, 50_000)
        assert await client.fetch_open_orders(PAIR) == []
        venue.arm(FaultName.HTTP_5XX_AFTER, route="POST /api/v3/order")
        with pytest.raises(ccxt.BaseError):
            await client.create_order(PAIR, "limit", "buy", 0.01, 50_000)
        assert len(await client.fetch_open_orders(PAIR)) == 1
