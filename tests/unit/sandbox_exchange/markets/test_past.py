"""A market's past ends where the market begins, and has no holes."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from services.sandbox_exchange.core.exchange import SandboxExchange
from services.sandbox_exchange.core.intervals import HOUR_NS, MINUTE_NS
from services.sandbox_exchange.markets.build import MarketsConfig, make_markets, make_runner
from services.sandbox_exchange.markets.past import past_klines

Make = Callable[..., Any]


@pytest.mark.parametrize("now_ns", [1_763_000_000_123_456_789, 1_763_002_800_000_000_000, 1_763_002_799_999_999_999])
def test_candles_join_up_and_end_at_the_first_price(make_synthetic: Make, now_ns: int) -> None:
    market, draw = make_synthetic().market, np.random.default_rng(1)
    klines = past_klines(market, ticks=10_000.0, volatility_per_s=1e-4, turnover_per_s=300.0, draw=draw, now_ns=now_ns)
    assert float(klines[-1].close) == 100.0
    assert klines[-1].close_ns <= now_ns < klines[-1].close_ns + MINUTE_NS
    for before, after in pairwise(klines):
        assert (before.close_ns, before.close) == (after.open_ns, after.open)
    for kline in klines:
        assert 0 < kline.low <= min(kline.open, kline.close) <= max(kline.open, kline.close) <= kline.high
        assert kline.volume > 0
        assert kline.open_ns % kline.interval_ns == 0
        assert all(price % market.instrument.tick_size == 0 for price in (kline.open, kline.high, kline.low))


def test_fresh_market_has_minutes_hours_and_a_day_to_show() -> None:
    now_ns = 1_763_001_234_000_000_000
    exchange = SandboxExchange()
    (market,) = make_markets(MarketsConfig(), ["BTCUSDT"])
    runner = make_runner(exchange, [market], now_ns=lambda: now_ns)
    for interval_ns, count in ((MINUTE_NS, 500), (HOUR_NS, 500), (4 * HOUR_NS, 150)):
        klines = exchange.klines("BTCUSDT", interval_ns, start_ns=None, end_ns=None, limit=count, now_ns=now_ns)
        assert len(klines) == count
        assert all(before.close_ns == after.open_ns for before, after in pairwise(klines))
        assert all(kline.trades > 0 for kline in klines[:-1])
    runner.step(0.0)
    ticker = exchange.ticker("BTCUSDT", now_ns)
    assert ticker.last is not None
    assert ticker.bid is not None
    assert abs(ticker.last / ticker.bid - 1) < 0.01
    assert ticker.volume > 0


def test_market_that_was_listed_before_gets_no_second_past() -> None:
    exchange = SandboxExchange()
    markets = make_markets(MarketsConfig(), ["BTCUSDT"])
    exchange.list_market(markets[0].market)
    make_runner(exchange, markets, now_ns=lambda: 1_763_001_234_000_000_000)
    assert not exchange.klines(
        "BTCUSDT", MINUTE_NS, start_ns=None, end_ns=None, limit=10, now_ns=1_763_001_234_000_000_000
    )
