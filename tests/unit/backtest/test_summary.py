"""The text of a screen: long lists are cut in the middle, and whatever went wrong is said."""

from pathlib import Path

from services.backtest.config import BacktestSettings
from services.backtest.core import FillTiming
from services.backtest.core.log import RunLog
from services.backtest.core.rebalancing import Rebalancing, with_assets
from services.backtest.result import BacktestResult, RunFacts
from services.risk.config import RiskConfig
from tests.unit.backtest.worlds import ABC, PLAIN, START_NS, STEP_NS, TableFeed, closes_feed, run, with_timing


def result_of(feed: TableFeed, settings: BacktestSettings) -> BacktestResult:
    log: RunLog = run(feed, settings, Rebalancing(with_assets(settings.rebalancer, ABC)))
    names = {asset: asset.removesuffix("-USDT") for asset in ABC}
    facts = RunFacts(settings, "cascade", names, feed.instruments, "4h", STEP_NS, START_NS, "a table")
    return BacktestResult(facts, log)


def test_long_list_of_rebalances_is_cut_in_the_middle() -> None:
    table = [(10.0 * 2.0**step, 20.0, 40.0) for step in range(46)]
    result = result_of(closes_feed(table), PLAIN)
    count = len(result.rebalances)
    assert count > 40
    lines = result.summary().splitlines()
    assert any(f"… {count - 40} more …" in line for line in lines)
    assert sum("upside" in line for line in lines) == 39
    assert all(len(line) <= 100 for line in lines)


def test_refusals_gaps_and_unsent_orders_are_said() -> None:
    strict = BacktestSettings(rebalancer=PLAIN.rebalancer, risk=RiskConfig(notional_max_usdt=100))
    text = result_of(closes_feed([(10.0, 20.0, 40.0)]), strict).summary()
    assert "Risk refused 3 orders, the first at 2026-01-01T04:00:00Z: A: worth too much" in " ".join(text.split())
    feed = closes_feed([(10.0, 20.0, 40.0)] * 2)
    gap = TableFeed([feed._rows[0], feed._rows[1][:2]], feed.instruments)
    assert "Steps without a bar: C 1." in result_of(gap, PLAIN).summary()
    late = result_of(closes_feed([(10.0, 20.0, 40.0)]), with_timing(PLAIN, FillTiming.NEXT_OPEN))
    assert "3 orders decided on the last bar had no next open" in late.summary()


def test_run_without_a_trade_says_so_and_writes_its_files(tmp_path: Path) -> None:
    result = result_of(TableFeed([closes_feed([(1.0, 1.0, 1.0)])._rows[0][:1]], closes_feed([]).instruments), PLAIN)
    assert "Nothing was traded." in result.summary()
    assert [path.name for path in result.write_csv(tmp_path)] == ["positions.csv", "pnl.csv", "fills.csv"]
    assert (tmp_path / "fills.csv").read_text().count("\n") == 1
