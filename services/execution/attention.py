"""Which markets a reconciliation asks about: venues count their questions market by market, and allow only so many.

In: our orders, markets where something is suspected, time. Out: the markets of one pass: those where something may have
happened, and a few others in their turn. Never: a market that its turn passes over.

A trade moves its market's balance, which every pass compares: so a quiet market is asked about only in its turn.
"""

from services.execution.desk import Desk
from shared.clock import NANOSECONDS_PER_SECOND

TURNS = 2


class Attention:
    """Choose markets for one desk."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._suspects: set[str] = set()
        self._next = 0
        self._turned_ns: int | None = None
        self._is_first = True

    def suspect(self, market: str) -> None:
        """Ask about a market until a pass has done so."""
        if market in self._desk.markets:
            self._suspects.add(market)

    def begin(self) -> None:
        """Begin a pass: the next markets have their turn, about once in every interval of reconciliation."""
        desk = self._desk
        now_ns, interval_ns = desk.age_clock_ns(), int(desk.config.reconcile_interval_s * NANOSECONDS_PER_SECOND)
        if self._turned_ns is not None and 2 * (now_ns - self._turned_ns) < interval_ns:
            return
        self._turned_ns = now_ns
        for _ in range(min(TURNS, len(desk.markets))):
            self._suspects.add(desk.markets[self._next % len(desk.markets)])
            self._next += 1

    def for_orders(self) -> tuple[str, ...]:
        """Return where to ask for resting orders: everywhere in the first pass."""
        desk = self._desk
        wanted = self._suspects | {order.intent.instrument for order in desk.books.open_orders()}
        return tuple(market for market in desk.markets if self._is_first or market in wanted)

    def for_trades(self) -> tuple[str, ...]:
        """Return where to ask for trades; the orders were asked for before."""
        desk = self._desk
        wanted = self._suspects | {order.intent.instrument for order in desk.books.uncertain_orders()}
        return tuple(market for market in desk.markets if market in wanted)

    def end(self) -> None:
        """End a pass in which every question was answered."""
        self._suspects.clear()
        self._is_first = False
