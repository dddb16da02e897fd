"""How far a market reaches: true range, bands around the mean, the channel of highs and lows."""

import math

from shared.domain.indicators.compiled import Columns, Numbers, Rows, State
from shared.domain.indicators.indicator import Indicator, whole


def atr(period: int = 14) -> Indicator:
    """Make Wilder's average true range, begun with the mean of the first `period` true ranges.

    The first bar has no true range, as it has no close before it (so do TA-Lib and Stock.Indicators; ChartSchool's
    table takes its high less its low).
    """
    return Indicator(
        name="atr",
        inputs=("high", "low", "close"),
        outputs=("atr",),
        parameters=(whole("period", period),),
        warm_ups=(period,),
        kernel=atr_kernel,
        state_size=3,
    )


def bollinger(period: int = 20, width: float = 2.0) -> Indicator:
    """Make Bollinger bands: middle (mean), upper and lower, `width` population standard deviations away."""
    if not 0.0 < width <= 100.0:
        raise ValueError(f"width must be a number of standard deviations above 0, at most 100, got {width}")
    return Indicator(
        name="bollinger",
        inputs=("value",),
        outputs=("middle", "upper", "lower"),
        parameters=(whole("period", period, least=2), float(width)),
        warm_ups=(period - 1,) * 3,
        kernel=bollinger_kernel,
        lookback=period - 1,
    )


def donchian(period: int = 20) -> Indicator:
    """Make the Donchian channel: middle, upper (highest high) and lower (lowest low) of the last `period` bars.

    The newest bar is one of them; a breakout compares a close with the channel of the bar before.
    """
    return Indicator(
        name="donchian",
        inputs=("high", "low"),
        outputs=("middle", "upper", "lower"),
        parameters=(whole("period", period),),
        warm_ups=(period - 1,) * 3,
        kernel=donchian_kernel,
        lookback=period - 1,
    )


def atr_kernel(columns: Columns, start: int, parameters: Numbers, state: State, out: Rows) -> None:
    """Compute `atr`; the state is (count of bars, previous close, mean), the mean a sum while it warms up."""
    highs, lows, closes, line = columns[0], columns[1], columns[2], out[0]
    period = parameters[0]
    count, previous, mean = state[0], state[1], state[2]
    for j in range(start, len(closes)):
        high, low = highs[j], lows[j]
        reach, above, below = high - low, high - previous, previous - low
        reach = above if above > reach else reach
        reach = below if below > reach else reach
        previous = closes[j]
        if count > period:
            mean = (mean * (period - 1.0) + reach) / period
        else:
            if count > 0.0:
                mean += reach
            if count == period:
                mean /= period
            count += 1.0
        line[j - start] = mean if count > period else math.nan
    state[0], state[1], state[2] = count, previous, mean


def bollinger_kernel(columns: Columns, start: int, parameters: Numbers, _state: State, out: Rows) -> None:
    """Compute `bollinger`."""
    values, middle, upper, lower = columns[0], out[0], out[1], out[2]
    period, width = int(parameters[0]), parameters[1]
    for j in range(start, len(values)):
        i = j - start
        if j < period - 1:
            middle[i] = upper[i] = lower[i] = math.nan
            continue
        window = values[j - period + 1 : j + 1]
        base = window[0]
        total = 0.0
        for value in window:
            total += value - base
        mean = base + total / period
        squares = 0.0
        for value in window:
            squares += (value - mean) * (value - mean)
        reach = width * math.sqrt(squares / period)
        middle[i], upper[i], lower[i] = mean, mean + reach, mean - reach


def donchian_kernel(columns: Columns, start: int, parameters: Numbers, _state: State, out: Rows) -> None:
    """Compute `donchian`."""
    highs, lows, middle, upper, lower = columns[0], columns[1], out[0], out[1], out[2]
    period = int(parameters[0])
    for j in range(start, len(highs)):
        i = j - start
        if j < period - 1:
            middle[i] = upper[i] = lower[i] = math.nan
            continue
        highest, lowest = highs[j], lows[j]
        for high in highs[j - period + 1 : j]:
            highest = high if high > highest else highest
        for low in lows[j - period + 1 : j]:
            lowest = low if low < lowest else lowest
        middle[i], upper[i], lower[i] = (highest + lowest) / 2.0, highest, lowest
