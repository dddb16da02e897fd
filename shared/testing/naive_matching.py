"""A matching engine that is slow and obvious: one list of Decimals, searched and sorted anew for each order.

The real engine must agree with it (property tests) and be faster than it (benchmark).
"""

from decimal import Decimal

import msgspec

from shared.matching import NewOrder, SelfTradePrevention
from shared.messages import Side, TimeInForce

ZERO = Decimal(0)


class NaiveOrder(msgspec.Struct):
    """Hold one resting order."""

    order_id: str
    owner: str
    side: Side
    price: Decimal
    quantity: Decimal


class NaiveResult(msgspec.Struct, frozen=True):
    """State trades as `(maker id, price, quantity)`, what rests of the order, and the makers taken out."""

    trades: tuple[tuple[str, Decimal, Decimal], ...] = ()
    resting: Decimal = ZERO
    removed: tuple[str, ...] = ()


class NaiveEngine:
    """Match well-formed orders on one grid of quantities."""

    def __init__(self, step: Decimal) -> None:
        self.step = step
        self.resting: list[NaiveOrder] = []  # in the order of arrival

    def ordered(self, side: Side) -> list[NaiveOrder]:
        """Return a side's orders in the order in which they fill."""
        own = [order for order in self.resting if order.side is side]
        return sorted(own, key=lambda order: order.price, reverse=side is Side.BUY)

    def submit(self, order: NewOrder) -> NaiveResult:
        """Handle a new order."""
        if any(rest.order_id == order.order_id for rest in self.resting):
            return NaiveResult()
        found = [rest for rest in self.ordered(order.side.opposite) if _meets(order, rest)]
        if order.time_in_force is TimeInForce.POST_ONLY and found:
            return NaiveResult()
        trades: list[tuple[str, Decimal, Decimal]] = []
        removed: list[str] = []
        left = order.quantity if order.quantity is not None else order.quote_amount or ZERO
        stopped = False
        for rest in found:
            wanted = left if order.quantity is not None else left // (rest.price * self.step) * self.step
            if not wanted:
                break
            if rest.owner == order.owner and order.self_trade is not SelfTradePrevention.NONE:
                if order.self_trade is not SelfTradePrevention.CANCEL_TAKER:
                    removed.append(rest.order_id)
                stopped = order.self_trade is not SelfTradePrevention.CANCEL_MAKER
                if stopped:
                    break
                continue
            quantity = min(wanted, rest.quantity)
            trades.append((rest.order_id, rest.price, quantity))
            left -= quantity if order.quantity is not None else quantity * rest.price
            if quantity == wanted:
                if order.quantity is None:
                    left = ZERO
                break
        if order.time_in_force is TimeInForce.FOK and left:
            return NaiveResult()
        self._take(trades, removed)
        rests = left if not stopped and _may_rest(order) else ZERO
        if rests and order.limit_price is not None:
            self.resting.append(NaiveOrder(order.order_id, order.owner, order.side, order.limit_price, rests))
        return NaiveResult(tuple(trades), rests, tuple(removed))

    def cancel(self, order_id: str) -> Decimal | None:
        """Take an order out and return its rest, or None."""
        for rest in self.resting:
            if rest.order_id == order_id:
                self.resting.remove(rest)
                return rest.quantity
        return None

    def _take(self, trades: list[tuple[str, Decimal, Decimal]], removed: list[str]) -> None:
        taken = {order_id: quantity for order_id, _, quantity in trades}
        for rest in self.resting:
            rest.quantity -= taken.get(rest.order_id, ZERO)
        self.resting = [rest for rest in self.resting if rest.quantity and rest.order_id not in removed]


def _meets(order: NewOrder, rest: NaiveOrder) -> bool:
    if order.limit_price is None:
        return True
    return rest.price <= order.limit_price if order.side is Side.BUY else rest.price >= order.limit_price


def _may_rest(order: NewOrder) -> bool:
    return order.limit_price is not None and order.time_in_force in (TimeInForce.GTC, TimeInForce.POST_ONLY)
