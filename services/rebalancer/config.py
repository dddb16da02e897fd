"""The rules' numbers: fractions are fractions of one (0.40 is 40 %), money is USDT, Decimal throughout.

In: a settings section, `--set key=value`, or keyword arguments. Out: a checked, frozen `RebalanceConfig`.
Never: an unknown key, a negative number, NaN or a percentage written as 50 instead of 0.5.
"""

from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path

import msgspec

from services.rebalancer.modes import (
    OnTransfer,
    RebalanceTo,
    TargetMode,
    TriggerMode,
    parse_weights,
    pick,
    read_markets,
    read_weights,
    spellings,
)
from shared.errors import ConfigError

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
    "band_points": (Decimal(0), Decimal(1), True, True),
    "band_relative": (Decimal(0), Decimal(10), True, True),
    "calendar_hours": (Decimal(0), _UNSIZED, False, False),
    "trend_efficiency": (Decimal(0), Decimal(1), False, True),
}

# Estimators keep this many bars in the stored state, so the number is bounded.
BARS_MAX = 500
_WEIGHTS_SUM_TOLERANCE = Decimal("0.000001")
_WORDS: dict[str, type[StrEnum]] = {
    "target_mode": TargetMode,
    "trigger": TriggerMode,
    "rebalance_to": RebalanceTo,
    "on_transfer": OnTransfer,
}
_GIVEN = frozenset({TargetMode.FIXED, TargetMode.MARKET_CAP})
_ESTIMATED = frozenset({TargetMode.INVERSE_VOLATILITY, TargetMode.EXPECTED_RETURN, TargetMode.MINIMUM_VARIANCE})

_MAGNITUDE_MAX = 18
_DIGITS_MAX = 40


class RebalanceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Hold the cascade rules' parameters. `position_limit=1` and `usdt_buffer=0` switch those two rules off.

    `assets` is the basket, in the order that breaks ties. `fee_rate` is the estimate that sizes plans; fills tell the
    truth. `price_collar` bounds how far from the deciding close an order may trade. Raises ValueError naming the key.

    With a `trigger` other than cascade the basket is kept at target weights, which sum to 1 less the reserve (the
    larger of `usdt_reserve` and `usdt_buffer`); `target_mode` says whose. `band_points` (0.05 is 5 percentage points),
    `band_relative` (a share of the target) and `calendar_hours` say when, `rebalance_to` how far. `target_weights` are
    the fixed weights, or the market caps; `expected_returns` replace the mean of past returns. `locked_assets` count
    but are never traded; `excluded_assets` do not even count. Markets may be named BTC-USDT, BTC, BTCUSDT or BTC/USDT.
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
    target_mode: TargetMode = TargetMode.EQUAL
    trigger: TriggerMode = TriggerMode.CASCADE
    target_weights: dict[str, Decimal] | str = {}
    weights_file: str = ""
    expected_returns: dict[str, Decimal] | str = {}
    band_points: Decimal = Decimal("0.05")
    band_relative: Decimal = Decimal("0.25")
    calendar_hours: Decimal = Decimal(168)
    rebalance_to: RebalanceTo = RebalanceTo.TARGET
    lookback_bars: int = 60
    trend_filter: bool = False
    trend_bars: int = 24
    trend_efficiency: Decimal = Decimal("0.5")
    excluded_assets: tuple[str, ...] | str = ()
    locked_assets: tuple[str, ...] | str = ()
    on_transfer: OnTransfer = OnTransfer.HOLD

    def __post_init__(self) -> None:
        for key in _BOUNDS:
            msgspec.structs.force_setattr(self, key, _as_decimal(key, getattr(self, key)))
            _check_bounds(key, getattr(self, key))
        for key in ("intent_lifetime_s", "bar_age_max_s"):
            seconds = getattr(self, key)
            if not 1 <= seconds <= 86_400:
                raise ValueError(f"{key} must be from 1 to 86400 seconds, got {seconds}: 120 is usual")
        for key in ("lookback_bars", "trend_bars"):
            bars = getattr(self, key)
            if not 2 <= bars <= BARS_MAX:
                raise ValueError(f"{key} must be from 2 to {BARS_MAX} bars, got {bars}: 60 is usual")
        msgspec.structs.force_setattr(self, "assets", tuple(self.assets))
        _check_assets(self.assets)
        for key, words in _WORDS.items():
            msgspec.structs.force_setattr(self, key, _as_word(key, getattr(self, key), words))
        for key in ("target_weights", "expected_returns"):
            msgspec.structs.force_setattr(self, key, read_weights(key, getattr(self, key)))
        for key in ("excluded_assets", "locked_assets"):
            msgspec.structs.force_setattr(self, key, read_markets(key, getattr(self, key)))
        _check_modes(self)
        _check_equal_share(self)
        if not self.strategy or not all(c.isascii() and (c.isalnum() or c in "-_") for c in self.strategy):
            raise ValueError(f"strategy must be letters, digits, '-' or '_', got {self.strategy!r}: name it cascade")

    @property
    def reserve(self) -> Decimal:
        """Return the share of the portfolio that target weights leave in USDT."""
        return max(self.usdt_reserve, self.usdt_buffer)

    @property
    def traded(self) -> tuple[str, ...]:
        """Return the basket less what is excluded."""
        if not self.excluded_assets:
            return self.assets
        return tuple(asset for asset in self.assets if not is_named(self.excluded_assets, asset))

    @property
    def is_cascade(self) -> bool:
        """Tell whether the cascade's own rules start plans."""
        return self.trigger is TriggerMode.CASCADE

    @property
    def lookback(self) -> int:
        """Return how many past bars are kept; 0 when nothing looks back."""
        return max(self.trend_bars + 1 if self.trend_filter else 0, self._estimator_bars)

    @property
    def warmup_bars(self) -> int:
        """Return how many bars must have been seen before the first plan, beside the deciding one.

        The trend filter needs bars too, but stops nothing before it has seen them.
        """
        return max(self._estimator_bars - 1, 0)

    @property
    def wants_volumes(self) -> bool:
        """Tell whether the bars' volumes decide the weights."""
        return self.target_mode is TargetMode.VOLUME and not self.target_weights

    @property
    def _estimator_bars(self) -> int:
        if self.wants_volumes:
            return self.lookback_bars
        is_told = self.target_mode is TargetMode.EXPECTED_RETURN and self.expected_returns
        # A return needs two closes.
        return self.lookback_bars + 1 if self.target_mode in _ESTIMATED and not is_told else 0

    def with_weights(self, text: str) -> "RebalanceConfig":
        """Return the settings with `target_weights` as the text of `weights_file` gives them."""
        if self.target_weights:
            raise ValueError("weights_file and target_weights are both given: keep one")
        return msgspec.structs.replace(self, target_weights=parse_weights(self.weights_file, text))

    def with_weights_file(self, said: str = "") -> "RebalanceConfig":
        """Return the settings with what `weights_file` holds, themselves without one.

        Raises ConfigError that begins with `said`, where the user set the file.
        """
        if not self.weights_file:
            return self
        try:
            return self.with_weights(Path(self.weights_file).read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise ConfigError(f"{said}weights_file {self.weights_file}: {error.strerror}: name a file") from error
        except ValueError as error:
            raise ConfigError(f"{said}{error}") from error

    def given(self, key: str, market: str) -> Decimal | None:
        """Return what `target_weights` or `expected_returns` say of a market; None when they say nothing."""
        weights = getattr(self, key)
        return pick(weights, market) if isinstance(weights, dict) else None


def is_named(markets: tuple[str, ...] | str, market: str) -> bool:
    """Tell whether a market is in the list by any of its spellings."""
    return bool(markets) and any(name in markets for name in spellings(market))


def _as_word(key: str, value: object, words: type[StrEnum]) -> StrEnum:
    try:
        return words(str(value))
    except ValueError:
        raise ValueError(f"{key} is {value!r}: choose one of {', '.join(words)}") from None


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


def _check_modes(config: RebalanceConfig) -> None:
    mode = config.target_mode
    if config.is_cascade and mode is not TargetMode.EQUAL:
        raise ValueError(
            f"target_mode {mode} needs another trigger: the cascade's rules are defined on equal weights; "
            "set trigger to absolute_band, relative_band, calendar or hybrid"
        )
    if config.is_cascade and config.locked_assets:
        raise ValueError("locked_assets need another trigger than cascade: list them under excluded_assets instead")
    if mode in _GIVEN and not config.target_weights and not config.weights_file:
        raise ValueError(f"target_weights must be given for target_mode {mode}: write for example BTC-USDT:0.5,...")
    for key in ("target_weights", "expected_returns"):
        _check_given(config, key)
    if mode is TargetMode.FIXED and isinstance(config.target_weights, dict) and config.target_weights:
        total = sum(config.target_weights.values(), Decimal(0))
        if abs(total - (1 - config.reserve)) > _WEIGHTS_SUM_TOLERANCE:
            raise ValueError(
                f"target_weights sum to {total}, not to 1 less the reserve of {config.reserve}: make them sum to "
                f"{1 - config.reserve}, or change usdt_reserve"
            )
        for market, weight in config.target_weights.items():
            if weight > config.position_limit:
                raise ValueError(f"target_weights: {market} is over position_limit {config.position_limit}: lower it")
    for key in ("excluded_assets", "locked_assets"):
        for market in getattr(config, key):
            if config.assets and not any(is_named((market,), asset) for asset in config.assets):
                raise ValueError(f"{key} names {market}, which is not in assets: correct the name")
    if config.assets and len(config.traded) < 2 and config.excluded_assets:
        raise ValueError("excluded_assets leave fewer than two markets: exclude less")


def _check_given(config: RebalanceConfig, key: str) -> None:
    given = getattr(config, key)
    if not given or not config.assets:
        return
    for asset in config.traded:
        if pick(given, asset) is None:
            raise ValueError(f"{key} leaves out {asset}: give it a number, 0 for none")
        # A bare name is spelled one way only.
        names = [name for name in dict.fromkeys(spellings(asset)) if name in given]
        if len(names) > 1:
            raise ValueError(f"{key} names {asset} twice ({', '.join(names)}): keep one")
    for market in given:
        if not any(is_named((market,), asset) for asset in config.assets):
            raise ValueError(f"{key} names {market}, which is not in assets: correct the name")


def _check_equal_share(config: RebalanceConfig) -> None:
    if not config.assets or config.position_limit == 1:
        return
    share = (1 - config.reserve) / len(config.traded)
    if share > config.position_limit:
        raise ValueError(
            f"position_limit {config.position_limit} is less than the equal share {share:.4f} of {len(config.traded)} "
            "assets after usdt_reserve: add assets, raise position_limit or raise usdt_reserve"
        )


def _example(key: str) -> str:
    return str(RebalanceConfig.__struct_defaults__[RebalanceConfig.__struct_fields__.index(key)])


def _plain(value: Decimal) -> str:
    return f"{value.normalize():f}"
