"""What the wire of one venue remembers beside the exchange: streams, listen keys, hidden orders, old balances.

In: events of the exchange, faults that were armed. Out: what a request sees. Never: a change of the exchange.
"""

import secrets
from collections.abc import Sequence
from decimal import Decimal

from services.sandbox_exchange.core.model import (
    Event,
    Holding,
    HoldingChanged,
    LevelChanged,
    OrderChanged,
    TradePrinted,
)
from services.sandbox_exchange.mexc.books import BookHistories
from services.sandbox_exchange.mexc.listen_keys import ListenKeys
from services.sandbox_exchange.mexc.private_feeds import PrivateFeeds
from services.sandbox_exchange.mexc.public_feeds import PublicFeeds
from services.sandbox_exchange.wire.context import Venue
from shared.clock import NANOSECONDS_PER_SECOND
from shared.matching.exact import subtract

LAG_S = 1.0


class MexcState:
    """Hold the wire's memory of one venue."""

    def __init__(self, venue: Venue) -> None:
        self.venue = venue
        self.listen_keys = ListenKeys(lambda: secrets.token_hex(32))
        self.books = BookHistories(venue.exchange)
        self.public = PublicFeeds(venue)
        self.private = PrivateFeeds(venue, self.listen_keys)
        self._hidden_until: dict[int, int] = {}
        self._last_changes: dict[str, list[HoldingChanged]] = {}
        venue.exchange.listen(self._on_event)

    def hide_order(self, order_id: int, seconds: float | None, now_ns: int) -> None:
        """Let an order be unknown to queries for a while."""
        lag_s = LAG_S if seconds is None else seconds
        self._hidden_until[order_id] = now_ns + int(lag_s * NANOSECONDS_PER_SECOND)

    def is_hidden(self, order_id: int, now_ns: int) -> bool:
        """Tell whether an order is not found yet."""
        if not self._hidden_until:
            return False
        until_ns = self._hidden_until.get(order_id, 0)
        if now_ns >= until_ns:
            self._hidden_until.pop(order_id, None)
        return now_ns < until_ns

    def stale_holdings(self, account: str) -> Sequence[Holding]:
        """Return what an account held before its last change."""
        held = {one.asset: one for one in self.venue.exchange.holdings(account)}
        for change in self._last_changes.get(account, []):
            now = held.get(change.holding.asset, Holding(change.holding.asset, Decimal(0), Decimal(0)))
            free, locked = subtract(now.free, change.free_change), subtract(now.locked, change.locked_change)
            held[now.asset] = Holding(now.asset, free, locked)
        return list(held.values())

    def _on_event(self, event: Event) -> None:
        if isinstance(event, LevelChanged):
            self.books.on_level(event)
            self.public.on_level(event)
        elif isinstance(event, TradePrinted):
            self.public.on_trade(event)
        elif isinstance(event, OrderChanged):
            self.private.on_order(event)
        elif isinstance(event, HoldingChanged):
            changes = self._last_changes.setdefault(event.account, [])
            if changes and changes[-1].time_ns != event.time_ns:
                changes.clear()
            changes.append(event)
            self.private.on_holding(event)
