"""The Python API as it is printed, the examples, and the exchange behind them."""

import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from services.backtest.api import run_strategy
from services.backtest.core import FillTiming
from services.backtest.core.log import RunLog
from services.backtest.core.rebalancing import Rebalancing
from services.backtest.data import open_market
from services.rebalancer import BacktestEngine, LiveRebalancer, RebalanceConfig
from shared.errors import ConfigError
from shared.exchange import DualExchange, ExchangeConfig
from tests.unit.backtest.worlds import TableFeed, violent_feed

NAMES = ("HANA", "AIA", "XAN")
ROOT = Path(__file__).resolve().parents[3]


def candles(path: Path, feed: TableFeed, steps: int) -> Path:
    lines = ["symbol,open_time,open,high,low,close,volume"]
    for number in range(1, steps + 1):
        step = feed.step(number)
        assert step is not None
        for one in step.candles:
            values = ",".join(map(repr, (one.open, one.high, one.low, one.close, one.volume)))
            lines.append(f"{one.instrument.replace('-', '')},{step.open_time_ns // 1_000_000},{values}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return candles(tmp_path / "candles.csv", violent_feed(2, 120, tuple(f"{name}-USDT" for name in NAMES)), 120)


def printed_config() -> RebalanceConfig:
    return RebalanceConfig(
        upside_threshold=0.40,
        downside_threshold=0.35,
        sell_percentage=0.20,
        usdt_reserve=0.30,
        min_order_value=15,
        cooldown_minutes=30,
    )


async def test_backtest_as_printed(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASCADE_DATA", str(data))
    config = printed_config()
    assert config.upside_threshold == Decimal("0.4"), "floats are taken as they are written"
    engine = BacktestEngine(assets=["HANA", "AIA", "XAN"], initial_capital=10000, config=config)
    results = await engine.run_backtest(start_date="2026-01-01", end_date="2026-01-15")
    text = results.summary()
    for word in ("Total return", "Sharpe", "Max drawdown", "Rebalances", "Win rate", "Fees paid"):
        assert word in text
    assert set(results.quantities) == set(NAMES)
    assert len(results.log.times_ns) == 84
    assert results.figures.rebalance_count == len(results.rebalances) - 1 >= 1
    assert results.figures.final_value == results.log.equity[-1]


async def test_fee_of_the_rules_is_the_fee_that_is_paid(data: Path) -> None:
    free = BacktestEngine(NAMES, 10_000, RebalanceConfig(fee_rate=0), data=data)
    assert (await free.run_backtest()).figures.fees_paid == 0
    dear = BacktestEngine(NAMES, 10_000, RebalanceConfig(fee_rate=0.01), data=data)
    paid = (await dear.run_backtest()).fills
    assert all(fill.fee_quote == fill.notional * Decimal("0.01") for fill in paid)


async def test_capital_too_small_for_the_smallest_order_is_refused_before_anything_runs(data: Path) -> None:
    with pytest.raises(ConfigError, match=r"capital 50 is too small.*Give at least 65"):
        await BacktestEngine(NAMES, 50, data=data).run_backtest()
    result = await BacktestEngine(NAMES, 65, data=data).run_backtest()
    assert len([leg for leg in result.rebalances[0].legs if leg.quantity]) == 3


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"initial_capital": -1}, "capital must be a positive amount"),
        ({"initial_capital": "much"}, "amount"),
        ({"fills": "yesterday"}, "yesterday"),
        ({"assets": ["HANA"]}, "at least two"),
        ({"config": RebalanceConfig(position_limit=0.1)}, "position_limit"),
    ],
)
def test_bad_arguments_are_refused_by_name(values: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        BacktestEngine(**{"assets": NAMES, **values})


async def test_large_capital_is_not_refused_by_the_default_gate(data: Path) -> None:
    result = await BacktestEngine(NAMES, 1_000_000, data=data).run_backtest()
    assert not result.log.refusals


async def test_progress_is_told_to_the_end(data: Path) -> None:
    told: list[tuple[int, int]] = []
    engine = BacktestEngine(NAMES, data=data, fills=FillTiming.NEXT_OPEN)
    await engine.run_backtest(on_progress=lambda done, steps: told.append((done, steps)))
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1] == (120, 120)


async def test_a_strategy_that_steps_tells_its_progress(data: Path) -> None:
    told: list[tuple[int, int]] = []
    engine = BacktestEngine(NAMES, data=data, config=RebalanceConfig(trigger="calendar", calendar_hours=24))
    await engine.run_backtest(on_progress=lambda done, steps: told.append((done, steps)))
    assert told == [(64, 120), (120, 120)]


@pytest.mark.parametrize("fills", list(FillTiming))
async def test_the_api_passes_bars_over_and_says_what_stepping_says(data: Path, fills: FillTiming) -> None:
    engine = BacktestEngine(NAMES, data=data, fills=fills)
    result = await engine.run_backtest()
    market = await open_market(data, {f"{name}-USDT": name for name in NAMES}, "USDT")
    stepped = await run_strategy(market, engine.settings, Rebalancing(engine.settings.rebalancer))
    assert result.decisions == stepped.decisions == stepped.log.decisions
    assert len(result.log.decisions) < len(stepped.log.decisions), "the scan passed nothing over"
    assert result.to_json() == stepped.to_json()
    assert result.summary() == stepped.summary()
    rows = [field for field in RunLog.__struct_fields__ if field != "decisions"]
    assert [getattr(result.log, field) for field in rows] == [getattr(stepped.log, field) for field in rows]


