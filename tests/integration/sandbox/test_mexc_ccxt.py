"""The unmodified ccxt client, REST and pro, trades at the sandbox as it does at MEXC."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal

import ccxt
import ccxt.async_support
import ccxt.pro
import pytest

from services.sandbox_exchange.core.model import Permission, TradingStatus
from shared.clock import wall_ns
from shared.messages import Side
from shared.testing.sandbox import running_sandbox
from tests.unit.sandbox_exchange.mexc.rig import SECRET, Rig, running_rig

PAIR = "BTC/USDT"
D = Decimal
WAIT_S = 10.0


def make_client(kind, rest_url: str, ws_url: str, key: str, secret: str):
    client = kind({"apiKey": key, "secret": secret, "enableRateLimit": False})
    api = client.urls["api"]
    api["spot"] = {"public": rest_url, "private": rest_url}
    api["contract"] = {"public": f"{rest_url}/api/v1/contract", "private": f"{rest_url}/api/v1/private"}
    if "ws" in api:
        api["ws"]["spot"] = ws_url
    return client


def client_of(venue: Rig, kind=ccxt.async_support.mexc, account: str = "trader"):
    ws_url = venue.url.replace("http", "ws") + "/ws"
    return make_client(kind, venue.url, ws_url, f"key-{account}", SECRET)


@asynccontextmanager
async def rest() -> AsyncIterator[tuple[Rig, ccxt.async_support.mexc]]:
    async with running_rig() as venue:
        client = client_of(venue)
        try:
            yield venue, client
        finally:
            await client.close()


@asynccontextmanager
async def pro() -> AsyncIterator[tuple[Rig, ccxt.pro.mexc]]:
    async with running_rig() as venue:
        client = client_of(venue, ccxt.pro.mexc)
        try:
            yield venue, client
        finally:
            await client.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - the venue and the client tell nobody
            await asyncio.sleep(0.01)


def subscribed(venue: Rig, kind: str) -> int:
    return sum(count for name, count in venue.venue.counts.items() if name.startswith(f"subscribed_{kind}"))


async def within[T](work: Awaitable[T]) -> T:
    async with asyncio.timeout(WAIT_S):
        return await work


async def test_markets_and_currencies() -> None:
    async with rest() as (venue, client):
        market = (await client.load_markets())[PAIR]
        assert (market["id"], market["active"], market["spot"], market["margin"]) == ("BTCUSDT", True, True, False)
        assert (market["precision"]["price"], market["precision"]["amount"]) == (0.01, 0.0001)
        assert (market["limits"]["amount"]["min"], market["limits"]["cost"]["min"]) == (0.0001, 5)
        assert (market["maker"], market["taker"]) == (0, 0.0005)
        assert {"BTC", "ETH", "USDT"} <= set(await client.fetch_currencies())
        venue.exchange.set_status("ETHUSDT", TradingStatus.PAUSED, venue.venue.now_ns())
        assert (await client.load_markets(reload=True))["ETH/USDT"]["active"] is False
        assert (await client.fetch_status())["status"] == "ok"
        assert abs(await client.fetch_time() - wall_ns() // 1_000_000) < 60_000


async def test_tickers_book_trades_and_candles() -> None:
    async with rest() as (venue, client):
        await venue.order(price="101", quantity="1")
        await venue.order(price="102", quantity="0.5")
        ticker = await client.fetch_ticker(PAIR)
        assert (ticker["open"], ticker["last"], ticker["bid"], ticker["ask"]) == (101, 102, 99, 102)
        assert (ticker["baseVolume"], ticker["quoteVolume"], ticker["percentage"]) == (1.5, 152, 0.99)
        assert set(await client.fetch_tickers()) == {PAIR, "ETH/USDT"}
        assert (await client.fetch_bids_asks([PAIR, "ETH/USDT"]))[PAIR]["ask"] == 102
        book = await client.fetch_order_book(PAIR, 2)
        assert book["bids"] == [[99, 1], [98, 1]]
        assert book["asks"] == [[102, 0.5], [103, 1]]
        assert book["nonce"] == venue.exchange.depth("BTCUSDT").version
        trades = await client.fetch_trades(PAIR)
        assert {(one["side"], one["price"], one["amount"]) for one in trades} == {("buy", 101, 1), ("buy", 102, 0.5)}
        for timeframe in ("1m", "5m", "15m", "30m", "1h", "4h", "1d", "1w", "1M"):
            candles = await client.fetch_ohlcv(PAIR, timeframe)
            assert candles[-1][4] == 102
            assert sum(one[5] for one in candles) == 1.5
        assert len(await client.fetch_ohlcv(PAIR, "1m", since=wall_ns() // 1_000_000 - 120_000)) >= 1


async def test_balance_and_fee() -> None:
    async with rest() as (_venue, client):
        await client.create_order(PAIR, "limit", "buy", 1, 99)
        balance = await client.fetch_balance()
        assert (balance["USDT"]["free"], balance["USDT"]["used"], balance["BTC"]["total"]) == (9901, 99, 1)
        fee = await client.fetch_trading_fee(PAIR)
        assert (fee["maker"], fee["taker"]) == (0, 0.0005)


@pytest.mark.parametrize(
    ("arguments", "status", "traded", "kind", "force"),
    [
        (("limit", "buy", 1, 99), "open", (0, 0), "limit", "GTC"),
        (("limit", "buy", 1.5, 101), "open", (1, 101), "limit", "GTC"),
        (("limit", "sell", 1, 98), "closed", (1, 99), "limit", "GTC"),
        (("market", "buy", 1.5), "closed", (1.5, 152), "market", "IOC"),
        (("market", "sell", 0.5), "closed", (0.5, 49.5), "market", "IOC"),
        (("market", "buy", 1, 101), "closed", (1, 101), "market", "IOC"),
        (("market", "buy", 0, None, {"cost": 101}), "closed", (1, 101), "market", "IOC"),
        (("limit", "buy", 1.5, 101, {"timeInForce": "IOC"}), "canceled", (1, 101), "limit", "IOC"),
        (("limit", "buy", 1.5, 101, {"timeInForce": "FOK"}), "canceled", (0, 0), "limit", "FOK"),
        (("limit", "buy", 1, 101, {"timeInForce": "FOK"}), "closed", (1, 101), "limit", "FOK"),
        (("limit", "buy", 1, 100, {"postOnly": True}), "open", (0, 0), "limit", "POST_ONLY"),
    ],
)
async def test_every_order_type(arguments, status, traded, kind, force) -> None:
    async with rest() as (_venue, client):
        created = await client.create_order(PAIR, *arguments)
        assert created["id"].startswith("C02__")
        order = await client.fetch_order(created["id"], PAIR)
        assert (order["status"], order["filled"], order["cost"]) == (status, *traded)
        assert (order["type"], order["timeInForce"], order["side"]) == (kind, force, arguments[1])
        trades = await client.fetch_order_trades(created["id"], PAIR)
        assert sum(one["amount"] for one in trades) == traded[0]


async def test_market_buy_with_cost_spends_no_more() -> None:
    async with rest() as (venue, client):
        created = await client.create_market_buy_order_with_cost(PAIR, 150)
        order = await client.fetch_order(created["id"], PAIR)
        assert 149.98 < order["cost"] <= 150
        assert order["status"] in {"closed", "canceled"}
        spent = D(10_000) - {one.asset: one.free for one in venue.exchange.holdings("trader")}["USDT"]
        assert spent == venue.exchange.orders("trader", "BTCUSDT")[0].executed_quote


async def test_order_test_places_nothing() -> None:
    async with rest() as (venue, client):
        await client.create_order(PAIR, "limit", "buy", 1, 99, {"test": True})
        assert venue.exchange.orders("trader", "BTCUSDT") == []


async def test_cancels_and_lists_of_orders() -> None:
    async with rest() as (venue, client):
        first = await client.create_order(PAIR, "limit", "buy", 0.1, 99, {"clientOrderId": "one"})
        second = await client.create_order(PAIR, "limit", "buy", 0.1, 98)
        third = await client.create_order(PAIR, "limit", "buy", 0.1, 97)
        opened = await client.fetch_open_orders(PAIR)
        assert [one["id"] for one in opened] == [first["id"], second["id"], third["id"]]
        assert (await client.fetch_order("", PAIR, {"clientOrderId": "one"}))["id"] == first["id"]
        cancelled = await client.cancel_order("", PAIR, {"clientOrderId": "one"})
        assert (cancelled["id"], cancelled["status"]) == (first["id"], "canceled")
        await client.cancel_order(second["id"], PAIR)
        assert [one["id"] for one in await client.cancel_all_orders(PAIR)] == [third["id"]]
        assert await client.fetch_open_orders(PAIR) == []
        orders = await client.fetch_orders(PAIR)
        assert {one["id"] for one in orders} == {first["id"], second["id"], third["id"]}
        assert {one["status"] for one in orders} == {"canceled"}
        await client.create_order(PAIR, "limit", "buy", 0.1, 97)
        assert await client.cancel_all_orders() == []
        assert venue.exchange.open_orders("trader") == []


async def test_batch_of_orders() -> None:
    async with rest() as (_venue, client):
        wanted = [
            {"symbol": PAIR, "type": "limit", "side": "buy", "amount": 0.1, "price": 99},
            {"symbol": PAIR, "type": "limit", "side": "buy", "amount": 0.01, "price": 99},
            {"symbol": PAIR, "type": "market", "side": "buy", "amount": 1},
        ]
        answers = await client.create_orders(wanted)
        assert [one["status"] for one in answers].count("rejected") == 1
        assert sum(one["id"] is not None for one in answers) == 2
        assert len(await client.fetch_open_orders(PAIR)) == 1


async def test_own_trades() -> None:
    async with rest() as (venue, client):
        created = await client.create_order(PAIR, "limit", "buy", 1.5, 102, {"clientOrderId": "mine"})
        trades = await client.fetch_my_trades(PAIR)
        assert [(one["price"], one["amount"], one["takerOrMaker"], one["side"]) for one in trades] == [
            (101, 1, "taker", "buy"),
            (102, 0.5, "taker", "buy"),
        ]
        assert {one["order"] for one in trades} == {created["id"]}
        assert [one["fee"] for one in trades] == [
            {"currency": "BTC", "cost": 0.0005},
            {"currency": "BTC", "cost": 0.00025},
        ]
        known = venue.exchange.account_trades("trader")
        assert sum(D(str(one["cost"])) for one in trades) == sum(one.quote_quantity for one in known)


@pytest.mark.parametrize(
    ("error", "text", "arguments"),
    [
        (ccxt.InsufficientFunds, "30004", ("limit", "buy", 1000, 99)),
        (ccxt.InsufficientFunds, "30005", ("limit", "sell", 5, 101)),
        (ccxt.InvalidOrder, "30002", ("limit", "buy", 0.01, 99)),
        (ccxt.InvalidOrder, "30041", ("limit", "buy", 1, 101, {"postOnly": True})),
        (ccxt.BadRequest, "700008", ("limit", "buy", 1, 99, {"clientOrderId": "no spaces"})),
    ],
)
async def test_refusals_have_the_classes_that_mexcs_have(error, text, arguments) -> None:
    async with rest() as (venue, client):
        with pytest.raises(error, match=text):
            await client.create_order(PAIR, *arguments)
        assert venue.exchange.orders("trader", "BTCUSDT") == []


async def test_unknown_orders_symbols_and_keys() -> None:
    async with rest() as (venue, client):
        await client.load_markets()
        with pytest.raises(ccxt.ExchangeError, match="-2013"):
            await client.fetch_order("C02__4680000000000009999", PAIR)
        with pytest.raises(ccxt.BadRequest, match="-2011"):
            await client.cancel_order("C02__4680000000000009999", PAIR)
        with pytest.raises(ccxt.BadSymbol):
            await client.spotPublicGetDepth({"symbol": "NOPEUSDT"})
        venue.exchange.set_status("BTCUSDT", TradingStatus.PAUSED, venue.venue.now_ns())
        with pytest.raises(ccxt.InvalidOrder, match="30016"):
            await client.create_order(PAIR, "limit", "buy", 1, 99)
        client.secret = "wrong"
        with pytest.raises(ccxt.AuthenticationError, match="700002"):
            await client.fetch_balance()
        venue.open("reader", permissions=frozenset({Permission.READ}))
        client.apiKey, client.secret = "key-reader", SECRET
        with pytest.raises(ccxt.PermissionDenied, match="704"):
            await client.create_order("ETH/USDT", "limit", "buy", 1, 99)


async def test_stale_time_and_too_many_requests() -> None:
    async with rest() as (venue, client):
        await client.load_markets()
        venue.arm("clock_skew", parameter=10.0, times=None)
        with pytest.raises(ccxt.InvalidNonce, match="700003"):
            await client.fetch_balance()
        await client.load_time_difference()
        assert (await client.fetch_balance())["USDT"]["free"] == 10_000
        with pytest.raises(ccxt.RateLimitExceeded):
            for _ in range(13):
                await client.create_order(PAIR, "limit", "buy", 0.1, 99)
        assert len(venue.exchange.open_orders("trader")) == 12


@pytest.mark.parametrize(
    ("fault", "fields", "error"),
    [
        ("http_429", {}, ccxt.RateLimitExceeded),
        ("http_418", {}, ccxt.DDoSProtection),
        ("http_403", {}, ccxt.ExchangeNotAvailable),
        ("http_5xx", {"parameter": 500}, ccxt.ExchangeError),
        ("http_5xx", {"parameter": 502}, ccxt.ExchangeNotAvailable),
        ("http_5xx_after", {}, ccxt.ExchangeNotAvailable),
        ("maintenance", {}, ccxt.OnMaintenance),
        ("reset_before", {}, ccxt.ExchangeNotAvailable),
        ("reset_after", {}, ccxt.ExchangeNotAvailable),
        ("timeout_after", {"parameter": 5.0}, ccxt.RequestTimeout),
    ],
)
async def test_faults_look_to_the_client_as_the_real_ones_do(fault, fields, error) -> None:
    async with rest() as (venue, client):
        await client.load_markets()
        client.timeout = 300
        venue.arm(fault, route="POST /api/v3/order", **fields)
        with pytest.raises(error):
            await client.create_order(PAIR, "limit", "buy", 1, 99)
        assert len(venue.exchange.open_orders("trader")) == (1 if fault.endswith("_after") else 0)


async def test_nonsense_answers_to_an_order_leave_the_client_with_a_false_id() -> None:
    async with rest() as (venue, client):
        await client.load_markets()
        venue.arm("html_200", route="POST /api/v3/order")
        assert "html" in (await client.create_order(PAIR, "limit", "buy", 1, 99))["id"]
        venue.arm("empty_200", route="POST /api/v3/order")
        assert (await client.create_order(PAIR, "limit", "buy", 1, 99))["id"] is None
        assert len(venue.exchange.open_orders("trader")) == 2


async def test_watched_book_follows_the_venues() -> None:
    async with pro() as (venue, client):
        await client.load_markets()

        async def churn() -> None:
            price = D("99.01")
            while True:
                venue.house(Side.BUY, price, D(1))
                price += D("0.01")
                await asyncio.sleep(0.12)

        task = asyncio.create_task(churn())
        try:
            async with asyncio.timeout(20):
                book = await client.watch_order_book(PAIR)
                while len(book["bids"]) < 10:
                    book = await client.watch_order_book(PAIR)
        finally:
            task.cancel()
        bids = [(D(str(price)), D(str(amount))) for price, amount in book["bids"]]
        assert bids == sorted(bids, reverse=True)
        assert (book["asks"][0][0], book["bids"][-1][0]) == (101, 95)
        assert book["nonce"] <= venue.exchange.depth("BTCUSDT").version


async def test_watched_trades_ticker_and_candles() -> None:
    async with pro() as (venue, client):
        await client.load_markets()
        waiting = [
            asyncio.create_task(within(client.watch_trades(PAIR))),
            asyncio.create_task(within(client.watch_ticker(PAIR))),
            asyncio.create_task(within(client.watch_ohlcv(PAIR, "1m"))),
        ]
        await until(lambda: subscribed(venue, "public") == 3)
        await venue.order(price="102", quantity="1.5")
        trades, ticker, candles = await asyncio.gather(*waiting)
        assert [(one["price"], one["amount"], one["side"]) for one in trades] == [(101, 1, "buy"), (102, 0.5, "buy")]
        assert ticker["bid"] == 99
        assert candles[-1][4] == 102


async def test_watched_orders_own_trades_and_balance() -> None:
    async with pro() as (venue, client):
        await client.load_markets()
        waiting = [
            asyncio.create_task(within(client.watch_orders(PAIR))),
            asyncio.create_task(within(client.watch_my_trades(PAIR))),
            asyncio.create_task(within(client.watch_balance())),
        ]
        await until(lambda: subscribed(venue, "private") == 3)
        created = await client.create_order(PAIR, "limit", "buy", 1, 101, {"clientOrderId": "w-1"})
        orders, trades, balance = await asyncio.gather(*waiting)
        assert (orders[-1]["id"], orders[-1]["clientOrderId"], orders[-1]["side"]) == (created["id"], "w-1", "buy")
        assert [(one["order"], one["price"], one["amount"], one["fee"]["currency"]) for one in trades] == [
            (created["id"], 101, 1, "BTC")
        ]
        assert balance["USDT"]["free"] <= 9_899
        await until(lambda: client.orders[-1]["status"] == "closed")


async def test_venue_of_its_own_process_serves_the_client() -> None:
    async with running_sandbox("mexc", still=True, symbols="BTCUSDT", balance=["USDT=10000"]) as venue:
        client = make_client(ccxt.pro.mexc, venue.rest_url, venue.ws_url, venue.api_key, venue.secret)
        try:
            await client.load_markets()
            created = await client.create_market_buy_order_with_cost(PAIR, 100)
            order = await client.fetch_order(created["id"], PAIR)
            ticker = await within(client.watch_ticker(PAIR))
            assert ticker["bid"] < ticker["ask"]
            ledger = await venue.admin.ledger()
            assert D(str(order["filled"])) == ledger.orders[0].executed_quantity > 0
            assert ledger.totals["USDT"].difference == 0
        finally:
            await client.close()
