"""The MEXC adapter against the sandbox venue: what goes wrong at the venue, and what its ledger says truly happened."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest

from shared.errors import ConfigError, IntegrityError, RejectedError, UnavailableError, UnknownOutcomeError
from shared.exchange.live.config import WireConfig
from shared.exchange.mexc import MexcMarket, MexcVenue
from shared.exchange.port import (
    OrderRequest,
    Streams,
    StreamState,
    VenueCancelReason,
    VenueOrder,
    VenueRejectCode,
    VenueReport,
    VenueTrade,
)
from shared.messages import Liquidity, OrderState, OrderType, Side, TimeInForce
from shared.testing.sandbox import Sandbox
from tests.integration.sandbox.in_process import sandbox_in_process
from tests.unit.exchange.mexc.frames_of import Sink

D = Decimal
TOKEN, MARKET, POST = "BTC-USDT", "BTCUSDT", "POST /api/v3/order"
BUY, SELL = Side.BUY, Side.SELL
# A fault of a create request, its parameter, and how many orders there truly are after it.
UNKNOWN: tuple[tuple[str, float | None, int], ...] = (
    ("http_5xx", 500, 0), ("http_5xx", 502, 0), ("http_5xx_after", 503, 1), ("timeout_before", 3, 0),
    ("timeout_after", 3, 1), ("reset_before", None, 0), ("reset_after", None, 1), ("html_200", None, 1),
    ("html_200", 0, 0), ("empty_200", None, 1), ("empty_200", 0, 0),
)  # fmt: skip


def config_of(venue: Sandbox, **changes: float | str) -> WireConfig:
    told: dict[str, float | str] = {
        "venue": "mexc", "rest_url": venue.rest_url, "ws_url": venue.ws_url, "api_key": venue.api_key,
        "secret": venue.secret, "request_timeout_s": 2.0, "ack_timeout_s": 2.0, "ping_interval_s": 0.5,
        "pong_timeout_s": 0.5, "reconnect_first_s": 0.02, "reconnect_most_s": 0.2, "read_attempts_max": 3,
    }  # fmt: skip
    return WireConfig(**{**told, **changes})  # type: ignore[arg-type]  # the keys are WireConfig's


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(15):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.02)


class Account:
    """Hold an open account, what it reports, and the venue's truth."""

    def __init__(self, sandbox: Sandbox, venue: MexcVenue) -> None:
        self.sandbox, self.venue = sandbox, venue
        self.reports: list[VenueReport] = []
        self.bid = self.ask = D(0)

    @property
    def orders(self) -> list[VenueOrder]:
        return [one for one in self.reports if isinstance(one, VenueOrder)]

    @property
    def trades(self) -> list[VenueTrade]:
        return [one for one in self.reports if isinstance(one, VenueTrade)]

    @property
    def streams(self) -> list[bool]:
        return [one.is_live for one in self.reports if isinstance(one, StreamState)]

    def buy(self, client_order_id: str, **fields: object) -> OrderRequest:
        told = {"quote_amount": D(300), "price_bound": self.ask * D("1.05"), **fields}
        return OrderRequest(client_order_id, TOKEN, BUY, OrderType.MARKET, **told)  # type: ignore[arg-type]

    def rest(self, client_order_id: str, **fields: object) -> OrderRequest:
        price = (self.bid * D("0.9")).quantize(D("0.01"))
        told = {"quantity": D("0.002"), "limit_price": price, **fields}
        return OrderRequest(client_order_id, TOKEN, BUY, OrderType.LIMIT, **told)  # type: ignore[arg-type]

    async def placed(self, client_order_id: str) -> int:
        return len((await self.sandbox.admin.ledger()).orders_of(client_order_id))

    async def matches(self) -> bool:
        """Tell whether balances and executions are those of the ledger."""
        ledger = await self.sandbox.admin.ledger()
        held = {one.asset: (one.free, one.locked) for one in await self.venue.balances()}
        true = {one.asset: (one.free, one.locked) for one in ledger.holdings["trader"] if one.free or one.locked}
        known = {one.fill.fill_id: one for one in await self.venue.trades_since(0)}
        amounts = sorted((one.fill.price, one.fill.quantity, one.fill.fee) for one in known.values())
        return held == true and amounts == sorted((one.price, one.quantity, one.fee) for one in ledger.executions)


