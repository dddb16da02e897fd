"""The rules' numbers: fractions are fractions of one (0.40 is 40 %), money is USDT, Decimal throughout.

In: a settings section, `--set key=value`, or keyword arguments. Out: a checked, frozen `RebalanceConfig`.
Never: an unknown key, a negative number, NaN or a percentage written as 50 instead of 0.5.
"""

from decimal import Decimal, InvalidOperation

import msgspec

_UNSIZED = Decimal("Infinity")

# key: (least, greatest, whether the least itself is allowed, whether the greatest itself is allowed)
_BOUNDS: dict[str, tuple[Decimal, Decimal, bool, bool]] = {
    "upside_threshold": (Decimal(0), Decimal(10), False, True),
    "downside_threshold": (Decimal(0), Decimal(1), False, False),
    "sell_percentage": (Decimal(0), Decimal(1), False, True),
    "usdt_reserve": (Decimal(0), Decimal(1), True, True),
    "min_order_value": (Decimal(0), _UNSIZED, True, False),
    "cooldown_minutes": (Decimal(0), _UNSIZED, True, False),
    "position_limit": (Decimal(0), Decimal(1), False, True),
    "usdt_buffer": (Decimal(0), Decimal(1), True, False),
    "outperformer_sell_limit": (Decimal(0), Decimal(1), True, True),
    "fee_rate": (Decimal(0), Decimal("0.1"), True, False),
    "price_collar": (Decimal(0), Decimal(1), False, False),
}

_MAGNITUDE_MAX = 18
_DIGITS_MAX = 40


class RebalanceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Hold the cascade rules' parameters. `position_limit=1` and `usdt_buffer=0` switch those two rules off.

    `assets` is the basket, in the order that breaks ties. `fee_rate` is the estimate that sizes plans; fills tell the
    truth. `price_collar` bounds how far from the deciding close an order may trade. Raises ValueError naming the key.
    """

    assets: tuple[str, ...] = ()
    upside_threshold: Decimal = Decimal("0.40")
    downside_threshold: Decimal = Decimal("0.35")
    sell_percentage: Decimal = Decimal("0.20")
    usdt_reserve: Decimal = Decimal("0.30")
    min_order_value: Decimal = Decimal(15)
    cooldown_minutes: Decimal = Decimal(30)
    position_limit: Decimal = Decimal("0.40")
    usdt_buffer: Decimal = Decimal("0.05")
    outperformer_sell_limit: Decimal = Decimal("0.25")
    fee_rate: Decimal = Decimal("0.001")
    price_collar: Decimal = Decimal("0.03")
    intent_lifetime_s: int = 120
    bar_age_max_s: int = 300
    strategy: str = "cascade"
    enabled: bool = True

    def __post_init__(self) -> None:
        for key in _BOUNDS:
            msgspec.structs.force_setattr(self, key, _as_decimal(key, getattr(self, key)))
            _check_bounds(key, getattr(self, key))
        for key in ("intent_lifetime_s", "bar_age_max_s"):
            seconds = getattr(self, key)
            if not 1 <= seconds <= 86_400:
                raise ValueError(f"{key} must be from 1 to 86400 seconds, got {seconds}: 120 is usual")
        msgspec.structs.force_setattr(self, "assets", tuple(self.assets))
        _check_assets(self.assets)
        _check_equal_share(self)
        if not self.strategy or not all(c.isascii() and (c.isalnum() or c in "-_") for c in self.strategy):
            raise ValueError(f"strategy must be letters, digits, '-' or '_', got {self.strategy!r}: name it cascade")


def _as_decimal(key: str, value: object) -> Decimal:
    if isinstance(value, Decimal):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{key} must be a number, got {value!r}: write for example 0.4")
    try:
        return Decimal(repr(value) if isinstance(value, float) else value)
    except InvalidOperation:
        raise ValueError(f"{key} must be a number, got {value!r}: write for example 0.4") from None


def _check_bounds(key: str, value: Decimal) -> None:
    low, high, low_allowed, high_allowed = _BOUNDS[key]
    if not value.is_finite():
        raise ValueError(f"{key} must be a finite number, got {value}: write for example {_example(key)}")
    too_low = value < low if low_allowed else value <= low
    too_high = value > high if high_allowed else value >= high
    if too_low or too_high:
        above = f"{'at least' if low_allowed else 'more than'} {low}"
        below = "" if high == _UNSIZED else f" and {'at most' if high_allowed else 'less than'} {high}"
        hint = f"write {_example(key)}"
        if too_high and value <= 100:
            hint = f"write {_plain(value / 100)} for {_plain(value)} %"
        raise ValueError(f"{key} must be {above}{below}, got {value}: {hint}")
    _, digits, _ = value.as_tuple()
    if value != 0 and (abs(value.adjusted()) > _MAGNITUDE_MAX or len(digits) > _DIGITS_MAX):
        raise ValueError(f"{key} is out of any sensible range, got {value}: write for example {_example(key)}")


def _check_assets(assets: tuple[str, ...]) -> None:
    seen: set[str] = set()
    for asset in assets:
        if not isinstance(asset, str) or not asset.strip():
            raise ValueError(f"assets holds {asset!r}: name each market, for example BTC-USDT")
        if asset in seen:
            raise ValueError(f"assets names {asset} twice: keep one")
        seen.add(asset)


def _check_equal_share(config: RebalanceConfig) -> None:
    if not config.assets or config.position_limit == 1:
        return
    share = (1 - max(config.usdt_reserve, config.usdt_buffer)) / len(config.assets)
    if share > config.position_limit:
        raise ValueError(
            f"position_limit {config.position_limit} is less than the equal share {share:.4f} of {len(config.assets)} "
            "assets after usdt_reserve: add assets, raise position_limit or raise usdt_reserve"
        )


def _example(key: str) -> str:
    return str(RebalanceConfig.__struct_defaults__[RebalanceConfig.__struct_fields__.index(key)])


def _plain(value: Decimal) -> str:
    return f"{value.normalize():f}"
