"""What a market looked like a moment ago: its levels version by version, for snapshots that lag behind.

In: every level change. Out: the book as it was at an earlier version. Never: a level that was never there.
"""

from collections import deque
from decimal import Decimal

from services.sandbox_exchange.core.model import Depth, LevelChanged
from shared.messages import Side

CHANGES_KEPT = 20_000
ZERO = Decimal(0)


class BookTape:
    """Keep one market's levels and what its last changes replaced."""

    def __init__(self, depth: Depth) -> None:
        self.version = depth.version
        self._levels: dict[tuple[Side, Decimal], Decimal] = {}
        self._changes: deque[tuple[int, Side, Decimal, Decimal]] = deque(maxlen=CHANGES_KEPT)
        self.reset(depth)

    def reset(self, depth: Depth) -> None:
        """Start anew from a whole book."""
        self.version = depth.version
        self._changes.clear()
        self._levels = {(Side.BUY, price): quantity for price, quantity in depth.bids}
        self._levels.update({(Side.SELL, price): quantity for price, quantity in depth.asks})

    def take(self, change: LevelChanged) -> None:
        """Note a change; its version must follow the last one."""
        key = (change.side, change.price)
        before = self._levels.get(key, ZERO)
        if change.quantity:
            self._levels[key] = change.quantity
        else:
            self._levels.pop(key, None)
        self.version = change.version
        self._changes.append((change.version, change.side, change.price, before))

    def at(self, version: int, limit: int | None) -> Depth | None:
        """Return the book after change number `version`, or None when that is too long ago (or yet to come)."""
        if version > self.version or self.version - version > len(self._changes):
            return None
        levels = dict(self._levels)
        for changed, side, price, before in reversed(self._changes):
            if changed <= version:
                break
            levels[side, price] = before
        sides = {side: [(p, q) for (s, p), q in levels.items() if s is side and q] for side in Side}
        return Depth(
            "",
            version,
            tuple(sorted(sides[Side.BUY], reverse=True)[:limit]),
            tuple(sorted(sides[Side.SELL])[:limit]),
        )
