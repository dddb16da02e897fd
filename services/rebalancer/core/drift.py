"""Where each asset stands against its target: weight, drift, band.

In: a checked portfolio and target weights. Out: one row an asset, and the weights that a rebalance goes to.
Never: a goal for a locked asset other than what it is, goals that sum to more than 1 less the reserve.
"""

from decimal import Decimal

import msgspec

from services.rebalancer.config import RebalanceConfig, is_named
from services.rebalancer.core.legs import Frame
from services.rebalancer.core.model import MONEY
from services.rebalancer.modes import RebalanceTo, TriggerMode


class Drift(msgspec.Struct, frozen=True):
    """State one asset's place. Weights, `drift` and `band` are shares of the whole portfolio; None: no band counts."""

    asset: str
    value_usdt: Decimal
    weight: Decimal
    target: Decimal
    band: Decimal | None
    is_locked: bool

    @property
    def drift(self) -> Decimal:
        """Return weight - target; above zero the asset has run ahead."""
        return self.weight - self.target

    @property
    def is_outside(self) -> bool:
        """Tell whether the asset may be traded and is strictly beyond its band."""
        return not self.is_locked and self.band is not None and abs(self.drift) > self.band

    @property
    def relative(self) -> Decimal | None:
        """Return the drift as a share of the target, None without a target."""
        return MONEY.divide(self.drift, self.target) if self.target else None


def drifts_of(frame: Frame, targets: dict[str, Decimal]) -> tuple[Drift, ...]:
    """Return every asset's drift against targets that leave room for what is locked."""
    weights = _weights(frame)
    fitted = _fitted(frame, targets, weights)
    return tuple(
        Drift(
            asset=asset,
            value_usdt=frame.worth.values[asset],
            weight=weights[asset],
            target=fitted[asset],
            band=band_of(frame.config, fitted[asset]),
            is_locked=is_locked(frame.config, asset),
        )
        for asset in frame.portfolio.assets
    )


def band_of(config: RebalanceConfig, target: Decimal) -> Decimal | None:
    """Return how far a weight may drift; None where no band counts. A target of nothing has the absolute band."""
    relative = config.band_relative * target if target else config.band_points
    match config.trigger:
        case TriggerMode.ABSOLUTE_BAND:
            return config.band_points
        case TriggerMode.RELATIVE_BAND:
            return relative
        case TriggerMode.HYBRID:
            # The narrower one counts: the absolute band for large holdings, the relative one for small ones.
            return min(config.band_points, relative)
        case TriggerMode.CALENDAR | TriggerMode.CASCADE:
            return None


def goals_for(rows: tuple[Drift, ...], config: RebalanceConfig) -> dict[str, Decimal]:
    """Return the weight that each asset goes to: its target, or for `half_band` the near edge of half its band.

    Half-band goals sum to what the targets sum to: what is missing is taken from those above target, in proportion to
    how far above, and what is over is given to those below. So each stays within half its band.
    """
    goals = {row.asset: row.target for row in rows}
    if config.rebalance_to is RebalanceTo.TARGET:
        return goals
    offsets: dict[str, Decimal] = {}
    for row in rows:
        half = Decimal(0) if row.band is None else row.band / 2
        offsets[row.asset] = Decimal(0) if row.is_locked else max(min(row.drift, half), -half)
    excess = sum(offsets.values(), Decimal(0))
    giving = [asset for asset, offset in offsets.items() if (offset > 0) == (excess > 0) and offset != 0]
    whole = sum((offsets[asset] for asset in giving), Decimal(0))
    for asset in giving if excess else ():
        offsets[asset] -= MONEY.divide(offsets[asset] * excess, whole)
    limit = config.position_limit
    return {row.asset: row.weight if row.is_locked else min(row.target + offsets[row.asset], limit) for row in rows}


def is_locked(config: RebalanceConfig, asset: str) -> bool:
    """Tell whether the settings forbid trading the asset."""
    return is_named(config.locked_assets, asset)


def _weights(frame: Frame) -> dict[str, Decimal]:
    total = frame.worth.total_usdt
    values = frame.worth.values
    return {asset: MONEY.divide(values[asset], total) if total else Decimal(0) for asset in frame.portfolio.assets}


def _fitted(frame: Frame, targets: dict[str, Decimal], weights: dict[str, Decimal]) -> dict[str, Decimal]:
    locked = {asset for asset in frame.portfolio.assets if is_locked(frame.config, asset)}
    if not locked:
        return {asset: targets.get(asset, Decimal(0)) for asset in frame.portfolio.assets}
    wanted = sum((targets.get(asset, Decimal(0)) for asset in frame.portfolio.assets), Decimal(0))
    left = max(wanted - sum((weights[asset] for asset in locked), Decimal(0)), Decimal(0))
    open_sum = sum((weight for asset, weight in targets.items() if asset not in locked), Decimal(0))
    fitted: dict[str, Decimal] = {}
    for asset in frame.portfolio.assets:
        if asset in locked:
            fitted[asset] = weights[asset]
        else:
            part = targets.get(asset, Decimal(0)) * left
            fitted[asset] = min(MONEY.divide(part, open_sum), frame.config.position_limit) if open_sum else Decimal(0)
    return fitted
