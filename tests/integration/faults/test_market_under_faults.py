"""Market data under every fault of a venue: no book that the venue never had, no bar that its tape does not say.

The adapters and the wire are real; the truth is the book at each version and the tape, as the venue itself had them.
"""

import asyncio
from typing import NamedTuple

import pytest

from services.sandbox_exchange.core.faults import FaultName as F
from shared.errors import UnavailableError
from shared.exchange import DualExchange, ExchangeConfig, dual_wire
from shared.exchange.port import Streams
from shared.messages import FeedState, Side, Trade
from tests.integration.faults.market_rig import (
    DEPTH,
    TOKEN,
    TRADES,
    TrueMarket,
    TruthSink,
    make_market,
    true_market,
    until,
    watched,
)
from tests.integration.faults.rig import VENUES
from tests.unit.exchange.mexc.frames_of import Sink

BOOK = Streams(trades=False, bbo=False, book_levels=20)
BURST = 40_000


class Row(NamedTuple):
    """State a fault, its fields, and which states it must bring about."""

    name: F
    fields: dict[str, object]
    told: set[FeedState]


FROZEN, STALE = FeedState.FROZEN, FeedState.STALE
FRAMES = [
    Row(F.FRAME_DROP, {"on": DEPTH, "times": 1}, {FROZEN}),
    Row(F.FRAME_DROP, {"on": DEPTH, "times": 3}, {FROZEN}),
    Row(F.FRAME_DUPLICATE, {"on": DEPTH, "times": 3}, set()),
    Row(F.FRAME_REORDER, {"on": DEPTH, "times": 1}, {FROZEN}),
    Row(F.SOCKET_KILL, {"on": DEPTH}, {STALE}),
    Row(F.SOCKET_SILENT, {"on": DEPTH}, {STALE}),
    Row(F.SOCKET_AGE, {"parameter": 0.1}, {STALE}),
]
SNAPSHOTS = [
    Row(F.SNAPSHOT_STALE, {"parameter": 5, "times": 2}, set()),
    Row(F.SNAPSHOT_STRADDLE, {}, set()),
    Row(F.HTTP_5XX, {"route": "GET /api/v3/depth", "times": 2}, set()),
    Row(F.HTML_200, {"route": "GET /api/v3/depth", "parameter": 0}, set()),
    Row(F.EMPTY_200, {"route": "GET /api/v3/depth", "parameter": 0}, set()),
    Row(F.RESET_BEFORE, {"route": "GET /api/v3/depth"}, set()),
    Row(F.SUBSCRIBE_REFUSED, {}, set()),
    Row(F.SUBSCRIBE_IGNORED, {}, set()),
]


