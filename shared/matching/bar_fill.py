"""The one model of fills against bars, for paper, the pipeline and the backtest.

In: an instrument, what is wanted, one bar's prices and free volume, the model's parameters. Out: one fill or none.
Never: a price rounded in our favour, more quantity than the volume cap leaves, more quote spent than was given.
Market orders fill at the close, moved against us by half the spread and the slippage. A resting limit order fills at
its price when the bar trades there, or at the open when the bar opens through it.
"""

from decimal import Decimal

import msgspec

from shared.matching.exact import add, ceil_to, floor_to, floor_units, multiply, subtract
from shared.matching.fees import FeeMode, FeeSchedule, fee_of
from shared.messages.base import Side
from shared.messages.instrument import Instrument
from shared.messages.order import Liquidity

ZERO = Decimal(0)
ONE = Decimal(1)
BASIS_POINT = Decimal("0.0001")


class FillModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parametrise fills: basis points of the price, the share of a bar's volume that may be ours, and the fees.

    With `limit_needs_trade_through` a touch does not fill a resting order: the bar must trade beyond its price.
    """

    half_spread_bps: Decimal = Decimal(1)
    slippage_bps: Decimal = Decimal(2)
    volume_share_max: Decimal = Decimal("0.1")
    fees: FeeSchedule = FeeSchedule(taker_rate=Decimal("0.001"), maker_rate=Decimal("0.001"))
    limit_needs_trade_through: bool = False

    def __post_init__(self) -> None:
        for name in ("half_spread_bps", "slippage_bps"):
            value = getattr(self, name)
            if not value.is_finite() or not 0 <= value < 10_000:
                raise ValueError(f"{name} must be basis points from 0 to below 10000, got {value}")
        if self.half_spread_bps + self.slippage_bps >= 10_000:
            raise ValueError("half_spread_bps + slippage_bps must be below 10000")
        if not self.volume_share_max.is_finite() or not 0 < self.volume_share_max <= 1:
            raise ValueError(f"volume_share_max must be a fraction above 0, at most 1, got {self.volume_share_max}")
        if self.fees.mode is FeeMode.THIRD:
            raise ValueError("fees.mode 'third' has no meaning for bars: use 'get', 'quote' or 'base'")


class BarFill(msgspec.Struct, frozen=True):
    """State one fill; `quantity` is zero when nothing filled.

    `unfilled_quantity` is the part of the wanted quantity (for a quote amount: of what it buys at `price`) left over.
    """

    price: Decimal
    quantity: Decimal
    fee: Decimal
    fee_asset: str
    liquidity: Liquidity
    unfilled_quantity: Decimal

    @property
    def quote(self) -> Decimal:
        """Return price x quantity, in quote units, without the fee."""
        return multiply(self.price, self.quantity)


def touch_price(instrument: Instrument, side: Side, close: Decimal, model: FillModel) -> Decimal:
    """Return the best opposite price that a bar implies: close and half the spread, rounded to the tick against us."""
    return _moved(instrument, side, close, model.half_spread_bps)


def taker_price(instrument: Instrument, side: Side, close: Decimal, model: FillModel) -> Decimal:
    """Return the price a market order pays or gets: close, half the spread and slippage, rounded against us.

    Zero for a sell when that is below one tick: such an order cannot fill.
    """
    return _moved(instrument, side, close, add(model.half_spread_bps, model.slippage_bps))


def volume_available(instrument: Instrument, volume: Decimal, model: FillModel, volume_used: Decimal = ZERO) -> Decimal:
    """Return the quantity that a bar's volume (base units) leaves for us after `volume_used`, on the step grid."""
    left = subtract(multiply(volume, model.volume_share_max), volume_used)
    return floor_to(left, instrument.step_size) if left > 0 else ZERO


