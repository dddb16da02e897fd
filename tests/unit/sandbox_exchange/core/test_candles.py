"""Candles and the 24 h ticker, from trades at given times."""

from collections import deque
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sandbox_exchange.core.candles import Candles
from services.sandbox_exchange.core.intervals import (
    DAY_NS,
    HOUR_NS,
    INTERVALS,
    MINUTE_NS,
    MONTH_NS,
    SECOND_NS,
    WEEK_NS,
    close_of,
    open_of,
)
from services.sandbox_exchange.core.model import Kline, PublicTrade, Refusal
from services.sandbox_exchange.core.seconds import second_klines
from shared.messages import Side
from tests.unit.sandbox_exchange.core.venue import BUY, SELL, SYMBOL, Bench, d


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000_000


def ask(candles: Candles, interval_ns: int, now_ns: int, **bounds: int) -> list[Kline]:
    words = {"start_ns": None, "end_ns": None, "limit": 500, **bounds}
    return list(candles.query("X", interval_ns, now_ns=now_ns, **words))


def trade(candles: Candles, when_ns: int, price: int, quantity: int = 1, side: Side = BUY) -> None:
    candles.trade(side, d(price), d(quantity), d(price * quantity), now_ns=when_ns)


@pytest.mark.parametrize(
    ("interval_ns", "time", "opens", "closes"),
    [
        (MINUTE_NS, "2024-02-29T23:59:59", "2024-02-29T23:59:00", "2024-03-01T00:00:00"),
        (4 * HOUR_NS, "2024-02-29T23:59:59", "2024-02-29T20:00:00", "2024-03-01T00:00:00"),
        (DAY_NS, "2024-02-29T23:59:59", "2024-02-29T00:00:00", "2024-03-01T00:00:00"),
        (WEEK_NS, "2024-03-03T23:59:59", "2024-02-26T00:00:00", "2024-03-04T00:00:00"),
        (WEEK_NS, "2024-03-04T00:00:00", "2024-03-04T00:00:00", "2024-03-11T00:00:00"),
        (MONTH_NS, "2024-02-29T23:59:59", "2024-02-01T00:00:00", "2024-03-01T00:00:00"),
        (MONTH_NS, "2023-12-31T23:59:59", "2023-12-01T00:00:00", "2024-01-01T00:00:00"),
    ],
)
def test_candle_holds_its_time(interval_ns, time, opens, closes) -> None:
    assert open_of(ns(time), interval_ns) == ns(opens)
    assert close_of(ns(opens), interval_ns) == ns(closes)


@given(st.integers(0, 4_000_000_000), st.sampled_from(sorted(INTERVALS.values())))
def test_grids_have_neither_gaps_nor_overlaps(seconds: int, interval_ns: int) -> None:
    time_ns = seconds * 1_000_000_000
    opens = open_of(time_ns, interval_ns)
    assert opens <= time_ns < close_of(opens, interval_ns)
    assert open_of(close_of(opens, interval_ns), interval_ns) == close_of(opens, interval_ns)
    assert open_of(close_of(opens, interval_ns) - 1, interval_ns) == opens


def test_candle_is_made_of_its_trades() -> None:
    candles, start = Candles(), ns("2024-01-01T00:00:00")
    for second, price, side in ((0, 100, BUY), (10, 110, SELL), (20, 90, BUY), (59, 95, SELL)):
        trade(candles, start + second * 1_000_000_000, price, 2, side)
    (kline,) = ask(candles, MINUTE_NS, start + MINUTE_NS - 1)
    assert (kline.open, kline.high, kline.low, kline.close) == (d(100), d(110), d(90), d(95))
    assert (kline.volume, kline.quote_volume, kline.trades) == (d(8), d(790), 4)
    assert (kline.taker_buy_volume, kline.taker_buy_quote) == (d(4), d(380))
    assert (kline.open_ns, kline.close_ns) == (start, start + MINUTE_NS)


def test_gap_repeats_the_last_close() -> None:
    candles, start = Candles(), ns("2024-01-01T00:00:00")
    trade(candles, start, 100)
    trade(candles, start + 3 * MINUTE_NS, 120)
    klines = ask(candles, MINUTE_NS, start + 5 * MINUTE_NS)
    assert [one.close for one in klines] == [d(100), d(100), d(100), d(120), d(120), d(120)]
    assert [one.trades for one in klines] == [1, 0, 0, 1, 0, 0]
    # Also when the gap is the first thing asked for.
    late = ask(candles, MINUTE_NS, start + 5 * MINUTE_NS, start_ns=start + MINUTE_NS, limit=1)
    assert [(one.open_ns, one.close) for one in late] == [(start + MINUTE_NS, d(100))]


