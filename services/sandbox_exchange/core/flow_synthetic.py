"""A seeded fair price that nobody sees: calm at times, violent at others.

In: market time that passes, chance. Out: the fair price. Never: a price that is not positive, or far from its base.

Log returns have fat tails and a volatility that changes with the regime (calm, trends, mania, crash; the next one
begins after a random time); jumps come at random with exponential sizes; a weak pull leads back to the base price.
"""

import math
from collections.abc import Iterator

import msgspec

from services.sandbox_exchange.core.flow import Draw, Moment

DAY_S = 86_400.0
PULL_PER_DAY = 0.05
LOG_RANGE = math.log(20.0)
STEP_MOVE_MAX = 0.35


class FlowRegime(msgspec.Struct, frozen=True):
    """Describe a stretch of time; `volatility`, `jumps` multiply the ordinary ones, `drift` is a daily log return."""

    weight: float
    days: float
    volatility: float
    drift: float
    jumps: float
    jump_up: float


# Trends are long and strong beside the noise: basket rules see their assets part within two or three market days, while
# an order that takes a second to arrive still meets about the price that it was decided on.
REGIMES = (
    FlowRegime(weight=0.24, days=0.25, volatility=0.5, drift=0.0, jumps=0.3, jump_up=0.5),
    FlowRegime(weight=0.28, days=0.7, volatility=0.55, drift=0.3, jumps=0.5, jump_up=0.6),
    FlowRegime(weight=0.28, days=0.7, volatility=0.55, drift=-0.3, jumps=0.5, jump_up=0.4),
    FlowRegime(weight=0.10, days=0.2, volatility=1.1, drift=0.8, jumps=2.0, jump_up=0.75),
    FlowRegime(weight=0.10, days=0.2, volatility=1.1, drift=-0.8, jumps=2.0, jump_up=0.25),
)


class PriceShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Shape a synthetic price: `volatility_daily` and `jump_size` are log moves, `jumps_daily` a number a day."""

    volatility_daily: float = 0.07
    jumps_daily: float = 3.0
    jump_size: float = 0.02

    def __post_init__(self) -> None:
        for name, most in (("volatility_daily", 5.0), ("jumps_daily", 10_000.0), ("jump_size", 1.0)):
            value = getattr(self, name)
            if not 0.0 <= value <= most:
                raise ValueError(f"{name} must be from 0 to {most}, got {value}")


class PriceState(msgspec.Struct):
    """Hold what a synthetic price needs to go on; prices are logarithms of ticks."""

    log_base: float
    log_price: float
    regime: int = 0
    left_s: float = 0.0


class SyntheticPrice:
    """Move a fair price, `time_factor` market seconds a wall second. The same chance gives the same path."""

    def __init__(self, shape: PriceShape, base_ticks: float, draw: Draw, *, time_factor: float = 1.0) -> None:
        self.state = PriceState(math.log(base_ticks), math.log(base_ticks))
        self._shape, self._draw, self._time_factor = shape, draw, time_factor

    @property
    def ticks(self) -> float:
        """Return the fair price in ticks."""
        return math.exp(self.state.log_price)

    @property
    def volatility_per_s(self) -> float:
        """Return the standard deviation of the log price over one wall second, jumps apart."""
        return self._shape.volatility_daily * math.sqrt(self._time_factor / DAY_S)

    def advance(self, wall_s: float) -> Iterator[Moment]:
        """Let time pass and yield the one moment at its end."""
        self._move(wall_s * self._time_factor)
        yield Moment(self.ticks)

    def rescale(self, factor: float) -> None:
        """Multiply the price in ticks, as another tick size does."""
        self.state.log_price += math.log(factor)
        self.state.log_base += math.log(factor)

    def dump(self) -> bytes:
        """Return the state as bytes."""
        return msgspec.msgpack.encode(self.state)

    def restore(self, state: bytes) -> None:
        """Become what `dump` returned; raises msgspec.DecodeError for anything else."""
        self.state = msgspec.msgpack.decode(state, type=PriceState)

    def _move(self, market_s: float) -> None:
        state, draw, shape = self.state, self._draw, self._shape
        state.left_s -= market_s
        if state.left_s <= 0:
            self._turn()
        regime = REGIMES[state.regime]
        days = market_s / DAY_S
        # A normal over an independent uniform spread: tails like a market's, at the price of two draws.
        noise = draw.standard_normal() * (0.6 + 0.8 * draw.random())
        move = shape.volatility_daily * regime.volatility * math.sqrt(days) * noise
        drift = regime.drift * shape.volatility_daily / 0.07
        move += (drift + PULL_PER_DAY * (state.log_base - state.log_price)) * days
        if draw.random() < shape.jumps_daily * regime.jumps * days:
            size = -math.log(1.0 - draw.random()) * shape.jump_size
            move += size if draw.random() < regime.jump_up else -size
        move = min(max(move, -STEP_MOVE_MAX), STEP_MOVE_MAX)
        low, high = state.log_base - LOG_RANGE, state.log_base + LOG_RANGE
        state.log_price = min(max(state.log_price + move, low), high)

    def _turn(self) -> None:
        point = self._draw.random() * sum(regime.weight for regime in REGIMES)
        number = 0
        while number < len(REGIMES) - 1 and point > REGIMES[number].weight:
            point -= REGIMES[number].weight
            number += 1
        self.state.regime = number
        self.state.left_s = -math.log(1.0 - self._draw.random()) * REGIMES[number].days * DAY_S
