"""Binance's market data from the sandbox: books that are whole or not served, trades once each, sockets that heal."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from decimal import Decimal

import pytest
import pytest_asyncio

from shared.errors import ConfigError, UnavailableError
from shared.exchange.binance import BinanceMarket
from shared.exchange.live.config import WireConfig
from shared.exchange.port import Streams
from shared.messages import BookSnapshot, FeedState
from shared.testing.data import data_file
from shared.testing.market_sink import RecordingSink
from shared.testing.sandbox import Sandbox, running_sandbox

TOKEN, SYMBOL = "RIVER-USDT", "RIVERUSDT"
OTHER = "H-USDT"
RECORDING = "hftbacktest_raw/spot_btcusdt_20240808.gz"

# One venue for all tests of the file: starting a process costs seconds.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Sandbox]:
    async with running_sandbox("binance", symbols=f"{SYMBOL},HUSDT", seed=3, speed=600.0) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def sandbox(server: Sandbox) -> AsyncIterator[Sandbox]:
    yield server
    await server.admin.disarm()


def config_of(sandbox: Sandbox, **fields: object) -> WireConfig:
    wanted: dict[str, object] = {
        "venue": "binance", "rest_url": sandbox.rest_url, "ws_url": sandbox.ws_url, "ws_api_url": sandbox.ws_api_url,
        "request_timeout_s": 10.0, "reconnect_first_s": 0.05, "reconnect_most_s": 0.5,
    }  # fmt: skip
    return WireConfig(**{**wanted, **fields})  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def opened(
    sandbox: Sandbox, sink: RecordingSink, streams: Streams | None = None, **fields: object
) -> AsyncIterator[BinanceMarket]:
    market = BinanceMarket(config_of(sandbox, **fields), streams_max=6)
    try:
        await market.open([TOKEN, OTHER], streams or Streams(), sink)
        yield market
    finally:
        await market.close()


async def until(fact: Callable[[], bool], timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not fact():  # noqa: ASYNC110 - what is waited for happens in another process
            await asyncio.sleep(0.01)


def check_books(sink: RecordingSink) -> None:
    """Hold every served book to what a book is, and to the venue's own best prices where both name a version."""
    for book in sink.books:
        prices = [price for price, _ in book.bids], [price for price, _ in book.asks]
        assert prices[0] == sorted(set(prices[0]), reverse=True) and prices[1] == sorted(set(prices[1]))
        assert not book.bids or not book.asks or book.bids[0][0] < book.asks[0][0]
        assert all(quantity > 0 for _, quantity in (*book.bids, *book.asks))


async def true_depth(sandbox: Sandbox, market: BinanceMarket) -> tuple[tuple[float, float], ...]:
    answer = await market._snapshot(SYMBOL, 1_000)
    return tuple(answer.bids[:20])


async def test_market_data_comes_over_several_sockets(sandbox: Sandbox) -> None:
    sink = RecordingSink()
    async with opened(sandbox, sink, Streams(bar_timeframe="1m")) as market:
        assert len(await sandbox.admin.sockets()) == 2
        await until(lambda: len(sink.bbos) > 20 and len(sink.books) > 20)
        await until(lambda: any(trade.instrument == TOKEN for trade in sink.trades))
        await until(lambda: market.book(TOKEN) is not None and market.book(OTHER) is not None)
        assert sink.states(None) == [FeedState.LIVE]
        assert sink.states(TOKEN) == [FeedState.FROZEN, FeedState.LIVE]
        instruments = await market.instruments([TOKEN])
        assert instruments[0].symbol == TOKEN and instruments[0].tick_size == Decimal("0.0001")
        numbers = [trade.sequence for trade in sink.trades if trade.instrument == TOKEN]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert sink.states(None)[-1] is FeedState.STALE
    assert market.book(TOKEN) is None
    check_books(sink)


@pytest.mark.parametrize("fault", ["frame_drop", "frame_reorder"])
async def test_lost_diff_freezes_the_book_until_a_snapshot(sandbox: Sandbox, fault: str) -> None:
    sink = RecordingSink()
    async with opened(sandbox, sink) as market:
        await until(lambda: market.book(TOKEN) is not None)
        await sandbox.admin.arm(fault, route="depth", symbol=SYMBOL, times=3)
        await until(lambda: sink.states(TOKEN).count(FeedState.FROZEN) >= 2)
        await until(lambda: sink.states(TOKEN)[-1] is FeedState.LIVE and market.book(TOKEN) is not None)
        count = len(sink.books)
        await until(lambda: len(sink.books) > count + 5)
    check_books(sink)


async def test_diff_that_comes_twice_changes_nothing(sandbox: Sandbox) -> None:
    sink = RecordingSink()
    async with opened(sandbox, sink) as market:
        await until(lambda: market.book(TOKEN) is not None)
        await sandbox.admin.arm("frame_duplicate", symbol=SYMBOL, times=20)
        async with asyncio.timeout(20):
            while await sandbox.admin.fired("frame_duplicate") < 20:  # noqa: ASYNC110 - in another process
                await asyncio.sleep(0.05)
        assert sink.states(TOKEN) == [FeedState.FROZEN, FeedState.LIVE]
    ids = [trade.trade_id for trade in sink.trades if trade.instrument == TOKEN]
    assert len(ids) == len(set(ids))
    check_books(sink)


