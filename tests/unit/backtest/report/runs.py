"""Small finished backtests to report on."""

import msgspec

from services.backtest.config import BacktestSettings
from services.backtest.core.rebalancing import Rebalancing
from services.backtest.result import BacktestResult, RunFacts
from shared.config import timeframe_ns
from tests.unit.backtest.worlds import ABC, PLAIN, START_NS, TableFeed, closes_feed, run, violent_feed


def result_of(
    feed: TableFeed, settings: BacktestSettings = PLAIN, names: dict[str, str] | None = None
) -> BacktestResult:
    rules = msgspec.structs.replace(settings.rebalancer, assets=tuple(one.symbol for one in feed.instruments))
    settings = msgspec.structs.replace(settings, rebalancer=rules)
    facts = RunFacts(
        settings=settings,
        strategy=rules.strategy,
        names=names or {one.symbol: one.base for one in feed.instruments},
        instruments=feed.instruments,
        timeframe=feed.timeframe,
        timeframe_ns=timeframe_ns(feed.timeframe),
        first_open_ns=START_NS,
        source=feed.description,
    )
    return BacktestResult(facts, run(feed, settings, Rebalancing(rules)))


def doubling() -> BacktestResult:
    """A doubles at step 3: 2333.33 each, then A is at 4666.67 of a mean of 3111.11, 50 % above it."""
    return result_of(closes_feed([(1, 1, 1), (1, 1, 1), (2, 1, 1), (2, 1, 1)]))


def violent(steps: int = 400, seed: int = 7) -> BacktestResult:
    return result_of(violent_feed(seed, steps, ABC))
