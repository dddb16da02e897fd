"""Which asset fires: exact comparisons by cross multiplication, the position limit first, then the farthest breach.

In: a checked portfolio, its valuation, the rules. Out: every breach in order of urgency, and notes on the quiet rest.
Never: a float; an asset that is cooling down; an asset exactly at its threshold.
"""

from decimal import Decimal

import msgspec

from services.rebalancer.config import RebalanceConfig
from services.rebalancer.core.model import (
    MONEY,
    NANOSECONDS_PER_MINUTE,
    Direction,
    Portfolio,
    Trigger,
    Valuation,
    percent,
    share,
)


class Breach(msgspec.Struct, frozen=True):
    """Name a limit that an asset is beyond. `urgency` ranks breaches of one kind, exactly."""

    trigger: Trigger
    urgency: Decimal


def is_cooling(portfolio: Portfolio, asset: str, config: RebalanceConfig) -> bool:
    """Tell whether less than the cooldown has passed since the asset fired; exactly the cooldown is enough."""
    elapsed_ns = portfolio.elapsed_ns.get(asset)
    return elapsed_ns is not None and elapsed_ns < config.cooldown_minutes * NANOSECONDS_PER_MINUTE


def find_breaches(portfolio: Portfolio, worth: Valuation, config: RebalanceConfig) -> list[Breach]:
    """Return what fires, most urgent first: assets over the position limit, then |deviation| / threshold.

    Equal urgency keeps the basket's order. Assets that are cooling down are left out.
    """
    limits: list[Breach] = []
    bands: list[Breach] = []
    for asset in portfolio.assets:
        if is_cooling(portfolio, asset, config):
            continue
        if is_over_limit(worth, asset, config):
            limits.append(_breach(worth, asset, Direction.POSITION_LIMIT, worth.values[asset]))
            continue
        direction, urgency = _band(worth, asset, config)
        if direction is not None:
            bands.append(_breach(worth, asset, direction, urgency))
    # Sorting is stable: equal urgency keeps the basket's order.
    return sorted(limits, key=lambda b: -b.urgency) + sorted(bands, key=lambda b: -b.urgency)


def is_over_limit(worth: Valuation, asset: str, config: RebalanceConfig) -> bool:
    """Tell whether the asset is more than `position_limit` of the portfolio; a limit of 1 switches this off."""
    return config.position_limit < 1 and worth.values[asset] > config.position_limit * worth.total_usdt


def describe_quiet(portfolio: Portfolio, worth: Valuation, config: RebalanceConfig) -> tuple[str, ...]:
    """Return why nothing fired: the farthest deviation, what is cooling down, the largest share."""
    notes: list[str] = []
    farthest = max(portfolio.assets, key=lambda asset: _urgency(worth, asset, config))
    notes.append(f"farthest: {describe_deviation(worth, farthest, config)}")
    if config.position_limit < 1:
        largest = max(portfolio.assets, key=lambda asset: worth.values[asset])
        weight = MONEY.divide(worth.values[largest], worth.total_usdt)
        notes.append(f"largest: {largest} {share(weight)} of the portfolio, limit {share(config.position_limit)}")
    notes += describe_cooling(portfolio, worth, config)
    return tuple(notes)


def describe_cooling(portfolio: Portfolio, worth: Valuation, config: RebalanceConfig) -> list[str]:
    """Return one sentence for each asset that is beyond a limit but cooling down."""
    notes = []
    for asset in portfolio.assets:
        direction, _ = _band(worth, asset, config)
        if is_cooling(portfolio, asset, config) and (direction is not None or is_over_limit(worth, asset, config)):
            minutes = MONEY.divide(portfolio.elapsed_ns[asset], Decimal(NANOSECONDS_PER_MINUTE))
            notes.append(
                f"{asset} is beyond its limit ({describe_deviation(worth, asset, config)}) but cooling down: "
                f"it fired {minutes:.1f} of {config.cooldown_minutes} minutes ago"
            )
    return notes


def describe_deviation(worth: Valuation, asset: str, config: RebalanceConfig) -> str:
    """Return `H +21.3 % of +40.0 %`: where the asset stands against its own threshold."""
    threshold = config.upside_threshold if worth.distance(asset) >= 0 else -config.downside_threshold
    return f"{asset} {percent(worth.deviation(asset))} of {percent(threshold)}"


def _band(worth: Valuation, asset: str, config: RebalanceConfig) -> tuple[Direction | None, Decimal]:
    distance = worth.distance(asset)
    urgency = _urgency(worth, asset, config)
    if distance > config.upside_threshold * worth.assets_usdt:
        return Direction.UPSIDE, urgency
    if -distance > config.downside_threshold * worth.assets_usdt:
        return Direction.DOWNSIDE, urgency
    return None, urgency


def _urgency(worth: Valuation, asset: str, config: RebalanceConfig) -> Decimal:
    # |deviation| / own threshold, times the sum and both thresholds: the same order without a division.
    distance = worth.distance(asset)
    return distance * config.downside_threshold if distance >= 0 else -distance * config.upside_threshold


def _breach(worth: Valuation, asset: str, direction: Direction, urgency: Decimal) -> Breach:
    return Breach(Trigger(asset, direction, worth.deviation(asset)), urgency)
