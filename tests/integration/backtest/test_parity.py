"""The same bars through the services and through the engine: identical decisions, fills, money (requirement N2)."""

import json
import re
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from services.backtest.config import BacktestSettings
from services.backtest.core import Engine
from services.backtest.core.log import RunLog
from services.backtest.core.rebalancing import Rebalancing, with_assets
from services.cli.summary import RunMessages, equity_curve, summarise
from services.execution.config import ExecutionConfig
from services.market_data.config import MarketDataConfig, MissingBars
from services.market_data.core.feed import Feed
from services.market_data.core.synthetic import SyntheticFeed
from services.market_data.replay_file import load_replay
from services.rebalancer.config import RebalanceConfig
from services.risk.config import RiskConfig
from shared.config import timeframe_ns
from shared.domain.digests import decisions_digest, fills_digest, unique_by, unique_fills
from shared.domain.money import plain
from shared.messages import DecisionRecord
from shared.testing.data import data_file
from tests.integration.backtest.pipeline import run_pipeline

ASSETS = ("HANA-USDT", "AIA-USDT", "XAN-USDT")
START_NS = 1_767_225_600_000_000_000
DEFAULT = BacktestSettings()


def engine_run(feed: Feed, settings: BacktestSettings) -> RunLog:
    assets = tuple(instrument.symbol for instrument in feed.instruments)
    config = settings.engine(feed.timeframe, timeframe_ns(feed.timeframe))
    strategy = Rebalancing(with_assets(settings.rebalancer, assets), full_journal=True)
    return Engine(config, strategy, feed).run()


def synthetic(seed: int, steps: int, volatility: float = 0.4) -> SyntheticFeed:
    config = MarketDataConfig(seed=seed, volatility_daily=volatility, jumps_per_day=6.0, regime_days=1.0)
    return SyntheticFeed(config.synthetic, ASSETS, "4h", start_ns=START_NS, steps_max=steps)


def assert_same(messages: RunMessages, log: RunLog) -> None:
    there, here = unique_fills(messages.events), unique_fills(log.events)
    assert [one.fill for one in there] == [one.fill for one in here]
    assert fills_digest(there) == fills_digest(here)
    assert unique_by(messages.intents, lambda one: one.intent_id) == log.intents
    assert unique_by(messages.refusals, lambda one: one.intent_id) == log.refusals
    assert first_records(messages.decisions) == first_records(log.decisions)
    assert decisions_digest(messages.decisions) == decisions_digest(log.decisions)
    assert {one.event_id: one for one in messages.events} == {one.event_id: one for one in log.events}
    account = messages.accounts[-1]
    assert account.equity_usdt == log.equity[-1]
    assert account.ledger_sequence == log.ledger_sequence
    assert equity_curve(messages.accounts)[1:] == [equity for equity in log.equity if equity is not None]


def first_records(decisions: Sequence[DecisionRecord]) -> list[DecisionRecord]:
    # Later records of a plan, and risk's refusals, come in the order in which messages happened to arrive.
    decided = [record for record in decisions if record.service == "rebalancer"]
    return [
        msgspec.structs.replace(one, inputs=plain_json(one.inputs), outcome=plain_json(one.outcome))
        for one in unique_by(decided, lambda one: one.correlation_id)
    ]


def plain_json(text: str) -> str:
    # 0E-7 and 0 are the same amount.
    return json.dumps(_plain(json.loads(text)))


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, str) and re.fullmatch(r"-?[0-9.]+(E[+-]?[0-9]+)?", value):
        return plain(Decimal(value))
    return value


def with_rules(**rules: object) -> BacktestSettings:
    return BacktestSettings(rebalancer=msgspec.convert(rules, RebalanceConfig, strict=False))