def quantity_for_quote(
    instrument: Instrument, side: Side, quote_amount: Decimal, price: Decimal, model: FillModel
) -> Decimal:
    """Return the most quantity, on the step grid, that `quote_amount` pays for at `price`, a fee in quote included."""
    unit_price = price
    if side is Side.BUY and model.fees.mode is FeeMode.QUOTE:
        unit_price = multiply(price, add(ONE, model.fees.taker_rate))
    lots = floor_units(quote_amount, multiply(unit_price, instrument.step_size))
    return multiply(instrument.step_size, lots)


def fill_market(
    instrument: Instrument,
    side: Side,
    model: FillModel,
    *,
    close: Decimal,
    available: Decimal,
    quantity: Decimal | None = None,
    quote_amount: Decimal | None = None,
    limit_price: Decimal | None = None,
) -> BarFill:
    """Fill a taker against a bar's close, up to `available` (base units, from `volume_available`).

    Exactly one of `quantity` (on the step grid) and `quote_amount` is given, else ValueError. `limit_price` is the
    worst price allowed: beyond the touch price nothing fills; the slippage never takes the fill beyond the limit.
    """
    if (quantity is None) == (quote_amount is None):
        raise ValueError("exactly one of quantity and quote_amount must be given")
    price = taker_price(instrument, side, close, model)
    if limit_price is not None:
        price = _not_beyond(instrument, side, price, limit_price)
    wanted = quantity if quantity is not None else ZERO
    if quote_amount is not None and price > 0:
        wanted = quantity_for_quote(instrument, side, quote_amount, price, model)
    touch = touch_price(instrument, side, close, model)
    if price <= 0 or (limit_price is not None and is_beyond(side, touch, limit_price)):
        available = ZERO
    return _fill(instrument, side, model, Liquidity.TAKER, price=price, wanted=wanted, available=available)


def fill_resting(
    instrument: Instrument,
    side: Side,
    model: FillModel,
    *,
    limit_price: Decimal,
    quantity: Decimal,
    bar_open: Decimal,
    high: Decimal,
    low: Decimal,
    available: Decimal,
) -> BarFill:
    """Fill a limit order that rested before the bar opened, up to `available` (base units).

    It fills as maker: at `limit_price`, or at the open (rounded to the tick against us) when that is better.
    """
    extreme = low if side is Side.BUY else high
    reached = not is_beyond(side, extreme, limit_price)
    if model.limit_needs_trade_through and extreme == limit_price:
        reached = False
    price = _not_beyond(instrument, side, _rounded(instrument, side, bar_open), limit_price)
    available = available if reached else ZERO
    return _fill(instrument, side, model, Liquidity.MAKER, price=price, wanted=quantity, available=available)


def is_beyond(side: Side, price: Decimal, limit_price: Decimal) -> bool:
    """Tell whether `price` is worse than `limit_price` for that side."""
    return price > limit_price if side is Side.BUY else price < limit_price


def _not_beyond(instrument: Instrument, side: Side, price: Decimal, limit_price: Decimal) -> Decimal:
    if side is Side.BUY:
        return min(price, floor_to(limit_price, instrument.tick_size))
    return max(price, ceil_to(limit_price, instrument.tick_size))


def _moved(instrument: Instrument, side: Side, close: Decimal, against_us_bps: Decimal) -> Decimal:
    share = multiply(against_us_bps, BASIS_POINT)
    factor = add(ONE, share) if side is Side.BUY else subtract(ONE, share)
    return _rounded(instrument, side, multiply(close, factor))


def _rounded(instrument: Instrument, side: Side, price: Decimal) -> Decimal:
    return ceil_to(price, instrument.tick_size) if side is Side.BUY else floor_to(price, instrument.tick_size)


def _fill(
    instrument: Instrument,
    side: Side,
    model: FillModel,
    liquidity: Liquidity,
    *,
    price: Decimal,
    wanted: Decimal,
    available: Decimal,
) -> BarFill:
    filled = min(wanted, floor_to(available, instrument.step_size))
    fee, fee_asset = fee_of(model.fees, instrument, side, liquidity, price=price, quantity=filled)
    return BarFill(price, filled, fee, fee_asset, liquidity, subtract(wanted, filled))
