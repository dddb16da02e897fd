"""A market's past: candles from before it began, which end where it begins.

In: a market, its first price in ticks, how much it moves and trades in a wall second, chance. Out: candles, hours for
four weeks and then minutes for two days, each opening where the one before closed. Never: a price off the grid.
"""

from decimal import Decimal

import numpy as np

from services.sandbox_exchange.core.intervals import HOUR_NS, MINUTE_NS
from services.sandbox_exchange.core.model import Kline, Market
from shared.clock import NANOSECONDS_PER_SECOND
from shared.matching.exact import multiply

MINUTES = 2_880
HOURS = 672
# The walk is drawn back within a quarter of a day, so that a month at sixty times the speed stays plausible.
RETURN_S = 21_600.0


def past_klines(
    market: Market,
    *,
    ticks: float,
    volatility_per_s: float,
    turnover_per_s: float,
    draw: np.random.Generator,
    now_ns: int,
) -> list[Kline]:
    """Return the candles up to the last full minute before `now_ns`, oldest first; turnover is in quote units."""
    end_ns = now_ns - now_ns % MINUTE_NS
    # The minutes reach back to a full hour.
    minutes = MINUTES + (end_ns // MINUTE_NS - MINUTES) % 60
    first_ns = end_ns - minutes * MINUTE_NS
    lengths = [HOUR_NS] * HOURS + [MINUTE_NS] * minutes
    opens = [first_ns - (HOURS - at) * HOUR_NS for at in range(HOURS)]
    opens += [first_ns + at * MINUTE_NS for at in range(minutes)]
    seconds = np.array(lengths) / NANOSECONDS_PER_SECOND
    logs = np.empty(len(lengths) + 1)
    logs[-1] = 0.0
    noise = volatility_per_s * np.sqrt(seconds) * draw.standard_normal(len(lengths))
    keeps = np.exp(-seconds / RETURN_S)
    for at in range(len(lengths) - 1, -1, -1):
        logs[at] = logs[at + 1] * keeps[at] + noise[at]
    reach = 0.6 * volatility_per_s * np.sqrt(seconds) * np.abs(draw.standard_normal((2, len(lengths))))
    whole = np.maximum(np.rint(ticks * np.exp(logs)), 1)
    highs = np.rint(np.maximum(whole[:-1], whole[1:]) * np.exp(reach[0]))
    lows = np.maximum(np.rint(np.minimum(whole[:-1], whole[1:]) * np.exp(-reach[1])), 1)
    turnover = turnover_per_s * seconds * np.exp(0.5 * draw.standard_normal(len(lengths)))
    instrument = market.instrument
    lots = np.rint(turnover / (whole[1:] * float(instrument.tick_size) * float(instrument.step_size)))
    prices = [(int(whole[at]), int(highs[at]), int(lows[at]), int(whole[at + 1])) for at in range(len(lengths))]
    return [_kline(market, opens[at], lengths[at], prices[at], max(int(lots[at]), 1)) for at in range(len(lengths))]


def _kline(market: Market, open_ns: int, length_ns: int, prices: tuple[int, int, int, int], lots: int) -> Kline:
    tick, step = market.instrument.tick_size, market.instrument.step_size
    first, high, low, close = (multiply(tick, Decimal(price)) for price in prices)
    volume, bought = multiply(step, Decimal(lots)), multiply(step, Decimal(lots // 2))
    return Kline(
        symbol=market.symbol,
        interval_ns=length_ns,
        open_ns=open_ns,
        close_ns=open_ns + length_ns,
        open=first,
        high=high,
        low=low,
        close=close,
        volume=volume,
        quote_volume=multiply(volume, close),
        trades=length_ns // NANOSECONDS_PER_SECOND,
        taker_buy_volume=bought,
        taker_buy_quote=multiply(bought, close),
    )
