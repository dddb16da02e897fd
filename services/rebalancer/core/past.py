"""What the estimators may look back on: closed bars only, the newest last, as many as the settings ask for.

In: the bars of each close time. Out: rows of closes and quote volumes, one column an asset. Never: a row with a hole
(a close time at which one asset had no usable bar is left out whole), a bar that had not closed when it is used.
"""

from collections.abc import Mapping
from decimal import Decimal
from itertools import pairwise

import msgspec

from services.rebalancer.config import RebalanceConfig
from services.rebalancer.core.model import is_plausible


class Past(msgspec.Struct, frozen=True, array_like=True):
    """Hold the last rows; market data, so floats. A volume that no bar told is None."""

    assets: tuple[str, ...] = ()
    closes: tuple[tuple[float, ...], ...] = ()
    volumes: tuple[tuple[float | None, ...], ...] = ()

    @property
    def bars(self) -> int:
        """Return how many rows there are."""
        return len(self.closes)

    def column(self, asset: str) -> list[float]:
        """Return one asset's closes, oldest first; empty for an asset that is not followed."""
        if asset not in self.assets:
            return []
        place = self.assets.index(asset)
        return [row[place] for row in self.closes]


def extended(
    past: Past, closes: Mapping[str, Decimal], volumes: Mapping[str, Decimal], config: RebalanceConfig
) -> Past:
    """Return the past with one more close time; another basket begins anew, a row with a hole changes nothing."""
    if config.lookback == 0:
        return past if past.bars == 0 else Past()
    assets = config.traded
    if past.assets != assets:
        past = Past(assets)
    prices = [closes.get(asset) for asset in assets]
    row = tuple(float(price) for price in prices if price is not None and is_plausible(price) and price > 0)
    if len(row) < len(assets) or 0.0 in row:
        return past
    told = tuple(_told(volumes.get(asset)) for asset in assets)
    kept = config.lookback
    return Past(assets, (*past.closes, row)[-kept:], (*past.volumes, told)[-kept:])


def _told(volume: Decimal | None) -> float | None:
    return float(volume) if volume is not None and is_plausible(volume) and volume >= 0 else None


def trending(past: Past, config: RebalanceConfig) -> tuple[str, ...]:
    """Return the assets in a strong upward trend: net gain over `trend_bars` / sum of moves >= `trend_efficiency`.

    The ratio is Kaufman's efficiency ratio, from 0 (noise) to 1 (a straight line); falling assets never count. None
    before `trend_bars` + 1 closes were seen.
    """
    if not config.trend_filter or past.bars <= config.trend_bars:
        return ()
    found = []
    for asset in config.traded:
        closes = past.column(asset)[-config.trend_bars - 1 :]
        moves = sum(abs(after - before) for before, after in pairwise(closes))
        if moves > 0 and closes[-1] - closes[0] >= float(config.trend_efficiency) * moves:
            found.append(asset)
    return tuple(found)
