"""Markets that the venue pauses, delists, maintains or puts on another grid: told, obeyed, and over when it is."""

import asyncio
from collections.abc import AsyncIterator, Callable
from decimal import Decimal

import pytest

from shared.errors import RejectedError
from shared.exchange.live import listing
from shared.exchange.live.config import WireConfig
from shared.exchange.port import OrderRequest, Streams, VenueMarket, VenueRejectCode, WireVenue
from shared.exchange.venues import make_market, make_venue
from shared.messages import FeedState, OrderType, Side
from shared.testing.market_sink import RecordingSink
from shared.testing.sandbox import Sandbox
from tests.integration.sandbox.in_process import sandbox_in_process

TOKEN, MARKET, OTHER = "BTC-USDT", "BTCUSDT", "H-USDT"
FROZEN, LIVE = FeedState.FROZEN, FeedState.LIVE


def config_of(sandbox: Sandbox, name: str, **fields: float) -> WireConfig:
    return WireConfig(
        venue=name, rest_url=sandbox.rest_url, ws_url=sandbox.ws_url, ws_api_url=sandbox.ws_api_url,
        api_key=sandbox.api_key, secret=sandbox.secret, reconnect_first_s=0.02, reconnect_most_s=0.1,
        read_attempts_max=1, **{"listing_interval_s": 0.2, **fields},
    )  # fmt: skip


async def until(fact: Callable[[], object], timeout_s: float = 15.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not fact():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.02)


class Open:
    """Hold a venue, its public side, and what that says."""

    def __init__(self, name: str, sandbox: Sandbox) -> None:
        self.name, self.sandbox, self.sink = name, sandbox, RecordingSink()
        self.market: VenueMarket = make_market(config_of(sandbox, name))

    def newest(self, token: str = TOKEN) -> tuple[FeedState, str]:
        return next((state, reason) for name, state, reason in reversed(self.sink.statuses) if name == token)

    async def is_told(self, state: FeedState, words: str = "", token: str = TOKEN) -> None:
        await until(lambda: self.newest(token)[0] is state and words in self.newest(token)[1])


@pytest.fixture(params=["mexc", "binance"])
async def opened(request: pytest.FixtureRequest) -> AsyncIterator[Open]:
    async with sandbox_in_process(request.param, still=True, symbols=[MARKET, "HUSDT"]) as sandbox:
        one = Open(request.param, sandbox)
        try:
            await one.market.open([TOKEN, OTHER], Streams(), one.sink)
            await one.is_told(LIVE)
            await one.is_told(LIVE, token=OTHER)
            yield one
        finally:
            await one.market.close()


@pytest.mark.parametrize("action", ["pause", "delist", "cancel_only"])
async def test_a_halted_market_is_frozen_with_the_reason_and_live_when_it_trades_again(
    opened: Open, action: str
) -> None:
    await opened.sandbox.admin.market(MARKET, action)
    await opened.is_told(FROZEN, "not trading")
    # A stream that breaks meanwhile is told as such, and the halt stays.
    await opened.sandbox.admin.kill_sockets()
    await until(lambda: opened.sink.states(None)[-2:] == [FeedState.STALE, LIVE])
    await opened.is_told(FROZEN, "not trading")
    assert opened.sink.states(TOKEN)[-2:] == [FeedState.STALE, FROZEN]
    await opened.sandbox.admin.market(MARKET, "resume")
    await opened.is_told(LIVE)
    assert opened.market.book(TOKEN) is not None
    assert not any("not trading" in reason for name, _, reason in opened.sink.statuses if name == OTHER)


async def test_maintenance_freezes_every_market_until_it_is_over_and_the_books_are_fresh(opened: Open) -> None:
    number = await opened.sandbox.admin.arm("maintenance", times=None)
    for token in (TOKEN, OTHER):
        await opened.is_told(FROZEN, "maintenance", token)
    await until(lambda: opened.sink.states(None)[-1] is FeedState.STALE)
    assert opened.market.book(TOKEN) is None
    books = len(opened.sink.books)
    await opened.sandbox.admin.disarm(number)
    for token in (TOKEN, OTHER):
        await opened.is_told(LIVE, token=token)
    assert {book.instrument for book in opened.sink.books[books:]} == {TOKEN, OTHER}


