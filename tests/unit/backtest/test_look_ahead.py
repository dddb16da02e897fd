"""No strategy and no engine sees the future: cutting it off, or shuffling it, changes nothing that came before."""

import random
from collections.abc import Callable

import msgspec
import pytest

from services.backtest.config import BacktestSettings
from services.backtest.core import Answer, FillTiming, StepClosed, Strategy, StrategyEvent, StrategyParams
from services.backtest.core.ema_cross import Averages, EmaCross
from services.backtest.core.log import RunLog
from services.backtest.core.rebalancing import Rebalancing
from services.rebalancer.config import RebalanceConfig
from tests.unit.backtest.worlds import ABC, TableFeed, run, violent_feed, with_timing

STEPS = 150


def rules(**values: object) -> Rebalancing:
    return Rebalancing(msgspec.convert({"assets": ABC, **values}, RebalanceConfig, strict=False), full_journal=True)


# Every strategy there is; a new one has its line here.
STRATEGIES = {
    "rebalancer": lambda: Rebalancing(RebalanceConfig(assets=ABC), full_journal=True),
    "inverse volatility": lambda: rules(target_mode="inverse_volatility", trigger="absolute_band", lookback_bars=12),
    "volume by calendar": lambda: rules(target_mode="volume", trigger="calendar", calendar_hours=12),
    "minimum variance": lambda: rules(
        target_mode="minimum_variance", trigger="hybrid", lookback_bars=12, trend_filter=True, trend_bars=6
    ),
    "ema_cross": lambda: EmaCross(ABC, fast=3, slow=8),
}
BOTH = [FillTiming.CLOSE, FillTiming.NEXT_OPEN]


def begins_with(log: RunLog, prefix: RunLog) -> bool:
    """Tell whether a run decided and did, to the end of the other one's market, exactly what the other did."""
    pairs: tuple[tuple[list[object], list[object]], ...] = tuple(
        (list(getattr(log, name)), list(getattr(prefix, name)))
        for name in ("times_ns", "equity", "quote", "quantities", "decisions", "intents", "refusals", "events", "plans")
    )
    return all(whole[: len(part)] == part for whole, part in pairs)


def shuffled(feed: TableFeed, cut: int, seed: int) -> TableFeed:
    rows = list(feed._rows[cut:])
    random.Random(seed).shuffle(rows)
    return TableFeed([*feed._rows[:cut], *rows], feed.instruments)


def assert_blind[S](make: Callable[[], Strategy[S]], feed: TableFeed, settings: BacktestSettings) -> None:
    whole = run(feed, settings, make())
    for cut in (30, 77, 120):
        prefix = run(TableFeed(feed._rows[:cut], feed.instruments), settings, make())
        assert len(prefix.times_ns) == cut
        assert begins_with(whole, prefix)
        other = run(shuffled(feed, cut, seed=cut), settings, make())
        assert begins_with(other, prefix)
        assert other.events != whole.events, "the future did change"


@pytest.mark.parametrize("timing", BOTH)
@pytest.mark.parametrize("name", list(STRATEGIES))
def test_the_past_does_not_depend_on_the_future(name: str, timing: FillTiming) -> None:
    feed, settings = violent_feed(3, STEPS), with_timing(BacktestSettings(), timing)
    assert len(run(feed, settings, STRATEGIES[name]()).events) > 20
    assert_blind(STRATEGIES[name], feed, settings)


class Peeking(EmaCross):
    """Look one bar ahead, as a leaking indicator would."""

    def __init__(self, feed: TableFeed) -> None:
        super().__init__(ABC, fast=3, slow=8)
        self._feed = feed
        self._seen = 0

    def decide(
        self, state: dict[str, Averages], event: StrategyEvent, params: StrategyParams, now_ns: int
    ) -> tuple[dict[str, Averages], Answer]:
        if isinstance(event, StepClosed):
            self._seen += 1
            ahead = self._feed.step(self._seen + 1)
            if ahead is not None:
                bars = {one.instrument: one for one in ahead.candles}
                event = StepClosed(event.close_time_ns, bars, event.account)
        return super().decide(state, event, params, now_ns)


def test_a_strategy_that_peeks_is_caught() -> None:
    feed = violent_feed(3, STEPS)
    cut = TableFeed(feed._rows[:77], feed.instruments)
    prefix = run(cut, BacktestSettings(), Peeking(feed))
    others = [shuffled(feed, 77, seed) for seed in range(6)]
    assert not all(begins_with(run(other, BacktestSettings(), Peeking(other)), prefix) for other in others)
