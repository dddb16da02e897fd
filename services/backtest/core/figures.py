"""A run's figures: how they are defined stands here, how they are computed in `shared.domain.performance`.

In: a run's log, its fills, its daily curve. Out: figures; None where one is undefined. Conventions: returns are those
of UTC days (of the bars where these are longer than a day), the first from the starting capital; a year has 365 days;
standard deviations have ddof 1; the risk-free rate is 0; drawdowns come from every bar. Shares are shares of one.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal

import msgspec
import numpy as np

from services.backtest.core.log import RunLog
from services.backtest.core.outcome import DAY_NS, FillRow, Rebalance
from shared.domain import performance
from shared.domain.money import ZERO, add, subtract, total
from shared.domain.performance import DAYS_PER_YEAR, Drawdown, Series, defined

EXPONENT_MAX = 700.0
INITIAL = "allocate"


class Figures(msgspec.Struct, frozen=True):
    """Sum a run up.

    `max_drawdown` is the deepest fall from a peak, at least 0, with its peak, its trough and the time the peak was
    reached again (None: not yet). `win_rate` is the share of sell orders that brought more, after their own fee, than
    what was sold had cost on average; None without a sell. `profit_factor`, `expectancy` and `expectancy_usdt` are of
    the same sells. `turnover` is everything traded over the mean equity. `exposure` is the mean share of equity in
    assets. `rebalance_count` counts plans without the initial allocation.
    `buy_and_hold_return` is that of all the money in equal parts at the first closes, kept, without fees; tracking
    error and information ratio are against its daily returns. `value_at_risk` and `expected_shortfall` are the daily
    returns of the worst 5 %.
    """

    initial_capital: Decimal
    final_value: Decimal
    total_return: float
    annualised_return: float | None
    volatility: float | None
    sharpe: float | None
    sortino: float | None
    calmar: float | None
    omega: float | None
    value_at_risk: float | None
    expected_shortfall: float | None
    max_drawdown: float
    drawdown_peak_ns: int | None
    drawdown_trough_ns: int | None
    drawdown_recovered_ns: int | None
    longest_drawdown_days: float
    rebalance_count: int
    orders: int
    fills: int
    refused: int
    win_rate: float | None
    profit_factor: float | None
    expectancy_usdt: float | None
    fees_paid: Decimal
    slippage_paid: Decimal
    turnover: float | None
    exposure: float | None
    buy_and_hold_return: float | None
    buy_and_hold_max_drawdown: float | None
    tracking_error: float | None
    information_ratio: float | None
    days: float


def figures(
    log: RunLog,
    fills: Sequence[FillRow],
    plans: Sequence[Rebalance],
    daily: tuple[Sequence[int], Sequence[Decimal]],
    *,
    first_open_ns: int,
    timeframe_ns: int,
) -> Figures:
    """Return the figures of a run that has at least one step."""
    known = [(at_ns, value) for at_ns, value in zip(log.times_ns, log.equity, strict=True) if value is not None]
    times = [first_open_ns, *(at_ns for at_ns, _ in known)]
    exact = [log.initial_equity, *(value for _, value in known)]
    curve = np.array(exact, dtype=np.float64)
    fall = _fall(curve)
    peak_ns, trough_ns, recovered_ns = _times_of(fall, times)
    returns = performance.returns_of(np.array(daily[1], dtype=np.float64))
    year = DAYS_PER_YEAR * DAY_NS / max(DAY_NS, timeframe_ns)
    hold = hold_curve(log)
    held = _daily_of(hold, log, daily[0]) if hold is not None else None
    days = (log.times_ns[-1] - first_open_ns) / DAY_NS
    annual = _annual(float(exact[-1] / log.initial_equity), days)
    trades = performance.trade_figures([float(profit) for profit in _sells(fills)])
    return Figures(
        initial_capital=log.initial_equity,
        final_value=exact[-1],
        total_return=float(exact[-1] / log.initial_equity - 1),
        annualised_return=annual,
        volatility=defined(performance.volatility(returns, periods_per_year=year)),
        sharpe=defined(performance.sharpe(returns, periods_per_year=year)),
        sortino=defined(performance.sortino(returns, periods_per_year=year)),
        calmar=annual / -fall.depth if annual is not None and fall is not None else None,
        omega=defined(performance.omega(returns)),
        value_at_risk=defined(performance.value_at_risk(returns)),
        expected_shortfall=defined(performance.expected_shortfall(returns)),
        max_drawdown=-fall.depth if fall is not None else 0.0,
        drawdown_peak_ns=peak_ns,
        drawdown_trough_ns=trough_ns,
        drawdown_recovered_ns=recovered_ns,
        longest_drawdown_days=_longest_fall(times, curve),
        rebalance_count=sum(plan.direction != INITIAL for plan in plans),
        orders=len(log.intents),
        fills=len(fills),
        refused=len(log.refusals),
        win_rate=trades.win_rate,
        profit_factor=trades.profit_factor,
        expectancy_usdt=trades.expectancy,
        fees_paid=total([fill.fee_quote for fill in fills]),
        slippage_paid=total([subtract(plan.cost_quote, plan.fees_quote) for plan in plans]),
        turnover=float(total([fill.notional for fill in fills])) / float(np.mean(curve)),
        exposure=_exposure(log),
        buy_and_hold_return=None if hold is None else float(hold[-1]) - 1.0,
        buy_and_hold_max_drawdown=None if hold is None else _depth(np.concatenate(([1.0], hold))),
        tracking_error=_against(performance.tracking_error, returns, held, year),
        information_ratio=_against(performance.information_ratio, returns, held, year),
        days=days,
    )


def hold_curve(log: RunLog) -> Series | None:
    """Return the worth of one unit of money in equal parts, bought at each asset's first close and kept, by step.

    A part whose market is not listed yet stays money; one without a bar keeps its last close. None when an asset has
    no bar at all.
    """
    closes = np.array(log.closes, dtype=np.float64)
    if closes.size == 0:
        return None
    ratios = np.empty_like(closes)
    for column in range(closes.shape[1]):
        known = ~np.isnan(closes[:, column])
        if not known.any():
            return None
        last = np.maximum.accumulate(np.where(known, np.arange(len(known)), -1))
        first = closes[int(np.argmax(known)), column]
        ratios[:, column] = np.where(last < 0, 1.0, closes[np.maximum(last, 0), column] / first)
    curve: Series = ratios.mean(axis=1)
    return curve


def _daily_of(curve: Series, log: RunLog, ends_ns: Sequence[int]) -> Series | None:
    if any(value is None for value in log.equity):
        return None
    times = np.array(log.times_ns)
    last = [int(np.searchsorted(times, min(end, int(times[-1])), side="right")) - 1 for end in ends_ns[1:]]
    return performance.returns_of(np.concatenate(([1.0], curve[last])))


def _fall(curve: Series) -> Drawdown | None:
    found = performance.drawdown(curve)
    return found if found is not None and found.depth < 0 else None


def _annual(growth: float, days: float) -> float | None:
    # Within less than a day, or with an exponent beyond every float, an annual figure would say nothing.
    if growth <= 0 or days < 1 or abs(np.log(growth)) * DAYS_PER_YEAR / days > EXPONENT_MAX:
        return None
    return float(growth ** (DAYS_PER_YEAR / days) - 1.0)


def _times_of(fall: Drawdown | None, times_ns: Sequence[int]) -> tuple[int | None, int | None, int | None]:
    if fall is None:
        return None, None, None
    return times_ns[fall.peak], times_ns[fall.trough], None if fall.recovered is None else times_ns[fall.recovered]


def _against(
    figure: Callable[..., float], returns: Series, benchmark: Series | None, periods_per_year: float
) -> float | None:
    return None if benchmark is None else defined(figure(returns, benchmark, periods_per_year=periods_per_year))


def _sells(fills: Sequence[FillRow]) -> list[Decimal]:
    profits: dict[str, Decimal] = {}
    for fill in fills:
        if fill.profit_quote is not None:
            profits[fill.intent_id] = add(profits.get(fill.intent_id, ZERO), fill.profit_quote)
    return list(profits.values())


def _exposure(log: RunLog) -> float | None:
    shares = [
        1.0 - float(quote) / float(equity)
        for quote, equity in zip(log.quote, log.equity, strict=True)
        if equity is not None and equity > 0
    ]
    return float(np.mean(shares)) if shares else None


def _depth(curve: Series) -> float:
    fall = _fall(curve)
    return -fall.depth if fall is not None else 0.0


def _longest_fall(times_ns: Sequence[int], curve: Series) -> float:
    """Return the longest time between a peak and its recovery (or the end), in days."""
    longest_ns, peak, peak_ns, is_under = 0, float(curve[0]), times_ns[0], False
    for at_ns, value in zip(times_ns, curve, strict=False):
        if is_under or value < peak:
            longest_ns = max(longest_ns, at_ns - peak_ns)
        is_under = bool(value < peak)
        if not is_under:
            peak, peak_ns = float(value), at_ns
    return longest_ns / DAY_NS
