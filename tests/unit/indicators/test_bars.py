"""I15: bars keep within their trades, conserve volume, and do not depend on chunks. The recorded candles are met."""

import csv
import gzip
import json
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.bars import BarBuilder, BarState, ClosedBar, part_of
from shared.messages import Bar
from shared.testing.data import data_file

MS = 1_000_000
MINUTE = 60_000 * MS
type Trade = tuple[str, int, float, float]

TRADES = st.lists(
    st.tuples(
        st.integers(0, 40 * MINUTE),
        st.decimals("0.00000001", "90000", places=8, allow_nan=False).map(float),
        st.decimals("0.0001", "1000000", places=4, allow_nan=False).map(float),
    ),
    max_size=60,
).map(lambda rows: [(str(at), *row) for at, row in enumerate(sorted(rows, key=lambda row: row[0]))])


def bars_of(trades: list[Trade], interval_ns: int = MINUTE) -> list[ClosedBar]:
    builder = BarBuilder(interval_ns)
    closed = [builder.add_trade(*trade) for trade in trades]
    closed.append(builder.advance(4 * 10**18))
    return [bar for bar in closed if bar is not None]


@given(trades=TRADES)
def test_bars_bound_their_trades_and_conserve_volume(trades):
    bars = bars_of(trades)
    assert sum(bar.parts for bar in bars) == len(trades)
    assert sum((bar.volume for bar in bars), Decimal(0)) == sum((Decimal(repr(one[3])) for one in trades), Decimal(0))
    for before, bar in zip([None, *bars], bars, strict=False):
        inside = [trade for trade in trades if bar.open_time_ns <= trade[1] < bar.close_time_ns]
        prices = [trade[2] for trade in inside]
        assert (bar.open, bar.close, bar.high, bar.low) == (prices[0], prices[-1], max(prices), min(prices))
        assert bar.open_time_ns % MINUTE == 0
        assert before is None or before.close_time_ns <= bar.open_time_ns


@given(trades=TRADES, many=st.sampled_from((2, 3, 5, 60)))
def test_bars_of_bars_are_the_bars_of_the_trades(trades, many):
    builder = BarBuilder(many * MINUTE)
    closed = [builder.add_bar(bar) for bar in bars_of(trades)]
    closed.append(builder.advance(4 * 10**18))
    assert [bar for bar in closed if bar is not None] == bars_of(trades, many * MINUTE)


@given(trades=TRADES, data=st.data())
def test_a_restart_between_any_two_trades_changes_nothing(trades, data):
    cut = data.draw(st.integers(0, len(trades)))
    first = BarBuilder(MINUTE)
    closed = [first.add_trade(*trade) for trade in trades[:cut]]
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(first.state()), type=BarState)
    second = BarBuilder(MINUTE, state=state)
    closed += [second.add_trade(*trade) for trade in trades[cut:]]
    closed.append(second.advance(4 * 10**18))
    assert [bar for bar in closed if bar is not None] == bars_of(trades)


@given(trades=TRADES, data=st.data())
def test_trades_that_come_again_count_once(trades, data):
    doubled: list[Trade] = []
    for trade in trades:
        doubled.append(trade)
        if data.draw(st.booleans()):
            doubled.append(data.draw(st.sampled_from(doubled)))
    assert bars_of(doubled) == bars_of(trades)


def test_equal_times_are_not_equal_trades():
    builder = BarBuilder(MINUTE)
    for trade_id in ("1", "2", "2", "3"):
        assert builder.add_trade(trade_id, 5, 2.0, 1.5) is None
    bar = builder.advance(MINUTE)
    assert bar is not None
    assert (bar.volume, bar.quote_volume, bar.parts, builder.duplicates) == (Decimal("4.5"), Decimal("9.0"), 3, 1)


def test_a_closed_bar_is_never_changed():
    builder = BarBuilder(MINUTE)
    builder.add_trade("1", 0, 2.0, 1.0)
    assert builder.add_trade("2", MINUTE, 3.0, 1.0) is not None
    assert builder.add_trade("3", MINUTE - 1, 9.0, 1.0) is None
    assert builder.late == 1
    assert builder.advance(2 * MINUTE - 1) is None
    closed = builder.advance(2 * MINUTE)
    assert closed is not None
    assert (closed.open, closed.high, closed.parts) == (3.0, 3.0, 1)
    assert builder.add_trade("4", 2 * MINUTE - 1, 9.0, 1.0) is None
    assert builder.late == 2
    assert builder.advance(9 * MINUTE) is None