SETTINGS = {
    "defaults": DEFAULT,
    "thin market": BacktestSettings(execution=ExecutionConfig(volume_share_max=Decimal("0.0005"))),
    "free of costs": BacktestSettings(
        rebalancer=RebalanceConfig(fee_rate=Decimal(0), position_limit=Decimal(1), usdt_buffer=Decimal(0)),
        execution=ExecutionConfig(
            half_spread_bps=Decimal(0), slippage_bps=Decimal(0), maker_fee_rate=Decimal(0), taker_fee_rate=Decimal(0)
        ),
        risk=RiskConfig(position_limit=Decimal(1)),
    ),
    "inverse volatility in absolute bands": with_rules(
        target_mode="inverse_volatility", trigger="absolute_band", lookback_bars=20, trend_filter=True
    ),
    "volume weights by the calendar": with_rules(target_mode="volume", trigger="calendar", calendar_hours=24),
    "minimum variance, hybrid": with_rules(
        target_mode="minimum_variance", trigger="hybrid", lookback_bars=15, rebalance_to="half_band"
    ),
    "fixed weights in relative bands": with_rules(
        target_mode="fixed", trigger="relative_band", target_weights="HANA:0.35,AIA:0.2,XAN:0.15", position_limit=1
    ),
    "strict gate": BacktestSettings(
        capital=Decimal(50_000), risk=RiskConfig(notional_max_usdt=Decimal(9_000), position_limit=Decimal("0.3"))
    ),
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", list(SETTINGS))
async def test_services_and_engine_agree_on_a_violent_market(name: str, tmp_path: Path) -> None:
    settings, feed = SETTINGS[name], synthetic(seed=len(name), steps=120)
    log = engine_run(feed, settings)
    assert len(log.plans) >= 3, "a market in which nothing happens proves nothing"
    assert_same(await run_pipeline(feed, settings, tmp_path, 120), log)
    if name == "strict gate":
        assert log.refusals
    if name == "thin market":
        assert any(order.filled_quote and order.state.value == "canceled" for order in log.orders)


@pytest.mark.timeout(120)
async def test_services_and_engine_agree_when_bars_are_missing(tmp_path: Path) -> None:
    source = synthetic(seed=3, steps=80)
    lines = ["symbol,open_time,open,high,low,close,volume"]
    for number in range(1, 81):
        step = source.step(number)
        assert step is not None
        for index, candle in enumerate(step.candles):
            is_listed_late = index == 2 and number < 8
            is_delisted = index == 1 and number > 70
            if is_listed_late or is_delisted or (number + index) % 17 == 0:
                continue
            values = (candle.open, candle.high, candle.low, candle.close, candle.volume)
            row = ",".join(map(repr, values))
            lines.append(f"{candle.instrument},{step.open_time_ns // 1_000_000},{row}")
    path = tmp_path / "gaps.csv"
    path.write_text("\n".join(lines) + "\n")
    feed = load_replay(path, ASSETS, MarketDataConfig(missing_bars=MissingBars.HOLD))
    log = engine_run(feed, DEFAULT)
    assert len(log.plans) >= 2
    assert any("missing" in note for record in log.decisions for note in record.notes)
    assert_same(await run_pipeline(feed, DEFAULT, tmp_path, 80), log)


@pytest.mark.timeout(120)
async def test_services_and_engine_agree_on_recorded_bars(tmp_path: Path) -> None:
    path = data_file("mexc_spot/mexc_spot_4h.csv.gz")
    assets = ("RIVER-USDT", "H-USDT", "PENGU-USDT", "TAO-USDT")
    feed = load_replay(path, assets, MarketDataConfig(steps_max=160))
    log = engine_run(feed, DEFAULT)
    messages = await run_pipeline(feed, DEFAULT, tmp_path, 160)
    assert_same(messages, log)
    assert summarise(messages).rebalance_count == len(log.plans) - 1 == 8


def test_full_journal_changes_nothing_but_the_journal() -> None:
    feed = synthetic(seed=5, steps=100)
    full = engine_run(feed, DEFAULT)
    config = DEFAULT.engine(feed.timeframe, timeframe_ns(feed.timeframe))
    short = Engine(config, Rebalancing(with_assets(DEFAULT.rebalancer, ASSETS)), feed).run()
    assert short.events == full.events
    assert short.equity == full.equity
    bare = [msgspec.structs.replace(one, inputs="{}", outcome="{}") for one in full.decisions]
    assert short.decisions == bare
