"""What is checked and rounded before an order goes over the wire. Pure.

In: an order request, and what its venue says of the market. Out: the order as the wire has it, on the grid.
Never: a rounding that spends or sells more than was asked, or that fills at a worse price; a byte sent for an order
that the venue is known to refuse.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from enum import StrEnum

import msgspec

from shared.domain.money import plain
from shared.exchange.paper_rules import check_shape, refuse
from shared.exchange.port import OrderRequest, VenueRejectCode
from shared.matching.bar_fill import is_beyond
from shared.matching.exact import ceil_to, floor_to, floor_units, multiply, subtract, whole_units
from shared.messages import Instrument, OrderType, Side, TimeInForce


class MarketRules(msgspec.Struct, frozen=True):
    """State what a venue takes in one market; None where it sets no bound.

    `quote_step` is the smallest step of an amount given in quote units. The `market_` bounds are those of market
    orders alone, beside the others. `status` is the venue's own word for the market's state.
    """

    instrument: Instrument
    quote_step: Decimal
    quantity_max: Decimal | None = None
    market_quantity_min: Decimal | None = None
    market_quantity_max: Decimal | None = None
    notional_max: Decimal | None = None
    market_notional_max: Decimal | None = None
    price_min: Decimal | None = None
    price_max: Decimal | None = None
    is_trading: bool = True
    status: str = ""
    sides: frozenset[Side] = frozenset(Side)
    takes_market_orders: bool = True
    quote_amount_sides: frozenset[Side] = frozenset(Side)


class WireKind(StrEnum):
    """Name an order's type on the wire; `LIMIT_MAKER` must not take."""

    LIMIT = "limit"
    LIMIT_MAKER = "limit_maker"
    MARKET = "market"


class WireOrder(msgspec.Struct, frozen=True):
    """State an order as it is sent. A market order has `quantity` or `quote_amount`, all others price and quantity.

    `time_in_force` is GTC, IOC or FOK for a limit order, and None for the others, which have no choice.
    """

    kind: WireKind
    side: Side
    quantity: Decimal | None
    quote_amount: Decimal | None
    price: Decimal | None
    time_in_force: TimeInForce | None


def prepare(request: OrderRequest, rules: MarketRules) -> WireOrder:
    """Return the order to send. Raises RejectedError for what the venue would refuse.

    A market order of known quantity with a price bound becomes a limit order at the bound that does not rest; one by
    quote amount stays a market order (see `is_within` for its bound).
    """
    check_shape(request)
    instrument = rules.instrument
    if not rules.is_trading:
        raise refuse(VenueRejectCode.MARKET_CLOSED, f"{instrument.symbol} is not trading")
    if request.side not in rules.sides:
        raise refuse(VenueRejectCode.MARKET_CLOSED, f"{instrument.symbol} takes no {request.side.value} orders now")
    order = _by_quote(request, rules) if request.quote_amount is not None else _by_quantity(request, rules)
    _check_quantity(order, rules)
    _check_price(order, rules)
    _check_notional(order, rules)
    return order


def at_bound(request: OrderRequest, rules: MarketRules) -> WireOrder:
    """Return a buy by quote amount as a limit order at its price bound that does not rest, and spends less.

    Raises RejectedError when the amount does not pay for the minimum at the bound.
    """
    amount, bound = request.quote_amount, request.price_bound
    if amount is None or bound is None or request.side is not Side.BUY:
        raise refuse(VenueRejectCode.REQUEST_MALFORMED, "only a buy by quote amount with a price bound fits a bound")
    price = inward_price(bound, request.side, rules.instrument)
    step = rules.instrument.step_size
    # Whole steps that the amount pays for: no division, so nothing is rounded up.
    quantity = multiply(Decimal(floor_units(amount, multiply(price, step))), step) if price else Decimal(0)
    if not quantity:
        raise refuse(VenueRejectCode.QUANTITY_MIN, f"{amount} pays for no step of {step} at {bound}")
    replaced = msgspec.structs.replace(request, quantity=quantity, quote_amount=None)
    return prepare(replaced, rules)


def is_within(request: OrderRequest, opposite: Iterable[tuple[Decimal, Decimal]]) -> bool:
    """Tell whether a market order by quote amount fills within its price bound on these levels, best first.

    Levels that do not hold the whole amount are no proof: False.
    """
    if request.price_bound is None or request.quote_amount is None:
        return request.price_bound is None
    rest = request.quote_amount
    for price, quantity in opposite:
        if is_beyond(request.side, price, request.price_bound):
            return False
        rest = subtract(rest, multiply(price, quantity))
        if rest <= 0:
            return True
    return False


def middle(bids: Sequence[Decimal], asks: Sequence[Decimal]) -> Decimal | None:
    """Return the middle of the best prices, best first on each side; None while a side is empty."""
    return (bids[0] + asks[0]) / 2 if bids and asks else None


