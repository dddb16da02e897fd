"""Portfolio weights from returns, volatilities and covariances, and position sizes by rules (pure, no look-ahead).

In: scores, or rows of past closes, oldest first, one column an asset. Out: long-only weights under a cap; a size with
its reasons. Never: a negative weight, a weight over the cap, a size above the one asked for, NaN.
"""

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal

import msgspec
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
STEPS_MAX = 20_000
_FLAT = 1e-16
# The returns of a price that stands still differ from 0 by the rounding of logarithms, which is no volatility.
_STILL = 1e-12


class PositionSize(msgspec.Struct, frozen=True):
    """Hold what may be put into a position, in USDT, and the sentence of each rule that lowered it."""

    size_usdt: Decimal
    reasons: tuple[str, ...]


def calculate_portfolio_weights(
    expected_returns: Mapping[str, float],
    variances: Mapping[str, float] | None = None,
    *,
    invested: float = 1.0,
    weight_max: float = 1.0,
) -> dict[str, float]:
    """Return long-only weights from expected returns (any period, the same for all), in the order given.

    An asset that is expected to lose or to stay gets nothing. The others get parts of `invested` in proportion to
    their expected return, or, with `variances`, to return / variance (the growth-optimal proportions of uncorrelated
    assets). No weight exceeds `weight_max`; what the cap cuts off goes to the others in proportion, and stays in cash
    when all are at the cap. When nothing is expected to gain, all stays in cash. Raises ValueError for NaN.
    """
    scores: dict[str, float] = {}
    for asset, gain in expected_returns.items():
        risk = 1.0 if variances is None else variances[asset]
        if not math.isfinite(gain) or not math.isfinite(risk) or risk < 0:
            raise ValueError(f"{asset}: return {gain} and variance {risk} must be finite, the variance from 0 up")
        scores[asset] = max(gain, 0.0) / max(risk, _FLAT) if variances is not None else max(gain, 0.0)
    return capped_weights(scores, invested=invested, weight_max=weight_max)


def adjust_position_size(
    size_usdt: Decimal,
    *,
    equity_usdt: Decimal,
    free_usdt: Decimal,
    held_usdt: Decimal = Decimal(0),
    position_limit: Decimal = Decimal(1),
    reserve: Decimal = Decimal(0),
    minimum_usdt: Decimal = Decimal(0),
    volatility: float | None = None,
    volatility_target: float | None = None,
    drawdown: float = 0.0,
    drawdown_max: float | None = None,
    confidence: float = 1.0,
) -> PositionSize:
    """Return how much of a wanted purchase may be made; the rules only ever lower it, in this order.

    1. Confidence: times `confidence` (0 to 1). 2. Volatility: times target / volatility when the asset moves more than
    `volatility_target` (same period for both). 3. Drawdown: times 1 - drawdown / drawdown_max, nothing from there on.
    4. Position limit: with `held_usdt` at most `position_limit` of `equity_usdt`. 5. Cash: at most `free_usdt` less
    `reserve` of the equity. 6. Minimum: nothing instead of less than `minimum_usdt`. Raises ValueError for nonsense.
    """
    if size_usdt < 0 or not 0 <= confidence <= 1 or drawdown < 0:
        raise ValueError("size_usdt and drawdown must be from 0 up, confidence from 0 to 1")
    factors = [(confidence, f"confidence {confidence:g}")]
    if volatility is not None and volatility_target is not None and volatility > volatility_target:
        factors.append((volatility_target / volatility, f"volatility {volatility:g}, target {volatility_target:g}"))
    if drawdown_max is not None and drawdown > 0:
        factors.append((max(1 - drawdown / drawdown_max, 0.0), f"drawdown {drawdown:g} of {drawdown_max:g}"))
    size, reasons = size_usdt, []
    for factor, why in factors:
        if factor < 1:
            size *= Decimal(repr(factor))
            reasons.append(f"{why}: times {factor:.4g}")
    for room, why in (
        (position_limit * equity_usdt - held_usdt, f"position limit {position_limit:f} leaves"),
        (free_usdt - reserve * equity_usdt, f"free money above the reserve of {reserve:f} is"),
    ):
        if size > max(room, Decimal(0)):
            size = max(room, Decimal(0))
            reasons.append(f"{why} {size:.2f} USDT")
    if size < minimum_usdt:
        reasons.append(f"{size:.2f} USDT is under the minimum of {minimum_usdt:f} USDT")
        size = Decimal(0)
    return PositionSize(size, tuple(reasons))


