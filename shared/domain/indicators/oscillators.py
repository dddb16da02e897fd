"""How strong a move is against its own past: RSI and z-score."""

import math

from shared.domain.indicators.compiled import Columns, Numbers, Rows, State
from shared.domain.indicators.indicator import Indicator, whole


def rsi(period: int = 14) -> Indicator:
    """Make Wilder's relative strength index, 0 to 100, begun with the mean of the first `period` changes.

    50 where nothing moved, as neither side is stronger (TA-Lib says 0 there, Stock.Indicators 100).
    """
    return Indicator(
        name="rsi",
        inputs=("value",),
        outputs=("rsi",),
        parameters=(whole("period", period),),
        warm_ups=(period,),
        kernel=rsi_kernel,
        state_size=4,
    )


def z_score(period: int) -> Indicator:
    """Make the distance from the mean of the last `period` values in their population standard deviations.

    0 where all of them are equal.
    """
    return Indicator(
        name="z_score",
        inputs=("value",),
        outputs=("z",),
        parameters=(whole("period", period, least=2),),
        warm_ups=(period - 1,),
        kernel=z_score_kernel,
        lookback=period - 1,
    )


def rsi_kernel(columns: Columns, start: int, parameters: Numbers, state: State, out: Rows) -> None:
    """Compute `rsi`; the state is (count of values, previous value, mean gain, mean loss), sums while it warms up."""
    values, line = columns[0], out[0]
    period = parameters[0]
    count, previous, gain, loss = state[0], state[1], state[2], state[3]
    for j in range(start, len(values)):
        value = values[j]
        change = value - previous
        previous = value
        rise = change if change > 0.0 else 0.0
        fall = -change if change < 0.0 else 0.0
        if count > period:
            gain = (gain * (period - 1.0) + rise) / period
            loss = (loss * (period - 1.0) + fall) / period
        else:
            if count > 0.0:
                gain += rise
                loss += fall
            if count == period:
                gain /= period
                loss /= period
            count += 1.0
        if count <= period:
            line[j - start] = math.nan
        elif gain + loss == 0.0:
            line[j - start] = 50.0
        else:
            line[j - start] = 100.0 * (gain / (gain + loss))
    state[0], state[1], state[2], state[3] = count, previous, gain, loss


def z_score_kernel(columns: Columns, start: int, parameters: Numbers, _state: State, out: Rows) -> None:
    """Compute `z_score`."""
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
        mean = base + total / period
        squares = 0.0
        for value in window:
            squares += (value - mean) * (value - mean)
        deviation = math.sqrt(squares / period)
        line[j - start] = (values[j] - mean) / deviation if deviation > 0.0 else 0.0
