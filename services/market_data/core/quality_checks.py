"""What can be said about one message alone, or against the last good price. Pure predicates over numbers."""

import math
from collections.abc import Iterable, Sequence

from services.market_data.core.quality_words import EARLIEST_NS, LATEST_NS, Finding, Limits
from shared.messages import Bar, Bbo, BookSnapshot, Trade

type Findings = tuple[Finding, ...]


def trade_values(trade: Trade) -> Findings:
    """Check price and quantity of a trade: both positive numbers."""
    return _numbers((trade.price,), (trade.quantity,), quantity_may_be_zero=False)


def quote_values(quote: Bbo) -> Findings:
    """Check a best bid and ask. A side whose price and quantity are both 0 is missing."""
    sides = [(quote.bid_price, quote.bid_quantity), (quote.ask_price, quote.ask_quantity)]
    present = [side for side in sides if side != (0.0, 0.0)]
    found = _numbers((price for price, _ in present), (size for _, size in present), quantity_may_be_zero=True)
    if found:
        return found
    if len(present) < 2 or quote.bid_quantity == 0.0 or quote.ask_quantity == 0.0:
        return (Finding.ONE_SIDED,)
    if quote.bid_price == quote.ask_price:
        return (Finding.LOCKED,)
    return (Finding.CROSSED,) if quote.bid_price > quote.ask_price else ()


def book_values(book: BookSnapshot) -> Findings:
    """Check a book: positive levels, bids falling, asks rising, both sides there, not crossed."""
    levels = [*book.bids, *book.asks]
    found = _numbers((price for price, _ in levels), (size for _, size in levels), quantity_may_be_zero=False)
    if found:
        return found
    if not (_falls(book.bids) and _falls(book.asks[::-1])):
        return (Finding.DISORDER,)
    if not book.bids or not book.asks:
        return (Finding.ONE_SIDED,)
    bid, ask = book.bids[0][0], book.asks[0][0]
    if bid == ask:
        return (Finding.LOCKED,)
    return (Finding.BOOK_CROSSED,) if bid > ask else ()


def bar_values(bar: Bar) -> Findings:
    """Check a bar: positive prices, open and close between low and high, volumes from 0 up, an end after its begin."""
    volumes = [bar.volume] if bar.quote_volume is None else [bar.volume, bar.quote_volume]
    found = _numbers((bar.open, bar.high, bar.low, bar.close), volumes, quantity_may_be_zero=True)
    if found:
        return found
    is_ordered = bar.low <= min(bar.open, bar.close) and max(bar.open, bar.close) <= bar.high
    return () if is_ordered and bar.open_time_ns < bar.close_time_ns else (Finding.DISORDER,)


def times(event_ns: int, now_ns: int, limits: Limits, *, is_live: bool) -> Findings:
    """Check a time: of this age of the world, not far ahead of the clock, and for live messages not old."""
    if not EARLIEST_NS <= event_ns < LATEST_NS:
        return (Finding.TIME_UNIT,)
    ahead_ns = event_ns - now_ns
    if ahead_ns > limits.clock_ahead_ns_max:
        return (Finding.CLOCK_SKEW,)
    if ahead_ns > 0:
        return (Finding.NEGATIVE_LATENCY,)
    return (Finding.STALE,) if is_live and -ahead_ns > limits.age_ns_max else ()


def latency_ns(event_ns: int, now_ns: int) -> int:
    """Return how old an event is; 0 when the venue's clock runs ahead of this machine's."""
    return max(0, now_ns - event_ns)


def is_jump(before: float, after: float, factor_max: float) -> bool:
    """Tell whether two prices lie more than `factor_max` times apart, in either direction."""
    return max(before, after) > factor_max * min(before, after)


def _numbers(prices: Iterable[float], quantities: Iterable[float], *, quantity_may_be_zero: bool) -> Findings:
    found: list[Finding] = []
    prices, quantities = tuple(prices), tuple(quantities)
    if not all(map(math.isfinite, (*prices, *quantities))):
        return (Finding.NOT_A_NUMBER,)
    if any(price <= 0.0 for price in prices):
        found.append(Finding.BAD_PRICE)
    if any(size < 0.0 or (size == 0.0 and not quantity_may_be_zero) for size in quantities):
        found.append(Finding.BAD_QUANTITY)
    return tuple(found)


def _falls(levels: Sequence[tuple[float, float]]) -> bool:
    return all(levels[at][0] > levels[at + 1][0] for at in range(len(levels) - 1))
