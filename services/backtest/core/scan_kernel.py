"""Find the next bar that the rebalancer's rules could act on: float64, compiled where Numba is installed.

In: closes by bar and asset, what is held, the rules' limits. Out: the index of the first bar that might matter.
Never: a bar passed over on which the exact core acts. Every comparison is between sums and products of numbers that are
not negative, so their relative error stays below (assets + 10) * 2**-53; `GUARD` is wider for any basket of up to a
million assets. A bar inside the guard is a candidate, and the exact core decides that nothing happens.
Both scans add in the same order, so they name the same bars. A block of bars is passed over as a whole when not even
its lowest and highest closes together could make a candidate: rounding keeps order, so no bar of it is one by itself.
"""

import sys
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import cast

import msgspec
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

GUARD = 1e-9
BLOCK = 64
_ROWS_FIRST, _ROWS_MAX = 256, 16_384
_BLOCKS_MAX = 4_096
# Loading Numba takes a second: fewer numbers than these are done sooner without it.
_SIZE_COMPILED = 200_000


class Columns(msgspec.Struct, frozen=True):
    """Hold closes, shape [bars, assets], with the lowest and highest of each `BLOCK` bars, NaNs left out."""

    closes: Floats
    lows: Floats
    highs: Floats


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


# closes, lows, highs, close times, quantities, ready_ns, upper, lower, limit, quote, least, start, stop -> index
# (stop: none)
_Loop = Callable[[Floats, Floats, Floats, Integers, Floats, Integers, float, float, float, float, float, int, int], int]
_Fill = Callable[[Floats, Floats, Floats, float, int, int], None]
_Bounds = Callable[[Floats, Floats, Floats], None]
Scan = Callable[[Columns, Integers, Watch, int, int], int]


