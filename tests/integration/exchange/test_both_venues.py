"""What the port promises of both venues alike: books, clocks, first acknowledgements, cancels before orders."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest

from shared.clock import NANOSECONDS_PER_SECOND
from shared.errors import UnavailableError
from shared.exchange.live.config import WireConfig
from shared.exchange.port import OrderRequest, Streams, VenueReport, WireVenue
from shared.exchange.venues import make_market, make_venue
from shared.messages import OrderType, Side
from shared.testing.market_sink import RecordingSink
from shared.testing.sandbox import Sandbox
from tests.integration.sandbox.in_process import sandbox_in_process

TOKEN, MARKET = "BTC-USDT", "BTCUSDT"
CREATE, CANCEL = "POST /api/v3/order", "DELETE /api/v3/order"
both = pytest.mark.parametrize("name", ["mexc", "binance"])


def config_of(sandbox: Sandbox, name: str, **changes: object) -> WireConfig:
    fields = {"ack_timeout_s": 1.0, "connect_timeout_s": 1.0, "reconnect_first_s": 0.02, "reconnect_most_s": 0.1}
    return WireConfig(
        venue=name, rest_url=sandbox.rest_url, ws_url=sandbox.ws_url, ws_api_url=sandbox.ws_api_url,
        api_key=sandbox.api_key, secret=sandbox.secret, **{**fields, **changes},
    )  # type: ignore[arg-type]  # fmt: skip


async def until(fact: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not fact():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


def resting(name: str) -> OrderRequest:
    return OrderRequest(
        name, TOKEN, Side.BUY, OrderType.LIMIT, quantity=Decimal("0.01"), limit_price=Decimal("1000")
    )  # fmt: skip


@asynccontextmanager
async def account(sandbox: Sandbox, name: str, **changes: object) -> AsyncIterator[WireVenue]:
    venue, reports = make_venue(config_of(sandbox, name, **changes)), list[VenueReport]()
    try:
        await venue.open([TOKEN], reports.append)
        yield venue
    finally:
        await venue.close()


@both
async def test_a_book_is_answered_while_it_is_whole_and_fresh_and_the_market_trades(name: str) -> None:
    async with sandbox_in_process(name, still=True, symbols=[MARKET]) as sandbox:
        changes = {"stale_after_s": 1.0, "listing_interval_s": 0.1}
        market, sink = make_market(config_of(sandbox, name, **changes)), RecordingSink()
        try:
            assert market.book(TOKEN) is None
            await market.open([TOKEN], Streams(), sink)
            await until(lambda: market.book(TOKEN))
            assert market.book("ETH-USDT") is None
            await until(lambda: market.book(TOKEN) is None)  # nothing is said for a second
            await sandbox.admin.order(MARKET, "buy", "0.001")
            await until(lambda: market.book(TOKEN))
            await sandbox.admin.market(MARKET, "pause")
            await until(lambda: any("paus" in one[2] or "trad" in one[2] for one in sink.statuses))
            assert market.book(TOKEN) is None
            await sandbox.admin.market(MARKET, "resume")
            await until(lambda: sink.statuses[-1][1] == "live" or sink.statuses[-1][1] == "stale")
            await sandbox.admin.order(MARKET, "buy", "0.001")
            await until(lambda: market.book(TOKEN))
        finally:
            await market.close()
        assert market.book(TOKEN) is None


@both
@pytest.mark.parametrize("fault", ["subscribe_ignored", "subscribe_refused"])
async def test_an_account_whose_stream_is_never_acknowledged_does_not_open(name: str, fault: str) -> None:
    async with sandbox_in_process(name, still=True, symbols=[MARKET]) as sandbox:
        await sandbox.admin.arm(fault, times=None)
        venue = make_venue(config_of(sandbox, name, ack_timeout_s=0.3, connect_timeout_s=0.3))
        with pytest.raises(UnavailableError):
            await venue.open([TOKEN], lambda _: None)
        await sandbox.admin.disarm()
        await venue.open([TOKEN], lambda _: None)
        await venue.close()


@both
async def test_the_clock_is_kept_so_that_a_drift_costs_no_refusal(name: str) -> None:
    async with sandbox_in_process(name, still=True, symbols=[MARKET]) as sandbox:
        market = make_market(config_of(sandbox, name, clock_interval_s=0.05))
        async with account(sandbox, name, clock_interval_s=0.05) as venue:
            await market.open([TOKEN], Streams(), RecordingSink())
            await sandbox.admin.arm("clock_skew", parameter=40, times=None)
            await until(lambda: abs(market.clock_offset_ns() - 40 * NANOSECONDS_PER_SECOND) < NANOSECONDS_PER_SECOND)
            async with asyncio.timeout(20):
                while len(await sandbox.admin.requests("GET /api/v3/time")) < 60:  # noqa: ASYNC110 - no event
                    await asyncio.sleep(0.05)
            await venue.submit(resting("drift"))
            assert [one.status for one in await sandbox.admin.requests(CREATE)] == [200]
        await market.close()


@both
async def test_a_cancel_goes_before_the_orders_that_wait_for_their_turn(name: str) -> None:
    async with sandbox_in_process(name, still=True, symbols=[MARKET]) as sandbox, account(sandbox, name) as venue:
        first = await venue.submit(resting("first"))
        limits = venue._rest().limits if callable(venue._rest) else venue._rest.limits  # type: ignore[attr-defined]
        while limits.orders.wait_s() == 0:
            await limits.orders.take()
        waiting = [asyncio.create_task(venue.submit(resting(f"later-{number}"))) for number in range(4)]
        await until(lambda: limits.orders.waiting == 4)
        await venue.cancel(first.client_order_id, TOKEN)
        await asyncio.gather(*waiting)
        routes = [one.route for one in await sandbox.admin.requests() if one.route in (CREATE, CANCEL)]
        assert routes.index(CANCEL) <= 2, "at most the one that had its turn already is before it"
        assert routes.count(CREATE) == 5
