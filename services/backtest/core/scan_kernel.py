"""Find the next bar that the rebalancer's rules could act on: float64, compiled where Numba is installed.

In: closes by bar and asset, what is held, the rules' limits. Out: the index of the first bar that might matter.
Never: a bar passed over on which the exact core acts. Every comparison is between sums and products of numbers that are
not negative, so their relative error stays below (assets + 10) * 2**-53; `GUARD` is wider for any basket of up to a
million assets. A bar inside the guard is a candidate, and the exact core decides that nothing happens.
Both scans add in the same order, so they name the same bars.
"""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

import msgspec
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

GUARD = 1e-9
_ROWS_FIRST, _ROWS_MAX = 256, 16_384


class Watch(msgspec.Struct, frozen=True):
    """Hold what one scan compares with, guard included.

    `quantities` and `ready_ns` (when an asset's cooldown ends) are by column. An asset fires at count x value from
    `upper` x sum up, or up to `lower` x sum, or from `limit` x (sum + quote) up; a sum up to `least` is a start.
    """

    quantities: Floats
    ready_ns: Integers
    upper: float
    lower: float
    limit: float
    quote: float
    least: float


# closes, close times, quantities, ready_ns, upper, lower, limit, quote, least, start, stop -> index (stop: none)
_Loop = Callable[[Floats, Integers, Floats, Integers, float, float, float, float, float, int, int], int]
Scan = Callable[[Floats, Integers, Watch, int, int], int]


def numpy_scan(closes: Floats, times_ns: Integers, watch: Watch, start: int, stop: int) -> int:
    """Return the first candidate in `[start, stop)`, or `stop`; a bar with a NaN close is never one."""
    rows = _ROWS_FIRST
    while start < stop:
        end = min(start + rows, stop)
        with np.errstate(all="ignore"):
            found = _first_in(closes[start:end], times_ns[start:end], watch)
        if found >= 0:
            return start + found
        start, rows = end, min(rows * 2, _ROWS_MAX)
    return stop


def numba_scan(closes: Floats, times_ns: Integers, watch: Watch, start: int, stop: int) -> int:
    """Return what `numpy_scan` returns, by a compiled loop; raises ImportError without Numba."""
    w = watch
    return int(
        _compiled()(
            closes, times_ns, w.quantities, w.ready_ns, w.upper, w.lower, w.limit, w.quote, w.least, start, stop
        )
    )


@cache
def fastest_scan() -> Scan:
    """Return the compiled scan where Numba is installed, else the one that needs nothing but NumPy."""
    return numpy_scan if find_spec("numba") is None else numba_scan


def _first_in(closes: Floats, times_ns: Integers, watch: Watch) -> int:
    count = float(closes.shape[1])
    values = closes * watch.quantities
    totals = values[:, 0].copy()
    for column in range(1, closes.shape[1]):
        totals += values[:, column]
    shares, wholes = watch.limit * (totals + watch.quote), totals
    starts = totals <= watch.least
    high, low = values.max(axis=1), values.min(axis=1)
    beyond = (count * high >= watch.upper * totals) | (count * low <= watch.lower * totals) | (high >= shares)
    rows = np.nonzero(starts | beyond)[0]
    if not rows.size:
        return -1
    values, wholes, shares = values[rows], wholes[rows, None], shares[rows, None]
    fires = (count * values >= watch.upper * wholes) | (count * values <= watch.lower * wholes) | (values >= shares)
    fires &= watch.ready_ns[None, :] <= times_ns[rows, None]
    found = np.nonzero((fires & ~np.isnan(wholes)).any(axis=1) | starts[rows])[0]
    return int(rows[found[0]]) if found.size else -1


def _loop(  # noqa: PLR0917 - compiled code takes plain arguments
    closes: Floats,
    times_ns: Integers,
    quantities: Floats,
    ready_ns: Integers,
    upper: float,
    lower: float,
    limit: float,
    quote: float,
    least: float,
    start: int,
    stop: int,
) -> int:
    count = closes.shape[1]
    size = float(count)
    for bar in range(start, stop):
        total, high, low = 0.0, -1.0, np.inf
        for column in range(count):
            value = closes[bar, column] * quantities[column]
            total += value
            high = max(value, high)
            low = min(value, low)
        if total <= least:
            return bar
        shared = limit * (total + quote)
        # Every comparison with a NaN is false, so a bar with a missing close passes here.
        if not (size * high >= upper * total or size * low <= lower * total or high >= shared):
            continue
        for column in range(count):
            value = closes[bar, column] * quantities[column]
            fires = size * value >= upper * total or size * value <= lower * total or value >= shared
            if fires and ready_ns[column] <= times_ns[bar]:
                return bar
    return stop


@cache
def _compiled() -> _Loop:
    from numba import njit  # noqa: PLC0415 - importing Numba takes longer than most backtests

    try:
        compiled: _Loop = njit(cache=True, nogil=True)(_loop)
    except RuntimeError:
        # Nowhere to keep the machine code: a read-only installation without a home.
        compiled = njit(nogil=True)(_loop)
    return compiled
