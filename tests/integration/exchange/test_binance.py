"""The Binance adapter against the sandbox over its real wire; the sandbox's ledger is the truth."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from decimal import Decimal

import pytest
import pytest_asyncio

from shared.errors import ConfigError, IntegrityError, RejectedError, UnavailableError, UnknownOutcomeError
from shared.exchange.binance import BinanceVenue
from shared.exchange.live.config import WireConfig
from shared.exchange.port import OrderRequest, StreamState, VenueOrder, VenueReport, VenueTrade
from shared.messages import OrderState, OrderType, Side, TimeInForce
from shared.testing.sandbox import Sandbox, running_sandbox

TOKEN, SYMBOL = "RIVER-USDT", "RIVERUSDT"
ORDER, QUERY, CANCEL = "POST /api/v3/order", "GET /api/v3/order", "DELETE /api/v3/order"


def config_of(sandbox: Sandbox, **fields: object) -> WireConfig:
    wanted: dict[str, object] = {
        "venue": "binance", "rest_url": sandbox.rest_url, "ws_url": sandbox.ws_url, "ws_api_url": sandbox.ws_api_url,
        "api_key": sandbox.api_key, "secret": sandbox.secret, "request_timeout_s": 2.0, "reconnect_first_s": 0.05,
    }  # fmt: skip
    return WireConfig(**{**wanted, **fields})  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def opened(sandbox: Sandbox, reports: list[VenueReport], **fields: object) -> AsyncIterator[BinanceVenue]:
    venue = BinanceVenue(config_of(sandbox, **fields))
    try:
        await venue.open([TOKEN], reports.append)
        yield venue
    finally:
        await venue.close()


# One venue for all tests of the file: starting a process costs seconds.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Sandbox]:
    async with running_sandbox("binance", still=True, symbols=SYMBOL, balance=["USDT=10000", "RIVER=1000"]) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def sandbox(server: Sandbox) -> AsyncIterator[Sandbox]:
    yield server
    await server.admin.disarm()


async def until(fact: Callable[[], bool], timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not fact():  # noqa: ASYNC110 - what is waited for happens in another process
            await asyncio.sleep(0.01)


def limit(name: str, price: str, quantity: str = "10", side: Side = Side.BUY, **fields: object) -> OrderRequest:
    return OrderRequest(
        name, TOKEN, side, OrderType.LIMIT, quantity=Decimal(quantity), limit_price=Decimal(price), **fields
    )  # type: ignore[arg-type]


async def best_ask(sandbox: Sandbox, venue: BinanceVenue) -> Decimal:
    book = await venue._rest.read("publicGetDepth", {"symbol": SYMBOL, "limit": 5}, dict, weight=5)
    return Decimal(book["asks"][0][0])


async def test_order_lives_and_dies_by_its_own_id(sandbox: Sandbox) -> None:
    reports: list[VenueReport] = []
    async with opened(sandbox, reports) as venue:
        ask = await best_ask(sandbox, venue)
        resting = await venue.submit(limit("rest1", "1", time_in_force=TimeInForce.POST_ONLY))
        assert resting.state is OrderState.ACCEPTED and resting.type is OrderType.LIMIT
        assert [one.client_order_id for one in await venue.open_orders(TOKEN)] == ["rest1"]
        bounded = OrderRequest(
            "take1", TOKEN, Side.BUY, OrderType.MARKET, quantity=Decimal(10), price_bound=ask * Decimal("1.07")
        )
        taken = await venue.submit(bounded)
        assert taken.state is OrderState.FILLED and taken.type is OrderType.MARKET
        assert sum(fill.quantity for fill in taken.fills) == 10
        by_quote = await venue.submit(
            OrderRequest("take2", TOKEN, Side.BUY, OrderType.MARKET, quote_amount=Decimal("100.005"))
        )
        assert by_quote.quote_amount == Decimal("100.005") and by_quote.filled_quote <= Decimal("100.005")
        cancelled = await venue.cancel("rest1", TOKEN)
        assert cancelled is not None and cancelled.state is OrderState.CANCELED
        again = await venue.cancel("rest1", TOKEN)
        assert again is not None and again.state is OrderState.CANCELED
        filled = await venue.cancel("take1", TOKEN)
        assert filled is not None and filled.state is OrderState.FILLED and filled.fills == taken.fills
        assert await venue.cancel("nobody", TOKEN) is None and await venue.query("nobody", TOKEN) is None
        assert await venue.query("take1", TOKEN) == taken
        assert {one.client_order_id for one in await venue.open_orders()} == set()
        trades = await venue.trades_since(0)
        assert [trade.fill for trade in trades] == [*taken.fills, *by_quote.fills]
        assert await venue.trades_since(trades[-1].sequence) == trades
        await until(lambda: sum(isinstance(one, VenueTrade) for one in reports) == len(trades))
        streamed = [one for one in reports if isinstance(one, VenueTrade)]
        # The stream, the answer and the list say the same of an execution, but that the stream knows our id.
        assert [one.fill for one in streamed] == [one.fill for one in trades]
        assert {one.client_order_id for one in streamed} == {"take1", "take2"}
        states = [one.state for one in reports if isinstance(one, VenueOrder) and one.client_order_id == "take1"]
        assert states[0] is OrderState.ACCEPTED and states[-1] is OrderState.FILLED
        ledger = await sandbox.admin.ledger()
        held = {balance.asset: balance for balance in await venue.balances()}
        assert held["RIVER"].free == ledger.holding("RIVER").free and held["USDT"].free == ledger.holding("USDT").free


async def test_same_request_again_is_the_same_order_and_another_one_is_refused(sandbox: Sandbox) -> None:
    async with opened(sandbox, []) as venue:
        ask = await best_ask(sandbox, venue)
        request = OrderRequest("twice", TOKEN, Side.BUY, OrderType.MARKET, quantity=Decimal(3), price_bound=ask * 2)
        first = await venue.submit(request)
        assert await venue.submit(request) == first
        with pytest.raises(IntegrityError):
            await venue.submit(limit("twice", "1"))
        assert len((await sandbox.admin.ledger()).orders_of("twice")) == 1
    async with opened(sandbox, []) as other:
        await other.submit(limit("open1", "1"))
    async with opened(sandbox, []) as restarted:
        # It remembers nothing; the venue itself knows the id of an open order.
        assert (await restarted.submit(limit("open1", "1"))).state is OrderState.ACCEPTED
        with pytest.raises(IntegrityError):
            await restarted.submit(limit("open1", "2"))
    assert len((await sandbox.admin.ledger()).orders_of("open1")) == 1


async def test_an_order_whose_kind_nobody_remembers_is_called_what_the_wire_says(sandbox: Sandbox) -> None:
    async with opened(sandbox, []) as venue:
        ask = await best_ask(sandbox, venue)
        request = OrderRequest("market1", TOKEN, Side.BUY, OrderType.MARKET, quantity=Decimal(3), price_bound=ask * 2)
        first = await venue.submit(request)
    async with opened(sandbox, []) as restarted:
        found = await restarted.query("market1", TOKEN)
        assert found is not None
        assert (found.type, found.time_in_force, found.fills) == (OrderType.LIMIT, TimeInForce.IOC, first.fills)
        assert first.type is OrderType.MARKET, "who sent it remembers what was asked"


@pytest.mark.parametrize(
    ("fault", "fields", "executed"),
    [
        ("timeout_after", {"parameter": 5.0}, 1), ("timeout_before", {"parameter": 5.0}, 0),
        ("reset_after", {}, 1), ("reset_before", {}, 0), ("http_5xx_after", {"parameter": 503}, 1),
        ("http_5xx", {"parameter": 500}, 0), ("html_200", {}, 1), ("empty_200", {}, 1), ("maintenance", {}, 0),
    ],
)  # fmt: skip
async def test_failed_answer_to_an_order_is_unknown_and_evidence_resolves_it(
    sandbox: Sandbox, fault: str, fields: dict[str, float], executed: int
) -> None:
    name = f"unknown-{fault}"
    async with opened(sandbox, [], request_timeout_s=1.0) as venue:
        await sandbox.admin.arm(fault, route=ORDER, **fields)
        with pytest.raises(UnknownOutcomeError):
            await venue.submit(limit(name, "1"))
        ledger = await sandbox.admin.ledger()
        found = await venue.query(name, TOKEN)
        assert (found is not None) == bool(ledger.orders_of(name))
        assert len(ledger.orders_of(name)) == (1 if found else 0)
        if fault not in ("html_200", "empty_200"):
            assert len(ledger.orders_of(name)) == executed
        if found is None:
            # It may still be on its way: nobody sends it again before its time window has passed.
            with pytest.raises(UnknownOutcomeError):
                await venue.submit(limit(name, "1"))
        else:
            assert (await venue.submit(limit(name, "1"))).venue_order_id == found.venue_order_id
        assert len((await sandbox.admin.ledger()).orders_of(name)) <= 1


@pytest.mark.parametrize("fault", ["http_429", "http_418", "http_403"])
async def test_refusal_for_our_pace_in_the_venues_words_proves_something(sandbox: Sandbox, fault: str) -> None:
    async with opened(sandbox, [], wait_max_s=1.0) as venue:
        await sandbox.admin.arm(fault, route=ORDER, parameter=3)
        # The firewall's page is not Binance's own word: it proves nothing.
        with pytest.raises(UnknownOutcomeError if fault == "http_403" else UnavailableError):
            await venue.submit(limit(f"{fault}1", "1"))
        assert (await sandbox.admin.ledger()).orders_of(f"{fault}1") == []
        if fault != "http_403":
            before = len(await sandbox.admin.requests(ORDER))
            with pytest.raises(UnavailableError):
                await venue.submit(limit(f"{fault}2", "1"))
            # Until Retry-After has passed not a byte is sent.
            assert len(await sandbox.admin.requests(ORDER)) == before


async def test_answer_that_is_lost_while_cancelling_is_unknown_and_the_second_cancel_finds_it(sandbox: Sandbox) -> None:
    async with opened(sandbox, [], request_timeout_s=1.0) as venue:
        await venue.submit(limit("cancel1", "1"))
        await sandbox.admin.arm("timeout_after", route=CANCEL, parameter=5.0)
        with pytest.raises(UnknownOutcomeError):
            await venue.cancel("cancel1", TOKEN)
        found = await venue.cancel("cancel1", TOKEN)
        assert found is not None and found.state is OrderState.CANCELED


async def test_order_that_is_not_visible_yet_is_none_and_found_later(sandbox: Sandbox) -> None:
    async with opened(sandbox, []) as venue:
        await sandbox.admin.arm("order_not_found", parameter=0.5)
        await venue.submit(limit("late1", "1"))
        assert await venue.query("late1", TOKEN) is None
        async with asyncio.timeout(10):
            while (found := await venue.query("late1", TOKEN)) is None:  # noqa: ASYNC110 - the venue tells of nothing
                await asyncio.sleep(0.05)
        assert found.state is OrderState.ACCEPTED


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (limit("bad1", "1.00001"), "precision"),
        (limit("bad2", "1", "10.001"), "precision"),
        (limit("bad3", "1", "1"), "notional_min"),
        (limit("bad4", "1", "0.0000000001"), "precision"),
        (limit("bad5 with blanks", "1"), "request_malformed"),
        (limit("x" * 37, "1"), "request_malformed"),
        (limit("bad7", "1", "9000"), None),
    ],
)
async def test_order_that_the_venue_would_refuse_is_refused_before_it_is_sent(
    sandbox: Sandbox, request_: OrderRequest, code: str | None
) -> None:
    async with opened(sandbox, []) as venue:
        if code is None:
            request_ = limit("poor", "2", "9000")
        before = len(await sandbox.admin.requests(ORDER))
        with pytest.raises(RejectedError) as refused:
            await venue.submit(request_)
        # Only what the account can pay for is the venue's to say.
        assert refused.value.code == (code or "balance")
        assert len(await sandbox.admin.requests(ORDER)) - before == (0 if code else 1)


async def test_post_only_order_that_would_take_is_rejected(sandbox: Sandbox) -> None:
    async with opened(sandbox, []) as venue:
        ask = await best_ask(sandbox, venue)
        with pytest.raises(RejectedError) as refused:
            await venue.submit(limit("maker1", str(ask), time_in_force=TimeInForce.POST_ONLY))
        assert refused.value.code == "post_only_would_take"


async def test_key_that_may_withdraw_or_is_unknown_is_refused(sandbox: Sandbox) -> None:
    generous = await sandbox.admin.account("generous", ["read", "trade", "withdraw"])
    reader = await sandbox.admin.account("reader", ["read"])
    for key, secret, words in (
        (generous.api_key, generous.secret, "may withdraw"),
        (reader.api_key, reader.secret, "may not"),
        ("nobody", "nothing", "key"),
        (sandbox.api_key, "wrong", "key"),
    ):
        venue = BinanceVenue(config_of(sandbox, api_key=key, secret=secret))
        with pytest.raises(ConfigError, match=words) as refused:
            await venue.open([TOKEN], lambda _: None)
        assert secret not in str(refused.value)


async def test_unknown_market_is_refused_by_name(sandbox: Sandbox) -> None:
    venue = BinanceVenue(config_of(sandbox))
    with pytest.raises(ConfigError, match="NOPE-USDT"):
        await venue.open([TOKEN, "NOPE-USDT"], lambda _: None)


async def test_clock_that_is_off_is_measured_and_the_order_sent_once(sandbox: Sandbox) -> None:
    async with opened(sandbox, []) as venue:
        await sandbox.admin.arm("clock_skew", parameter=-30.0, times=None)
        order = await venue.submit(limit("clock1", "1"))
        assert order.state is OrderState.ACCEPTED
        assert venue.clock_offset_ns() < -25_000_000_000
        assert len((await sandbox.admin.ledger()).orders_of("clock1")) == 1


async def test_stream_comes_back_after_a_cut_and_says_so(sandbox: Sandbox) -> None:
    reports: list[VenueReport] = []
    async with opened(sandbox, reports) as venue:
        assert reports == [StreamState(True, "subscribed")]
        await sandbox.admin.kill_sockets()
        await until(lambda: [one.is_live for one in reports if isinstance(one, StreamState)] == [True, False, True])
        await venue.submit(limit("after1", "1"))
        await until(lambda: any(isinstance(one, VenueOrder) for one in reports))


async def test_fill_may_be_told_before_the_order_is_answered(sandbox: Sandbox) -> None:
    reports: list[VenueReport] = []
    async with opened(sandbox, reports) as venue:
        ask = await best_ask(sandbox, venue)
        await sandbox.admin.arm("fill_before_reply")
        order = await venue.submit(
            OrderRequest("early1", TOKEN, Side.BUY, OrderType.MARKET, quantity=Decimal(3), price_bound=ask * 2)
        )
        await until(lambda: any(isinstance(one, VenueTrade) for one in reports))
        told = [one for one in reports if isinstance(one, VenueTrade)]
        assert tuple(one.fill for one in told) == order.fills


async def test_bounded_buy_by_quote_amount_never_pays_more_than_the_bound(sandbox: Sandbox) -> None:
    async with opened(sandbox, []) as venue:
        ask = await best_ask(sandbox, venue)
        thin = OrderRequest("thin1", TOKEN, Side.BUY, OrderType.MARKET, quote_amount=Decimal(9000), price_bound=ask)
        order = await venue.submit(thin)
        assert order.type is OrderType.MARKET
        assert all(fill.price <= ask for fill in order.fills)
        assert order.filled_quote <= 9000
