"""The markets on the wall clock: they start, keep a steady pace, stop, and never catch up in a burst."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from services.sandbox_exchange.core.exchange import SandboxExchange
from services.sandbox_exchange.core.model import HOUSE
from services.sandbox_exchange.markets.build import MarketsConfig, make_markets, make_runner
from services.sandbox_exchange.markets.runner import ELAPSED_S_MAX, MarketRunner

Make = Callable[..., Any]


class Pace:
    """A clock that moves by what is slept, and by a stall when told."""

    def __init__(self, stall_at: int = 0, stall_s: float = 0.0, stop_at: int = 100) -> None:
        self.now_ns, self._sleeps = 0, 0
        self._stall_at, self._stall_s, self._stop_at = stall_at, stall_s, stop_at
        self.stopped = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self._sleeps += 1
        self.now_ns += round(seconds * 1e9)
        if self._sleeps == self._stall_at:
            self.now_ns += round(self._stall_s * 1e9)
        if self._sleeps >= self._stop_at:
            self.stopped.set()
            await asyncio.Event().wait()
        await asyncio.sleep(0)


def paced(sandbox: Any, pace: Pace) -> tuple[MarketRunner, list[float]]:
    elapsed: list[float] = []
    step = sandbox.flow.step

    def noting(elapsed_s: float) -> Any:
        elapsed.append(elapsed_s)
        return step(elapsed_s)

    sandbox.flow.step = noting
    flows = {sandbox.market.symbol: sandbox.flow}
    runner = MarketRunner(
        sandbox.exchange, flows, now_ns=lambda: pace.now_ns, pace_ns=lambda: pace.now_ns, sleep=pace.sleep
    )
    return runner, elapsed


async def test_running_market_fills_its_book_at_once_and_trades(make_synthetic: Make) -> None:
    sandbox, pace = make_synthetic(), Pace(stop_at=400)
    runner, elapsed = paced(sandbox, pace)
    await runner.start()
    assert len(sandbox.exchange.depth("ABCUSDT").bids) > 5
    await pace.stopped.wait()
    await runner.stop()
    assert sandbox.trades
    assert sum(elapsed) == pytest.approx(pace.now_ns / 1e9, abs=0.06)


async def test_stall_of_an_hour_is_not_caught_up(make_synthetic: Make) -> None:
    pace = Pace(stall_at=21, stall_s=3_600.0)
    runner, elapsed = paced(make_synthetic(), pace)
    await runner.start()
    await pace.stopped.wait()
    await runner.stop()
    assert max(elapsed) == ELAPSED_S_MAX
    assert sum(elapsed) < 6.0


async def test_market_that_breaks_says_so(make_synthetic: Make) -> None:
    sandbox, pace = make_synthetic(), Pace()
    runner, _ = paced(sandbox, pace)
    await runner.start()
    assert runner.failure is None
    sandbox.flow.step = lambda elapsed_s: 1 / 0
    for _ in range(20):
        await asyncio.sleep(0)
    assert isinstance(runner.failure, ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        await runner.stop()


async def test_stopped_runner_stays_stopped_and_can_start_again(make_synthetic: Make) -> None:
    sandbox, pace = make_synthetic(), Pace(stop_at=10_000)
    runner, elapsed = paced(sandbox, pace)
    await runner.start()
    with pytest.raises(RuntimeError):
        await runner.start()
    await runner.stop()
    await runner.stop()
    count = len(elapsed)
    await asyncio.sleep(0)
    assert len(elapsed) == count
    resting = len(sandbox.exchange.open_orders(HOUSE, "ABCUSDT"))
    await runner.start()
    await runner.stop()
    assert abs(len(sandbox.exchange.open_orders(HOUSE, "ABCUSDT")) - resting) <= 10
    sandbox.check()


def test_runner_lists_what_is_missing_and_every_default_market_quotes() -> None:
    exchange = SandboxExchange()
    markets = make_markets(MarketsConfig(seed=3))
    runner = make_runner(exchange, markets, now_ns=lambda: 1)
    for _ in range(200):
        runner.step(0.05)
    for symbol, house in runner.houses.items():
        depth = exchange.depth(symbol)
        assert min(len(depth.bids), len(depth.asks)) >= 5, symbol
        assert house.refused == {}, symbol
        assert exchange.trades(symbol, 1), symbol


def test_restart_number_changes_the_chance_and_nothing_else() -> None:
    prices = []
    for run in (0, 0, 1):
        (market,) = make_markets(MarketsConfig(), ["BTCUSDT"], run=run)
        exchange = SandboxExchange()
        runner = make_runner(exchange, [market], now_ns=lambda: 1)
        for _ in range(50):
            runner.step(0.05)
        prices.append(exchange.depth("BTCUSDT"))
    assert prices[0] == prices[1] != prices[2]


@pytest.mark.parametrize("key", ["time_factor", "speed", "activity", "volatility", "volume_share"])
def test_configuration_without_sense_is_refused(key: str) -> None:
    for value in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=key):
            MarketsConfig(**{key: value})