@pytest.mark.parametrize(("fault", "parameter"), [("snapshot_stale", 500.0), ("snapshot_straddle", None)])
async def test_snapshot_of_another_moment_is_met_with_the_diffs(
    sandbox: Sandbox, fault: str, parameter: float | None
) -> None:
    sink = RecordingSink()
    await sandbox.admin.arm(fault, symbol=SYMBOL, times=2, parameter=parameter)
    async with opened(sandbox, sink) as market:
        await until(lambda: market.book(TOKEN) is not None)
        count = len(sink.books)
        await until(lambda: len(sink.books) > count + 5)
    check_books(sink)


@pytest.mark.parametrize("how", ["killed", "slept"])
async def test_cut_socket_makes_the_market_stale_and_heals(sandbox: Sandbox, how: str) -> None:
    sink = RecordingSink()
    async with opened(sandbox, sink) as market:
        await until(lambda: market.book(TOKEN) is not None)
        if how == "killed":
            await sandbox.admin.kill_sockets()
        else:
            market.reconnect("this computer slept")
            await market.measure_clock()
            assert abs(market.clock_offset_ns()) < 1_000_000_000
        await until(lambda: FeedState.STALE in sink.states(TOKEN))
        await until(lambda: market.book(TOKEN) is not None and market.book(OTHER) is not None)
        assert sink.states(None) == [FeedState.LIVE, FeedState.STALE, FeedState.LIVE]
    check_books(sink)


async def test_silent_socket_is_given_up_though_it_is_open(sandbox: Sandbox) -> None:
    sink = RecordingSink()
    async with opened(sandbox, sink, ping_interval_s=0.3, pong_timeout_s=0.3, stale_after_s=1.0) as market:
        await until(lambda: market.book(TOKEN) is not None)
        await sandbox.admin.arm("socket_silent", times=2)
        await until(lambda: sink.states(TOKEN).count(FeedState.LIVE) >= 2, 30.0)
        await until(lambda: market.book(TOKEN) is not None)
    check_books(sink)


@pytest.mark.parametrize("fault", ["subscribe_refused", "subscribe_ignored"])
async def test_subscription_that_is_not_acknowledged_is_tried_again(sandbox: Sandbox, fault: str) -> None:
    sink = RecordingSink()
    await sandbox.admin.arm(fault, times=1)
    async with opened(sandbox, sink, ack_timeout_s=1.0) as market:
        await until(lambda: market.book(TOKEN) is not None and market.book(OTHER) is not None)
    await sandbox.admin.arm(fault, times=None)
    market = BinanceMarket(config_of(sandbox, ack_timeout_s=0.5, connect_timeout_s=0.5))
    with pytest.raises(UnavailableError):
        await market.open([TOKEN], Streams(), RecordingSink())


async def test_snapshot_that_does_not_come_leaves_the_market_frozen_not_wrong(sandbox: Sandbox) -> None:
    sink = RecordingSink()
    number = await sandbox.admin.arm("http_5xx", route="GET /api/v3/depth", times=None)
    async with opened(sandbox, sink) as market:
        await until(lambda: len(sink.bbos) > 50)
        assert sink.books == [] and market.book(TOKEN) is None
        assert sink.states(TOKEN) == [FeedState.FROZEN]
        await sandbox.admin.disarm(number)
        await until(lambda: market.book(TOKEN) is not None)
    check_books(sink)


async def test_unknown_market_is_refused_by_name(sandbox: Sandbox) -> None:
    market = BinanceMarket(config_of(sandbox))
    with pytest.raises(ConfigError, match="NOPE-USDT"):
        await market.open([TOKEN, "NOPE-USDT"], Streams(), RecordingSink())
    with pytest.raises(ConfigError, match="7m"):
        await market.open([TOKEN], Streams(bar_timeframe="7m"), RecordingSink())
    await market.close()


async def test_recording_over_the_wire_is_rebuilt_as_the_venue_saw_it() -> None:
    path = data_file(RECORDING)
    sink = RecordingSink()
    async with running_sandbox("binance", recorded=path, speed=60.0) as sandbox:
        # A deeper snapshot than there is: what comes is then known to be the whole book.
        market = BinanceMarket(config_of(sandbox), snapshot_levels=5_000)
        try:
            await market.open(["BTC-USDT"], Streams(), sink)
            await until(lambda: bool(sink.trades) and sink.trades[-1].trade_id == "3735693015", 25.0)
            await until(lambda: last_book(sink, market) == ((61685.99, 1.0087), (61686.00, 2.29327)), 5.0)
            assert market.proofs("BTC-USDT") == (564, 0)
        finally:
            await market.close()
    assert len(sink.trades) == 9_757 and len(sink.bbos) == 28_040
    # The diffs that waited for the snapshot make one book together with it.
    assert 3_440 <= len(sink.books) <= 3_450
    assert FeedState.FROZEN not in sink.states("BTC-USDT")[1:]
    check_books(sink)


def last_book(sink: RecordingSink, market: BinanceMarket) -> tuple[tuple[float, float], tuple[float, float]] | None:
    book: BookSnapshot | None = market.book("BTC-USDT")
    return None if book is None else (book.bids[0], book.asks[0])
