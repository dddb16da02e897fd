"""MEXC's public side against the sandbox: lost and doubled frames, dying sockets, refusals, bursts, candles."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

import aiohttp
import pytest

from shared.clock import NANOSECONDS_PER_MINUTE, wall_ns
from shared.errors import ConfigError, UnavailableError
from shared.exchange.mexc import MexcMarket
from shared.exchange.port import Streams
from shared.messages import FeedState
from shared.testing.sandbox import Sandbox, running_sandbox
from tests.integration.exchange.test_mexc import config_of, until
from tests.integration.sandbox.in_process import sandbox_in_process
from tests.unit.exchange.mexc.frames_of import Sink

TOKEN, MARKET = "BTC-USDT", "BTCUSDT"
BOOK_ONLY = Streams(trades=False, bbo=False, book_levels=50)
Levels = tuple[tuple[float, float], ...]


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with sandbox_in_process("mexc", still=True, symbols=["BTCUSDT", "HUSDT"]) as venue:
        yield venue


@asynccontextmanager
async def market_of(
    sandbox: Sandbox, streams: Streams, symbols: tuple[str, ...] = (TOKEN,), **changes: float | str
) -> AsyncIterator[tuple[MexcMarket, Sink]]:
    market, sink = MexcMarket(config_of(sandbox, **changes)), Sink()
    try:
        await market.open(symbols, streams, sink)
        yield market, sink
    finally:
        await market.close()


async def truth(sandbox: Sandbox, levels: int = 50) -> tuple[Levels, Levels]:
    url = f"{sandbox.rest_url}/api/v3/depth?symbol={MARKET}&limit={levels}"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        told = await answer.json()
    sides = [tuple((float(price), float(size)) for price, size in told[side]) for side in ("bids", "asks")]
    return sides[0], sides[1]


async def is_true(market: MexcMarket, sandbox: Sandbox) -> bool:
    book = market.book(TOKEN)
    return book is not None and (book.bids, book.asks) == await truth(sandbox)


async def becomes_true(market: MexcMarket, sandbox: Sandbox) -> None:
    async with asyncio.timeout(15):
        while not await is_true(market, sandbox):  # noqa: ASYNC110 - the book tells of nothing when it is right already
            await asyncio.sleep(0.05)


async def move(sandbox: Sandbox, count: int = 1, quantity: str = "0.001") -> None:
    for number in range(count):
        await sandbox.admin.order(MARKET, "buy" if number % 2 else "sell", quantity)


async def goes_off(sandbox: Sandbox, fault: str, times: int) -> None:
    """Move the book until a fault has gone off so often; not for ever, since a book that stands still has an end."""
    for _ in range(12):
        for _ in range(20):
            if await sandbox.admin.fired(fault) >= times:
                return
            await asyncio.sleep(0.02)
        await move(sandbox, 2)
    pytest.fail(f"{fault} went off less than {times} times")


@pytest.mark.parametrize(
    "fault", ["frame_drop", "frame_duplicate", "frame_reorder", "snapshot_stale", "snapshot_straddle"]
)
async def test_a_book_is_right_again_whatever_happens_to_the_frames(sandbox: Sandbox, fault: str) -> None:
    route = "spot@public.aggre.depth" if fault.startswith("frame") else None
    if route is None:
        await sandbox.admin.arm(fault, times=2, parameter=3)
    async with market_of(sandbox, BOOK_ONLY) as (market, sink):
        await becomes_true(market, sandbox)
        for number in range(1, 4):
            await sandbox.admin.arm(fault, route=route, times=1)
            await move(sandbox, 2)
            if route is not None:
                await goes_off(sandbox, fault, number)
            await sandbox.admin.disarm()
            await move(sandbox, 2)
            await becomes_true(market, sandbox)
        assert await sandbox.admin.fired(fault) >= 1
        if fault in {"frame_drop", "frame_reorder"}:
            assert FeedState.FROZEN in sink.states()[2:]
        for book in sink.books:
            prices = [price for price, _ in book.bids]
            assert prices == sorted(prices, reverse=True)
            assert book.bids[0][0] < book.asks[0][0]


async def test_the_first_book_comes_without_a_change_of_the_market(sandbox: Sandbox) -> None:
    async with market_of(sandbox, BOOK_ONLY) as (market, _):
        await until(lambda: market.book(TOKEN))
        assert await is_true(market, sandbox)


@pytest.mark.parametrize("how", ["socket_kill", "socket_silent", "pong_missing", "socket_age"])
async def test_a_book_of_a_dead_socket_is_not_served_and_comes_back(sandbox: Sandbox, how: str) -> None:
    async with market_of(sandbox, BOOK_ONLY) as (market, sink):
        await becomes_true(market, sandbox)
        route = "spot@public" if how in {"socket_kill", "socket_silent"} else "public"
        await sandbox.admin.arm(how, route=route, parameter=0.3 if how == "socket_age" else None)
        await move(sandbox)
        await until(lambda: FeedState.STALE in sink.states())
        stale = next(number for number, one in enumerate(sink.statuses) if one[1] is FeedState.STALE)
        await sandbox.admin.disarm()
        await until(lambda: sink.states()[-1] is FeedState.LIVE)
        await move(sandbox)
        await becomes_true(market, sandbox)
        assert (None, FeedState.LIVE) in [one[:2] for one in sink.statuses[stale:]]


async def test_told_to_reconnect_it_makes_every_connection_anew_and_the_book_comes_back(sandbox: Sandbox) -> None:
    async with market_of(sandbox, BOOK_ONLY) as (market, sink):
        await becomes_true(market, sandbox)
        before = len(sink.statuses)
        market.reconnect("this computer slept")
        await until(lambda: (None, FeedState.LIVE) in [one[:2] for one in sink.statuses[before:]])
        assert sink.statuses[before] == (TOKEN, FeedState.STALE, "this computer slept")
        await becomes_true(market, sandbox)
        await market.measure_clock()
        assert abs(market.clock_offset_ns()) < 1_000_000_000


async def test_a_refused_subscription_is_asked_for_again(sandbox: Sandbox) -> None:
    await sandbox.admin.arm("subscribe_refused", times=1)
    async with market_of(sandbox, Streams(), ack_timeout_s=5.0) as (market, _):
        await becomes_true_of(market, sandbox)


async def becomes_true_of(market: MexcMarket, sandbox: Sandbox) -> None:
    await until(lambda: market.book(TOKEN))
    async with asyncio.timeout(10):
        while True:
            book, (bids, asks) = market.book(TOKEN), await truth(sandbox, 20)
            if book is not None and (book.bids, book.asks) == (bids, asks):
                return
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("fault", ["subscribe_refused", "subscribe_ignored"])
async def test_a_market_that_cannot_be_subscribed_to_is_unavailable_in_time(sandbox: Sandbox, fault: str) -> None:
    await sandbox.admin.arm(fault, times=None)
    market = MexcMarket(config_of(sandbox, ack_timeout_s=0.5, connect_timeout_s=0.5))
    with pytest.raises(UnavailableError):
        await market.open([TOKEN], Streams(), Sink())
    await sandbox.admin.disarm()
    await market.open([TOKEN], Streams(), Sink())
    await market.close()
    await market.close()


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_burst_of_trades_arrives_complete(sandbox: Sandbox) -> None:
    bids, asks = await truth(sandbox, 5)
    for side, levels in (("buy", bids), ("sell", asks)):
        await sandbox.admin.order(MARKET, side, "10", str(levels[0][0]))
    # Venue and adapter share a loop here: a ping waits behind the burst, and must not cost the connection.
    patience = {"ping_interval_s": 10.0, "pong_timeout_s": 10.0}
    async with market_of(sandbox, Streams(book=False, bbo=False), **patience) as (_, sink):
        for _ in range(40):
            await sandbox.admin.order(MARKET, "buy", "0.00002", repeat=500)
            await sandbox.admin.order(MARKET, "sell", "0.00002", repeat=500)
        # An order may meet two resting ones, so there are a few more trades than orders.
        true = (await sandbox.admin.counts())["trades"]
        assert true >= 40_000
        await until(lambda: len(sink.trades) >= true)
        assert len(sink.trades) == len({one.trade_id for one in sink.trades}) == true
        assert round(sum(Decimal(repr(one.quantity)) for one in sink.trades), 8) == Decimal("0.8")


async def test_candles_are_closed_ones_and_come_once(sandbox: Sandbox) -> None:
    async with running_sandbox("mexc", symbols=MARKET, speed=60.0) as busy:
        market = MexcMarket(config_of(busy))
        try:
            now_ns = wall_ns()
            bars = await market.bars(
                TOKEN, "1m", now_ns - 600 * NANOSECONDS_PER_MINUTE, now_ns + NANOSECONDS_PER_MINUTE
            )
            assert all(bar.close_time_ns <= wall_ns() + market.clock_offset_ns() for bar in bars)
            assert [bar.open_time_ns for bar in bars] == sorted({bar.open_time_ns for bar in bars})
            assert all(bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high for bar in bars)
            with pytest.raises(ConfigError, match="2m candles"):
                await market.bars(TOKEN, "2m", 0, now_ns)
            with pytest.raises(ConfigError, match="BTC-USDT"):
                await market.instruments(["BTD-USDT"])
        finally:
            await market.close()


async def test_thirty_one_subscriptions_take_two_sockets() -> None:
    names = [f"S{number:02d}" for number in range(11)]
    async with sandbox_in_process("mexc", still=True, symbols=[f"{name}USDT" for name in names]) as venue:
        tokens = tuple(f"{name}-USDT" for name in names)
        async with market_of(venue, Streams(), tokens) as (market, _):
            await until(lambda: all(market.book(token) for token in tokens))
            assert await venue.admin.sockets() == ["public", "public"]
