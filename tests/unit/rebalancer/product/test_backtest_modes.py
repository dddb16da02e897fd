"""Every mode and trigger runs in the backtest engine through the very same core, and never looks ahead."""

import msgspec
import pytest

from services.backtest.config import BacktestSettings
from services.backtest.core import Engine
from services.backtest.core.log import RunLog
from services.backtest.core.rebalancing import Rebalancing, with_assets
from services.market_data.config import MarketDataConfig
from services.market_data.core.feed import Candle, MarketStep
from services.market_data.core.synthetic import SyntheticFeed
from services.rebalancer.config import RebalanceConfig
from services.rebalancer.core import replay_record
from shared.config import timeframe_ns
from shared.messages import Instrument

ASSETS = ("HANA-USDT", "AIA-USDT", "XAN-USDT")
START_NS = 1_767_225_600_000_000_000
STEPS, CUT = 160, 90
BAND = {"trigger": "absolute_band", "lookback_bars": 20}
MODES: dict[str, dict[str, object]] = {
    "equal": BAND,
    "fixed": BAND | {"target_mode": "fixed", "target_weights": "HANA:0.3,AIA:0.3,XAN:0.1"},
    "market_cap": BAND | {"target_mode": "market_cap", "target_weights": "HANA:50,AIA:30,XAN:20"},
    "volume": BAND | {"target_mode": "volume"},
    "inverse_volatility": BAND | {"target_mode": "inverse_volatility"},
    "expected_return": BAND | {"target_mode": "expected_return"},
    "minimum_variance": BAND | {"target_mode": "minimum_variance"},
    "relative_band": {"trigger": "relative_band"},
    "half_band": {"trigger": "relative_band", "rebalance_to": "half_band"},
    "calendar": {"trigger": "calendar", "calendar_hours": 48},
    "hybrid": {"trigger": "hybrid", "calendar_hours": 24},
    "trend_filter": {"trend_filter": True, "trend_bars": 6},
    "locked": {"trigger": "absolute_band", "locked_assets": "XAN"},
    "excluded": {"excluded_assets": "XAN", "position_limit": 1},
}


class Rewritten:
    """Be a feed whose steps beyond `cut` come in another order of prices: the same past, another future."""

    def __init__(self, feed: SyntheticFeed, cut: int, *, end: bool) -> None:
        self._feed, self._cut, self._end = feed, cut, end
        self.timeframe, self.first_open_ns = feed.timeframe, feed.first_open_ns
        self.description, self.identity = feed.description, feed.identity

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        return self._feed.instruments

    def step(self, number: int) -> MarketStep | None:
        step = self._feed.step(number)
        if step is None or number <= self._cut:
            return step
        if self._end:
            return None
        factor = 3.0 if number % 2 else 0.4
        candles = [_scaled(candle, factor if place == 0 else 1.0) for place, candle in enumerate(step.candles)]
        return msgspec.structs.replace(step, candles=tuple(candles))


def _scaled(candle: Candle, factor: float) -> Candle:
    prices = {name: getattr(candle, name) * factor for name in ("open", "high", "low", "close")}
    return msgspec.structs.replace(candle, **prices, volume=candle.volume * factor)


def market() -> SyntheticFeed:
    config = MarketDataConfig(seed=11, volatility_daily=0.5, jumps_per_day=4.0, regime_days=1.0)
    return SyntheticFeed(config.synthetic, ASSETS, "4h", start_ns=START_NS, steps_max=STEPS)


def run(feed: SyntheticFeed | Rewritten, changes: dict[str, object]) -> RunLog:
    settings = BacktestSettings(rebalancer=RebalanceConfig(assets=ASSETS, **changes))
    strategy = Rebalancing(with_assets(settings.rebalancer, ASSETS), full_journal=True)
    return Engine(settings.engine("4h", timeframe_ns("4h")), strategy, feed).run()


@pytest.mark.parametrize("mode", MODES)
def test_mode_trades_in_the_engine_and_its_journal_proves_itself(mode: str) -> None:
    log = run(market(), MODES[mode])
    filled = {event.instrument for event in log.events if event.fill is not None}
    assert len(log.plans) >= 2
    assert filled == (set(ASSETS) - {"XAN-USDT"} if mode in {"locked", "excluded"} else set(ASSETS))
    for record in log.decisions[::7]:
        if record.service == "rebalancer":
            assert replay_record(record) == record.outcome
    config = RebalanceConfig(assets=ASSETS, **MODES[mode])
    assert log.intents[0].decided_at_ns > START_NS + config.warmup_bars * timeframe_ns("4h")


@pytest.mark.parametrize("mode", MODES)
def test_the_first_purchase_from_money_alone_is_the_initial_allocation(mode: str) -> None:
    directions = [plan.opened.direction for plan in run(market(), MODES[mode]).plans]
    assert directions[0] == "allocate"
    assert "allocate" not in directions[1:]


@pytest.mark.parametrize("mode", MODES)
def test_decisions_on_a_prefix_are_the_prefix_of_the_decisions(mode: str) -> None:
    feed = market()
    cut_ns = START_NS + CUT * timeframe_ns("4h")
    whole, short, other = (
        run(each, MODES[mode]) for each in (feed, Rewritten(feed, CUT, end=True), Rewritten(feed, CUT, end=False))
    )
    expected = [record for record in whole.decisions if record.decided_at_ns <= cut_ns]
    assert short.decisions == expected
    assert [record for record in other.decisions if record.decided_at_ns <= cut_ns] == expected
    # The other future is another one: the test could have failed.
    assert other.decisions != whole.decisions
