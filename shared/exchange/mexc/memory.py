"""What this process remembers of its own orders at MEXC, of a bounded number of them.

In: requests, reports. Out: whether an id was used, what was asked under it, and the newest that is known. Pure.
Never: a later state replaced by an earlier one; a fill twice.
"""

from collections import OrderedDict
from decimal import Decimal

import msgspec

from shared.exchange.port import OrderRequest, VenueOrder, VenueTrade
from shared.messages import Fill

ORDERS_MAX = 10_000


class Remembered(msgspec.Struct):
    """Hold what is known of one order; `request` is None for one that an earlier process has sent."""

    request: OrderRequest | None = None
    newest: VenueOrder | None = None


class Memory:
    """Remember orders by client order id, and executions by the venue's id."""

    def __init__(self, orders_max: int = ORDERS_MAX) -> None:
        self._orders_max = orders_max
        self._orders: OrderedDict[str, Remembered] = OrderedDict()
        self._cancelled: OrderedDict[str, None] = OrderedDict()
        self._fills: OrderedDict[str, dict[str, Fill]] = OrderedDict()

    def get(self, client_order_id: str) -> Remembered | None:
        """Return what is remembered of an order."""
        return self._orders.get(client_order_id)

    def request(self, client_order_id: str) -> OrderRequest | None:
        """Return what was asked for under the id."""
        known = self._orders.get(client_order_id)
        return known.request if known is not None else None

    def was_cancelled(self, client_order_id: str) -> bool:
        """Tell whether we have asked for the order's end."""
        return client_order_id in self._cancelled

    def on_cancel(self, client_order_id: str) -> None:
        """Learn that we ask for an order's end; that does not mean that there is one."""
        self._cancelled[client_order_id] = None
        if len(self._cancelled) > self._orders_max:
            self._cancelled.popitem(last=False)

    def add(self, client_order_id: str, request: OrderRequest | None) -> Remembered:
        """Remember that the id is used; what is known of it already stays."""
        known = self._orders.get(client_order_id)
        if known is None:
            known = self._orders[client_order_id] = Remembered()
            if len(self._orders) > self._orders_max:
                self._orders.popitem(last=False)
        known.request = request or known.request
        return known

    def forget(self, client_order_id: str) -> None:
        """Forget an order that MEXC has definitely not taken."""
        self._orders.pop(client_order_id, None)

    def on_order(self, order: VenueOrder) -> None:
        """Learn how an order stands."""
        if not order.client_order_id:
            return
        known = self.add(order.client_order_id, None)
        if known.newest is None or _progress(order) >= _progress(known.newest):
            known.newest = order

    def on_trade(self, trade: VenueTrade) -> None:
        """Learn of an execution."""
        fills = self._fills.get(trade.venue_order_id)
        if fills is None:
            fills = self._fills[trade.venue_order_id] = {}
            if len(self._fills) > self._orders_max:
                self._fills.popitem(last=False)
        fills.setdefault(trade.fill.fill_id, trade.fill)

    def with_fills(self, order: VenueOrder) -> VenueOrder:
        """Return the order with the executions that are remembered of it."""
        fills = self._fills.get(order.venue_order_id)
        return msgspec.structs.replace(order, fills=tuple(fills.values())) if fills else order


def _progress(order: VenueOrder) -> tuple[int, Decimal]:
    # Quantities only grow, and the end comes last.
    return int(order.state.is_terminal), order.filled_quantity