@asynccontextmanager
async def account_of(sandbox: Sandbox, **changes: float | str) -> AsyncIterator[Account]:
    config = config_of(sandbox, **changes)
    account = Account(sandbox, MexcVenue(config))
    market, sink = MexcMarket(config), Sink()
    try:
        await market.open([TOKEN], Streams(trades=False, bbo=False), sink)
        await until(lambda: market.book(TOKEN))
        book = market.book(TOKEN)
        assert book is not None
        account.bid, account.ask = D(repr(book.bids[0][0])), D(repr(book.asks[0][0]))
        await account.venue.open([TOKEN], account.reports.append)
        yield account
    finally:
        await account.venue.close()
        await market.close()


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with sandbox_in_process("mexc", still=True, symbols=[MARKET]) as venue:
        yield venue


@pytest.fixture
async def account(sandbox: Sandbox) -> AsyncIterator[Account]:
    async with account_of(sandbox) as one:
        yield one


async def test_every_kind_of_order_is_sent_reported_and_known(account: Account) -> None:
    venue = account.venue
    bought = await venue.submit(account.buy("market-buy"))
    assert (bought.type, bought.quote_amount, bought.quantity) == (OrderType.MARKET, D(300), None)
    await until(lambda: account.trades)
    order = await venue.query("market-buy", TOKEN)
    assert order is not None
    assert order.state is OrderState.FILLED
    assert sum(fill.quantity for fill in order.fills) == order.filled_quantity <= D(300) / account.bid
    assert {trade.fill for trade in account.trades} == set(order.fills)

    sold = OrderRequest("sell", TOKEN, SELL, OrderType.MARKET, quantity=D("0.001"), price_bound=account.bid * D("0.95"))
    await venue.submit(sold)
    known = await venue.query("sell", TOKEN)
    assert known is not None
    assert (known.type, known.state) == (OrderType.MARKET, OrderState.FILLED)

    for force in (TimeInForce.GTC, TimeInForce.POST_ONLY):
        await venue.submit(account.rest(f"rest-{force}", time_in_force=force))
    assert [one.client_order_id for one in await venue.open_orders()] == ["rest-gtc", "rest-post_only"]
    cancelled = await venue.cancel("rest-gtc", TOKEN)
    assert cancelled is not None
    assert (cancelled.state, cancelled.reason) == (OrderState.CANCELED, VenueCancelReason.REQUESTED)
    assert await venue.cancel("rest-gtc", TOKEN) == cancelled
    assert await venue.cancel("never-sent", TOKEN) is None
    assert await venue.query("never-sent", TOKEN) is None

    for force, reason in ((TimeInForce.IOC, VenueCancelReason.UNFILLED), (TimeInForce.FOK, "fok_unfillable")):
        await venue.submit(account.rest(f"now-{force}", time_in_force=force))
        known = await venue.query(f"now-{force}", TOKEN)
        assert known is not None
        assert (known.state, known.time_in_force, known.reason) == (OrderState.CANCELED, force, reason)
    assert await account.matches()


async def test_a_market_order_stops_at_its_bound(account: Account) -> None:
    bound = account.buy("bounded", quote_amount=None, quantity=D("0.12"), price_bound=account.ask * D("1.0005"))
    await account.venue.submit(bound)
    known = await account.venue.query("bounded", TOKEN)
    assert known is not None
    assert known.reason == VenueCancelReason.PRICE_BOUND
    assert all(fill.price <= account.ask * D("1.0005") for fill in known.fills)

    far = account.buy("by-quote", quote_amount=D(3_000), price_bound=account.ask * D("1.001"))
    await account.venue.submit(far)
    known = await account.venue.query("by-quote", TOKEN)
    assert known is not None
    assert all(fill.price <= account.ask * D("1.001") for fill in known.fills)
    assert known.filled_quote <= D(3_000)


async def test_a_definite_no_says_why_and_nothing_happened(account: Account) -> None:
    for changes, code in (
        ({"quantity": D("0.0000001")}, VenueRejectCode.PRECISION),
        ({"limit_price": D("1.001")}, VenueRejectCode.PRECISION),
        ({"quantity": D("0.00001"), "limit_price": D(1)}, VenueRejectCode.NOTIONAL_MIN),
        ({"quantity": D("0.3")}, VenueRejectCode.BALANCE),
        ({"quantity": D(4_000)}, VenueRejectCode.NOTIONAL_MAX),
    ):
        with pytest.raises(RejectedError) as refused:
            await account.venue.submit(account.rest("no", **changes))
        assert refused.value.code == code
    assert await account.placed("no") == 0


