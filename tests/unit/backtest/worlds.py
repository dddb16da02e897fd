"""Small markets for backtests, written as tables, and a way to run them."""

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from services.backtest.config import BacktestSettings
from services.backtest.core import Engine, FillTiming, Strategy
from services.backtest.core.log import RunLog
from services.execution.config import ExecutionConfig
from services.market_data.config import MarketDataConfig
from services.market_data.core.feed import Candle, MarketStep
from services.market_data.core.synthetic import SyntheticFeed
from services.rebalancer.config import RebalanceConfig
from services.risk.config import RiskConfig
from shared.config import timeframe_ns
from shared.messages import Instrument

START_NS = 1_767_225_600_000_000_000
HOUR_NS = 3_600_000_000_000
STEP_NS = 4 * HOUR_NS
ABC = ("A-USDT", "B-USDT", "C-USDT")
FREE = ExecutionConfig(
    half_spread_bps=Decimal(0),
    slippage_bps=Decimal(0),
    maker_fee_rate=Decimal(0),
    taker_fee_rate=Decimal(0),
    volume_share_max=Decimal(1),
)
# The plain rules: no position limit, no buffer, no cost.
PLAIN = BacktestSettings(
    rebalancer=RebalanceConfig(position_limit=Decimal(1), usdt_buffer=Decimal(0), fee_rate=Decimal(0)),
    execution=FREE,
    risk=RiskConfig(position_limit=Decimal(1)),
)


def instrument(symbol: str, tick: str = "0.0001", step: str = "0.0001") -> Instrument:
    base, quote = symbol.split("-")
    return Instrument(symbol, base, quote, Decimal(tick), Decimal(step), Decimal(step), Decimal(5))


def candle(symbol: str, close: float, *, opening: float | None = None, volume: float = 1e9) -> Candle:
    opening = close if opening is None else opening
    return Candle(symbol, opening, max(opening, close), min(opening, close), close, volume, None)


class TableFeed:
    """Play rows of candles; a row leaves out the assets that have no bar in its step."""

    timeframe = "4h"
    description = "a table"
    first_open_ns = START_NS

    def __init__(self, rows: Sequence[Sequence[Candle]], instruments: Sequence[Instrument]) -> None:
        self._rows = rows
        self.instruments = tuple(instruments)
        self.identity: dict[str, str] = {}

    def step(self, number: int) -> MarketStep | None:
        if number > len(self._rows):
            return None
        row = self._rows[number - 1]
        there = {one.instrument for one in row}
        open_ns = START_NS + (number - 1) * STEP_NS
        return MarketStep(
            number=number,
            open_time_ns=open_ns,
            close_time_ns=open_ns + STEP_NS,
            candles=tuple(row),
            missing=tuple(one.symbol for one in self.instruments if one.symbol not in there),
            final=number == len(self._rows),
        )


def closes_feed(table: Sequence[Sequence[float]], assets: Sequence[str] = ABC, **grid: str) -> TableFeed:
    """Play a table of closes, a column for each asset."""
    rows = [[candle(asset, close) for asset, close in zip(assets, row, strict=True)] for row in table]
    return TableFeed(rows, [instrument(asset, **grid) for asset in assets])


def violent_feed(seed: int, steps: int, assets: Sequence[str] = ABC) -> TableFeed:
    """Play a made-up market full of jumps, as a table that a test can cut and shuffle."""
    config = MarketDataConfig(seed=seed, volatility_daily=0.4, jumps_per_day=6.0, regime_days=1.0)
    source = SyntheticFeed(config.synthetic, assets, "4h", start_ns=START_NS)
    found = [source.step(number) for number in range(1, steps + 1)]
    return TableFeed([step.candles for step in found if step is not None], source.instruments)


def run[S](feed: TableFeed, settings: BacktestSettings, strategy: Strategy[S]) -> RunLog:
    """Run a strategy to the end of a feed."""
    return Engine(settings.engine(feed.timeframe, timeframe_ns(feed.timeframe)), strategy, feed).run()


def with_timing(settings: BacktestSettings, timing: FillTiming) -> BacktestSettings:
    return msgspec.structs.replace(settings, fills=timing)