async def test_the_journal_of_a_long_run_is_made_when_asked_for(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.backtest.result.JOURNAL_MAX", 10)
    result = await BacktestEngine(NAMES, data=data).run_backtest()
    assert not result.is_journalled
    assert result.as_dict()["decisions_digest"] is None
    assert len(result.decisions) > len(result.log.decisions)
    assert result.as_dict()["decisions_digest"] == result.decisions_digest


async def test_weights_may_stand_in_a_file(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "weights.csv"
    file.write_text("market,weight\nHANA,0.35\nAIA,0.2\nXAN,0.15\n")
    rules = {"target_mode": "fixed", "trigger": "absolute_band"}
    there = await BacktestEngine(
        NAMES, data=data, config=RebalanceConfig(weights_file=str(file), **rules)
    ).run_backtest()
    given = RebalanceConfig(target_weights="HANA:0.35,AIA:0.2,XAN:0.15", **rules)
    here = await BacktestEngine(NAMES, data=data, config=given).run_backtest()
    assert there.fills_digest == here.fills_digest
    assert there.figures.rebalance_count > 0
    with pytest.raises(ConfigError, match=r"config.weights_file .*no.csv: No such file"):
        BacktestEngine(NAMES, data=data, config=RebalanceConfig(weights_file=str(tmp_path / "no.csv"), **rules))


async def test_live_as_printed_over_a_replay_is_the_backtest(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASCADE_DATA", str(data))
    config, symbols = printed_config(), ["HANA", "AIA", "XAN"]
    exchange = DualExchange.get_instance({"speed": "max"})
    assert DualExchange.get_instance({"speed": "max"}) is exchange
    await exchange.initialize(symbols)
    seen = []
    rebalancer = LiveRebalancer(exchange=exchange, assets=symbols, config=config, on_rebalance=seen.append)
    result = await rebalancer.run_forever()
    assert result is not None
    again = await BacktestEngine(symbols, 10_000, config).run_backtest()
    assert result.log.equity == again.log.equity
    assert [(one.at_ns, one.asset) for one in seen] == [(one.at_ns, one.asset) for one in again.rebalances]
    held = {one.asset: one.total for one in exchange.balances()}
    assert held["USDT"] == result.usdt
    with pytest.raises(ConfigError, match="in use"):
        LiveRebalancer(exchange, symbols, config)
    await exchange.close()
    assert DualExchange.get_instance({"speed": "max"}) is not exchange


async def test_live_over_a_made_up_market_goes_on_until_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CASCADE_DATA", "CASCADE_REPLAY"):
        monkeypatch.delenv(name, raising=False)
    exchange = DualExchange(ExchangeConfig(speed="max", seed=4, timeframe="1h"))
    await exchange.initialize(["HANA", "AIA"])
    rebalancer = LiveRebalancer(exchange, ["HANA", "AIA"], on_rebalance=lambda _: rebalancer.stop())
    result = await rebalancer.run_forever()
    assert result is not None
    assert len(result.rebalances) == 1
    assert result.summary()


async def test_strategy_settings_are_taken_for_their_fee() -> None:
    exchange = DualExchange.get_instance(RebalanceConfig(fee_rate=0.002))
    assert exchange.config.fee_rate == Decimal("0.002")
    await exchange.close()


async def test_exchange_refuses_what_it_cannot_be() -> None:
    with pytest.raises(ConfigError, match=r"venue 'kraken' is not known"):
        DualExchange.get_instance({"venue": "kraken"})
    with pytest.raises(ConfigError, match=r"cascade sandbox --json"):
        DualExchange.get_instance({"venue": "mexc"})
    with pytest.raises(ConfigError, match="unknown field"):
        DualExchange.get_instance({"vanue": "paper"})
    exchange = DualExchange(ExchangeConfig(speed=0))
    with pytest.raises(ConfigError, match="priced in BTC"):
        await exchange.initialize(["A/BTC"])
    with pytest.raises(ConfigError, match="each market once"):
        await exchange.initialize(["A", "AUSDT"])
    with pytest.raises(ConfigError, match="initialize"):
        LiveRebalancer(exchange, ["A", "B"])
    await exchange.initialize(["A", "B"])
    with pytest.raises(ConfigError, match="speed"):
        await LiveRebalancer(exchange, ["A", "B"]).run_forever()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("script", ["backtest.py", "live_rebalancer.py"])
def test_example_runs(script: str, data: Path) -> None:
    options = ["HANA,AIA,XAN", *(["max"] if script == "live_rebalancer.py" else [])]
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / script), *options],
        env={**os.environ, "CASCADE_DATA": str(data), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Total return" in done.stdout
