"""Indicators whose batch and streaming values are the same bits, because both run the same kernel.

In: floats, oldest first (prices, or sizes of a book). Out: floats; nothing (NaN in a batch, None in a stream) during
the declared warm-up and at a gap. Never: a value that depends on a later input, a running sum that drifts, a state that
cannot be stored. A gap (NaN, infinity, a number outside the indicator's domain) counts as a bar that was not there:
it gives nothing and changes nothing, so a stream that skips missing bars equals a batch in which they are NaN.

    line = rsi(14).batch(closes)                    # numpy in, numpy out
    stream = rsi(14).stream()                       # one value at a time
    value = stream.update(101.2)                    # float, or None
    stream = rsi(14).stream(stream.state())         # after a restart: the state is a msgspec Struct
"""

from shared.domain.indicators.averages import ema, macd, sma
from shared.domain.indicators.book import book_imbalance, imbalance
from shared.domain.indicators.indicator import Array, Indicator, Stream, StreamState
from shared.domain.indicators.oscillators import rsi, z_score
from shared.domain.indicators.ranges import atr, bollinger, donchian
from shared.domain.indicators.volatility import ewma_volatility, realised_volatility, standard_deviation

__all__ = [
    "Array",
    "Indicator",
    "Stream",
    "StreamState",
    "atr",
    "bollinger",
    "book_imbalance",
    "donchian",
    "ema",
    "ewma_volatility",
    "imbalance",
    "macd",
    "realised_volatility",
    "rsi",
    "sma",
    "standard_deviation",
    "z_score",
]