def floor_quantity(quantity: Decimal, instrument: Instrument) -> Decimal:
    """Round a quantity down to the grid; zero when it is less than one step."""
    return floor_to(quantity, instrument.step_size)


def inward_price(price: Decimal, side: Side, instrument: Instrument) -> Decimal:
    """Round a price to the grid so that nothing becomes worse for us: a buy's down, a sell's up."""
    return (floor_to if side is Side.BUY else ceil_to)(price, instrument.tick_size)


def wire_text(value: Decimal) -> str:
    """Return a number as venues read it: no exponent, no zeros at the end."""
    return plain(value)


def _by_quote(request: OrderRequest, rules: MarketRules) -> WireOrder:
    if not rules.takes_market_orders or request.side not in rules.quote_amount_sides:
        raise refuse(
            VenueRejectCode.REQUEST_MALFORMED,
            f"{rules.instrument.symbol} takes no {request.side.value} orders by quote amount",
        )
    if request.time_in_force is TimeInForce.FOK:
        raise refuse(VenueRejectCode.REQUEST_MALFORMED, "an order by quote amount cannot be fill-or-kill")
    amount = floor_to(request.quote_amount or Decimal(0), rules.quote_step)
    if not amount:
        raise refuse(VenueRejectCode.NOTIONAL_MIN, f"{request.quote_amount} is less than {rules.quote_step}")
    return WireOrder(WireKind.MARKET, request.side, None, amount, None, None)


def _by_quantity(request: OrderRequest, rules: MarketRules) -> WireOrder:
    instrument, price, force = rules.instrument, request.limit_price, request.time_in_force
    for name, value, unit in (
        ("quantity", request.quantity, instrument.step_size),
        ("limit_price", price, instrument.tick_size),
    ):
        if value is not None and whole_units(value, unit) is None:
            raise refuse(VenueRejectCode.PRECISION, f"{name} {value} is no multiple of {unit}")
    if request.type is OrderType.LIMIT:
        if force is TimeInForce.POST_ONLY:
            return WireOrder(WireKind.LIMIT_MAKER, request.side, request.quantity, None, price, None)
        return WireOrder(WireKind.LIMIT, request.side, request.quantity, None, price, force)
    if request.price_bound is not None:
        price = inward_price(request.price_bound, request.side, instrument)
        force = TimeInForce.FOK if force is TimeInForce.FOK else TimeInForce.IOC
        return WireOrder(WireKind.LIMIT, request.side, request.quantity, None, price, force)
    if not rules.takes_market_orders:
        raise refuse(VenueRejectCode.REQUEST_MALFORMED, f"{instrument.symbol} takes no market orders: give price_bound")
    if force is TimeInForce.FOK:
        raise refuse(VenueRejectCode.REQUEST_MALFORMED, "a fill-or-kill market order needs a price bound")
    return WireOrder(WireKind.MARKET, request.side, request.quantity, None, None, None)


def _check_quantity(order: WireOrder, rules: MarketRules) -> None:
    quantity, is_market = order.quantity, order.kind is WireKind.MARKET
    if quantity is None:
        return
    least = rules.instrument.quantity_min
    if is_market and rules.market_quantity_min is not None:
        least = max(least, rules.market_quantity_min)
    if quantity < least:
        raise refuse(VenueRejectCode.QUANTITY_MIN, f"quantity {quantity} is below the minimum {least}")
    for most in (rules.quantity_max, rules.market_quantity_max if is_market else None):
        if most is not None and quantity > most:
            raise refuse(VenueRejectCode.QUANTITY_MAX, f"quantity {quantity} is above the maximum {most}")


def _check_price(order: WireOrder, rules: MarketRules) -> None:
    price = order.price
    if price is None:
        return
    if price <= 0 or (rules.price_min is not None and price < rules.price_min):
        raise refuse(VenueRejectCode.PRICE_BAND, f"price {price} is below the minimum {rules.price_min or 'tick'}")
    if rules.price_max is not None and price > rules.price_max:
        raise refuse(VenueRejectCode.PRICE_BAND, f"price {price} is above the maximum {rules.price_max}")


def _check_notional(order: WireOrder, rules: MarketRules) -> None:
    # A market order by quantity has no price yet; only the venue can tell what it is worth.
    notional = order.quote_amount
    if order.price is not None and order.quantity is not None:
        notional = multiply(order.price, order.quantity)
    if notional is None:
        return
    if notional < rules.instrument.notional_min:
        raise refuse(
            VenueRejectCode.NOTIONAL_MIN, f"notional {notional} is below the minimum {rules.instrument.notional_min}"
        )
    for most in (rules.notional_max, rules.market_notional_max if order.kind is WireKind.MARKET else None):
        if most is not None and notional > most:
            raise refuse(VenueRejectCode.NOTIONAL_MAX, f"notional {notional} is above the maximum {most}")
