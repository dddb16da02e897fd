"""The worst that one order can do: the price it may pay, what it may cost, give away and add to a holding.

Amounts are computed with enough digits to be exact. Never: a bound outside the collar, a number out of a NaN.
"""

from decimal import Decimal

import msgspec

from services.risk.core.limits import Limits
from services.risk.core.refusal import Refusal, refuse
from services.risk.core.view import View
from shared.domain.instruments import ceil_to_grid, floor_to_grid
from shared.messages import Instrument, OrderIntent, RefusalCode, Side

# Beyond these no market's number lies, and the arithmetic below stays exact within 120 digits.
EXPONENT_MAX = 40
DIGITS_MAX = 60

ZERO = Decimal(0)
ONE = Decimal(1)


class Exposure(msgspec.Struct, frozen=True):
    """State an order's worst case: quantities in base units, everything else in quote units.

    `bound` is on the tick grid, at or inside what the intent accepts. `cost` (buys, fee included) and `given` (sells)
    are what must be there. `added_value` is what a buy adds to the holding at the reference price.
    """

    reference: Decimal
    bound: Decimal
    quantity_max: Decimal
    notional_max: Decimal
    cost: Decimal
    given: Decimal
    added_value: Decimal


def is_amount(value: Decimal) -> bool:
    """Tell whether `value` is a number that a market can have: finite, not negative, of a sane size."""
    if not value.is_finite() or value < 0:
        return False
    return value == 0 or (abs(value.adjusted()) <= EXPONENT_MAX and len(value.as_tuple().digits) <= DIGITS_MAX)


def is_positive_amount(value: Decimal) -> bool:
    """Tell whether `value` is a sane amount above zero."""
    return is_amount(value) and value > 0


def market_of(view: View, limits: Limits) -> tuple[Instrument, tuple[Decimal, ...]] | Refusal:
    """Return the instrument and its reference prices: the last close, then the mid when a newer one is known.

    Refuses when the instrument is unknown, a price is missing or no number, or the newer book is crossed.
    """
    instrument, price, quote = view.instrument, view.price, view.quote
    if instrument is None:
        return refuse(RefusalCode.INSTRUMENT_UNKNOWN, "no definition of this instrument was seen")
    if instrument.quote != limits.quote_asset:
        return refuse(
            RefusalCode.INSTRUMENT_UNKNOWN,
            f"{instrument.symbol} is quoted in {instrument.quote}, the limits are in {limits.quote_asset}",
        )
    if price is None:
        why = f"has no price: {view.feed_reason}" if view.feed_reason else "has no closed bar yet"
        return refuse(RefusalCode.PRICE_MISSING, f"{instrument.symbol} {why}")
    if not is_positive_amount(price.value):
        return refuse(RefusalCode.PRICE_MISSING, f"the close of {instrument.symbol} is no price", close=price.value)
    if quote is None or quote.at_ns < price.at_ns:
        return instrument, (price.value,)
    if not (is_positive_amount(quote.bid) and is_positive_amount(quote.ask)):
        return refuse(RefusalCode.PRICE_MISSING, "the book has no price", bid=quote.bid, ask=quote.ask)
    if quote.bid >= quote.ask:
        return refuse(RefusalCode.DATA_STALE, "the book is crossed or locked", bid=quote.bid, ask=quote.ask)
    return instrument, (price.value, (quote.bid + quote.ask) / 2)


def amounts_are_sane(intent: OrderIntent) -> bool:
    """Tell whether every amount and price that the intent names is a positive number of a sane size."""
    named = (intent.quantity, intent.quote_amount, intent.limit_price, intent.price_bound)
    return all(value is None or is_positive_amount(value) for value in named)


def exposure_of(intent: OrderIntent, view: View, limits: Limits) -> Exposure | Refusal:
    """Return the worst case of an intent, or why it cannot be known."""
    if not amounts_are_sane(intent) or (intent.quantity is None) == (intent.quote_amount is None):
        return refuse(RefusalCode.INTENT_MALFORMED, "an amount or price is no positive number of a sane size")
    market = market_of(view, limits)
    if isinstance(market, Refusal):
        return market
    instrument, references = market
    bound = _bound(intent, references, instrument, limits)
    if bound <= 0:
        return refuse(
            RefusalCode.PRICE_COLLAR, "no price of the grid lies within the collar", tick=instrument.tick_size
        )
    highest, lowest = references[0] * (ONE + limits.price_collar), references[0] * (ONE - limits.price_collar)
    amount = intent.quote_amount
    if intent.side is Side.BUY:
        quantity = intent.quantity or floor_to_grid(_given(amount) / lowest, instrument.step_size)
        notional = quantity * bound if amount is None else amount
        cost, given = notional * (ONE + limits.quote_fee_rate), ZERO
        added = quantity * references[0] if amount is None else amount
    else:
        quantity = intent.quantity or ceil_to_grid(_given(amount) / bound, instrument.step_size)
        notional = quantity * highest if amount is None else amount
        cost, given, added = ZERO, quantity, ZERO
    return Exposure(
        reference=references[0],
        bound=bound,
        quantity_max=quantity,
        notional_max=notional,
        cost=cost,
        given=given,
        added_value=added,
    )


def _bound(intent: OrderIntent, references: tuple[Decimal, ...], instrument: Instrument, limits: Limits) -> Decimal:
    named = [price for price in (intent.limit_price, intent.price_bound) if price is not None]
    if intent.side is Side.BUY:
        highest = min(named) if named else min(references) * (ONE + limits.price_collar)
        return floor_to_grid(highest, instrument.tick_size)
    lowest = max(named) if named else max(references) * (ONE - limits.price_collar)
    return ceil_to_grid(lowest, instrument.tick_size)


def _given(amount: Decimal | None) -> Decimal:
    if amount is None:
        raise AssertionError("an intent has a quantity or a quote amount")
    return amount
