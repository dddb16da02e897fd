"""The curves of a report against what can be worked out by hand."""

import math
from decimal import Decimal

import msgspec
import pytest

from services.backtest.config import BacktestSettings
from services.backtest.core import FillTiming
from services.backtest.report.rows import heat_class
from services.backtest.report.series import changes, curves, drawdowns, moments, months, times_of
from services.rebalancer.config import RebalanceConfig
from tests.unit.backtest.report.runs import doubling, result_of, violent
from tests.unit.backtest.worlds import FREE, PLAIN, START_NS, STEP_NS, closes_feed, violent_feed, with_timing

CENT = 1e-5


def test_the_weights_around_a_rebalance_are_those_worked_out_by_hand() -> None:
    result = doubling()
    bought, sold = changes(result)
    assert bought.before == (0, 0, 0, 1)
    assert bought.after == pytest.approx((7 / 30, 7 / 30, 7 / 30, 0.3), abs=CENT)
    # 4666.67 + 2 x 2333.33 + 3000 = 12333.33; a fifth of A is 933.33, of which 30 % stay cash.
    assert sold.before == pytest.approx((14 / 37, 7 / 37, 7 / 37, 9 / 37), abs=CENT)
    part = 0.2 * 14 / 37
    assert sold.after == pytest.approx(
        (14 / 37 - part, 7 / 37 + 0.35 * part, 7 / 37 + 0.35 * part, 9 / 37 + 0.3 * part), abs=CENT
    )


@pytest.mark.parametrize("timing", FillTiming)
def test_weights_sum_to_one_and_shift_into_each_other(timing: FillTiming) -> None:
    result = result_of(violent_feed(3, 300), with_timing(PLAIN, timing))
    assert len(result.rebalances) > 5
    for change in changes(result):
        assert sum(change.before) == pytest.approx(1)
        assert sum(change.after) == pytest.approx(1)
        assert min(change.before) >= -1e-9
    for moment in moments(result):
        assert sum(moment.weights) + moment.cash == pytest.approx(1)


def test_weights_after_a_costly_rebalance_are_those_of_the_account() -> None:
    fees = msgspec.structs.replace(FREE, taker_fee_rate=Decimal("0.02"))
    result = result_of(violent_feed(3, 200), msgspec.structs.replace(PLAIN, execution=fees))
    log = result.log
    assert result.figures.fees_paid > 100
    for plan, change in zip(result.rebalances, changes(result), strict=True):
        row = log.times_ns.index(plan.at_ns)
        worth = [float(a) * (b or 0.0) for a, b in zip(log.quantities[row], log.closes[row], strict=True)]
        total = sum(worth) + float(log.quote[row])
        assert change.after == pytest.approx([*(one / total for one in worth), float(log.quote[row]) / total])
        assert plan.equity_before is not None
        held = [0.0] * 3 if row == 0 else [float(one) for one in log.quantities[row - 1]]
        before = [a * (b or 0.0) / float(plan.equity_before) for a, b in zip(held, log.closes[row], strict=True)]
        assert change.before[:3] == pytest.approx(before, abs=1e-9)


def test_a_trigger_is_beyond_its_band_before_the_trades_and_within_after() -> None:
    result = doubling()
    at = next(moment for moment in moments(result) if moment.plan == 2)
    assert at.upper[0] is not None
    assert at.weights[0] > at.upper[0]
    after = [moment for moment in moments(result) if moment.at_ns == at.at_ns][-1]
    assert after.upper[0] is not None
    assert after.weights[0] < after.upper[0]


def with_rules(**rules: object) -> BacktestSettings:
    given = {name: getattr(PLAIN.rebalancer, name) for name in RebalanceConfig.__struct_fields__} | rules
    changed = msgspec.convert(given, RebalanceConfig, strict=False)
    return msgspec.structs.replace(PLAIN, rebalancer=changed)


def test_a_calendar_shows_no_bands() -> None:
    assert all(None not in moment.lower for moment in moments(doubling()))
    settings = with_rules(trigger="calendar", calendar_hours=8)
    other = result_of(closes_feed([(1, 1, 1), (2, 1, 1), (2, 1, 1)]), settings)
    assert len(moments(other)) >= 3
    assert all(moment.lower == moment.upper == (None, None, None) for moment in moments(other))


