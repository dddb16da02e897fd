"""What a redenomination makes of a market's description.

In: a market and a factor. Out: the market with its grid moved along. Never: an inexact grid.
"""

from decimal import Decimal

import msgspec

from services.sandbox_exchange.core.accounts import exact_quotient
from services.sandbox_exchange.core.model import Market, Refusal, RefusalCode
from shared.matching.exact import is_amount, multiply


def redenominated(market: Market, factor: Decimal) -> Market:
    """Return the market with prices `factor` times as high and quantities that much smaller."""
    if not is_amount(factor):
        raise Refusal(RefusalCode.MALFORMED, f"factor must be a positive number, got {factor}")
    old = market.instrument
    instrument = msgspec.structs.replace(
        old,
        tick_size=multiply(old.tick_size, factor),
        step_size=exact_quotient(old.step_size, factor),
        quantity_min=exact_quotient(old.quantity_min, factor),
    )
    return msgspec.structs.replace(
        market, instrument=instrument, quantity_max=exact_quotient(market.quantity_max, factor)
    )