async def test_refusals_of_the_venue_itself_say_why(account: Account) -> None:
    price = (account.ask * D("1.01")).quantize(D("0.01"))
    taking = account.rest("post-only", limit_price=price, time_in_force=TimeInForce.POST_ONLY)
    by_quantity = account.buy("by-quantity", quote_amount=None, quantity=D("0.001"), price_bound=None)
    wrong_id = account.rest("not an id!")
    for request, code in (
        (taking, VenueRejectCode.POST_ONLY_WOULD_TAKE),
        (by_quantity, VenueRejectCode.REQUEST_MALFORMED),
        (wrong_id, VenueRejectCode.REQUEST_MALFORMED),
    ):
        with pytest.raises(RejectedError) as refused:
            await account.venue.submit(request)
        assert refused.value.code == code
    await account.sandbox.admin.market(MARKET, "pause")
    with pytest.raises(RejectedError) as refused:
        await account.venue.submit(account.rest("paused"))
    assert refused.value.code == VenueRejectCode.MARKET_CLOSED


async def test_the_same_request_is_executed_once_and_another_under_its_id_never(account: Account) -> None:
    request = account.buy("once")
    first = await account.venue.submit(request)
    again = await account.venue.submit(request)
    assert again.venue_order_id == first.venue_order_id
    assert await account.placed("once") == 1
    with pytest.raises(IntegrityError):
        await account.venue.submit(account.buy("once", quote_amount=D(301)))
    async with account_of(account.sandbox) as other:
        found = await other.venue.submit(request)
        assert found.venue_order_id == first.venue_order_id
    assert await account.placed("once") == 1


@pytest.mark.timeout(60)
async def test_what_is_not_known_is_unknown_and_is_never_sent_again(account: Account) -> None:
    admin = account.sandbox.admin
    for number, (fault, parameter, orders) in enumerate(UNKNOWN):
        name = f"maybe-{number}"
        request = account.buy(name)
        await admin.arm(fault, route=POST, parameter=parameter)
        with pytest.raises(UnknownOutcomeError):
            await account.venue.submit(request)
        await admin.disarm()
        found = await account.venue.query(name, TOKEN)
        assert (found is not None) == bool(orders), fault
        if found is None:
            with pytest.raises(UnknownOutcomeError):
                await account.venue.submit(request)
        else:
            assert await account.venue.submit(request) == found
        assert await account.placed(name) == orders, fault
    assert await account.matches()


async def test_a_ban_stops_every_request_until_it_ends(account: Account) -> None:
    await account.sandbox.admin.arm("http_418", route=POST, parameter=120)
    with pytest.raises(UnknownOutcomeError):
        await account.venue.submit(account.buy("banned"))
    before = len(await account.sandbox.admin.requests())
    for call in (account.venue.balances(), account.venue.submit(account.buy("2")), account.venue.cancel("x", TOKEN)):
        with pytest.raises(UnavailableError, match="hear nothing"):
            await call
    assert len(await account.sandbox.admin.requests()) == before


async def test_a_wrong_clock_is_set_and_the_same_order_sent_under_its_id(account: Account) -> None:
    await account.sandbox.admin.arm("clock_skew", parameter=30, times=None)
    await account.venue.submit(account.buy("late"))
    assert await account.placed("late") == 1
    assert await account.venue.query("late", TOKEN) is not None


async def test_an_order_that_is_not_visible_yet_is_none_and_appears(account: Account) -> None:
    await account.sandbox.admin.arm("order_not_found", parameter=0.5)
    await account.venue.submit(account.rest("hidden"))
    assert await account.venue.query("hidden", TOKEN) is None
    async with asyncio.timeout(5):
        while await account.venue.query("hidden", TOKEN) is None:  # noqa: ASYNC110 - the venue tells of nothing
            await asyncio.sleep(0.05)
    assert await account.placed("hidden") == 1


async def test_a_cancel_without_an_answer_is_unknown_or_told_as_done(account: Account) -> None:
    for fault in ("reset_after", "timeout_after", "http_5xx_after", "empty_200"):
        await account.venue.submit(account.rest(fault))
        await account.sandbox.admin.arm(fault, route="DELETE /api/v3/order")
        try:
            order = await account.venue.cancel(fault, TOKEN)
        except UnknownOutcomeError:
            order = await account.venue.query(fault, TOKEN)
        assert order is not None
        assert order.state is OrderState.CANCELED
    assert await account.venue.open_orders() == ()


