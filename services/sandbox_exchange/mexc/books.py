"""Books as they were a few changes ago, for snapshots that are late.

In: level changes. Out: a book at an earlier version. Never: a level that stood otherwise at that version.
"""

from collections import deque
from decimal import Decimal

from services.sandbox_exchange.core.model import Depth, LevelChanged
from services.sandbox_exchange.core.port import Exchange
from shared.messages import Side

CHANGES_KEPT = 5_000


class BookHistory:
    """Follow one market's levels and keep what each change replaced."""

    def __init__(self, depth: Depth) -> None:
        self.version = depth.version
        self._levels = {Side.BUY: dict(depth.bids), Side.SELL: dict(depth.asks)}
        self._replaced: deque[tuple[int, Side, Decimal, Decimal | None]] = deque(maxlen=CHANGES_KEPT)

    def change(self, event: LevelChanged) -> None:
        """Follow a change."""
        levels = self._levels[event.side]
        self._replaced.append((event.version, event.side, event.price, levels.get(event.price)))
        if event.quantity:
            levels[event.price] = event.quantity
        else:
            levels.pop(event.price, None)
        self.version = event.version

    def at(self, symbol: str, version: int, levels_max: int) -> Depth:
        """Return the book after change number `version`, or the oldest that is known."""
        levels = {side: dict(known) for side, known in self._levels.items()}
        reached = self.version
        for number, side, price, quantity in reversed(self._replaced):
            if number <= version:
                break
            if quantity is None:
                levels[side].pop(price, None)
            else:
                levels[side][price] = quantity
            reached = number - 1
        bids = sorted(levels[Side.BUY].items(), reverse=True)[:levels_max]
        return Depth(symbol, reached, tuple(bids), tuple(sorted(levels[Side.SELL].items())[:levels_max]))


class BookHistories:
    """Follow every market whose book was asked for or streamed, from the first time on."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._known: dict[str, BookHistory] = {}

    def watch(self, symbol: str) -> BookHistory:
        """Return a market's history, which starts now when it is asked for first."""
        history = self._known.get(symbol)
        if history is None or history.version != self._exchange.depth(symbol, 1).version:
            history = self._known[symbol] = BookHistory(self._exchange.depth(symbol))
        return history

    def on_level(self, event: LevelChanged) -> None:
        """Follow a change."""
        history = self._known.get(event.symbol)
        if history is None:
            return
        if event.version == history.version + 1:
            history.change(event)
        else:
            del self._known[event.symbol]  # the venue was restored: what is known belongs to another past
