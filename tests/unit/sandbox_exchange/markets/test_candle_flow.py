"""Candles of history as a market: what trades has their open, high, low, close and volume again."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.sandbox_exchange.core.exchange import SandboxExchange
from services.sandbox_exchange.core.flow_candles import CandlePath, TickCandle
from services.sandbox_exchange.core.model import OrderStatus, TradePrinted
from services.sandbox_exchange.markets.build import MarketsConfig, make_markets, make_runner
from services.sandbox_exchange.markets.candles import load_candles
from shared.messages import Side
from shared.testing.data import data_file

Make = Callable[..., Any]
SYMBOL, MINUTE_S = "ABCUSDT", 60.0
CANDLES = (
    TickCandle(0.0, 10_000, 10_080, 9_950, 10_050, 4_000_000),
    TickCandle(60.0, 10_040, 10_040, 9_500, 9_600, 9_000_000),
    TickCandle(120.0, 9_600, 9_600, 9_600, 9_600, 500_000),
)


def volume_of(trades: list[Any]) -> Decimal:
    return sum((trade.quantity for trade in trades), Decimal(0))


def corners(trades: list[Any]) -> tuple[int, int, int, int]:
    prices = [int(trade.price * 100) for trade in trades]
    return prices[0], max(prices), min(prices), prices[-1]


def test_trades_have_the_prices_and_the_volume_of_their_candles(make_historical: Make) -> None:
    sandbox = make_historical(CANDLES, speed=20.0)
    sandbox.run(10, sandbox.check)
    assert sandbox.flow.path.is_over
    for index, candle in enumerate(CANDLES):
        trades = sandbox.by_candle[index]
        assert corners(trades) == (candle.open, candle.high, candle.low, candle.close)
        assert float(volume_of(trades)) * 1_000 == pytest.approx(candle.volume, rel=0.01)
    assert sum(len(trades) for trades in sandbox.by_candle.values()) > 20


@st.composite
def candle_series(draw: st.DrawFn) -> list[TickCandle]:
    series, at = [], 0.0
    for _ in range(draw(st.integers(1, 5))):
        prices = sorted(draw(st.lists(st.integers(200, 20_000), min_size=4, max_size=4)))
        ends = draw(st.permutations(prices[1:3]))
        volume = draw(st.sampled_from([0, 1, 1_000_000, 50_000_000]))
        series.append(TickCandle(at, ends[0], prices[3], prices[0], ends[1], volume))
        at += MINUTE_S * draw(st.sampled_from([1, 1, 1, 3]))
    return series


@settings(max_examples=25, deadline=None)
@given(series=candle_series(), seed=st.integers(0, 1_000), speed=st.sampled_from([10.0, 60.0, 700.0]))
def test_every_candle_is_kept_to(make_historical: Make, series: list[TickCandle], seed: int, speed: float) -> None:
    sandbox = make_historical(series, speed=speed, seed=seed)
    steps = 0
    while not sandbox.flow.path.is_over:
        sandbox.run(0.05, sandbox.check)
        steps += 1
        assert steps < 3_000
    sandbox.run(1, sandbox.check)
    for index, candle in enumerate(series):
        trades = sandbox.by_candle.get(index, [])
        assert bool(trades) == (candle.volume > 0)
        if trades:
            assert corners(trades) == (candle.open, candle.high, candle.low, candle.close)


def test_nobody_trades_where_candles_are_missing_and_the_quotes_stay(make_historical: Make) -> None:
    gap = (CANDLES[0], TickCandle(600.0, 9_900, 9_950, 9_900, 9_950, 1_000_000))
    sandbox = make_historical(gap, speed=60.0)
    sandbox.run(1.1)
    sandbox.events.clear()
    sandbox.run(8, sandbox.check)
    assert sandbox.trades == []
    assert abs(sandbox.mid() - 100.5) < 0.5
    sandbox.run(1.2)
    assert sandbox.trades[0].price == Decimal("99.00")


def test_market_is_quiet_after_the_last_candle(make_historical: Make) -> None:
    sandbox = make_historical(CANDLES, speed=120.0)
    sandbox.run(2)
    sandbox.events.clear()
    sandbox.run(5, sandbox.check)
    assert sandbox.trades == []
    assert len(sandbox.exchange.depth(SYMBOL).bids) > 5


def test_traders_resting_order_inside_the_range_is_filled(make_historical: Make) -> None:
    sandbox = make_historical(CANDLES, speed=10.0)
    sandbox.run(0.1)
    order, _ = sandbox.trade(Side.BUY, Decimal(50), Decimal("96.00"))
    assert order.executed_quantity == 0
    sandbox.run(12, sandbox.check)
    filled = sandbox.exchange.order("trader", SYMBOL, order_id=order.order_id)
    assert filled.status is OrderStatus.FILLED
    assert filled.executed_quote == Decimal(50) * 96


def test_start_inside_the_history_begins_with_the_next_candle(make_historical: Make) -> None:
    path = CandlePath(CANDLES, MINUTE_S, np.random.default_rng(1), speed=1.0, start_s=30.0)
    assert path.ticks == CANDLES[1].open
    moments = list(path.advance(29.0))
    assert [moment.is_quiet for moment in moments] == [True]
    (moment,) = [one for one in path.advance(1.0) if one.touch_ticks is not None]
    assert moment.touch_ticks == CANDLES[1].open


def test_absurd_speed_is_slowed_down_not_skipped() -> None:
    path = CandlePath(CANDLES, MINUTE_S, np.random.default_rng(1), speed=1e9)
    touched = [moment.touch_ticks for _ in range(3) for moment in path.advance(0.05)]
    assert touched[:12] == [price for candle in CANDLES for price in candle.corners]


def test_path_goes_on_where_it_was_dumped() -> None:
    path = CandlePath(CANDLES, MINUTE_S, np.random.default_rng(1), speed=10.0)
    for _ in range(30):
        list(path.advance(0.05))
    again = CandlePath(CANDLES, MINUTE_S, np.random.default_rng(2), speed=10.0)
    again.restore(path.dump())
    assert (again.ticks, again.state) == (path.ticks, path.state)
    with pytest.raises(msgspec.DecodeError):
        CandlePath(CANDLES[:1], MINUTE_S, np.random.default_rng(1), speed=1.0).restore(
            msgspec.msgpack.encode({"index": 3, "corner": 0, "at_s": 0.0, "ticks": 1.0})
        )


@pytest.mark.parametrize(
    "values", [(100, 99, 90, 95, 1), (100, 120, 101, 110, 1), (100, 120, 90, 95, -1), (0, 120, 0, 95, 1)]
)
def test_disordered_candle_is_refused(values: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="candle at"):
        TickCandle(0.0, *values)


def test_candles_out_of_order_are_refused() -> None:
    for candles in (CANDLES[::-1], (CANDLES[0], CANDLES[0]), ()):
        with pytest.raises(ValueError, match="candles must"):
            CandlePath(candles, MINUTE_S, np.random.default_rng(1), speed=1.0)


def test_real_history_is_traded_candle_by_candle() -> None:
    path = data_file("mexc_spot/mexc_spot_4h.csv.gz")
    symbols = ["RIVERUSDT", "ARIAUSDT"]
    config = MarketsConfig(candles=str(path), speed=14_400.0)
    exchange, now = SandboxExchange(), [1_700_000_000_000_000_000]
    markets = make_markets(config, symbols)
    runner = make_runner(exchange, markets, now_ns=lambda: now[0])
    printed: dict[tuple[str, int], list[Decimal]] = {}

    def note(event: Any) -> None:
        if isinstance(event, TradePrinted):
            number = runner.houses[event.trade.symbol].flow.volume_id - 1
            printed.setdefault((event.trade.symbol, number), []).append(event.trade.price)

    exchange.listen(note)
    for _ in range(30 * 20):
        now[0] += 50_000_000
        runner.step(0.05)
    checked = 0
    for series, market in zip(load_candles(path, symbols), markets, strict=True):
        symbol, tick = market.market.symbol, market.market.instrument.tick_size
        for number, candle in enumerate(series.candles):
            prices = printed.get((symbol, number))
            if prices is not None and number < market.flow.path.state.index:
                found = (prices[0], max(prices), min(prices), prices[-1])
                assert found == tuple(price * tick for price in (candle.open, candle.high, candle.low, candle.close))
                checked += 1
    assert checked >= 2 * 25


def test_large_resting_order_does_not_keep_the_low_from_being_traded(make_historical: Make) -> None:
    sandbox = make_historical(CANDLES, speed=10.0)
    sandbox.run(0.1)
    order, _ = sandbox.trade(Side.BUY, Decimal(15_000), Decimal("98.00"))
    sandbox.run(12, sandbox.check)
    assert min(trade.price for trade in sandbox.by_candle[1]) == Decimal("95.00")
    filled = sandbox.exchange.order("trader", SYMBOL, order_id=order.order_id)
    assert filled.status is OrderStatus.FILLED
