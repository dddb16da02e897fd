"""Target weights of the basket: shares of the whole portfolio that sum to 1 less the reserve.

In: the settings and, for the estimators, closed bars of the past. Out: exact Decimals, or why there are none yet.
Never: a weight from a bar that had not closed, from fewer bars than the settings ask for, or over the position limit.

Estimates are floats, rounded to 8 decimals; what rounding leaves over goes to the largest weight under the limit.
"""

from decimal import ROUND_DOWN, Decimal

import msgspec
import numpy as np

from services.rebalancer.config import RebalanceConfig
from services.rebalancer.core.model import MONEY
from services.rebalancer.core.past import Past
from services.rebalancer.modes import TargetMode
from shared.domain.portfolio_weights import (
    calculate_portfolio_weights,
    capped_weights,
    inverse_volatility_scores,
    log_returns,
    minimum_variance_weights,
    shrunk_covariance,
)

_GRID = Decimal("0.00000001")


class Targets(msgspec.Struct, frozen=True):
    """Hold weights by asset, where they come from, and, when there are none, why."""

    weights: dict[str, Decimal]
    source: str
    obstacle: str = ""


def targets_for(config: RebalanceConfig, assets: tuple[str, ...], past: Past) -> Targets:
    """Return the target weights of `assets`; with an obstacle instead while the estimator has not seen enough."""
    mode = config.target_mode
    if mode is TargetMode.EQUAL:
        return _equal(config, assets)
    if mode in (TargetMode.FIXED, TargetMode.MARKET_CAP) or (mode is TargetMode.VOLUME and config.target_weights):
        return _given(config, assets)
    if mode is TargetMode.EXPECTED_RETURN and config.expected_returns:
        return _expected(
            config, assets, [float(_of(config, "expected_returns", asset)) for asset in assets], "settings"
        )
    needed = config.lookback_bars + (mode is not TargetMode.VOLUME)
    if past.assets != assets or past.bars < needed:
        seen = past.bars if past.assets == assets else 0
        return Targets({}, mode, f"target_mode {mode} is warming up: {seen} of {needed} bars were seen")
    if mode is TargetMode.VOLUME:
        return _volume(config, assets, past)
    returns = log_returns(past.closes[-needed:])
    source = f"the last {config.lookback_bars} returns"
    match mode:
        case TargetMode.EXPECTED_RETURN:
            return _expected(config, assets, [float(gain) for gain in returns.mean(axis=0)], source)
        case TargetMode.INVERSE_VOLATILITY:
            scores = inverse_volatility_scores(returns)
        case _:
            invested = float(1 - config.reserve)
            cap = float(config.position_limit) / invested if invested > 0 else 1.0
            scores = minimum_variance_weights(shrunk_covariance(returns), min(cap, 1.0))
    return _proportional(config, assets, scores, f"{mode} of {source}")


def _equal(config: RebalanceConfig, assets: tuple[str, ...]) -> Targets:
    each = MONEY.divide(1 - config.reserve, Decimal(len(assets)))
    return Targets(dict.fromkeys(assets, min(each, config.position_limit)), "equal weights")


def _given(config: RebalanceConfig, assets: tuple[str, ...]) -> Targets:
    if not config.target_weights:
        text = f"weights_file {config.weights_file} was not read: give target_weights"
        return Targets({}, config.target_mode, text)
    given = [_of(config, "target_weights", asset) for asset in assets]
    if config.target_mode is TargetMode.FIXED:
        return Targets(dict(zip(assets, given, strict=True)), "fixed weights of the settings")
    kind = "market caps" if config.target_mode is TargetMode.MARKET_CAP else "volumes"
    return _proportional(config, assets, [float(each) for each in given], f"{kind} that the settings give")


def _volume(config: RebalanceConfig, assets: tuple[str, ...], past: Past) -> Targets:
    rows = past.volumes[-config.lookback_bars :]
    if any(volume is None for row in rows for volume in row):
        return Targets({}, config.target_mode, "target_mode volume: the bars do not tell volumes; give target_weights")
    totals = np.asarray(rows, dtype=np.float64).sum(axis=0)
    scores = [float(total) for total in totals]
    return _proportional(config, assets, scores, f"the quote volume of the last {config.lookback_bars} bars")


def _expected(config: RebalanceConfig, assets: tuple[str, ...], gains: list[float], source: str) -> Targets:
    weights = calculate_portfolio_weights(
        dict(zip(assets, gains, strict=True)),
        invested=float(1 - config.reserve),
        weight_max=float(config.position_limit),
    )
    return Targets(_exact(config, weights), f"expected returns of {source}")


def _proportional(config: RebalanceConfig, assets: tuple[str, ...], scores: list[float], source: str) -> Targets:
    weights = capped_weights(
        dict(zip(assets, scores, strict=True)),
        invested=float(1 - config.reserve),
        weight_max=float(config.position_limit),
    )
    if not any(weights.values()):
        return Targets({}, source, f"{source} are all zero: no target weights")
    return Targets(_exact(config, weights), source)


def _exact(config: RebalanceConfig, weights: dict[str, float]) -> dict[str, Decimal]:
    exact = {asset: Decimal(repr(weight)).quantize(_GRID, ROUND_DOWN) for asset, weight in weights.items()}
    rest = min(1 - config.reserve, _wanted(weights)) - sum(exact.values(), Decimal(0))
    for asset in sorted(exact, key=lambda asset: -exact[asset]):
        if exact[asset] > 0 and 0 < rest <= config.position_limit - exact[asset]:
            exact[asset] += rest
            break
    return exact


def _wanted(weights: dict[str, float]) -> Decimal:
    # Rounding each float may lose one unit of the grid per asset; a sum under that is meant to stay in cash.
    total = sum((Decimal(repr(weight)) for weight in weights.values()), Decimal(0))
    return (total + _GRID / 2).quantize(_GRID, ROUND_DOWN)


def _of(config: RebalanceConfig, key: str, asset: str) -> Decimal:
    found = config.given(key, asset)
    return found if found is not None else Decimal(0)