async def test_a_changed_grid_is_told_once_with_the_new_numbers(opened: Open) -> None:
    (before, _) = await opened.market.instruments([TOKEN, OTHER])
    await opened.sandbox.admin.market(MARKET, "redenominate", factor="10")
    await until(lambda: opened.sink.instruments)
    (changed,) = opened.sink.instruments
    assert (changed.symbol, changed.tick_size) == (TOKEN, before.tick_size * 10)
    assert (await opened.market.instruments([TOKEN]))[0] == changed


async def test_a_refused_order_makes_the_account_look_at_the_market_at_once(opened: Open) -> None:
    venue: WireVenue = make_venue(config_of(opened.sandbox, opened.name, listing_interval_s=3600.0))
    try:
        (instrument,) = await venue.open([TOKEN], lambda _: None)
        book = opened.market.book(TOKEN)
        assert book is not None
        price = (Decimal(repr(book.bids[0][0])) * Decimal("0.9")).quantize(instrument.tick_size)

        def order(name: str) -> OrderRequest:
            return OrderRequest(name, TOKEN, Side.BUY, OrderType.LIMIT, quantity=Decimal("0.002"), limit_price=price)

        async def sent() -> int:
            return len(await opened.sandbox.admin.requests("POST /api/v3/order"))

        async def refused(name: str) -> None:
            with pytest.raises(RejectedError) as caught:
                await venue.submit(order(name))
            assert caught.value.code == VenueRejectCode.MARKET_CLOSED

        looks = len(await opened.sandbox.admin.requests("GET /api/v3/exchangeInfo"))
        await opened.sandbox.admin.market(MARKET, "pause")
        await refused("told-by-the-venue")
        assert await sent() == 1
        async with asyncio.timeout(10):
            number = 0
            while await sent() > number:  # each is refused by the venue until the adapter knows by itself
                number = await sent()
                await refused(f"refused-{number}")
        assert len(await opened.sandbox.admin.requests("GET /api/v3/exchangeInfo")) > looks
        await refused("known-already")
        assert await sent() == number
        await opened.sandbox.admin.market(MARKET, "resume")
        # The account looks at a halted market every few seconds, whatever its interval.
        await until(lambda: opened.market.book(TOKEN))
        async with asyncio.timeout(15):
            number = 0
            while True:
                number += 1
                try:
                    await venue.submit(order(f"again-{number}"))
                    break
                except RejectedError:
                    await asyncio.sleep(0.1)
    finally:
        await venue.close()


async def test_the_first_order_after_a_pause_is_not_refused_by_what_was_known(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By itself the account would not look again for an hour.
    monkeypatch.setattr(listing, "HALTED_INTERVAL_S", 3600.0)
    venue: WireVenue = make_venue(config_of(opened.sandbox, opened.name, listing_interval_s=3600.0))
    try:
        (instrument,) = await venue.open([TOKEN], lambda _: None)
        book = opened.market.book(TOKEN)
        assert book is not None
        price = (Decimal(repr(book.bids[0][0])) * Decimal("0.9")).quantize(instrument.tick_size)

        async def is_taken(number: int) -> bool:
            try:
                await venue.submit(
                    OrderRequest(f"o-{number}", TOKEN, Side.BUY, OrderType.LIMIT, quantity=Decimal("0.002"),
                                 limit_price=price)
                )  # fmt: skip
            except RejectedError as error:
                assert error.code == VenueRejectCode.MARKET_CLOSED
                return False
            return True

        await opened.sandbox.admin.market(MARKET, "pause")
        number = 0
        async with asyncio.timeout(15):
            while len(await opened.sandbox.admin.requests("POST /api/v3/order")) == number:
                number += 1
                assert not await is_taken(number)
        sent = number - 1
        await opened.sandbox.admin.market(MARKET, "resume")
        async with asyncio.timeout(15):
            while not await is_taken(number):
                number += 1
                await asyncio.sleep(0.1)
        # What was refused meanwhile was refused here: nothing else was sent than the order that was taken.
        assert len(await opened.sandbox.admin.requests("POST /api/v3/order")) == sent + 1
    finally:
        await venue.close()
