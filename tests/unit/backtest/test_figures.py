"""The figures of small runs, worked out by hand."""

from decimal import Decimal

import numpy as np
import pytest

from services.backtest.core.figures import figures, hold_curve
from services.backtest.core.log import RunLog
from services.backtest.core.outcome import DAY_NS, daily_curve, fill_rows, rebalances
from services.backtest.core.rebalancing import Rebalancing, with_assets
from tests.unit.backtest.worlds import ABC, PLAIN, START_NS, STEP_NS, closes_feed, run

D = Decimal


def test_close_at_midnight_ends_its_day() -> None:
    times = [START_NS + number * STEP_NS for number in range(1, 14)]
    equity = [D(100 + number) for number in range(1, 14)]
    ends, values = daily_curve(times, list(equity), START_NS, D(100), STEP_NS)
    assert ends == [START_NS, START_NS + DAY_NS, START_NS + 2 * DAY_NS, START_NS + 3 * DAY_NS]
    assert values == [D(100), D(106), D(112), D(113)]


def test_step_without_an_equity_is_left_out_of_the_days() -> None:
    times = [START_NS + number * STEP_NS for number in range(1, 7)]
    _, values = daily_curve(times, [D(1), D(2), D(3), D(4), D(5), None], START_NS, D(1), STEP_NS)
    assert values == [D(1), D(5)]


def test_bars_longer_than_a_day_are_periods_themselves() -> None:
    week = 7 * DAY_NS
    times = [START_NS + week, START_NS + 2 * week]
    ends, values = daily_curve(times, [D(2), D(3)], START_NS, D(1), week)
    assert ends == [START_NS, *times]
    assert values == [D(1), D(2), D(3)]


def made(table: list[tuple[float, ...]]) -> tuple[RunLog, object]:
    log = run(closes_feed(table), PLAIN, Rebalancing(with_assets(PLAIN.rebalancer, ABC)))
    fills = fill_rows(log, "USDT")
    daily = daily_curve(log.times_ns, log.equity, START_NS, log.initial_equity, STEP_NS)
    return log, figures(log, fills, rebalances(log, fills), daily, first_open_ns=START_NS, timeframe_ns=STEP_NS)


def test_returns_and_drawdown_by_hand() -> None:
    # 7,000 in three equal parts at the first close, nothing fires: the curve is 3,000 + 7,000 x mean ratio.
    table = [(10.0, 20.0, 40.0)] * 6 + [(11.0, 22.0, 44.0)] * 6 + [(9.0, 18.0, 36.0)] * 6 + [(10.0, 20.0, 40.0)] * 6
    _, found = made(table)
    daily = np.array([10_000, 10_000, 10_700, 9_300, 10_000], dtype=float)
    returns = daily[1:] / daily[:-1] - 1
    assert found.total_return == pytest.approx(0, abs=1e-8)
    assert found.max_drawdown == pytest.approx(1 - 9_300 / 10_700, rel=1e-6)
    assert found.drawdown_peak_ns == START_NS + 7 * STEP_NS
    assert found.drawdown_trough_ns == START_NS + 13 * STEP_NS
    assert found.drawdown_recovered_ns is None
    assert found.longest_drawdown_days == pytest.approx(12 / 6), "it was last at its peak in step 12"
    assert found.volatility == pytest.approx(np.std(returns, ddof=1) * 365**0.5, rel=1e-5)
    assert found.sharpe == pytest.approx(np.mean(returns) / np.std(returns, ddof=1) * 365**0.5, rel=1e-4)
    assert found.buy_and_hold_return == pytest.approx(0, abs=1e-12)
    assert found.buy_and_hold_max_drawdown == pytest.approx(1 - 9 / 11)
    assert found.exposure == pytest.approx(0.7, abs=0.02)
    assert found.days == 4.0
    assert (found.rebalance_count, found.win_rate) == (0, None)
    assert found.turnover == pytest.approx(0.7, abs=0.01)


def test_win_rate_counts_sells_that_brought_more_than_they_cost() -> None:
    # A doubles and is sold with a gain; then C falls and is bought back, paid by sales of what fell less, at a loss.
    _, won = made([(10.0, 20.0, 40.0), (20.0, 20.0, 40.0)])
    assert won.win_rate == 1.0
    assert won.rebalance_count == 1
    # The sale: a fifth of 233.3333 at 20 against a cost of 10.
    assert won.expectancy_usdt == pytest.approx(46.6666 * 10, rel=1e-4)
    assert won.profit_factor is None


def test_run_in_which_nothing_is_traded_has_no_undefined_figure() -> None:
    _, found = made([(10.0, 20.0, 40.0)])
    assert found.sharpe is None
    assert found.sortino is None
    assert found.annualised_return is None, "a year is not told from four hours"


def test_hold_keeps_money_until_an_asset_is_listed_and_the_last_price_after_it_ended() -> None:
    log = RunLog(assets=("A-USDT", "B-USDT"), initial_equity=D(1))
    log.closes = [(10.0, None), (20.0, 5.0), (None, 10.0)]
    curve = hold_curve(log)
    assert curve is not None
    assert curve.tolist() == [1.0, 1.5, 2.0]


def test_fills_are_worth_what_they_cost_and_cost_adds_up() -> None:
    log, found = made([(10.0, 20.0, 40.0), (20.0, 20.0, 40.0), (20.0, 20.0, 10.0)])
    rows = fill_rows(log, "USDT")
    spent = sum(row.notional if row.side == "buy" else -row.notional for row in rows)
    assert log.quote[-1] == D(10_000) - spent
    assert found.fees_paid == found.slippage_paid == 0
