"""What an execution costs, and in which asset.

In: a fee schedule and one execution. Out: the exact fee and its asset. Never: a fee that rounds in our favour.
"""

from decimal import Decimal
from enum import StrEnum

import msgspec

from shared.matching.exact import ceil_units, multiply
from shared.messages.base import Side
from shared.messages.instrument import Instrument
from shared.messages.order import Liquidity


class FeeMode(StrEnum):
    """Name the asset that a fee is charged in: `get` is the asset received, `third` one that is not traded."""

    GET = "get"
    QUOTE = "quote"
    BASE = "base"
    THIRD = "third"


class FeeSchedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """State the fee rates (fractions of the traded amount) and the asset they are charged in.

    A third asset's fee is rounded up to `third_asset_step`, since its price divides.
    """

    maker_rate: Decimal = Decimal(0)
    taker_rate: Decimal = Decimal(0)
    mode: FeeMode = FeeMode.GET
    third_asset: str | None = None
    third_asset_step: Decimal = Decimal("0.00000001")

    def __post_init__(self) -> None:
        for name in ("maker_rate", "taker_rate"):
            value = getattr(self, name)
            if not value.is_finite() or not 0 <= value < 1:
                raise ValueError(f"{name} must be a fraction from 0 to below 1, got {value}")
        if (self.mode is FeeMode.THIRD) != (self.third_asset is not None):
            raise ValueError("third_asset must be set for mode 'third' and only for it")
        if not self.third_asset_step.is_finite() or self.third_asset_step <= 0:
            raise ValueError(f"third_asset_step must be positive, got {self.third_asset_step}")

    def rate(self, liquidity: Liquidity) -> Decimal:
        """Return the rate for a maker or a taker."""
        return self.maker_rate if liquidity is Liquidity.MAKER else self.taker_rate


def fee_of(
    schedule: FeeSchedule,
    instrument: Instrument,
    side: Side,
    liquidity: Liquidity,
    *,
    price: Decimal,
    quantity: Decimal,
    third_asset_price: Decimal | None = None,
) -> tuple[Decimal, str]:
    """Return the fee of one execution and its asset.

    `third_asset_price` is in quote units for one unit of the third asset; ValueError when it is needed and missing.
    """
    rate = schedule.rate(liquidity)
    mode = schedule.mode
    if mode is FeeMode.BASE or (mode is FeeMode.GET and side is Side.BUY):
        return multiply(quantity, rate), instrument.base
    quote_fee = multiply(multiply(price, quantity), rate)
    if mode is not FeeMode.THIRD:
        return quote_fee, instrument.quote
    if schedule.third_asset is None or third_asset_price is None or third_asset_price <= 0:
        raise ValueError(f"a fee in {schedule.third_asset} needs that asset's price in {instrument.quote}")
    # The steps that cover fee / price, without an inexact quotient in between.
    steps = ceil_units(quote_fee, multiply(third_asset_price, schedule.third_asset_step))
    return multiply(Decimal(steps), schedule.third_asset_step), schedule.third_asset