@pytest.mark.parametrize(
    ("rules", "lower", "upper"),
    [
        ({"trigger": "absolute_band", "band_points": "0.05"}, 0.2333333 - 0.05, 0.2333333 + 0.05),
        ({"trigger": "relative_band", "band_relative": "0.5"}, 0.2333333 * 0.5, 0.2333333 * 1.5),
        (
            {"trigger": "hybrid", "calendar_hours": 8, "band_points": "0.05", "band_relative": "0.1"},
            0.2333333 * 0.9,
            0.2333333 * 1.1,
        ),
    ],
)
def test_band_triggers_show_their_own_bands(rules: dict, lower: float, upper: float) -> None:
    settings = with_rules(**rules)
    found = moments(result_of(closes_feed([(1, 1, 1), (1.1, 1, 1), (2, 1, 1), (2, 1, 1)]), settings))
    for moment in found:
        assert moment.lower == pytest.approx((lower,) * 3, rel=1e-6)
        assert moment.upper == pytest.approx((upper,) * 3, rel=1e-6)
    assert any(moment.plan and moment.weights[0] > upper for moment in found), "nothing fired beyond its band"


def test_bands_of_estimated_targets_begin_after_the_warm_up_and_move() -> None:
    settings = with_rules(trigger="absolute_band", target_mode="inverse_volatility", lookback_bars=10)
    found = moments(result_of(violent_feed(3, 80), settings))
    known = [moment.upper for moment in found if None not in moment.upper]
    assert found[0].upper == (None, None, None)
    assert len(found) - 15 < len(known) < len(found)
    assert len(set(known)) > 20


def test_a_locked_asset_has_no_band() -> None:
    settings = with_rules(trigger="absolute_band", locked_assets=("A-USDT",))
    found = moments(result_of(closes_feed([(1, 1, 1), (1.1, 1, 1), (2, 1, 1)]), settings))
    assert found
    assert all(moment.upper[0] is None and moment.upper[1] is not None for moment in found)


def test_the_own_curve_is_the_equity() -> None:
    result = violent()
    own = curves(result, {})[0]
    assert len(own.values) == len(times_of(result)) == 401
    assert own.values[-1] == float(result.figures.final_value)
    assert -min(value for value in drawdowns(own.values) if value is not None) == pytest.approx(
        result.figures.max_drawdown
    )


def test_buy_and_hold_keeps_the_first_purchase_and_equal_weight_all_the_money() -> None:
    _, hold, equal = curves(doubling(), {})
    assert hold.values == pytest.approx([10_000, 10_000, 10_000, 12_333.333, 12_333.333], abs=0.01)
    assert equal.values == pytest.approx([10_000, 10_000, 10_000, 13_333.333, 13_333.333], abs=0.01)


def test_btc_starts_with_what_the_strategy_was_worth_at_its_first_candle() -> None:
    result = doubling()
    times = result.log.times_ns
    late = curves(result, {times[2]: 50.0, times[3]: 100.0})[-1]
    own = curves(result, {})[0].values
    assert late.values[:3] == [None, None, None]
    assert late.values[3] == own[3]
    assert late.values[4] == pytest.approx(2 * (own[3] or math.nan))
    early = curves(result, dict.fromkeys(times, 7.0))[-1]
    assert early.values == [10_000] * 5


def test_btc_without_a_candle_within_the_run_is_left_out() -> None:
    result = doubling()
    assert len(curves(result, {result.log.times_ns[-1] + STEP_NS: 5.0})) == 3


def test_a_hole_in_the_equity_is_a_hole_in_the_drawdown() -> None:
    assert drawdowns([100.0, None, 50.0, 200.0]) == [0.0, None, -0.5, 0.0]


def test_months_compound_to_the_total_return() -> None:
    result = violent()
    found = months(result)
    assert [(month.year, month.month) for month in found] == [(2026, 1), (2026, 2), (2026, 3)]
    assert math.prod(1 + month.value for month in found) - 1 == pytest.approx(result.figures.total_return)
    assert [month.is_partial for month in found] == [False, False, True]
    assert result.facts.first_open_ns == START_NS


@pytest.mark.parametrize(
    ("value", "css"), [(0.0, "none"), (0.001, "gain1"), (-0.03, "loss2"), (0.15, "gain4"), (-0.9, "loss5")]
)
def test_the_colour_follows_size_and_sign(value: float, css: str) -> None:
    assert heat_class(value) == css
