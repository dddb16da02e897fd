"""How much a market moves: standard deviation of prices, realised and exponentially weighted volatility of returns.

Returns are log returns; a price that is not positive is a gap. Volatilities are per bar times the square root of
`bars_per_year` (1: per bar; 365 x 24 for hourly bars of a market that never closes).
"""

import math

from shared.domain.indicators.compiled import Columns, Numbers, Rows, State
from shared.domain.indicators.indicator import SMALLEST_POSITIVE, Indicator, whole


def standard_deviation(period: int) -> Indicator:
    """Make the population standard deviation of the last `period` values."""
    return Indicator(
        name="standard_deviation",
        inputs=("value",),
        outputs=("deviation",),
        parameters=(whole("period", period, least=2),),
        warm_ups=(period - 1,),
        kernel=deviation_kernel,
        lookback=period - 1,
    )


def realised_volatility(period: int, bars_per_year: float = 1.0) -> Indicator:
    """Make the root of the mean square of the last `period` log returns (no mean is subtracted), annualised."""
    return Indicator(
        name="realised_volatility",
        inputs=("price",),
        outputs=("volatility",),
        parameters=(whole("period", period), _scale(bars_per_year)),
        warm_ups=(period,),
        kernel=realised_kernel,
        state_size=period + 3,
        lowest=SMALLEST_POSITIVE,
    )


def ewma_volatility(decay: float = 0.94, warm_up: int = 20, bars_per_year: float = 1.0) -> Indicator:
    """Make RiskMetrics' volatility: variance = decay x variance + (1 - decay) x squared log return, annualised.

    It begins with the mean of the first `warm_up` squared returns.
    """
    if not 0.0 < decay < 1.0:
        raise ValueError(f"decay must lie between 0 and 1, got {decay}")
    return Indicator(
        name="ewma_volatility",
        inputs=("price",),
        outputs=("volatility",),
        parameters=(float(decay), whole("warm_up", warm_up), _scale(bars_per_year)),
        warm_ups=(warm_up,),
        kernel=ewma_kernel,
        state_size=3,
        lowest=SMALLEST_POSITIVE,
    )


def deviation_kernel(columns: Columns, start: int, parameters: Numbers, _state: State, out: Rows) -> None:
    """Compute `standard_deviation`."""
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
        line[j - start] = math.sqrt(squares / period)


def realised_kernel(columns: Columns, start: int, parameters: Numbers, state: State, out: Rows) -> None:
    """Compute `realised_volatility`; the state is (count of prices, previous price, place, ring of squared returns)."""
    prices, line = columns[0], out[0]
    period, scale = int(parameters[0]), parameters[1]
    count, previous, place = state[0], state[1], int(state[2])
    for j in range(start, len(prices)):
        price = prices[j]
        if count > 0.0:
            change = math.log(price / previous)
            state[3 + place] = change * change
            place = place + 1 if place + 1 < period else 0
        previous = price
        if count <= period:
            count += 1.0
        if count <= period:
            line[j - start] = math.nan
            continue
        # The ring's oldest value stands at `place`: summed from there, the order is that of the returns.
        total = 0.0
        for k in range(3 + place, 3 + period):
            total += state[k]
        for k in range(3, 3 + place):
            total += state[k]
        line[j - start] = math.sqrt(total / period) * scale
    state[0], state[1], state[2] = count, previous, float(place)


def ewma_kernel(columns: Columns, start: int, parameters: Numbers, state: State, out: Rows) -> None:
    """Compute `ewma_volatility`; the state is (count of prices, previous price, variance or the sum that begins it)."""
    prices, line = columns[0], out[0]
    decay, period, scale = parameters[0], parameters[1], parameters[2]
    count, previous, variance = state[0], state[1], state[2]
    for j in range(start, len(prices)):
        price = prices[j]
        change = math.log(price / previous) if count > 0.0 else 0.0
        previous = price
        if count > period:
            variance = decay * variance + (1.0 - decay) * (change * change)
        else:
            variance += change * change
            if count == period:
                variance /= period
            count += 1.0
        line[j - start] = math.sqrt(variance) * scale if count > period else math.nan
    state[0], state[1], state[2] = count, previous, variance


def _scale(bars_per_year: float) -> float:
    if not 0.0 < bars_per_year <= 1e12:
        raise ValueError(f"bars_per_year must be above 0, for example 8760 for hourly bars, got {bars_per_year}")
    return math.sqrt(bars_per_year)
