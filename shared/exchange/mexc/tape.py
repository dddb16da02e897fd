"""A market's trades by two accounts: what the stream brought, and what the venue lists.

In: trades handed on, the venue's list of the same time. Out: which of the list never came. Pure. Never: a trade twice,
because it came late or because the two accounts join trades differently; a list believed that lacks what was streamed.

MEXC numbers no trades. So those of one millisecond, price and side are compared by their quantity, which is the same
however they are joined.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from decimal import Decimal
from math import inf

import msgspec

from shared.clock import NANOSECONDS_PER_MILLISECOND, NANOSECONDS_PER_MINUTE
from shared.domain.money import money_of
from shared.messages import Side, Trade

TRADES_KEPT = 5_000
OWED_FOR_NS = 10 * NANOSECONDS_PER_MINUTE
Key = tuple[int, float, Side]


class Listed(msgspec.Struct, frozen=True):
    """Hold a trade as the venue lists it."""

    time_ms: int
    price: float
    quantity: float
    side: Side

    @property
    def key(self) -> Key:
        """Return what is the same in both accounts."""
        return self.time_ms, self.price, self.side


class Tape:
    """Remember what was handed on, the newest `kept` trades at least."""

    def __init__(self, *, kept: int = TRADES_KEPT) -> None:
        self._kept = kept
        self._trades: deque[Sequence[Trade]] = deque()
        self._count = 0
        self._since_ns: int | None = None
        self._whole_from_ns = 0
        self._owed: dict[Key, Decimal] = {}

    @property
    def owes(self) -> bool:
        """Tell whether trades that were handed on from the venue's list may still come over the stream."""
        return bool(self._owed)

    def begin(self, at_ns: int) -> None:
        """Learn that we listen (venue's time); what was traded before the first time is not called lost."""
        if self._since_ns is None:
            self._since_ns = at_ns

    def add(self, trades: Sequence[Trade]) -> None:
        """Remember trades that were handed on."""
        self._trades.append(trades)
        self._count += len(trades)
        while self._count - len(self._trades[0]) >= self._kept:
            gone = self._trades.popleft()
            self._count -= len(gone)
            self._whole_from_ns = max(self._whole_from_ns, 1 + max(one.ts_event_ns for one in gone))

    def fresh(self, time_ms: int, price: float, side: Side, quantity: float) -> float:
        """Return how much of a streamed trade was not handed on from the venue's list before."""
        key = time_ms, price, side
        owed = self._owed.pop(key, None)
        if owed is None:
            return quantity
        left = owed - money_of(quantity)
        if left > 0:
            self._owed[key] = left
        return float(max(-left, Decimal(0)))

    def lacking(self, listed: Iterable[Listed], start_ns: int, end_ns: int) -> list[tuple[int, float]]:
        """Return the places in `listed`, all of [start, end), of which something never came, and how much.

        Raises ValueError, with the reason, where the two accounts cannot be held together.
        """
        if start_ns < self._whole_from_ns:
            raise ValueError("more was traded since than is remembered")
        ours = self._ours(start_ns, end_ns)
        rows, left = list(listed), {key: sum(each, Decimal(0)) for key, each in ours.items()}
        for one in rows:
            left[one.key] = left.get(one.key, Decimal(0)) - money_of(one.quantity)
        if lacks := sum(amount > 0 for amount in left.values()):
            raise ValueError(f"the venue's list lacks {lacks} of the trades that it streamed")
        return self._missing(rows, ours)

    def owe(self, time_ms: int, price: float, side: Side, quantity: float) -> None:
        """Learn that a trade was handed on from the venue's list: it may still come over the stream."""
        key, floor_ms = (time_ms, price, side), time_ms - OWED_FOR_NS // NANOSECONDS_PER_MILLISECOND
        self._owed = {known: owed for known, owed in self._owed.items() if known[0] >= floor_ms}
        self._owed[key] = self._owed.get(key, Decimal(0)) + money_of(quantity)

    def _ours(self, start_ns: int, end_ns: int) -> dict[Key, list[Decimal]]:
        ours: dict[Key, list[Decimal]] = {}
        for trades in self._trades:
            for one in trades:
                if start_ns <= one.ts_event_ns < end_ns:
                    key = one.ts_event_ns // NANOSECONDS_PER_MILLISECOND, one.price, one.side
                    ours.setdefault(key, []).append(money_of(one.quantity))
        return ours

    def _missing(self, rows: Sequence[Listed], ours: dict[Key, list[Decimal]]) -> list[tuple[int, float]]:
        since_ms = inf if self._since_ns is None else self._since_ns // NANOSECONDS_PER_MILLISECOND
        unmatched: list[int] = []
        for place, one in enumerate(rows):
            quantity = money_of(one.quantity)
            if quantity in ours.get(one.key, ()):
                ours[one.key].remove(quantity)
            elif one.time_ms >= since_ms:
                unmatched.append(place)
        rest = {key: sum(each, Decimal(0)) for key, each in ours.items()}
        found: list[tuple[int, float]] = []
        for place in unmatched:
            key, quantity = rows[place].key, money_of(rows[place].quantity)
            covered = min(rest.get(key, Decimal(0)), quantity)
            if covered:
                rest[key] -= covered
            if quantity > covered:
                found.append((place, float(quantity - covered)))
        return found
