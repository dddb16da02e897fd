"""What a venue refuses before it matches.

In: a request and its market. Out: nothing, or a Refusal. Never: a change.
"""

from decimal import Decimal

from services.sandbox_exchange.core.model import Market, OrderKind, PlaceOrder, Refusal, RefusalCode, TradingStatus
from shared.matching.exact import is_amount, multiply, whole_units
from shared.messages import TimeInForce

MAKER_FORCES = (TimeInForce.GTC, TimeInForce.POST_ONLY)


def check_status(market: Market, request: PlaceOrder) -> None:
    """Raise when the market lets no such order through."""
    if market.status is not TradingStatus.TRADING:
        raise Refusal(RefusalCode.MARKET_NOT_TRADING, f"{market.symbol} is {market.status}")
    if request.side not in market.allowed_sides:
        raise Refusal(RefusalCode.SIDE_NOT_ALLOWED, f"{market.symbol} takes no {request.side} orders")


def check_shape(request: PlaceOrder) -> None:
    """Raise when fields are missing, superfluous or no positive numbers."""
    for name in ("price", "quantity", "quote_amount"):
        value = getattr(request, name)
        if value is not None and not is_amount(value):
            raise Refusal(RefusalCode.MALFORMED, f"{name} must be a positive number, got {value}")
    if request.kind is OrderKind.MARKET:
        if request.price is not None or (request.quantity is None) == (request.quote_amount is None):
            raise Refusal(RefusalCode.MALFORMED, "a market order has either quantity or quote_amount, and no price")
        if request.time_in_force is TimeInForce.POST_ONLY:
            raise Refusal(RefusalCode.MALFORMED, "a market order cannot be post-only")
        return
    if request.price is None or request.quantity is None or request.quote_amount is not None:
        raise Refusal(RefusalCode.MALFORMED, "a limit order has price and quantity, and no quote_amount")
    if request.kind is OrderKind.LIMIT_MAKER and request.time_in_force not in MAKER_FORCES:
        raise Refusal(RefusalCode.MALFORMED, "a limit maker order rests: its time in force is gtc")


def check_filters(market: Market, request: PlaceOrder, reference: Decimal | None) -> None:
    """Raise when an order is off the grid, too small or too large; `reference` prices a market order by quantity."""
    instrument, price, quantity = market.instrument, request.price, request.quantity
    if price is not None and whole_units(price, instrument.tick_size) is None:
        raise Refusal(RefusalCode.PRICE_GRID, f"price {price} is no multiple of {instrument.tick_size}")
    if quantity is not None:
        if whole_units(quantity, instrument.step_size) is None:
            raise Refusal(RefusalCode.QUANTITY_GRID, f"quantity {quantity} is no multiple of {instrument.step_size}")
        if quantity < instrument.quantity_min:
            raise Refusal(RefusalCode.QUANTITY_MIN, f"quantity {quantity} is below {instrument.quantity_min}")
        if quantity > market.quantity_max:
            raise Refusal(RefusalCode.QUANTITY_MAX, f"quantity {quantity} is above {market.quantity_max}")
    notional = request.quote_amount
    unit_price = price if price is not None else reference
    if quantity is not None and unit_price is not None:
        notional = multiply(quantity, unit_price)
    if notional is None:
        return
    if notional < instrument.notional_min:
        raise Refusal(RefusalCode.NOTIONAL_MIN, f"notional {notional} is below {instrument.notional_min}")
    if notional > market.notional_max:
        raise Refusal(RefusalCode.NOTIONAL_MAX, f"notional {notional} is above {market.notional_max}")


def is_post_only(request: PlaceOrder) -> bool:
    """Tell whether the order must not take."""
    return request.kind is OrderKind.LIMIT_MAKER or request.time_in_force is TimeInForce.POST_ONLY
