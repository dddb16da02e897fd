"""A venue's own candles, next to ours: which of them make up a bar of ours, and where the two differ.

In: candles, bars. Out: whole bars, the names of what differs. Never: a bar from candles with a hole between them, a
price of a candle in which nobody traded.
"""

import math
from collections.abc import Iterable

from services.market_data.core.feed import Candle
from shared.domain.bars import BarBuilder, ClosedBar, part_of
from shared.messages import Bar

# What a venue keeps, as names of ours and lengths in seconds.
_COMMON = {"1m": 60, "5m": 300, "15m": 900, "30m": 1_800, "1h": 3_600, "4h": 14_400, "1d": 86_400}
INTERVALS_S = {"mexc": _COMMON, "binance": {"1s": 1, "3m": 180, "2h": 7_200, "6h": 21_600, "12h": 43_200} | _COMMON}
# Volumes are sums of floats on the venue's side and ours of decimals; prices must be the same.
VOLUME_TOLERANCE = 1e-6


def interval_for(venue: str, timeframe_ns: int) -> tuple[str, int] | None:
    """Return the venue's longest interval that whole bars are made of and its length in ns, or None."""
    known = INTERVALS_S.get(venue, {})
    fitting = [(seconds, name) for name, seconds in known.items() if timeframe_ns % (seconds * 1_000_000_000) == 0]
    if not fitting:
        return None
    seconds, name = max(fitting)
    return name, seconds * 1_000_000_000


def bars_of(candles: Iterable[Bar], candle_ns: int, timeframe_ns: int) -> dict[int, ClosedBar]:
    """Return the bars that the candles make up completely, by close time; none for a time without a trade."""
    builder = BarBuilder(timeframe_ns)
    parts: dict[int, list[Bar]] = {}
    for candle in candles:
        close_ns = (candle.open_time_ns // timeframe_ns + 1) * timeframe_ns
        parts.setdefault(close_ns, []).append(candle)
    found: dict[int, ClosedBar] = {}
    for close_ns, group in sorted(parts.items()):
        traded = [one for one in group if one.volume > 0]
        if len({one.open_time_ns for one in group}) * candle_ns != timeframe_ns or not traded:
            continue
        for one in sorted(traded, key=lambda bar: bar.open_time_ns):
            builder.add_bar(part_of(one))
        bar = builder.advance(close_ns)
        if bar is not None:
            found[close_ns] = bar
    return found


def candle_of(instrument: str, bar: ClosedBar) -> Candle:
    """Return a bar as a step's candle."""
    return Candle(
        instrument=instrument,
        open=bar.open,
        high=bar.high,
        low=bar.low,
        close=bar.close,
        volume=float(bar.volume),
        quote_volume=None if bar.quote_volume is None else float(bar.quote_volume),
    )


def is_other(instrument: str, ours: ClosedBar, theirs: ClosedBar) -> bool:
    """Tell whether two bars of one time say different things."""
    return bool(differing(candle_of(instrument, ours), candle_of(instrument, theirs)))


def differing(ours: Candle, theirs: Bar | Candle) -> tuple[str, ...]:
    """Return the names of the values in which a venue's candle differs from our bar of the same time."""
    found = [name for name in ("open", "high", "low", "close") if getattr(ours, name) != getattr(theirs, name)]
    if not math.isclose(ours.volume, theirs.volume, rel_tol=VOLUME_TOLERANCE, abs_tol=1e-12):
        found.append("volume")
    return tuple(found)
