"""Execution's settings: how paper fills are priced, and how patient it is with a venue."""

from decimal import Decimal
from enum import StrEnum

import msgspec

from shared.matching import FeeSchedule, FillModel


class ForeignOrders(StrEnum):
    """Name what is done about orders in the account that this stack did not place."""

    HALT = "halt"
    LEAVE_ALONE = "leave_alone"


_SHARE_EXAMPLE = "a share, for example 0.001 for 0.1 %"
# A value beyond these is a slip of the finger (a percentage for a share, milliseconds for seconds).
_RANGES: dict[str, tuple[Decimal, Decimal, str]] = {
    "half_spread_bps": (Decimal(0), Decimal(500), "basis points of the price, for example 1"),
    "slippage_bps": (Decimal(0), Decimal(500), "basis points of the price, for example 2"),
    "maker_fee_rate": (Decimal(0), Decimal("0.05"), _SHARE_EXAMPLE),
    "taker_fee_rate": (Decimal(0), Decimal("0.05"), _SHARE_EXAMPLE),
    "volume_share_max": (Decimal("0.000001"), Decimal(1), "a share of a bar's volume, for example 0.1 for 10 %"),
    "reconcile_interval_s": (Decimal("0.1"), Decimal(3_600), "seconds, for example 5"),
    "resolve_interval_s": (Decimal("0.01"), Decimal(60), "seconds, for example 1"),
    "misses_min": (Decimal(2), Decimal(100), "a whole number of answers, for example 3"),
    "misses_span_s": (Decimal("0.1"), Decimal(3_600), "seconds, for example 30"),
    "venue_timeout_s": (Decimal("0.1"), Decimal(60), "seconds, for example 5"),
    "market_lag_timeout_s": (Decimal("0.1"), Decimal(3_600), "seconds, for example 60"),
}


class ExecutionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Configure execution; bounds are checked on creation, ValueError names the key and the fix.

    `volume_share_max` is the part of a bar's volume that paper fills may take. Orders whose outcome is unknown are
    asked for every `resolve_interval_s`; everything is reconciled every `reconcile_interval_s`. An order is called
    never accepted after `misses_min` answers "no such order" that span at least `misses_span_s`. With
    `resend_same_id` such an order is sent again under the same client order id while its approval holds: right only
    for a venue that never executes one id twice, as the paper venue. An approval waits up to `market_lag_timeout_s`
    for the market time that it was decided on. `cancel_on_stop` cancels resting orders at a clean stop.
    `foreign_orders`: an order or a trade in the account that this stack did not make halts trading (`halt`), or is left
    alone (`leave_alone`); what it changes in the balances of the stack's assets halts in either case.
    """

    half_spread_bps: Decimal = Decimal(1)
    slippage_bps: Decimal = Decimal(2)
    maker_fee_rate: Decimal = Decimal("0.001")
    taker_fee_rate: Decimal = Decimal("0.001")
    volume_share_max: Decimal = Decimal("0.1")
    reconcile_interval_s: float = 5.0
    resolve_interval_s: float = 1.0
    misses_min: int = 3
    misses_span_s: float = 30.0
    resend_same_id: bool = True
    venue_timeout_s: float = 5.0
    market_lag_timeout_s: float = 60.0
    cancel_on_stop: bool = False
    foreign_orders: ForeignOrders = ForeignOrders.HALT

    def __post_init__(self) -> None:
        for name, (least, most, fix) in _RANGES.items():
            value = getattr(self, name)
            number = Decimal(str(value))
            if not number.is_finite() or not least <= number <= most:
                raise ValueError(f"{name} must lie from {least} to {most}, got {value}: give {fix}")

    def fill_model(self) -> FillModel:
        """Return how the paper venue prices fills and fees."""
        return FillModel(
            half_spread_bps=self.half_spread_bps,
            slippage_bps=self.slippage_bps,
            volume_share_max=self.volume_share_max,
            fees=FeeSchedule(maker_rate=self.maker_fee_rate, taker_rate=self.taker_fee_rate),
        )
