"""The limits in the units that the checks count in. Made by `RiskConfig.limits`, which has validated them."""

from decimal import Decimal

import msgspec


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bound what may be approved: money in the quote asset, shares of 1, times in nanoseconds of market time.

    `is_exclusive` says that nobody else orders on the account, so that whatever the venue has locked is reserved here.
    """

    quote_asset: str
    notional_min_usdt: Decimal
    notional_max_usdt: Decimal
    price_collar: Decimal
    stale_after_ns: int
    position_limit: Decimal
    reserve_floor_usdt: Decimal
    quote_fee_rate: Decimal
    orders_per_second_max: int
    orders_per_minute_max: int
    open_orders_max: int
    duplicate_window_ns: int
    is_exclusive: bool