def rows(table: list[Row]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", table, ids=[f"{row.name}{n}" for n, row in enumerate(table)])


def armed(true: TrueMarket, row: Row) -> None:
    fields = dict(row.fields)
    on = fields.pop("on", None)
    if isinstance(on, dict):
        fields["route"] = on[true.running.announcement.venue]
    true.arm(row.name, **fields)


async def is_moving(true: TrueMarket, stop: asyncio.Event) -> None:
    """Move the market until told to stop, a few changes a frame."""
    while not stop.is_set():
        true.move(3)
        await true.later()


async def is_true_again(true: TrueMarket, sink: TruthSink) -> None:
    """Wait for the very newest book."""
    await until(lambda: sink.books and (sink.books[-1].bids, sink.books[-1].asks) == true.top())


@rows(FRAMES)
@pytest.mark.parametrize("venue", VENUES)
async def test_every_book_is_one_that_the_venue_had_whatever_happens_to_frames(venue: str, row: Row) -> None:
    async with true_market(venue) as true, watched(true, BOOK) as (_, sink):
        stop = asyncio.Event()
        moving = asyncio.create_task(is_moving(true, stop))
        await until(lambda: len(sink.books) > 3)
        before = len(sink.statuses)
        armed(true, row)
        await until(lambda: true.faults.fired.get(row.name))
        for state in row.told:
            await until(lambda state=state: state in {one[1] for one in sink.statuses[before:]})
        true.faults.disarm()
        served = len(sink.books)
        await until(lambda: len(sink.books) > served + 3)
        stop.set()
        await moving
        await is_true_again(true, sink)
        assert sink.wrong == []


@rows(SNAPSHOTS)
@pytest.mark.parametrize("venue", VENUES)
async def test_every_book_is_one_that_the_venue_had_whatever_the_snapshot_is_like(venue: str, row: Row) -> None:
    async with true_market(venue) as true:
        stop = asyncio.Event()
        moving = asyncio.create_task(is_moving(true, stop))
        await asyncio.sleep(0)
        armed(true, row)
        async with watched(true, BOOK) as (_, sink):
            while not true.faults.fired.get(row.name):
                # A snapshot may have come between two frames, where nothing can straddle: have it fetched again.
                served = len(sink.books)
                await until(lambda served=served: len(sink.books) > served)
                if not true.faults.fired.get(row.name):
                    true.kill()
            await until(lambda: len(sink.books) > 3)
            stop.set()
            await moving
            await is_true_again(true, sink)
            assert sink.wrong == []


@pytest.mark.parametrize("venue", VENUES)
async def test_a_book_is_not_served_while_it_has_a_gap(venue: str) -> None:
    async with true_market(venue) as true, watched(true, BOOK) as (market, sink):
        await until(lambda: market.book(TOKEN) is not None)
        before = len(sink.statuses)
        true.arm(F.HTTP_5XX, route="GET /api/v3/depth", times=None)
        true.arm(F.FRAME_DROP, route=DEPTH[venue])
        true.move(5)
        await until(lambda: true.faults.fired.get(F.FRAME_DROP))
        true.move(5)
        await until(lambda: FROZEN in {one[1] for one in sink.statuses[before:]})
        served, refused = len(sink.books), true.faults.fired.get(F.HTTP_5XX, 0)
        while true.faults.fired.get(F.HTTP_5XX, 0) < refused + 3:
            true.move(2)
            assert market.book(TOKEN) is None
            await true.later()
        assert len(sink.books) == served
        true.faults.disarm()
        await is_true_again(true, sink)
        assert sink.wrong == []


@pytest.mark.parametrize("fault", [F.SUBSCRIBE_REFUSED, F.SUBSCRIBE_IGNORED])
@pytest.mark.parametrize("venue", VENUES)
async def test_a_market_that_is_never_acknowledged_is_unavailable_and_serves_nothing(venue: str, fault: F) -> None:
    async with true_market(venue) as true:
        true.arm(fault, times=None)
        market, sink = make_market(true.running, connect_timeout_s=0.3, ack_timeout_s=0.3), Sink()
        with pytest.raises(UnavailableError):
            await market.open((TOKEN,), Streams(), sink)
        assert sink.books == []
        await market.close()


@pytest.mark.parametrize("venue", VENUES)
async def test_a_silent_market_is_called_stale_by_its_age_though_the_socket_lives(venue: str) -> None:
    async with true_market(venue) as true, watched(true, Streams(), stale_after_s=0.3) as (market, sink):
        await until(lambda: len(sink.books) > 0)
        await until(lambda: FeedState.STALE in {one[1] for one in sink.statuses})
        assert market.book(TOKEN) is None, "what is too old is not served"
        true.move(5)
        await until(lambda: sink.statuses[-1][1] is FeedState.LIVE)
        while market.book(TOKEN) is None:
            true.move(1)
            await true.later()


async def test_trades_that_mexc_lost_reach_the_handlers_of_a_dual_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dual_wire, "RECOVER_EVERY_S", 0.1)
    monkeypatch.setattr(dual_wire, "SETTLED_S", 0.0)
    async with true_market("mexc") as true:
        told, heard = true.running.announcement, list[Trade]()
        exchange = DualExchange(ExchangeConfig(venue="mexc", rest_url=told.rest_url, ws_url=told.ws_url))
        exchange.bind(on_trades=heard.extend)
        try:
            await exchange.initialize([TOKEN])
            true.arm(F.FRAME_DROP, route=TRADES["mexc"], times=3)
            while true.faults.fired.get(F.FRAME_DROP, 0) < 3:
                await true.spread(1)
            await until(lambda: len(heard) >= len(true.tape))
            got = sorted((one.ts_event_ns // 10**6, one.price, one.quantity) for one in heard)
            assert got == sorted((one.time_ns // 10**6, float(one.price), float(one.quantity)) for one in true.tape)
        finally:
            await exchange.close()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("venue", VENUES)
async def test_a_burst_of_40000_trades_arrives_complete_and_once(venue: str) -> None:
    # The venue shares our loop, and a pong may wait while it trades: only the data counts here.
    patient = {"ping_interval_s": 30.0, "pong_timeout_s": 30.0, "stale_after_s": 60.0}
    streams = Streams(book=False, bbo=False)
    async with true_market(venue) as true, watched(true, streams, **patient) as (_, sink):
        size, true.remembers_books = true.unit, False
        for side in (Side.BUY, Side.SELL):
            true.deepen(side, size * BURST)
        while len(true.tape) < BURST:
            for _ in range(1_000):
                true.trade(Side.BUY, size, refill=False)
                true.trade(Side.SELL, size, refill=False)
            await asyncio.sleep(0)
        await until(lambda: len(sink.trades) >= len(true.tape), patience_s=60)
        got = [(one.price, one.quantity, one.side, one.ts_event_ns // 10**6) for one in sink.trades]
        assert got == [
            (float(one.price), float(one.quantity), one.taker_side, one.time_ns // 10**6) for one in true.tape
        ]
        assert len({one.trade_id for one in sink.trades}) == len(sink.trades)


@pytest.mark.parametrize("venue", VENUES)
async def test_trades_that_come_twice_or_in_another_order_are_counted_once(venue: str) -> None:
    async with true_market(venue) as true, watched(true, Streams(book=False, bbo=False)) as (_, sink):
        true.arm(F.FRAME_DUPLICATE, route=TRADES[venue], times=5)
        while true.faults.fired.get(F.FRAME_DUPLICATE, 0) < 5:
            true.trade(Side.BUY)
            await until(lambda: len(sink.trades) >= len(true.tape))
        true.faults.disarm()
        true.trade(Side.SELL)
        await until(lambda: len(sink.trades) >= len(true.tape))
        assert len(sink.trades) == len(true.tape)
