"""A seeded market of trades, the same for every run, and its bars by the plainest possible code."""

import random
from collections.abc import Iterable, Sequence

from shared.messages import Side, Trade
from shared.store.port import Row

START_NS = 1_767_225_600_000_000_000
RECV_DELAY_NS = 1_500_000


def trades(
    n: int, *, venue: str = "testnet", instruments: Sequence[str] = ("A-USDT", "B-USDT"), step_ns: int = 1_000_000
) -> list[Trade]:
    """Return `n` trades in the venue's order; some share a nanosecond. Sums are exact in binary floating point."""
    seeded = random.Random(n)
    made = []
    now_ns = START_NS
    for number in range(n):
        now_ns += seeded.randrange(0, 2 * step_ns) if number % 7 else 0
        price = seeded.randrange(64_000, 65_000) / 64
        made.append(
            Trade(
                venue=venue,
                instrument=instruments[number % len(instruments)],
                trade_id=str(number),
                side=Side.BUY if seeded.random() < 0.5 else Side.SELL,
                price=price,
                quantity=seeded.randrange(1, 1_000) / 64,
                ts_event_ns=now_ns,
                ts_recv_ns=now_ns + RECV_DELAY_NS,
                sequence=number + 1,
            )
        )
    return made


def rows_of(found: Iterable[Trade]) -> list[Row]:
    """Return trades as the recorder sees them."""
    return [Row(one, f"md.trade.{one.venue}.{one.instrument}", one.ts_recv_ns + 1) for one in found]


def bars_of(
    found: Iterable[Trade], width_ns: int
) -> dict[tuple[str, int], tuple[float, float, float, float, float, float, int]]:
    """Return (instrument, open time) -> open, high, low, close, volume, quote volume, trades."""
    bars: dict[tuple[str, int], tuple[float, float, float, float, float, float, int]] = {}
    for one in found:
        key = (one.instrument, one.ts_event_ns - one.ts_event_ns % width_ns)
        price, quantity = one.price, one.quantity
        if key not in bars:
            bars[key] = (price, price, price, price, quantity, price * quantity, 1)
        else:
            first, high, low, _, volume, quote, count = bars[key]
            bars[key] = (
                first, max(high, price), min(low, price), price, volume + quantity, quote + price * quantity, count + 1
            )  # fmt: skip
    return bars
