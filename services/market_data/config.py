"""Configure the market data service: which feed, how fast, and the synthetic market's character.

In: the section `[market_data]`. Out: a frozen, validated Struct. Never: a value that would only fail later.
"""

import math
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum

import msgspec

from services.market_data.core.quality_words import Limits
from shared.bus.subjects import token
from shared.errors import InputError


class FeedKind(StrEnum):
    """Name where bars come from."""

    SYNTHETIC = "synthetic"
    REPLAY = "replay"


class MissingBars(StrEnum):
    """Name what happens when an asset has no bar at a step: refuse the file, or go on with its last close held."""

    REFUSE = "refuse"
    HOLD = "hold"


class SyntheticConfig(msgspec.Struct, frozen=True):
    """Shape the synthetic market; see `MarketDataConfig` for the meaning of each value."""

    seed: int
    volatility_daily: float
    jumps_per_day: float
    regime_days: float
    correlation: float
    notional_min: Decimal


class MarketDataConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Configure the feed. Venue, assets and timeframe are the stack's.

    `speed` is a factor of real time above 0, or `max`: as fast as the participants follow. The default shows a 15m step
    each second. `start` and `end` (ISO 8601, UTC unless they say otherwise) bound the bars' open and close times;
    a synthetic market starts at `start`. `steps_max` ends either feed after that many steps.
    `participants` are the services that must have finished a step before the next one is published.
    `volatility_daily` is the standard deviation of a calm-to-normal day's log return, `jumps_per_day` the expected
    number of jumps of one asset, `regime_days` the mean length of a regime, `correlation` that of two assets' returns.
    `jump_factor_max` freezes an instrument whose bar opens so many times above or below the close before it, as a
    redenomination does (the worst real gap known is 1.5 times, the least redenomination 10 times);
    `bar_factor_max` one that moves so far within a bar (known: 8 times); `inf` switches either off.
    A live feed (every mode but replay) closes a step when each market has traded after its end, at the latest
    `bar_grace_ms` later. It publishes books of `book_levels` a side, at most one each `book_interval_ms`. After a
    restart up to `catch_up_steps_max` missed steps are made from the venue's candles, or reported missing.
    `notional_min` is the least worth of an order, in quote units, that instruments without other facts announce.
    """

    feed: FeedKind = FeedKind.SYNTHETIC
    replay_path: str | None = None
    missing_bars: MissingBars = MissingBars.REFUSE
    speed: float | str = 3600.0
    start: str | None = None
    end: str | None = None
    steps_max: int | None = None
    participants: tuple[str, ...] | str = ("rebalancer", "risk", "execution", "recorder")
    notional_min: Decimal = Decimal(5)
    jump_factor_max: float = 3.0
    bar_factor_max: float = 50.0
    bar_grace_ms: int = 500
    book_interval_ms: int = 100
    book_levels: int = 20
    catch_up_steps_max: int = 500
    candles_timeout_s: float = 3.0
    seed: int = 5
    volatility_daily: float = 0.05
    jumps_per_day: float = 0.25
    regime_days: float = 4.0
    correlation: float = 0.5

    def __post_init__(self) -> None:
        self._check_feed()
        _speed_factor(self.speed)
        start_ns, end_ns = self.start_ns, self.end_ns
        if start_ns is not None and end_ns is not None and end_ns <= start_ns:
            raise ValueError(f"end must be after start, got {self.start} to {self.end}")
        if self.steps_max is not None and self.steps_max < 1:
            raise ValueError(f"steps_max must be at least 1, or left out for no limit, got {self.steps_max}")
        if not self.notional_min.is_finite() or self.notional_min < 0:
            raise ValueError(f"notional_min must be an amount of at least 0, got {self.notional_min}")
        for name in ("jump_factor_max", "bar_factor_max"):
            if not getattr(self, name) > 1.0:
                raise ValueError(f"{name} must be a factor above 1, or inf for no limit, got {getattr(self, name)}")
        for name, least, most in (
            ("bar_grace_ms", 0, 60_000),
            ("book_interval_ms", 10, 60_000),
            ("book_levels", 1, 1_000),
            ("catch_up_steps_max", 1, 100_000),
            ("candles_timeout_s", 0.1, 60),
        ):
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} must lie from {least} to {most}, got {getattr(self, name)}")
        self._check_participants()
        self._check_synthetic()

    @property
    def speed_factor(self) -> float | None:
        """Return the factor of real time, or None for as fast as the participants follow."""
        return _speed_factor(self.speed)

    @property
    def participant_names(self) -> tuple[str, ...]:
        """Return the participants; a text (from the environment) is split at its commas."""
        if isinstance(self.participants, str):
            return tuple(name.strip() for name in self.participants.split(",") if name.strip())
        return self.participants

    @property
    def start_ns(self) -> int | None:
        """Return `start` in nanoseconds UTC, or None."""
        return _instant_ns("start", self.start)

    @property
    def end_ns(self) -> int | None:
        """Return `end` in nanoseconds UTC, or None."""
        return _instant_ns("end", self.end)

    @property
    def synthetic(self) -> SyntheticConfig:
        """Return the part that the synthetic core needs."""
        return SyntheticConfig(
            seed=self.seed,
            volatility_daily=self.volatility_daily,
            jumps_per_day=self.jumps_per_day,
            regime_days=self.regime_days,
            correlation=self.correlation,
            notional_min=self.notional_min,
        )

    @property
    def limits(self) -> Limits:
        """Return the limits of the quality checks."""
        return Limits(jump_factor_max=self.jump_factor_max, bar_factor_max=self.bar_factor_max)

    def _check_feed(self) -> None:
        if self.feed is FeedKind.REPLAY and not self.replay_path:
            raise ValueError("replay_path must name a CSV or Parquet file of candles when feed is replay")
        if self.feed is FeedKind.SYNTHETIC and self.replay_path:
            raise ValueError("replay_path is set while feed is synthetic: set feed to replay, or remove replay_path")

    def _check_participants(self) -> None:
        names = self.participant_names
        for name in names:
            try:
                token(name)
            except InputError as error:
                raise ValueError(f"participants: {error}") from error
        if len(set(names)) != len(names):
            raise ValueError(f"participants names a service twice: {', '.join(names)}")

    def _check_synthetic(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")
        bounds = (
            ("volatility_daily", 0.0, 0.5, "a share such as 0.05 for 5 % a day"),
            ("jumps_per_day", 0.0, 24.0, "an expected number a day such as 0.25"),
            ("regime_days", 1.0, 365.0, "a number of days such as 4"),
            ("correlation", 0.0, 1.0, "a correlation such as 0.5"),
        )
        for name, least, most, meaning in bounds:
            value = getattr(self, name)
            if not least <= value <= most:
                raise ValueError(f"{name} must lie between {least:g} and {most:g}, {meaning}; got {value}")


def _speed_factor(speed: float | str) -> float | None:
    if isinstance(speed, str) and speed.strip().lower() == "max":
        return None
    try:
        factor = float(speed)
    except ValueError:
        factor = math.nan
    if not (math.isfinite(factor) and factor > 0):
        raise ValueError(f"speed must be a factor of real time above 0, for example 900, or max; got {speed!r}")
    return factor


def _instant_ns(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{name} must be a time such as 2026-01-31 or 2026-01-31T08:00:00Z, got {text!r}") from error
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    # Integers only: a float would lose nanoseconds.
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1_000
