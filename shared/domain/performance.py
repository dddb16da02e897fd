"""Return and risk figures of an equity curve, by the conventions of the field.

In: periodic simple returns (a NaN is a period without a figure), equity, trade results. Out: floats; NaN or an infinity
where a figure is undefined, `defined` turns that into None for people. Conventions: standard deviations with ddof 1,
risk-free rate 0 unless given, 365 periods a year for daily crypto returns (252 for the published vectors of empyrical).
Never: an annualised figure from another period than the caller names, a gap silently counted as a zero return.
"""

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

Series = npt.NDArray[np.float64]

DAYS_PER_YEAR = 365


class Drawdown(msgspec.Struct, frozen=True):
    """Describe the deepest fall: `depth` <= 0 as a share of the peak; indices into the curve.

    `recovered` is the first index at or above the peak again, None while under water.
    """

    depth: float
    peak: int
    trough: int
    recovered: int | None


def returns_of(equity: Sequence[float] | Series) -> Series:
    """Return the simple returns between neighbours of a positive curve, shape (n - 1,)."""
    curve = np.asarray(equity, dtype=np.float64)
    if curve.size and not np.all(curve > 0):
        raise ValueError("equity must be positive everywhere to have returns")
    return curve[1:] / curve[:-1] - 1.0


def total_return(returns: Series) -> float:
    """Return the compounded return over all periods."""
    return float(np.prod(1.0 + _present(returns)) - 1.0)


def annual_return(returns: Series, *, periods_per_year: float = DAYS_PER_YEAR) -> float:
    """Return the compound annual growth rate; every period counts, also one without a figure."""
    if len(returns) == 0:
        return math.nan
    growth = 1.0 + total_return(returns)
    return float(growth ** (periods_per_year / len(returns)) - 1.0) if growth > 0 else -1.0


def volatility(returns: Series, *, periods_per_year: float = DAYS_PER_YEAR) -> float:
    """Return the annualised standard deviation (ddof 1)."""
    present = _present(returns)
    return float(np.std(present, ddof=1) * math.sqrt(periods_per_year)) if present.size > 1 else math.nan


def sharpe(returns: Series, *, risk_free: float | Series = 0.0, periods_per_year: float = DAYS_PER_YEAR) -> float:
    """Return mean / standard deviation (ddof 1) of the excess returns, annualised; infinite without variation."""
    excess = _present(np.asarray(returns - risk_free, dtype=np.float64))
    if excess.size < 2:
        return math.nan
    return _ratio(float(np.mean(excess)), _spread(excess)) * math.sqrt(periods_per_year)


def downside_risk(returns: Series, *, required: float = 0.0, periods_per_year: float = DAYS_PER_YEAR) -> float:
    """Return the annualised root mean square of the shortfalls below `required`, over all periods."""
    present = _present(returns)
    if present.size == 0:
        return math.nan
    shortfall = np.minimum(present - required, 0.0)
    return float(np.sqrt(np.mean(shortfall**2)) * math.sqrt(periods_per_year))


def sortino(returns: Series, *, required: float = 0.0, periods_per_year: float = DAYS_PER_YEAR) -> float:
    """Return the annualised mean excess over the annualised downside risk; infinite without any shortfall."""
    present = _present(returns)
    if present.size < 2:
        return math.nan
    mean = float(np.mean(present - required)) * periods_per_year
    return _ratio(mean, downside_risk(present, required=required, periods_per_year=periods_per_year))


def omega(returns: Series, *, threshold: float = 0.0) -> float:
    """Return the sum of the gains beyond `threshold` (per period) over the sum of the shortfalls."""
    excess = _present(returns) - threshold
    return _ratio(float(np.sum(np.maximum(excess, 0.0))), float(np.sum(np.maximum(-excess, 0.0))))


