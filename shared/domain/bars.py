"""Bars of any interval out of trades or of smaller bars; whatever the chunks, the same bars.

In: trades in the venue's order, or closed bars, one by one. Out: closed bars, ascending, none for an interval in which
nothing happened. Never: an open bar, a trade counted twice, a bar that changes after it was given out.

Volumes are exact decimals, since float sums depend on how they are grouped: the bars of bars are the bars of the
trades. A trade is known by its id, never by its time: many share one. What comes after its bar was closed is counted
as late and left out.
"""

from decimal import Decimal

import msgspec

from shared.domain.money import add, money_of, multiply
from shared.messages.market import Bar

# No size and no price lies beyond; within, the sum of a billion products is exact in 120 digits.
SIZE_MAX, SIZE_MIN = 1e18, 1e-18


class ClosedBar(msgspec.Struct, frozen=True):
    """Hold one closed bar: prices in quote units, `volume` in base units, `quote_volume` where every part has one."""

    open_time_ns: int
    close_time_ns: int
    open: float
    high: float
    low: float
    close: float
    volume: Decimal
    quote_volume: Decimal | None
    parts: int


def part_of(bar: Bar) -> ClosedBar:
    """Return a bar message as a part of larger bars; raises InputError when a volume is no number."""
    quote = None if bar.quote_volume is None else money_of(bar.quote_volume)
    volume = money_of(bar.volume)
    return ClosedBar(bar.open_time_ns, bar.close_time_ns, bar.open, bar.high, bar.low, bar.close, volume, quote, 1)


class BarState(msgspec.Struct, frozen=True):
    """Hold all that a builder remembers: the open bar, the ids in it, the end of what is closed, what was left out."""

    open: ClosedBar | None = None
    trade_ids: tuple[str, ...] = ()
    closed_until_ns: int | None = None
    part_until_ns: int | None = None
    late: int = 0
    duplicates: int = 0


class BarBuilder:
    """Build bars of `interval_ns` on the grid through `origin_ns` (for weeks: a Monday); from trades or from bars."""

    def __init__(self, interval_ns: int, *, origin_ns: int = 0, state: BarState | None = None) -> None:
        if interval_ns < 1:
            raise ValueError(f"interval_ns must be at least 1, got {interval_ns}")
        state = state or BarState()
        self._interval_ns, self._origin_ns = interval_ns, origin_ns
        self._open = state.open
        self._ids = dict.fromkeys(state.trade_ids)
        self._closed_until_ns, self._part_until_ns = state.closed_until_ns, state.part_until_ns
        self.late, self.duplicates = state.late, state.duplicates

    def add_trade(self, trade_id: str, time_ns: int, price: float, quantity: float) -> ClosedBar | None:
        """Take a trade and return the bar that it closes, if any.

        Within a bar the order given is the venue's, whatever the times. Raises ValueError for a price or a quantity
        that is not a positive number.
        """
        for name, value in (("price", price), ("quantity", quantity)):
            if not SIZE_MIN <= value <= SIZE_MAX:
                raise ValueError(f"{name} of trade {trade_id} must be a positive number, got {value!r}")
        start_ns = self._start_of(time_ns)
        if self._is_closed(start_ns):
            self.late += 1
            return None
        if self._open is not None and start_ns == self._open.open_time_ns and trade_id in self._ids:
            self.duplicates += 1
            return None
        amount = money_of(quantity)
        worth = multiply(money_of(price), amount)
        closed = self._merge(self._whole(start_ns, ClosedBar(0, 0, price, price, price, price, amount, worth, 1)))
        self._ids[trade_id] = None
        return closed

    def add_bar(self, bar: ClosedBar) -> ClosedBar | None:
        """Take a smaller closed bar and return the bar that it closes, if any.

        Raises ValueError when the bar does not lie within one interval of the grid.
        """
        start_ns = self._start_of(bar.open_time_ns)
        if bar.close_time_ns > start_ns + self._interval_ns or bar.close_time_ns <= bar.open_time_ns:
            raise ValueError(
                f"a bar from {bar.open_time_ns} to {bar.close_time_ns} lies in no single interval of "
                f"{self._interval_ns} ns: choose an interval that is a multiple of the bars'"
            )
        if self._is_closed(start_ns):
            self.late += 1
            return None
        if self._part_until_ns is not None and bar.open_time_ns < self._part_until_ns:
            self.duplicates += 1
            return None
        self._part_until_ns = bar.close_time_ns
        return self._merge(self._whole(start_ns, bar))

    def advance(self, now_ns: int) -> ClosedBar | None:
        """Say that everything before `now_ns` has come, and return the bar that this closes, if any."""
        until_ns = self._start_of(now_ns)
        closed = None
        if self._open is not None and self._open.close_time_ns <= until_ns:
            closed = self._close()
        if self._closed_until_ns is None or until_ns > self._closed_until_ns:
            self._closed_until_ns = until_ns
        return closed

    def state(self) -> BarState:
        """Return all that the builder remembers, to go on from after a restart."""
        return BarState(
            self._open, tuple(self._ids), self._closed_until_ns, self._part_until_ns, self.late, self.duplicates
        )

    def _merge(self, part: ClosedBar) -> ClosedBar | None:
        now = self._open
        if now is None or now.open_time_ns != part.open_time_ns:
            closed = None if now is None else self._close()
            self._open, self._closed_until_ns = part, part.open_time_ns
            return closed
        quote = None
        if now.quote_volume is not None and part.quote_volume is not None:
            quote = add(now.quote_volume, part.quote_volume)
        self._open = ClosedBar(
            now.open_time_ns,
            now.close_time_ns,
            now.open,
            max(now.high, part.high),
            min(now.low, part.low),
            part.close,
            add(now.volume, part.volume),
            quote,
            now.parts + part.parts,
        )
        return None

    def _close(self) -> ClosedBar:
        closed = self._open
        assert closed is not None
        self._open = None
        self._ids.clear()
        self._closed_until_ns = closed.close_time_ns
        return closed

    def _is_closed(self, start_ns: int) -> bool:
        return self._closed_until_ns is not None and start_ns < self._closed_until_ns

    def _whole(self, start_ns: int, part: ClosedBar) -> ClosedBar:
        return msgspec.structs.replace(part, open_time_ns=start_ns, close_time_ns=start_ns + self._interval_ns)

    def _start_of(self, time_ns: int) -> int:
        return time_ns - (time_ns - self._origin_ns) % self._interval_ns
