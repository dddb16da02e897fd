"""The words of the background market: what it wants done, its grid, its shape, and how it draws chance.

In: nothing. Out: actions in whole ticks and lots, which the runner turns into orders of the house.
Never: a price or a size off the grid.
"""

import math
from collections.abc import Iterator
from typing import Protocol

import msgspec

from services.sandbox_exchange.core.model import Market
from shared.matching.exact import ceil_units, floor_units

TICKS_MAX = 10**15


class Draw(Protocol):
    """Draw chance; `numpy.random.Generator` does. The seed is whoever makes it."""

    def random(self) -> float:
        """Return a number from 0 to below 1."""
        ...

    def standard_normal(self) -> float:
        """Return a number of the standard normal distribution."""
        ...


class Quote(msgspec.Struct, frozen=True):
    """Put a limit order into the book; what meets a resting order trades."""

    is_buy: bool
    ticks: int
    lots: int


class Pull(msgspec.Struct, frozen=True):
    """Take one of the house's resting orders out."""

    order_id: int


class Take(msgspec.Struct, frozen=True):
    """Take up to `lots` now, at `limit_ticks` or better.

    With `clears` the order also takes, before those lots, everything that rests at better prices than the limit.
    """

    is_buy: bool
    lots: int
    limit_ticks: int
    clears: bool = False


Action = Quote | Pull | Take


class Moment(msgspec.Struct, frozen=True):
    """State where a market's fair price is, in ticks, and what belongs to it.

    Takers stay inside `low_ticks` and `high_ticks`, and do nothing when `is_quiet`. With `touch_ticks` a trade must
    print at exactly that price. `volume_lots` is what must have traded since `volume_id` began, None for no such rule.
    """

    fair_ticks: float
    low_ticks: int = 1
    high_ticks: int = TICKS_MAX
    is_quiet: bool = False
    touch_ticks: int | None = None
    volume_id: int = 0
    volume_lots: int | None = None


class FairPath(Protocol):
    """Move a market's fair price through wall time."""

    @property
    def ticks(self) -> float:
        """Return the fair price now, in ticks."""
        ...

    @property
    def volatility_per_s(self) -> float:
        """Return the standard deviation of the log price over one wall second."""
        ...

    def advance(self, wall_s: float) -> Iterator[Moment]:
        """Let wall time pass and yield the moments that matter in it, oldest first, at least one."""
        ...

    def rescale(self, factor: float) -> None:
        """Multiply the price in ticks, as another tick size does."""
        ...

    def dump(self) -> bytes:
        """Return the state as bytes."""
        ...

    def restore(self, state: bytes) -> None:
        """Become what `dump` returned; raises msgspec.DecodeError for anything else."""
        ...


class FlowShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Shape a market's background: distances in basis points of the price, sizes in quote units, rates a wall second.

    `orders` rest on each side, about `spacing_bps` apart near the touch and wider below. Sizes have power-law tails:
    the smaller `size_tail`, the fatter. `requotes` bounds how fast makers follow the price and heal the book; `churn`
    is how often one of them changes its mind. `takes` is how often somebody trades, `take_notional` how much.
    """

    spread_bps: float = 8.0
    spacing_bps: float = 5.0
    orders: int = 24
    depth_notional: float = 600.0
    take_notional: float = 150.0
    size_tail: float = 1.7
    requotes: float = 25.0
    churn: float = 6.0
    takes: float = 2.0

    def __post_init__(self) -> None:
        for name in ("spread_bps", "spacing_bps", "depth_notional", "take_notional", "requotes"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number, got {value}")
        for name in ("churn", "takes"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be zero or a positive number, got {value}")
        if not 1 <= self.orders <= 500:
            raise ValueError(f"orders must be from 1 to 500, got {self.orders}")
        if not 1.0 < self.size_tail <= 10.0:
            raise ValueError(f"size_tail must be above 1, at most 10, got {self.size_tail}")


class Grid(msgspec.Struct, frozen=True):
    """State a market's grid as floats for the flow's own arithmetic, and the bounds of one order in lots and quote."""

    tick: float
    step: float
    quantity_min_lots: int
    notional_min: float
    quantity_max_lots: int
    notional_max: float

    def lots(self, notional: float, ticks: int) -> int:
        """Return the lots that are worth about `notional` at a price, inside the bounds of one order."""
        return self.bounded(round(notional / (ticks * self.tick * self.step)), ticks)

    def bounded(self, lots: int, ticks: int) -> int:
        """Return `lots`, moved into the bounds of one order at a price."""
        value = ticks * self.tick * self.step
        least = max(self.quantity_min_lots, math.ceil(1.02 * self.notional_min / value), 1)
        most = max(least, min(self.quantity_max_lots, int(0.98 * self.notional_max / value)))
        return min(max(lots, least), most)


def grid_of(market: Market) -> Grid:
    """Return a market's grid."""
    instrument = market.instrument
    return Grid(
        tick=float(instrument.tick_size),
        step=float(instrument.step_size),
        quantity_min_lots=ceil_units(instrument.quantity_min, instrument.step_size),
        notional_min=float(instrument.notional_min),
        quantity_max_lots=floor_units(market.quantity_max, instrument.step_size),
        notional_max=float(market.notional_max),
    )


def tail(draw: Draw, exponent: float, most: float) -> float:
    """Return a number of mean about one with a power-law tail (Pareto), cut at `most`."""
    return min(math.pow(1.0 - draw.random(), -1.0 / exponent) * (exponent - 1.0) / exponent, most)


def count(draw: Draw, expected: float) -> int:
    """Return how often something happens that is expected `expected` times (Poisson, at most 20)."""
    threshold, product, events = math.exp(-min(expected, 10.0)), draw.random(), 0
    while product > threshold and events < 20:
        product *= draw.random()
        events += 1
    return events
