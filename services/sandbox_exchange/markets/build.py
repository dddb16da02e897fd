"""Markets by configuration: their list, their flows, and the runner that drives them.

In: a configuration, the exchange. Out: markets listed there, a runner. Never: chance without the configured seed.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from services.sandbox_exchange.core.flow import FlowShape, grid_of
from services.sandbox_exchange.core.flow_candles import CandlePath
from services.sandbox_exchange.core.flow_market import MarketFlow
from services.sandbox_exchange.core.flow_synthetic import SyntheticPrice
from services.sandbox_exchange.core.model import Market
from services.sandbox_exchange.core.port import Exchange
from services.sandbox_exchange.markets.candles import CandleSeries, load_candles
from services.sandbox_exchange.markets.past import past_klines
from services.sandbox_exchange.markets.profiles import DEFAULT_SYMBOLS, MarketProfile, profile_of
from services.sandbox_exchange.markets.runner import MarketRunner

# A level of the book holds about what trades in this many seconds.
LEVEL_S = 0.5


class MarketsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Configure where the markets come from.

    Without `candles` they are synthetic, `time_factor` market seconds a wall second, `volatility` times as violent as
    usual. With it they follow that file at `speed` market seconds a wall second, from `start_s` (seconds since 1970,
    None: the first candle that every market has), with `volume_share` of its volume. `activity` multiplies orders and
    trades a second.
    """

    seed: int = 1
    time_factor: float = 60.0
    volatility: float = 1.0
    activity: float = 1.0
    candles: str | None = None
    speed: float = 600.0
    start_s: float | None = None
    volume_share: float = 1.0

    def __post_init__(self) -> None:
        for name, most in (
            ("time_factor", 100_000.0),
            ("speed", 1_000_000.0),
            ("activity", 50.0),
            ("volatility", 50.0),
            ("volume_share", 1e6),
        ):
            value = getattr(self, name)
            if not 0.0 < value <= most:
                raise ValueError(f"{name} must be above 0, at most {most:g}, got {value}")


class BackgroundMarket(msgspec.Struct, frozen=True):
    """Hold a market and the flow that is its background."""

    market: Market
    flow: MarketFlow


def make_markets(config: MarketsConfig, symbols: Sequence[str] = (), *, run: int = 0) -> tuple[BackgroundMarket, ...]:
    """Return the markets of `symbols`, by default the default list; `run` counts restarts, so that chance goes on.

    Raises InputError for a text that is no market and for a candle file that cannot be used.
    """
    symbols = symbols or DEFAULT_SYMBOLS
    if config.candles is None:
        return tuple(_synthetic(config, profile_of(symbol, seed=config.seed), run) for symbol in symbols)
    every = load_candles(Path(config.candles), symbols)
    start_s = config.start_s if config.start_s is not None else max(one.candles[0].open_s for one in every)
    return tuple(_historical(config, series, start_s, run) for series in every)


def make_runner(exchange: Exchange, markets: Sequence[BackgroundMarket], *, now_ns: Callable[[], int]) -> MarketRunner:
    """List the markets that the exchange does not have yet, with a past, and return the runner that drives them all."""
    for each in markets:
        market, flow = each.market, each.flow
        if market.symbol in exchange.markets:
            continue
        exchange.list_market(market)
        past = past_klines(
            market,
            ticks=flow.path.ticks,
            volatility_per_s=flow.path.volatility_per_s,
            turnover_per_s=flow.turnover_per_s,
            draw=_draw(round(flow.path.ticks), market.symbol, 0),
            now_ns=now_ns(),
        )
        exchange.add_past(market.symbol, past)
    return MarketRunner(exchange, {each.market.symbol: each.flow for each in markets}, now_ns=now_ns)


def _synthetic(config: MarketsConfig, profile: MarketProfile, run: int) -> BackgroundMarket:
    market, path_shape = profile.market, profile.path
    shape = msgspec.structs.replace(
        path_shape,
        volatility_daily=path_shape.volatility_daily * config.volatility,
        jump_size=min(path_shape.jump_size * config.volatility, 1.0),
    )
    draw = _draw(config.seed, market.symbol, run)
    ticks = float(profile.price / market.instrument.tick_size)
    path = SyntheticPrice(shape, ticks, draw, time_factor=config.time_factor)
    return BackgroundMarket(market, MarketFlow(_busy(profile.flow, config), grid_of(market), path, draw))


def _historical(config: MarketsConfig, series: CandleSeries, start_s: float, run: int) -> BackgroundMarket:
    profile, market = series.profile, series.profile.market
    candles = [msgspec.structs.replace(one, volume=round(one.volume * config.volume_share)) for one in series.candles]
    draw = _draw(config.seed, market.symbol, run)
    path = CandlePath(candles, series.interval_s, draw, speed=config.speed, start_s=start_s)
    tick, step = float(market.instrument.tick_size), float(market.instrument.step_size)
    turnover = sum(one.volume * one.close for one in candles) * tick * step / len(candles)
    a_second = max(turnover * config.speed / series.interval_s, 20.0 * float(market.instrument.notional_min))
    flow = msgspec.structs.replace(
        _busy(profile.flow, config), depth_notional=a_second * LEVEL_S, take_notional=a_second
    )
    return BackgroundMarket(market, MarketFlow(flow, grid_of(market), path, draw))


def _busy(shape: FlowShape, config: MarketsConfig) -> FlowShape:
    return msgspec.structs.replace(
        shape,
        requotes=shape.requotes * config.activity,
        churn=shape.churn * config.activity,
        takes=shape.takes * config.activity,
    )


def _draw(seed: int, symbol: str, run: int) -> np.random.Generator:
    key = int.from_bytes(hashlib.sha256(f"{seed}/{symbol}/{run}".encode()).digest()[:16], "big")
    return np.random.Generator(np.random.PCG64(key))
