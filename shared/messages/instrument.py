"""What can be traded: one spot market and its grid."""

from decimal import Decimal

import msgspec


class Instrument(msgspec.Struct, frozen=True, array_like=True):
    """Describe one spot market. `symbol` is the bus token `BASE-QUOTE`; sizes in base units, money in quote units."""

    symbol: str
    base: str
    quote: str
    tick_size: Decimal
    step_size: Decimal
    quantity_min: Decimal
    notional_min: Decimal

    def __post_init__(self) -> None:
        for name in ("tick_size", "step_size"):
            value = getattr(self, name)
            if not value.is_finite() or value <= 0:
                raise ValueError(f"{name} of {self.symbol} must be positive, got {value}")
        for name in ("quantity_min", "notional_min"):
            value = getattr(self, name)
            if not value.is_finite() or value < 0:
                raise ValueError(f"{name} of {self.symbol} must not be negative, got {value}")