async def test_both_fills_of_an_order_are_reported_at_once(account: Account) -> None:
    admin = account.sandbox.admin
    price = (account.bid + account.ask) / 2
    price = price.quantize(D("0.01"))
    await account.venue.submit(account.rest("maker", limit_price=price))
    for count in (1, 2):
        await admin.order(MARKET, "sell", "0.001")
        await until(lambda count=count: len(account.trades) == count)
    assert all(trade.client_order_id == "maker" for trade in account.trades)
    assert {trade.fill.liquidity for trade in account.trades} == {Liquidity.MAKER}
    await until(lambda: account.orders[-1].state is OrderState.FILLED)
    assert await account.matches()


async def test_a_fill_before_the_reply_is_in_the_reply(account: Account) -> None:
    await account.sandbox.admin.arm("fill_before_reply", parameter=0.2)
    order = await account.venue.submit(account.buy("early"))
    assert order.state is OrderState.FILLED
    assert sum(fill.quantity for fill in order.fills) == order.filled_quantity > 0


async def test_reports_that_go_wrong_are_set_right_by_the_lists(account: Account) -> None:
    for fault in ("report_duplicate", "report_reorder", "report_drop", "fee_third_asset"):
        await account.sandbox.admin.arm(fault, times=2)
        await account.venue.submit(account.buy(fault))
        await account.venue.submit(account.rest(f"{fault}-2"))
        order = await account.venue.query(fault, TOKEN)
        assert order is not None
        assert order.state is OrderState.FILLED
        assert sum(fill.quantity for fill in order.fills) == order.filled_quantity
        await account.sandbox.admin.disarm()
    assert await account.matches()


async def test_a_lost_stream_is_told_and_comes_back_with_a_new_key(account: Account) -> None:
    await until(lambda: account.streams == [True])
    await account.sandbox.admin.kill_sockets("user")
    await until(lambda: account.streams == [True, False, True])
    await account.sandbox.admin.arm("listen_key_expired", route="spot@private")
    await account.venue.submit(account.buy("expiring"))
    await until(lambda: account.streams[-2:] == [False, True] and len(account.streams) >= 5)
    await account.venue.submit(account.buy("heard"))
    await until(lambda: any(trade.client_order_id == "heard" for trade in account.trades))


async def test_a_key_that_may_withdraw_or_not_trade_or_is_wrong_is_refused(sandbox: Sandbox) -> None:
    rich = await sandbox.admin.account("rich", ["read", "trade", "withdraw"])
    reader = await sandbox.admin.account("reader", ["read"])
    for keys, words in (
        ({"api_key": rich.api_key, "secret": rich.secret}, "withdraw"),
        ({"api_key": reader.api_key, "secret": reader.secret}, "may not trade"),
        ({"secret": "wrong"}, "refuses the credentials"),
        ({"api_key": ""}, "needs api_key"),
    ):
        venue = MexcVenue(config_of(sandbox, **keys))
        with pytest.raises(ConfigError, match=words):
            await venue.open([TOKEN], lambda _: None)
        await venue.close()
    venue = MexcVenue(config_of(sandbox))
    with pytest.raises(ConfigError, match=r"did you mean BTC-USDT"):
        await venue.open(["BTX-USDT"], lambda _: None)
    # After a refusal the same object can be opened properly.
    assert (await venue.open([TOKEN], lambda _: None))[0].symbol == TOKEN
    await venue.close()
    await venue.close()


async def test_a_venue_that_is_not_there_is_unavailable() -> None:
    async with sandbox_in_process("mexc", still=True, symbols=[MARKET]) as sandbox:
        pass
    for side in (MexcVenue(config_of(sandbox)), MexcMarket(config_of(sandbox))):
        with pytest.raises(UnavailableError):
            if isinstance(side, MexcVenue):
                await side.open([TOKEN], lambda _: None)
            else:
                await side.open([TOKEN], Streams(), Sink())
        await side.close()


async def test_more_trades_than_a_page_are_all_listed(account: Account) -> None:
    admin = account.sandbox.admin
    await account.venue.submit(account.rest("long", quantity=D("0.025"), limit_price=account.ask - D("0.01")))
    for _ in range(5):
        await admin.order(MARKET, "sell", "0.0001", repeat=50)
    await until(lambda: len(account.trades) == 250)
    assert len(await account.venue.trades_since(0)) == 250
    order = await account.venue.query("long", TOKEN)
    assert order is not None
    assert sum(fill.quantity for fill in order.fills) == order.filled_quantity == D("0.025")