def test_nothing_happened_means_no_bar():
    builder = BarBuilder(MINUTE)
    builder.add_trade("1", 0, 2.0, 1.0)
    closed = builder.add_trade("2", 10 * MINUTE, 3.0, 1.0)
    assert closed is not None
    assert closed.close_time_ns == MINUTE
    last = builder.advance(11 * MINUTE)
    assert last is not None
    assert last.open_time_ns == 10 * MINUTE


def test_a_week_begins_on_its_origin():
    day = 1440 * MINUTE
    builder = BarBuilder(7 * day, origin_ns=4 * day)
    builder.add_trade("1", 5 * day, 2.0, 1.0)
    bar = builder.advance(40 * day)
    assert bar is not None
    assert (bar.open_time_ns, bar.close_time_ns) == (4 * day, 11 * day)
    before = BarBuilder(7 * day, origin_ns=4 * day)
    before.add_trade("1", 3 * day, 2.0, 1.0)
    first = before.advance(40 * day)
    assert first is not None
    assert first.open_time_ns == -3 * day


def message(open_ns: int, close_ns: int, volume: float = 1.0, quote_volume: float | None = None) -> Bar:
    return Bar("v", "A-USDT", "1m", open_ns, close_ns, 2.0, 3.0, 1.0, 2.5, volume, quote_volume, 0, 1)


def test_a_bar_that_comes_again_counts_once_and_a_null_column_stays_null():
    builder = BarBuilder(5 * MINUTE)
    builder.add_bar(part_of(message(0, MINUTE, 0.1, 5.0)))
    builder.add_bar(part_of(message(0, MINUTE, 0.1, 5.0)))
    builder.add_bar(part_of(message(MINUTE, 2 * MINUTE, 0.2)))
    bar = builder.advance(5 * MINUTE)
    assert bar is not None
    assert (bar.volume, bar.quote_volume, bar.parts, builder.duplicates) == (Decimal("0.3"), None, 2, 1)
    assert builder.add_bar(part_of(message(2 * MINUTE, 3 * MINUTE))) is None
    assert builder.late == 1


def test_bars_that_straddle_the_grid_are_refused():
    with pytest.raises(ValueError, match="multiple"):
        BarBuilder(4 * MINUTE).add_bar(part_of(message(3 * MINUTE, 5 * MINUTE)))
    with pytest.raises(ValueError, match="interval_ns"):
        BarBuilder(0)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), 1e300, 5e-324])
def test_what_is_no_price_and_no_size_is_refused(value):
    with pytest.raises(ValueError, match="price"):
        BarBuilder(MINUTE).add_trade("1", 0, value, 1.0)
    with pytest.raises(ValueError, match="quantity"):
        BarBuilder(MINUTE).add_trade("1", 0, 1.0, value)


def recorded_trades() -> list[Trade]:
    with gzip.open(data_file("freqtrade_testdata/XRP_ETH-trades.json.gz"), "rt", encoding="utf-8") as file:
        rows = json.load(file)
    return [(str(row[1]), int(row[0]) * MS, float(row[4]), float(row[5])) for row in rows]


def test_recorded_trades_make_every_recorded_bar():
    trades = recorded_trades()
    assert (len(trades), len({trade[1] for trade in trades})) == (12_477, 9_987)
    with gzip.open(data_file("freqtrade_testdata/XRP_ETH-5m.csv.gz"), "rt", encoding="utf-8") as file:
        rows = [[float(cell) for cell in row] for row in list(csv.reader(file))[1:]]
    assert len(rows) == 706
    for chunked in (bars_of(trades, 5 * MINUTE), bars_of_minutes(trades)):
        found = [[bar.open_time_ns / MS, bar.open, bar.high, bar.low, bar.close, float(bar.volume)] for bar in chunked]
        assert found == rows


def bars_of_minutes(trades: list[Trade]) -> list[ClosedBar]:
    builder = BarBuilder(5 * MINUTE)
    closed = [builder.add_bar(bar) for bar in bars_of(trades)]
    closed.append(builder.advance(4 * 10**18))
    return [bar for bar in closed if bar is not None]


def test_the_older_format_holds_the_same_trades():
    with gzip.open(data_file("freqtrade_testdata/XRP_OLD-trades.json.gz"), "rt", encoding="utf-8") as file:
        rows = json.load(file)
    old = [(str(row["id"]), int(row["timestamp"]) * MS, float(row["price"]), float(row["amount"])) for row in rows]
    assert bars_of(old, 5 * MINUTE) == bars_of(recorded_trades(), 5 * MINUTE)
