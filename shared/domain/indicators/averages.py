"""Moving averages and their difference. Windows are summed anew for each bar, oldest first: no drift, no residue.

Sums are taken of differences from the window's first value, so a constant series has exactly its constant as mean.
"""

import math

from shared.domain.indicators.compiled import Columns, Numbers, Rows, State
from shared.domain.indicators.indicator import Indicator, whole


def sma(period: int) -> Indicator:
    """Make the simple moving average of `period` values."""
    return Indicator(
        name="sma",
        inputs=("value",),
        outputs=("mean",),
        parameters=(whole("period", period),),
        warm_ups=(period - 1,),
        kernel=sma_kernel,
        lookback=period - 1,
    )


def ema(period: int) -> Indicator:
    """Make the exponential moving average with weight 2 / (period + 1), begun with the mean of the first `period`."""
    return Indicator(
        name="ema",
        inputs=("value",),
        outputs=("mean",),
        parameters=(whole("period", period),),
        warm_ups=(period - 1,),
        kernel=ema_kernel,
        state_size=4,
    )


def macd(fast: int = 12, slow: int = 26, signal: int = 9) -> Indicator:
    """Make MACD: line (fast less slow EMA), signal (EMA of the line), histogram (line less signal).

    Each EMA begins with the mean of its own first values; TA-Lib begins the fast one together with the slow one, so
    its first bars differ. Raises ValueError unless fast < slow.
    """
    parameters = (whole("fast", fast), whole("slow", slow), whole("signal", signal))
    if fast >= slow:
        raise ValueError(f"fast must be below slow, got {fast} and {slow}")
    return Indicator(
        name="macd",
        inputs=("value",),
        outputs=("line", "signal", "histogram"),
        parameters=parameters,
        warm_ups=(slow - 1, slow + signal - 2, slow + signal - 2),
        kernel=macd_kernel,
        state_size=12,
    )


def sma_kernel(columns: Columns, start: int, parameters: Numbers, _state: State, out: Rows) -> None:
    """Compute `sma`."""
    values, line = columns[0], out[0]
    period = int(parameters[0])
    for j in range(start, len(values)):
        if j < period - 1:
            line[j - start] = math.nan
            continue
        window = values[j - period + 1 : j + 1]
        base = window[0]
        total = 0.0
        for value in window:
            total += value - base
        line[j - start] = base + total / period


def ema_kernel(columns: Columns, start: int, parameters: Numbers, state: State, out: Rows) -> None:
    """Compute `ema`; the state is (count, first value, sum of differences from it, mean)."""
    values, line = columns[0], out[0]
    period = parameters[0]
    weight = 2.0 / (period + 1.0)
    count, base, total, mean = state[0], state[1], state[2], state[3]
    for j in range(start, len(values)):
        value = values[j]
        if count >= period:
            mean += weight * (value - mean)
            line[j - start] = mean
            continue
        if count == 0.0:
            base = value
        total += value - base
        count += 1.0
        if count == period:
            mean = base + total / period
            line[j - start] = mean
        else:
            line[j - start] = math.nan
    state[0], state[1], state[2], state[3] = count, base, total, mean


def macd_kernel(columns: Columns, start: int, parameters: Numbers, state: State, out: Rows) -> None:
    """Compute `macd`; the state is that of `ema_kernel` for fast, slow and signal, one after the other."""
    values = columns[0]
    line, signal, histogram = out[0], out[1], out[2]
    slow, smooth = parameters[1], parameters[2]
    for j in range(start, len(values)):
        value = values[j]
        for k in range(3):
            at = 4 * k
            period = parameters[k]
            if k == 2:
                if state[4] < slow:
                    break
                value = state[3] - state[7]
            if state[at] >= period:
                state[at + 3] += 2.0 / (period + 1.0) * (value - state[at + 3])
                continue
            if state[at] == 0.0:
                state[at + 1] = value
            state[at + 2] += value - state[at + 1]
            state[at] += 1.0
            if state[at] == period:
                state[at + 3] = state[at + 1] + state[at + 2] / period
        i = j - start
        line[i] = state[3] - state[7] if state[4] >= slow else math.nan
        signal[i] = state[11] if state[8] >= smooth else math.nan
        histogram[i] = line[i] - state[11] if state[8] >= smooth else math.nan
