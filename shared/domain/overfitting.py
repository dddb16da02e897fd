"""How likely it is that a search found nothing but luck: deflated Sharpe ratio and probability of backtest overfitting.

In: Sharpe ratios per period (not annualised), returns of every trial that was made. Out: probabilities. Sources: Bailey
and López de Prado, "The Deflated Sharpe Ratio" (2014); Bailey, Borwein, López de Prado and Zhu, "The Probability of
Backtest Overfitting" (2015). Never: a verdict on fewer trials than were made; whoever asks must feed all of them.
"""

import math
from collections.abc import Iterator
from itertools import combinations, islice
from statistics import NormalDist

import msgspec
import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]

EULER = 0.5772156649015329
NORMAL = NormalDist()
# 16 parts give 12,870 splits; more parts multiply the work and leave less in each part.
PARTS_MAX = 16
PART_ROWS_MIN = 4
CHUNK = 512
# Equal returns leave a rounding residue instead of zero.
SPREAD_MIN = 1e-15


class Moments(msgspec.Struct, frozen=True):
    """Describe returns: `sharpe` per period (ddof 1), `count`, skewness, and kurtosis (3 for a normal distribution)."""

    sharpe: float
    count: int
    skewness: float
    kurtosis: float


class Overfitting(msgspec.Struct, frozen=True):
    """Hold what combinatorially symmetric cross-validation found.

    `probability` is the share of the splits in which the best trial of one half is below the median of the other half.
    `loss_probability` is the share in which it loses there. `slope` is that of a line through (Sharpe in one half,
    Sharpe in the other): negative when what was better becomes worse.
    """

    probability: float
    loss_probability: float
    slope: float | None
    splits: int
    parts: int


def moments_of(returns: Matrix) -> Moments | None:
    """Return the moments of returns, shape (n,); None with fewer than three of them or without variation."""
    count = len(returns)
    if count < 3:
        return None
    centred = returns - np.mean(returns)
    variance = float(np.mean(centred**2))
    if math.sqrt(variance) < SPREAD_MIN:
        return None
    sharpe = float(np.mean(returns) / np.std(returns, ddof=1))
    skewness = float(np.mean(centred**3)) / variance**1.5
    return Moments(sharpe, count, skewness, float(np.mean(centred**4)) / variance**2)


def expected_best_sharpe(variance: float, trials: int) -> float:
    """Return the Sharpe ratio that the best of `trials` worthless ones is expected to have.

    `variance` is that of the trials' Sharpe ratios, per period like the result; one trial expects 0.
    """
    if trials < 1 or variance < 0:
        raise ValueError(f"a variance of at least 0 and one trial at least are needed, got {variance} and {trials}")
    if trials == 1:
        return 0.0
    likely = NORMAL.inv_cdf(1.0 - 1.0 / trials)
    rare = NORMAL.inv_cdf(1.0 - 1.0 / (trials * math.e))
    return math.sqrt(variance) * ((1.0 - EULER) * likely + EULER * rare)


def probabilistic_sharpe(found: Moments, benchmark: float) -> float:
    """Return the probability that the true Sharpe ratio (per period) is above `benchmark`."""
    sharpe = found.sharpe
    width = 1.0 - found.skewness * sharpe + (found.kurtosis - 1.0) / 4.0 * sharpe**2
    # The expansion behind the formula breaks down before its variance is gone.
    width = max(width, SPREAD_MIN)
    return NORMAL.cdf((sharpe - benchmark) * math.sqrt(found.count - 1.0) / math.sqrt(width))


def deflated_sharpe(found: Moments, variance: float, trials: int) -> float:
    """Return the probability that the best of `trials` is better than luck alone would have made the best."""
    return probabilistic_sharpe(found, expected_best_sharpe(variance, trials))


def parts_for(rows: int) -> int:
    """Return into how many parts, an even number, so many rows are cut; 0 when there are too few for two."""
    parts = min(PARTS_MAX, rows // PART_ROWS_MIN)
    return parts - parts % 2


def backtest_overfitting(returns: Matrix, parts: int | None = None) -> Overfitting | None:
    """Return the probability of backtest overfitting of trials in columns, returns in rows.

    The first rows that do not fill equal parts are left out. A trial without variation has a Sharpe ratio of 0. None
    with fewer than two trials or too few rows; ValueError for an odd number of parts.
    """
    rows, trials = returns.shape
    parts = parts_for(rows) if parts is None else parts
    if parts % 2:
        raise ValueError(f"parts must be an even number, got {parts}")
    if trials < 2 or parts < 2 or rows < 2 * parts:
        return None
    size = rows // parts
    cut = returns[rows - size * parts :].reshape(parts, size, trials)
    sums, squares = cut.sum(axis=1), (cut**2).sum(axis=1)
    half = size * parts // 2
    below, losing, inside, outside = [], [], [], []
    for picked in _chunks(parts):
        first = _sharpes(picked @ sums, picked @ squares, half)
        second = _sharpes((1 - picked) @ sums, (1 - picked) @ squares, half)
        best = np.argmax(first, axis=1)
        at = np.arange(len(best))
        chosen = second[at, best]
        lower = (second < chosen[:, None]).sum(axis=1)
        equal = (second == chosen[:, None]).sum(axis=1)
        rank = lower + (equal + 1) / 2
        share = rank / (trials + 1)
        below.append(share <= 0.5)
        losing.append(chosen < 0)
        inside.append(first[at, best])
        outside.append(chosen)
    x, y = np.concatenate(inside), np.concatenate(outside)
    spread = float(np.var(x))
    slope = float(np.mean((x - x.mean()) * (y - y.mean()))) / spread if spread > SPREAD_MIN else None
    failed = np.concatenate(below)
    return Overfitting(float(failed.mean()), float(np.concatenate(losing).mean()), slope, len(failed), parts)


def _chunks(parts: int) -> Iterator[Matrix]:
    """Return all halves of the parts, as rows of ones and zeros, some at a time."""
    halves = combinations(range(parts), parts // 2)
    while chunk := list(islice(halves, CHUNK)):
        picked = np.zeros((len(chunk), parts))
        picked[np.arange(len(chunk))[:, None], np.array(chunk)] = 1.0
        yield picked


def _sharpes(sums: Matrix, squares: Matrix, count: int) -> Matrix:
    means = sums / count
    variances = np.maximum(squares - count * means**2, 0.0) / (count - 1)
    # A sum of squares less a product of means keeps a residue where all returns are equal.
    flat = variances <= 1e-12 * squares / count
    found: Matrix = np.where(flat, 0.0, means / np.sqrt(np.where(flat, 1.0, variances)))
    return found
