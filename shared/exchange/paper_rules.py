"""What the paper venue refuses, and what it says of an order that did not fill. Pure.

In: a request, the instrument and its market. Out: nothing, or RejectedError with a VenueRejectCode.
Never: an order off the grid, below a minimum, or without the money for all of it.
"""

from decimal import Decimal

from shared.errors import RejectedError
from shared.exchange.paper_account import ZERO, balance_of, lock_unit, paid_amount, paid_asset
from shared.exchange.paper_market import Market, Taken, is_marketable, touch
from shared.exchange.port import OrderRequest, VenueCancelReason, VenueRejectCode
from shared.matching import FillModel
from shared.matching.bar_fill import is_beyond, taker_price
from shared.matching.exact import add, is_amount, multiply, whole_units
from shared.messages import Balance, Instrument, OrderType, Side, TimeInForce


def refuse(code: VenueRejectCode, detail: str) -> RejectedError:
    """Return the error that refuses a request."""
    return RejectedError(code.value, detail)


def check_shape(request: OrderRequest) -> None:
    """Refuse a request that contradicts itself."""
    problem = _shape_problem(request)
    if problem:
        raise refuse(VenueRejectCode.REQUEST_MALFORMED, problem)


def check_market(request: OrderRequest, instrument: Instrument, market: Market, model: FillModel) -> None:
    """Refuse a request off the grid, below a minimum, without a market, or post-only that would take."""
    _check_grid(request, instrument)
    best = touch(market, instrument, request.side, model)
    if best is None:
        raise refuse(VenueRejectCode.MARKET_MISSING, f"{instrument.symbol} has no price to fill against yet")
    if request.quantity is not None and request.quantity < instrument.quantity_min:
        raise refuse(
            VenueRejectCode.QUANTITY_MIN, f"quantity {request.quantity} is below the minimum {instrument.quantity_min}"
        )
    notional = request.quote_amount
    if request.quantity is not None:
        notional = multiply(request.quantity, best if request.limit_price is None else request.limit_price)
    if notional is not None and notional < instrument.notional_min:
        raise refuse(
            VenueRejectCode.NOTIONAL_MIN, f"notional {notional} is below the minimum {instrument.notional_min}"
        )
    if (
        request.time_in_force is TimeInForce.POST_ONLY
        and request.limit_price is not None
        and is_marketable(market, instrument, request.side, request.limit_price, model)
    ):
        raise refuse(VenueRejectCode.POST_ONLY_WOULD_TAKE, f"limit price {request.limit_price} would take from {best}")


def check_taken(request: OrderRequest, instrument: Instrument, taken: Taken) -> None:
    """Refuse an order by quote amount that pays for less than the minimum quantity, or for less than one step."""
    if request.quote_amount is None:
        return
    wanted = taken.unfilled_quantity
    for fill in taken.fills:
        wanted = add(wanted, fill.quantity)
    if wanted < max(instrument.quantity_min, instrument.step_size):
        raise refuse(
            VenueRejectCode.QUANTITY_MIN,
            f"{request.quote_amount} {instrument.quote} pays for {wanted}, below the minimum quantity",
        )


def check_balance(
    request: OrderRequest,
    instrument: Instrument,
    model: FillModel,
    *,
    market: Market,
    taken: Taken,
    balances: dict[str, Balance],
) -> None:
    """Refuse an order that the free balance does not cover, were all of it to fill."""
    asset = paid_asset(instrument, request.side)
    needed = _needed(request, instrument, model, market, taken)
    free = balance_of(balances, asset).free
    if free < needed:
        raise refuse(VenueRejectCode.BALANCE, f"needs {needed} {asset}, {free} are free")


def cancel_reason(request: OrderRequest, instrument: Instrument, model: FillModel, market: Market) -> VenueCancelReason:
    """Return why what an order wanted beyond its fills was not there; `market` is the one before the order."""
    bound = request.price_bound if request.limit_price is None else request.limit_price
    if bound is not None and not is_marketable(market, instrument, request.side, bound, model):
        return VenueCancelReason.UNFILLED if request.limit_price is not None else VenueCancelReason.PRICE_BOUND
    if market.is_book:
        return VenueCancelReason.UNFILLED
    return VenueCancelReason.VOLUME_CAP if market.volume else VenueCancelReason.NO_VOLUME


def _needed(request: OrderRequest, instrument: Instrument, model: FillModel, market: Market, taken: Taken) -> Decimal:
    if request.limit_price is not None and request.quantity is not None:
        return multiply(request.quantity, lock_unit(model.fees, request.side, request.limit_price))
    if request.quote_amount is not None and request.side is Side.BUY:
        return request.quote_amount
    needed = ZERO
    for fill in taken.fills:
        needed = add(needed, paid_amount(instrument, request.side, fill))
    rest_price = ZERO
    if not market.is_book and market.close is not None:
        rest_price = taker_price(instrument, request.side, market.close, model)
    elif taken.fills:
        rest_price = taken.fills[-1].price
    return add(needed, multiply(taken.unfilled_quantity, lock_unit(model.fees, request.side, rest_price)))


def _check_grid(request: OrderRequest, instrument: Instrument) -> None:
    for name, value, unit in (
        ("quantity", request.quantity, instrument.step_size),
        ("limit_price", request.limit_price, instrument.tick_size),
    ):
        if value is not None and whole_units(value, unit) is None:
            raise refuse(VenueRejectCode.PRECISION, f"{name} {value} is no multiple of {unit}")


def _shape_problem(request: OrderRequest) -> str:
    if not request.client_order_id:
        return "client_order_id must not be empty"
    for name in ("quantity", "quote_amount", "limit_price", "price_bound"):
        value = getattr(request, name)
        if value is not None and not is_amount(value):
            return f"{name} must be a positive number of at most 40 digits, got {value}"
    if (request.quantity is None) == (request.quote_amount is None):
        return "exactly one of quantity and quote_amount must be set"
    is_limit = request.type is OrderType.LIMIT
    if is_limit != (request.limit_price is not None):
        return "limit_price must be set for limit orders and only for them"
    if is_limit and request.quote_amount is not None:
        return "quote_amount is for market orders only"
    if not is_limit and request.time_in_force is TimeInForce.POST_ONLY:
        return "a market order cannot be post-only"
    if (
        request.limit_price is not None
        and request.price_bound is not None
        and is_beyond(request.side, request.limit_price, request.price_bound)
    ):
        return f"limit_price {request.limit_price} is worse than price_bound {request.price_bound}"
    return ""
