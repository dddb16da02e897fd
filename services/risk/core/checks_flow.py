"""Checks of an intent against the orders around it: how many are open, how fast they come, repeats, self-match."""

from services.risk.core.exposure import exposure_of
from services.risk.core.limits import Limits
from services.risk.core.refusal import Refusal, refuse
from services.risk.core.view import ApprovedOrder, View
from shared.clock import NANOSECONDS_PER_MINUTE, NANOSECONDS_PER_SECOND
from shared.messages import OrderIntent, OrderType, RefusalCode, Side


def check_self_match(intent: OrderIntent, view: View, limits: Limits) -> Refusal | None:
    """Refuse an order that could trade with an own order resting on the other side."""
    worst = exposure_of(intent, view, limits)
    if isinstance(worst, Refusal):
        return worst
    for order in view.orders:
        if not order.is_open or order.instrument != intent.instrument or order.side is intent.side:
            continue
        if order.limit_price is None or order.type is not OrderType.LIMIT:
            continue
        rests_at = order.limit_price
        if worst.bound >= rests_at if intent.side is Side.BUY else worst.bound <= rests_at:
            return refuse(
                RefusalCode.SELF_MATCH,
                f"would trade with the own order {order.intent_id}",
                price_bound=worst.bound,
                resting_price=rests_at,
            )
    return None


def check_duplicate(intent: OrderIntent, view: View, limits: Limits) -> Refusal | None:
    """Refuse a second order like one within the window, of the same plan or while the first is still open.

    A plan never needs the same leg twice, and its retries carry the same intent id, which never comes here. The same
    order for another plan is a decision of its own, once the first has ended. What ended unfilled may be repeated.
    """
    for order in view.orders:
        age_ns = view.now_ns - order.approved_at_ns
        if age_ns >= limits.duplicate_window_ns or not _is_alike(intent, order):
            continue
        same_plan = order.correlation_id == intent.correlation_id and (order.is_open or order.filled_quantity > 0)
        if same_plan or order.is_open:
            return refuse(
                RefusalCode.DUPLICATE,
                f"repeats {order.intent_id}",
                age_ns=age_ns,
                duplicate_window_ns=limits.duplicate_window_ns,
            )
    return None


def check_open_orders(_intent: OrderIntent, view: View, limits: Limits) -> Refusal | None:
    """Refuse one open order too many."""
    count = sum(order.is_open for order in view.orders)
    if count + 1 > limits.open_orders_max:
        return refuse(
            RefusalCode.OPEN_ORDERS,
            "too many open orders: see risk.open_orders_max",
            open_orders=count,
            open_orders_max=limits.open_orders_max,
        )
    return None


def check_rate(_intent: OrderIntent, view: View, limits: Limits) -> Refusal | None:
    """Refuse one approval too many within a second or a minute of market time."""
    for window_ns, most, name in (
        (NANOSECONDS_PER_SECOND, limits.orders_per_second_max, "orders_per_second_max"),
        (NANOSECONDS_PER_MINUTE, limits.orders_per_minute_max, "orders_per_minute_max"),
    ):
        count = sum(view.now_ns - order.approved_at_ns < window_ns for order in view.orders)
        if count + 1 > most:
            return refuse(
                RefusalCode.RATE, f"too many orders in a short time: see risk.{name}", approved=count, most=most
            )
    return None


def _is_alike(intent: OrderIntent, order: ApprovedOrder) -> bool:
    return (
        order.strategy == intent.strategy
        and order.instrument == intent.instrument
        and order.side is intent.side
        and order.quantity == intent.quantity
        and order.quote_amount == intent.quote_amount
        and order.limit_price == intent.limit_price
    )
