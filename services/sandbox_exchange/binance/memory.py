"""What the wire remembers that the venue need not: hidden orders, balances before a change, cancel ids.

In: the venue's events, faults that went off. Out: what a query must leave out or answer late.
Never: a change of the venue itself.
"""

from collections import OrderedDict

from services.sandbox_exchange.core.model import Event, Holding, HoldingChanged, VenueOrder

CANCEL_IDS_KEPT = 10_000


class Memory:
    """Listen to the venue and remember."""

    def __init__(self) -> None:
        self._hidden_until_ns: dict[int, int] = {}
        self._before: dict[str, tuple[int, dict[str, Holding]]] = {}
        self._cancel_ids: OrderedDict[int, str] = OrderedDict()

    def on_event(self, event: Event) -> None:
        """Note what a balance was before the last moment in which any changed."""
        if type(event) is not HoldingChanged:
            return
        time_ns, before = self._before.get(event.account, (0, {}))
        if time_ns != event.time_ns:
            before = {}
            self._before[event.account] = (event.time_ns, before)
        holding = event.holding
        before.setdefault(
            holding.asset,
            Holding(holding.asset, holding.free - event.free_change, holding.locked - event.locked_change),
        )

    def before_last_change(self, account: str, holdings: list[Holding]) -> list[Holding]:
        """Return holdings as they were before the last change."""
        before = self._before.get(account, (0, {}))[1]
        return [before.get(one.asset, one) for one in holdings]

    def hide(self, order: VenueOrder, until_ns: int) -> None:
        """Let queries not find an order until then."""
        self._hidden_until_ns[order.order_id] = until_ns

    def is_hidden(self, order: VenueOrder, now_ns: int) -> bool:
        """Tell whether an order is not to be found yet."""
        until_ns = self._hidden_until_ns.get(order.order_id)
        if until_ns is None:
            return False
        if now_ns < until_ns:
            return True
        del self._hidden_until_ns[order.order_id]
        return False

    def note_cancel(self, order_id: int, client_order_id: str) -> None:
        """Remember the client order id of a cancel request, for the report that it causes."""
        self._cancel_ids[order_id] = client_order_id
        if len(self._cancel_ids) > CANCEL_IDS_KEPT:
            self._cancel_ids.popitem(last=False)

    def canceled_by(self, order_id: int) -> str | None:
        """Return the client order id of the request that cancelled an order."""
        return self._cancel_ids.get(order_id)