def test_bounds_are_those_of_openings() -> None:
    candles, start = Candles(), ns("2024-01-01T00:00:00")
    for minute in range(10):
        trade(candles, start + minute * MINUTE_NS, 100 + minute)
    now = start + 10 * MINUTE_NS - 1

    def minutes(**bounds: int) -> list[int]:
        return [(one.open_ns - start) // MINUTE_NS for one in ask(candles, MINUTE_NS, now, **bounds)]

    assert minutes() == list(range(10))
    assert minutes(limit=3) == [7, 8, 9]
    assert minutes(start_ns=start + 2 * MINUTE_NS, limit=3) == [2, 3, 4]
    assert minutes(start_ns=start + 2 * MINUTE_NS + 1, limit=3) == [3, 4, 5]
    assert minutes(end_ns=start + 4 * MINUTE_NS, limit=3) == [2, 3, 4]
    assert minutes(end_ns=start + 4 * MINUTE_NS - 1, limit=3) == [1, 2, 3]
    assert minutes(start_ns=start + 8 * MINUTE_NS, end_ns=start + 80 * MINUTE_NS) == [8, 9]
    assert minutes(start_ns=start + 5 * MINUTE_NS, end_ns=start + 4 * MINUTE_NS) == []
    assert minutes(end_ns=start - 1) == []
    assert minutes(limit=0) == []


@given(
    st.lists(
        st.tuples(st.integers(0, 40_000), st.integers(1, 50), st.integers(1, 9), st.sampled_from(list(Side))),
        min_size=1,
        max_size=60,
    ),
    st.sampled_from(sorted(INTERVALS.values())),
)
def test_candles_of_every_interval_agree_with_the_trades(trades, interval_ns) -> None:
    start = ns("2024-01-30T22:30:00")
    candles = Candles()
    cells: dict[int, list[tuple[int, int, Side]]] = {}
    for seconds, price, quantity, side in sorted(trades, key=lambda one: one[0]):
        when = start + seconds * 7 * 1_000_000_000
        trade(candles, when, price, quantity, side)
        cells.setdefault(open_of(when, interval_ns), []).append((price, quantity, side))
    klines = [one for one in ask(candles, interval_ns, start + 300_000 * 1_000_000_000, limit=10**6) if one.trades]
    if interval_ns < HOUR_NS:  # only two days of minutes are kept
        oldest = klines[0].open_ns
        assert len(klines) > 0
        cells = {opens: rows for opens, rows in cells.items() if opens >= oldest}
    assert [one.open_ns for one in klines] == sorted(cells)
    for kline in klines:
        rows = cells[kline.open_ns]
        prices = [row[0] for row in rows]
        assert (kline.open, kline.close) == (prices[0], prices[-1])
        assert (kline.high, kline.low, kline.trades) == (max(prices), min(prices), len(rows))
        assert kline.volume == sum(row[1] for row in rows)
        assert kline.quote_volume == sum(row[0] * row[1] for row in rows)
        assert kline.taker_buy_volume == sum(row[1] for row in rows if row[2] is BUY)


def test_candles_that_lost_a_part_are_not_shown() -> None:
    candles, start = Candles({MINUTE_NS: 12, HOUR_NS: 5}), ns("2024-01-01T00:00:00")
    for minute in range(18):
        trade(candles, start + minute * MINUTE_NS, 100)
    now = start + 18 * MINUTE_NS - 1
    assert len(ask(candles, MINUTE_NS, now)) == 12
    assert [(one.open_ns - start) // MINUTE_NS for one in ask(candles, 5 * MINUTE_NS, now)] == [10, 15]
    assert [one.trades for one in ask(candles, HOUR_NS, now)] == [18]


def test_clock_that_goes_back_does_not_disorder_the_candles() -> None:
    candles, start = Candles(), ns("2024-01-01T00:10:00")
    trade(candles, start, 100)
    trade(candles, start - 5 * MINUTE_NS, 101)
    (kline,) = ask(candles, MINUTE_NS, start)
    assert (kline.open, kline.close, kline.trades) == (d(100), d(101), 2)


def test_past_comes_before_the_trades() -> None:
    bench = Bench()
    exchange, start = bench.exchange, bench.now_ns - bench.now_ns % HOUR_NS
    past = [
        Kline(SYMBOL, MINUTE_NS, open_ns, open_ns + MINUTE_NS, d(9), d(12), d(8), d(10), d(5), d(50), 3, d(2), d(20))
        for open_ns in (start - 2 * MINUTE_NS, start - MINUTE_NS)
    ]
    exchange.add_past(SYMBOL, past)
    got = exchange.klines(SYMBOL, MINUTE_NS, start_ns=None, end_ns=start - 1, limit=2, now_ns=bench.now_ns)
    assert list(got) == past
    bench.offer(SELL, "100", "1")
    bench.place("ann", BUY, quantity="1")
    ticker = exchange.ticker(SYMBOL, bench.now_ns)
    assert (ticker.open, ticker.high, ticker.low, ticker.last) == (d(9), d(100), d(8), d(100))
    assert (ticker.trades, ticker.volume) == (7, d(11))


def test_ticker_forgets_after_a_day_and_knows_the_quotes() -> None:
    bench = Bench()
    empty = bench.exchange.ticker(SYMBOL, bench.now_ns)
    assert (empty.last, empty.open, empty.bid, empty.ask_quantity, empty.volume) == (None, None, None, None, d(0))
    bench.offer(SELL, "100", "3")
    bench.offer(BUY, "99", "2")
    bench.place("ann", BUY, quantity="1")
    now = bench.exchange.ticker(SYMBOL, bench.now_ns)
    assert (now.bid, now.bid_quantity, now.ask, now.ask_quantity) == (d(99), d(2), d(100), d(2))
    assert (now.last, now.volume, now.quote_volume, now.trades) == (d(100), d(1), d(100), 1)
    later = bench.exchange.ticker(SYMBOL, bench.now_ns + DAY_NS + MINUTE_NS)
    assert (later.last, later.open, later.volume, later.trades) == (d(100), d(100), d(0), 0)


@pytest.mark.parametrize("interval_ns", [0, -MINUTE_NS, 2 * SECOND_NS, MINUTE_NS + 1])
def test_interval_must_be_a_second_or_whole_minutes(interval_ns) -> None:
    with pytest.raises(Refusal):
        Bench().exchange.klines(SYMBOL, interval_ns, start_ns=None, end_ns=None, limit=5, now_ns=Decimal(0))


def printed(*rows: tuple[float, int], first_id: int = 1) -> deque[PublicTrade]:
    return deque(
        PublicTrade(SYMBOL, first_id + at, d(price), d(1), BUY, int(seconds * SECOND_NS))
        for at, (seconds, price) in enumerate(rows)
    )


def seconds_of(trades: deque[PublicTrade], *, now_s: float, limit: int = 10, **bounds_s: float) -> list[tuple]:
    bounds = {"start_ns": None, "end_ns": None} | {name: int(at * SECOND_NS) for name, at in bounds_s.items()}
    found = second_klines(SYMBOL, trades, limit=limit, now_ns=int(now_s * SECOND_NS), **bounds)
    assert all(one.close_ns == one.open_ns + SECOND_NS and one.interval_ns == SECOND_NS for one in found)
    return [(one.open_ns // SECOND_NS, int(one.open), int(one.close), one.trades) for one in found]


def test_seconds_without_a_trade_repeat_the_last_close() -> None:
    trades = printed((100.1, 5), (100.9, 7), (103.5, 6))
    whole = [(100, 5, 7, 2), (101, 7, 7, 0), (102, 7, 7, 0), (103, 6, 6, 1), (104, 6, 6, 0)]
    assert seconds_of(trades, now_s=104.2) == whole
    assert seconds_of(trades, now_s=104.2, limit=2) == whole[-2:]
    assert seconds_of(trades, now_s=900.0, limit=1) == [(900, 6, 6, 0)]
    assert seconds_of(trades, now_s=104.2, start_ns=101, end_ns=103) == whole[1:4]
    assert seconds_of(trades, now_s=104.2, start_ns=102.5) == whole[3:]
    assert seconds_of(trades, now_s=104.2, end_ns=99.0) == []


def test_a_market_that_nobody_traded_in_has_no_seconds() -> None:
    assert seconds_of(deque(), now_s=104.0) == []
    bench = Bench()
    assert not bench.exchange.klines(SYMBOL, SECOND_NS, start_ns=None, end_ns=None, limit=5, now_ns=bench.now_ns)


def test_a_second_of_which_a_part_is_forgotten_is_not_shown() -> None:
    trades = printed((100.8, 5), (100.9, 7), (102.5, 6), first_id=40)
    assert seconds_of(trades, now_s=102.9) == [(101, 7, 7, 0), (102, 6, 6, 1)]
    assert seconds_of(printed((100.8, 5), first_id=40), now_s=100.9) == []


@given(st.lists(st.tuples(st.integers(0, 30_000), st.integers(1, 9)), min_size=1, max_size=40), st.integers(1, 20))
def test_seconds_are_those_of_all_trades_whatever_is_asked_for(rows: list[tuple[int, int]], limit: int) -> None:
    trades = printed(*sorted((at / 1_000, price) for at, price in rows))
    everything = seconds_of(trades, now_s=31.0, limit=100)
    assert sum(count for *_, count in everything) == len(rows)
    assert [at for at, *_ in everything] == list(range(everything[0][0], 32))
    assert seconds_of(trades, now_s=31.0, limit=limit) == everything[-limit:]