def columns_of(closes: Floats) -> Columns:
    """Return the closes with their blocks' bounds."""
    blocks = -(-len(closes) // BLOCK)
    lows, highs = np.full((blocks, closes.shape[1]), np.inf), np.full((blocks, closes.shape[1]), -np.inf)
    if _is_compiled(closes.size):
        _compiled_bounds()(closes, lows, highs)
    elif blocks:
        starts = np.arange(0, len(closes), BLOCK)
        np.fmin(lows, np.fmin.reduceat(closes, starts, axis=0), out=lows)
        np.fmax(highs, np.fmax.reduceat(closes, starts, axis=0), out=highs)
    return Columns(closes, lows, highs)


def fill_worth(curve: Floats, marks: Floats, quantities: Floats, quote: float, rows: range) -> None:
    """Write `quote` plus the worth of these quantities into these rows of `curve`, adding from the first column on."""
    start, stop = rows.start, rows.stop
    if _is_compiled(len(rows) * quantities.size):
        _compiled_fill()(curve, marks, quantities, quote, start, stop)
        return
    part = np.full(stop - start, quote)
    for column, quantity in enumerate(quantities.tolist()):
        if quantity:
            part += marks[start:stop, column] * quantity
    curve[start:stop] = part


def numpy_scan(columns: Columns, times_ns: Integers, watch: Watch, start: int, stop: int) -> int:
    """Return the first candidate in `[start, stop)`, or `stop`; a bar with a NaN close is never one."""
    closes, rows = columns.closes, _ROWS_FIRST
    with np.errstate(all="ignore"):
        while start < stop:
            # Few rows first: a candidate is often near, and then blocks would only cost.
            start = start if rows == _ROWS_FIRST else _next_block(columns, watch, start, stop)
            end = min(start + rows, stop)
            found = _first_in(closes[start:end], times_ns[start:end], watch) if start < end else -1
            if found >= 0:
                return start + found
            start, rows = end, min(rows * 2, _ROWS_MAX)
    return stop


def numba_scan(columns: Columns, times_ns: Integers, watch: Watch, start: int, stop: int) -> int:
    """Return what `numpy_scan` returns, by a compiled loop; raises ImportError without Numba."""
    w = watch
    return int(
        _compiled()(
            columns.closes, columns.lows, columns.highs, times_ns, w.quantities, w.ready_ns,
            w.upper, w.lower, w.limit, w.quote, w.least, start, stop,
        )
    )  # fmt: skip


@cache
def has_numba() -> bool:
    """Tell whether Numba is installed."""
    return find_spec("numba") is not None


def fastest_scan(size: int | None = None) -> Scan:
    """Return the compiled scan where Numba is installed, else the one that needs nothing but NumPy.

    `size` counts the closes of a single run: for few, loading Numba would take longer than the run.
    """
    return numba_scan if _is_compiled(_SIZE_COMPILED if size is None else size) else numpy_scan


def _is_compiled(size: int) -> bool:
    return has_numba() and (size >= _SIZE_COMPILED or "numba" in sys.modules)


def _next_block(columns: Columns, watch: Watch, start: int, stop: int) -> int:
    """Return the first row from `start` on in a block that cannot be passed over, or `stop`."""
    block, last = start // BLOCK, -(-stop // BLOCK)
    while block < last:
        end = min(block + _BLOCKS_MAX, last)
        lowest, highest = columns.lows[block:end] * watch.quantities, columns.highs[block:end] * watch.quantities
        under, over = lowest[:, 0].copy(), highest[:, 0].copy()
        for column in range(1, lowest.shape[1]):
            under += lowest[:, column]
            over += highest[:, column]
        size, high, low = float(lowest.shape[1]), highest.max(axis=1), lowest.min(axis=1)
        may = (under <= watch.least) | (size * high >= watch.upper * under) | (size * low <= watch.lower * over)
        may |= high >= watch.limit * (under + watch.quote)
        found = np.nonzero(may)[0]
        if found.size:
            return min(max(start, (block + int(found[0])) * BLOCK), stop)
        block = end
    return stop


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
    lows: Floats,
    highs: Floats,
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
    bar = start
    while bar < stop:
        block = bar // BLOCK
        end = min((block + 1) * BLOCK, stop)
        under, over, high, low = 0.0, 0.0, -1.0, np.inf
        for column in range(count):
            least_value, most_value = (
                lows[block, column] * quantities[column],
                highs[block, column] * quantities[column],
            )
            under += least_value
            over += most_value
            high = max(most_value, high)
            low = min(least_value, low)
        may = under <= least or size * high >= upper * under or size * low <= lower * over
        if not (may or high >= limit * (under + quote)):
            bar = end
            continue
        while bar < end:
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
            if size * high >= upper * total or size * low <= lower * total or high >= shared:
                for column in range(count):
                    value = closes[bar, column] * quantities[column]
                    fires = size * value >= upper * total or size * value <= lower * total or value >= shared
                    if fires and ready_ns[column] <= times_ns[bar]:
                        return bar
            bar += 1
    return stop


def _fill_loop(  # noqa: PLR0917 - compiled code takes plain arguments
    curve: Floats, marks: Floats, quantities: Floats, quote: float, start: int, stop: int
) -> None:
    for bar in range(start, stop):
        worth = quote
        for column in range(quantities.size):
            # What is not held may have no price yet.
            if quantities[column] != 0.0:
                worth += marks[bar, column] * quantities[column]
        curve[bar] = worth


def _bounds_loop(closes: Floats, lows: Floats, highs: Floats) -> None:
    count = closes.shape[1]
    for block in range(lows.shape[0]):
        for bar in range(block * BLOCK, min((block + 1) * BLOCK, closes.shape[0])):
            for column in range(count):
                close = closes[bar, column]
                if not np.isnan(close):
                    lows[block, column] = min(close, lows[block, column])
                    highs[block, column] = max(close, highs[block, column])


@cache
def _compiled() -> _Loop:
    return cast(_Loop, _with_numba(_loop))


@cache
def _compiled_fill() -> _Fill:
    return cast(_Fill, _with_numba(_fill_loop))


@cache
def _compiled_bounds() -> _Bounds:
    return cast(_Bounds, _with_numba(_bounds_loop))


def _with_numba(function: Callable[..., object]) -> object:
    from numba import njit  # noqa: PLC0415 - importing Numba takes longer than most backtests

    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:
        # Nowhere to keep the machine code: a read-only installation without a home.
        return njit(nogil=True)(function)
