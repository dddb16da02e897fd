"""The limits of the gate. Every one has a value and a ceiling: none can be left out, switched off or mistyped away."""

from decimal import Decimal

import msgspec

from services.risk.core.limits import Limits
from shared.clock import NANOSECONDS_PER_SECOND

# A value beyond these is a slip of the finger (a percentage for a share, a thousand too many), not a limit.
_RANGES: dict[str, tuple[Decimal, Decimal, str]] = {
    "notional_min_usdt": (Decimal(1), Decimal(1_000), "an amount, for example 5"),
    "notional_max_usdt": (Decimal(1), Decimal(5_000_000), "an amount, for example 100000"),
    "price_collar": (Decimal("0.0001"), Decimal("0.25"), "a share, for example 0.05 for 5 %"),
    "stale_after_steps": (Decimal(1), Decimal(10), "a number of timeframe lengths, for example 2"),
    "position_limit": (Decimal("0.0001"), Decimal(1), "a share, for example 0.4 for 40 %"),
    "reserve_floor_usdt": (Decimal(0), Decimal(5_000_000), "an amount, 0 for none"),
    "quote_fee_rate": (Decimal(0), Decimal("0.05"), "a share, for example 0.001 for 0.1 %"),
    "orders_per_second_max": (Decimal(1), Decimal(1_000), "a whole number, for example 50"),
    "orders_per_minute_max": (Decimal(1), Decimal(10_000), "a whole number, for example 200"),
    "open_orders_max": (Decimal(1), Decimal(1_000), "a whole number, for example 100"),
    "duplicate_window_s": (Decimal(1), Decimal(86_400), "a number of seconds, for example 60"),
}


class RiskConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limit what the gate lets through; all windows and ages are market time.

    `notional_*_usdt` bound one order at its worst price. `price_collar` is the largest deviation of an order's price
    or bound from the last close (and from the mid, where a newer one is known). A close older than
    `stale_after_steps` timeframe lengths is stale. `position_limit` is the largest share of equity in one asset after
    a buy. `reserve_floor_usdt` stays untouched by buys. `quote_fee_rate` is what a buy pays on top in the quote asset
    (0 where the venue takes the fee from the asset received). A second order of the same strategy, market, side and
    size within `duplicate_window_s` is refused when it belongs to the same plan or the first is still open.
    """

    notional_min_usdt: Decimal = Decimal(5)
    notional_max_usdt: Decimal = Decimal(100_000)
    price_collar: Decimal = Decimal("0.05")
    stale_after_steps: Decimal = Decimal(2)
    position_limit: Decimal = Decimal("0.40")
    reserve_floor_usdt: Decimal = Decimal(0)
    quote_fee_rate: Decimal = Decimal(0)
    orders_per_second_max: int = 50
    orders_per_minute_max: int = 200
    open_orders_max: int = 100
    duplicate_window_s: Decimal = Decimal(60)

    def __post_init__(self) -> None:
        for name, (least, most, fix) in _RANGES.items():
            value = getattr(self, name)
            if value is None:
                raise ValueError(f"{name} must be set: give {fix}")
            number = Decimal(value)
            if not number.is_finite() or not least <= number <= most:
                raise ValueError(f"{name} must lie from {least} to {most}, got {value}: give {fix}")
        if self.notional_min_usdt > self.notional_max_usdt:
            raise ValueError(
                f"notional_min_usdt ({self.notional_min_usdt}) must not exceed notional_max_usdt "
                f"({self.notional_max_usdt}): lower the first or raise the second"
            )
        if self.orders_per_second_max > self.orders_per_minute_max:
            raise ValueError(
                f"orders_per_second_max ({self.orders_per_second_max}) must not exceed orders_per_minute_max "
                f"({self.orders_per_minute_max}): lower the first or raise the second"
            )

    def limits(self, quote_asset: str, step_ns: int, *, is_exclusive: bool) -> Limits:
        """Return the limits for a quote asset, a timeframe length in nanoseconds, an account of our own or shared."""
        return Limits(
            quote_asset=quote_asset,
            notional_min_usdt=self.notional_min_usdt,
            notional_max_usdt=self.notional_max_usdt,
            price_collar=self.price_collar,
            stale_after_ns=int(self.stale_after_steps * step_ns),
            position_limit=self.position_limit,
            reserve_floor_usdt=self.reserve_floor_usdt,
            quote_fee_rate=self.quote_fee_rate,
            orders_per_second_max=self.orders_per_second_max,
            orders_per_minute_max=self.orders_per_minute_max,
            open_orders_max=self.open_orders_max,
            duplicate_window_ns=int(self.duplicate_window_s * NANOSECONDS_PER_SECOND),
            is_exclusive=is_exclusive,
        )
