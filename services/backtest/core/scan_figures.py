"""The few figures that a sweep ranks by, straight from a scanned run: no row for each bar, no Decimal for each bar.

In: a `ScanRun`. Out: money exactly, shares as floats, by the definitions of `figures`. Never: another convention.
"""

from decimal import Decimal

import msgspec
import numpy as np

from services.backtest.core.figures import INITIAL
from services.backtest.core.outcome import DAY_NS
from services.backtest.core.scan_kernel import Floats, Integers
from services.backtest.core.scan_market import MarketArrays
from services.backtest.core.scan_run import ScanRun
from shared.domain import performance
from shared.domain.digests import fills_digest, unique_fills
from shared.domain.performance import DAYS_PER_YEAR, defined


class SweepFigures(msgspec.Struct, frozen=True):
    """Sum one configuration's run up, as `Figures` does; `handled_bars` counts the bars that the exact core saw.

    `final_value` and `fees_paid` are exact. `max_drawdown` (at least 0) is of every bar; `sharpe` of daily returns.
    """

    final_value: Decimal
    total_return: float
    max_drawdown: float
    sharpe: float | None
    rebalance_count: int
    orders: int
    fills: int
    refused: int
    fees_paid: Decimal
    handled_bars: int
    fills_digest: str


class Summariser:
    """Sum runs over one market up; what depends on the market alone is computed once."""

    def __init__(self, market: MarketArrays, timeframe_ns: int) -> None:
        self._period_ns = max(DAY_NS, timeframe_ns)
        offset_ns = 0 if self._period_ns == DAY_NS else market.first_open_ns % self._period_ns
        self._periods: Integers = (market.close_ns - 1 - offset_ns) // self._period_ns
        self._ends = _ends(self._periods)

    def figures(self, run: ScanRun) -> SweepFigures:
        """Return a run's figures."""
        log = run.log
        curve, ends = run.equity(), self._ends
        known = [value for value in log.equity if value is not None]
        if len(known) < len(log.equity):
            there = ~np.isnan(curve)
            curve, ends = curve[there], _ends(self._periods[there])
        initial = float(log.initial_equity)
        final = known[-1] if known else log.initial_equity
        fills = unique_fills(log.events)
        return SweepFigures(
            final_value=final,
            total_return=float(final / log.initial_equity - 1),
            max_drawdown=_deepest(initial, curve),
            sharpe=self._sharpe(np.concatenate(([initial], curve[ends]))),
            rebalance_count=sum(plan.opened.direction != INITIAL for plan in log.plans),
            orders=len(log.intents),
            fills=len(fills),
            refused=len(log.refusals),
            fees_paid=run.fees_quote,
            handled_bars=len(run.handled),
            fills_digest=fills_digest(fills),
        )

    def _sharpe(self, daily: Floats) -> float | None:
        if not np.all(daily > 0):
            return None
        year = DAYS_PER_YEAR * DAY_NS / self._period_ns
        return defined(performance.sharpe(performance.returns_of(daily), periods_per_year=year))


def _ends(periods: Integers) -> Integers:
    if not periods.size:
        return np.zeros(0, dtype=np.int64)
    return np.append(np.nonzero(np.diff(periods))[0], periods.size - 1)


def _deepest(initial: float, curve: Floats) -> float:
    peaks = np.maximum.accumulate(np.maximum(curve, initial))
    falls = curve / peaks
    return max(0.0, 1.0 - float(falls.min())) if falls.size else 0.0