def drawdown(equity: Sequence[float] | Series) -> Drawdown | None:
    """Return the deepest fall from a running peak; None for an empty curve."""
    curve = np.asarray(equity, dtype=np.float64)
    if curve.size == 0:
        return None
    peaks = np.maximum.accumulate(curve)
    falls = curve / peaks - 1.0
    trough = int(np.argmin(falls))
    peak = int(np.argmax(curve[: trough + 1]))
    after = np.nonzero(curve[trough:] >= curve[peak])[0]
    recovered = trough + int(after[0]) if after.size else None
    return Drawdown(float(falls[trough]), peak, trough, recovered)


def max_drawdown(returns: Series) -> float:
    """Return the deepest fall (<= 0) of the curve that the returns compound to, the start included."""
    fall = drawdown(np.concatenate(([1.0], np.cumprod(1.0 + _present(returns)))))
    return fall.depth if fall is not None else math.nan


def calmar(returns: Series, *, periods_per_year: float = DAYS_PER_YEAR) -> float:
    """Return the annual return over the depth of the deepest fall."""
    return _ratio(annual_return(returns, periods_per_year=periods_per_year), -max_drawdown(returns))


def value_at_risk(returns: Series, *, share: float = 0.05) -> float:
    """Return the return (usually negative) that the worst `share` of the periods stay at or below."""
    present = _present(returns)
    return float(np.quantile(present, share)) if present.size else math.nan


def expected_shortfall(returns: Series, *, share: float = 0.05) -> float:
    """Return the mean return of the worst `share` of the periods, at least one of them (CVaR)."""
    present = np.sort(_present(returns))
    return float(np.mean(present[: max(1, math.floor(share * present.size))])) if present.size else math.nan


def tracking_error(returns: Series, benchmark: Series, *, periods_per_year: float = DAYS_PER_YEAR) -> float:
    """Return the annualised standard deviation of the differences to the benchmark's returns."""
    return volatility(np.asarray(returns - benchmark, dtype=np.float64), periods_per_year=periods_per_year)


def information_ratio(returns: Series, benchmark: Series, *, periods_per_year: float = DAYS_PER_YEAR) -> float:
    """Return the Sharpe ratio of the differences to the benchmark."""
    return sharpe(returns, risk_free=benchmark, periods_per_year=periods_per_year)


class TradeFigures(msgspec.Struct, frozen=True):
    """Sum up closed trades; money in quote units, shares of one. None where no trade allows the figure."""

    trades: int
    win_rate: float | None
    profit_factor: float | None
    expectancy: float | None
    expectancy_ratio: float | None


def trade_figures(profits: Sequence[float]) -> TradeFigures:
    """Return the figures of closed trades from their net profits (a zero is neither win nor loss).

    Expectancy = W x average win - L x average loss; its ratio = (1 + average win / average loss) x W - 1.
    """
    results = np.asarray(profits, dtype=np.float64)
    if results.size == 0:
        return TradeFigures(0, None, None, None, None)
    wins, losses = results[results > 0], -results[results < 0]
    win_rate, loss_rate = wins.size / results.size, losses.size / results.size
    win_mean = float(np.mean(wins)) if wins.size else 0.0
    loss_mean = float(np.mean(losses)) if losses.size else 0.0
    has_losses = loss_mean > 0
    return TradeFigures(
        trades=int(results.size),
        win_rate=win_rate,
        profit_factor=float(np.sum(wins) / np.sum(losses)) if has_losses else None,
        expectancy=win_rate * win_mean - loss_rate * loss_mean,
        expectancy_ratio=(1 + win_mean / loss_mean) * win_rate - 1 if has_losses else None,
    )


def defined(figure: float) -> float | None:
    """Return the figure, or None when it is NaN or infinite."""
    return figure if math.isfinite(figure) else None


def _present(returns: Series) -> Series:
    values = np.asarray(returns, dtype=np.float64)
    return values[~np.isnan(values)]


def _spread(values: Series) -> float:
    spread = float(np.std(values, ddof=1))
    # Equal values leave a rounding residue instead of zero.
    return 0.0 if spread < 1e-15 else spread


def _ratio(over: float, under: float) -> float:
    if under == 0 or math.isnan(under):
        return math.nan if over == 0 or math.isnan(over) or math.isnan(under) else math.copysign(math.inf, over)
    return over / under