def capped_weights(scores: Mapping[str, float], *, invested: float = 1.0, weight_max: float = 1.0) -> dict[str, float]:
    """Return weights in proportion to `scores` (from 0 up) that sum to `invested`, none over `weight_max`.

    What the cap cuts off goes to the rest in proportion; when every positive score is at the cap, the sum is less.
    """
    weights = dict.fromkeys(scores, 0.0)
    # Scaled first, so that neither tiny nor huge scores overflow or vanish.
    largest = max(scores.values(), default=0.0)
    free = {asset: score / largest for asset, score in scores.items() if score > 0}
    left = invested
    while free:
        total = math.fsum(free.values())
        over = [asset for asset, score in free.items() if left * score / total > weight_max]
        if not over:
            weights.update({asset: left * score / total for asset, score in free.items()})
            break
        for asset in over:
            weights[asset] = weight_max
            del free[asset]
        left = max(left - weight_max * len(over), 0.0)
    return weights


def log_returns(closes: Sequence[Sequence[float]]) -> Floats:
    """Return the log returns of rows of closes (steps x assets): one row less, all closes above 0."""
    prices = np.asarray(closes, dtype=np.float64)
    if prices.ndim != 2 or len(prices) < 2 or not np.all(np.isfinite(prices)) or np.any(prices <= 0):
        raise ValueError("closes must be at least two rows of finite prices above 0")
    found: Floats = np.diff(np.log(prices), axis=0)
    return found


def inverse_volatility_scores(returns: Floats) -> list[float]:
    """Return 1 / standard deviation (ddof 1) of each column; a flat column counts as the calmest that moves."""
    deviations = returns.std(axis=0, ddof=1) if len(returns) > 1 else np.abs(returns[0])
    moving = deviations[deviations > _STILL]
    least = float(moving.min()) if len(moving) else 1.0
    return [1.0 / max(float(each), least) for each in deviations]


def shrunk_covariance(returns: Floats) -> Floats:
    """Return the Ledoit-Wolf (2004) covariance: the sample's, drawn to a multiple of the identity as far as noise asks.

    `returns` is steps x assets; the sample divides by the number of steps, as in the paper.
    """
    count, width = returns.shape
    centred = returns - returns.mean(axis=0)
    sample = centred.T @ centred / count
    mean_variance = float(np.trace(sample)) / width
    target = mean_variance * np.eye(width)
    distance = float(((sample - target) ** 2).sum()) / width
    spread = sum(float(((np.outer(row, row) - sample) ** 2).sum()) for row in centred) / count**2 / width
    share = min(spread / distance, 1.0) if distance > 0 else 1.0
    found: Floats = share * target + (1 - share) * sample
    return found


def minimum_variance_weights(covariance: Floats, weight_max: float = 1.0) -> list[float]:
    """Return the weights, from 0 to `weight_max` and summing to 1, of least variance.

    Moves weight from the asset with the greatest marginal variance to the one with the least, each time exactly as far
    as pays, until no pair differs (the optimality condition of this convex problem). `weight_max` is raised to
    1 / count where it could not be met. A market that does not move at all gets equal weights.
    """
    width = len(covariance)
    cap = max(weight_max, 1.0 / width)
    weights = np.full(width, 1.0 / width)
    scale = float(np.trace(covariance)) / width
    if not math.isfinite(scale):
        raise ValueError("the covariance must be finite")
    if scale <= _FLAT:
        return [1.0 / width] * width
    matrix = covariance / scale
    slope = matrix @ weights
    for _ in range(STEPS_MAX):
        more = int(np.argmin(np.where(weights < cap, slope, np.inf)))
        less = int(np.argmax(np.where(weights > 0, slope, -np.inf)))
        gain = float(slope[less] - slope[more])
        if gain <= 1e-13:
            break
        bend = float(matrix[more, more] + matrix[less, less] - 2 * matrix[more, less])
        limit = min(cap - float(weights[more]), float(weights[less]))
        step = limit if bend <= 0 else min(gain / bend, limit)
        # At a bound the weight is set to it: subtraction would leave a crumb that never goes.
        weights[more] = cap if step == cap - weights[more] else weights[more] + step
        weights[less] = 0.0 if step == weights[less] else weights[less] - step
        slope = matrix @ weights
    return [float(weight) for weight in weights]
