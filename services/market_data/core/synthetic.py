"""A synthetic market: seeded, endless, violent at times, the same again for the same seed and configuration.

In: a seed, the assets, the bars' interval. Out: market steps by number; any step may be asked for, in any order.
Never: a price that is not positive or off its grid, a bar whose high and low do not contain its open and close.

The market runs day by day. A day's randomness comes from a generator keyed by (seed, asset, day), so a restart computes
the days again instead of storing them; only the price at each day's start is carried on. Each asset, and the market
that they share, goes through regimes (calm, trend, mania, crash); log returns have Student's t tails (4 degrees of
freedom), jumps have exponential sizes, a weak pull towards the first price keeps centuries of bars on a usable grid.
"""

import hashlib
import math
from collections.abc import Sequence
from decimal import Decimal

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.market_data.config import SyntheticConfig
from services.market_data.core.feed import Candle, MarketStep
from services.market_data.core.regimes import Regime, RegimePath
from shared.config import timeframe_ns
from shared.domain.instruments import split_symbol
from shared.messages import Instrument

type Array = NDArray[np.float64]

DAY_NS = 86_400_000_000_000
TAIL_FREEDOM = 4.0
# One day's move, from its start: about -63 % to +250 %.
DAY_FALL_MAX, DAY_RISE_MAX = -1.0, 1.25
PULL_PER_DAY = 0.01
QUOTE_VOLUME_DAILY = 2_000_000.0
# Floats are exact up to here, so every price and volume is its decimal number.
SIZE_MAX = 10**15
MARKET = "market"


class _Day(msgspec.Struct, frozen=True):
    opens: list[int]
    highs: list[int]
    lows: list[int]
    closes: list[int]
    volumes: list[int]


class _Grid(msgspec.Struct, frozen=True):
    price_decimals: int
    volume_decimals: int

    def price(self, ticks: int) -> float:
        return ticks / float(10**self.price_decimals)

    def volume(self, steps: int) -> float:
        # Dividing by a power of ten gives the float nearest to the decimal; multiplying by 0.1 would not.
        power = float(10 ** abs(self.volume_decimals))
        return steps / power if self.volume_decimals >= 0 else steps * power


class SyntheticFeed:
    """Make a market of `assets` with bars of `timeframe` from `start_ns` on, until `steps_max` or for ever."""

    def __init__(
        self,
        config: SyntheticConfig,
        assets: Sequence[str],
        timeframe: str,
        *,
        start_ns: int,
        steps_max: int | None = None,
    ) -> None:
        self._config = config
        self._timeframe = timeframe
        self._interval_ns = timeframe_ns(timeframe)
        self._start_ns = start_ns
        self._steps_max = steps_max
        self._steps_per_day = max(1, DAY_NS // self._interval_ns)
        self._market = RegimePath(_key(config.seed, MARKET), config.regime_days)
        self._paths = {asset: _AssetPath(config, asset, self._steps_per_day) for asset in assets}
        self._instruments = tuple(path.instrument for path in self._paths.values())

    @property
    def timeframe(self) -> str:
        """Return the interval of the bars."""
        return self._timeframe

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        """Return the instruments; each grid gives about five significant digits."""
        return self._instruments

    @property
    def first_open_ns(self) -> int:
        """Return the open time of step 1."""
        return self._start_ns

    @property
    def description(self) -> str:
        """Return a few words for people."""
        return f"synthetic market, seed {self._config.seed}"

    @property
    def identity(self) -> dict[str, str]:
        """Return everything that the prices depend on; assets are independent of each other, so they may change."""
        shape = {name: str(getattr(self._config, name)) for name in self._config.__struct_fields__}
        return {"feed": "synthetic", "timeframe": self._timeframe, "start_ns": str(self._start_ns)} | shape

    def step(self, number: int) -> MarketStep | None:
        """Return step `number`; the days before it are computed once, in about a tenth of a millisecond each."""
        if number < 1:
            raise ValueError(f"steps count from 1, got {number}")
        if self._steps_max is not None and number > self._steps_max:
            return None
        day, at = divmod(number - 1, self._steps_per_day)
        open_time_ns = self._start_ns + (number - 1) * self._interval_ns
        return MarketStep(
            number=number,
            open_time_ns=open_time_ns,
            close_time_ns=open_time_ns + self._interval_ns,
            candles=tuple(path.candle(day, at, self._market) for path in self._paths.values()),
            missing=(),
            final=number == self._steps_max,
        )


class _AssetPath:
    """Compute one asset's days, keeping the price at the start of each day and the bars of the newest."""

    def __init__(self, config: SyntheticConfig, asset: str, steps_per_day: int) -> None:
        self._config = config
        self._asset = asset
        self._steps = steps_per_day
        self._regimes = RegimePath(_key(config.seed, asset), config.regime_days)
        draw = np.random.Generator(np.random.Philox(key=_key(config.seed, f"{asset}/base")))
        self._log_base = math.log(10.0) * draw.uniform(-2.0, 2.5)
        magnitude = math.floor(self._log_base / math.log(10.0))
        self._grid = _Grid(price_decimals=max(0, 4 - magnitude), volume_decimals=magnitude + 3)
        base, quote = split_symbol(asset)
        step = Decimal(1).scaleb(-self._grid.volume_decimals)
        self.instrument = Instrument(
            symbol=asset,
            base=base,
            quote=quote,
            tick_size=Decimal(1).scaleb(-self._grid.price_decimals),
            step_size=step,
            quantity_min=step,
            notional_min=config.notional_min,
        )
        self._starts = [self._log_base]
        self._newest: tuple[int, _Day] | None = None

    def candle(self, day: int, at: int, market: RegimePath) -> Candle:
        bars = self._day(day, market)
        grid = self._grid
        close, volume = grid.price(bars.closes[at]), grid.volume(bars.volumes[at])
        high, low = grid.price(bars.highs[at]), grid.price(bars.lows[at])
        return Candle(
            instrument=self._asset,
            open=grid.price(bars.opens[at]),
            high=high,
            low=low,
            close=close,
            volume=volume,
            quote_volume=round(volume * (high + low + close) / 3, 2),
        )

    def _day(self, day: int, market: RegimePath) -> _Day:
        if self._newest is not None and self._newest[0] == day:
            return self._newest[1]
        while len(self._starts) <= day:
            done = len(self._starts) - 1
            self._starts.append(self._starts[done] + float(self._moves(done, market)[0][-1]))
        moves, draw = self._moves(day, market)
        if len(self._starts) == day + 1:
            self._starts.append(self._starts[day] + float(moves[-1]))
        bars = self._bars(self._starts[day], moves, draw, self._regimes.at(day))
        self._newest = (day, bars)
        return bars

    def _moves(self, day: int, market: RegimePath) -> tuple[Array, np.random.Generator]:
        """Return the day's cumulative log moves, one for each step, and the generator that goes on from there."""
        own, shared = self._regimes.at(day), market.at(day)
        draw = np.random.Generator(np.random.Philox(key=_key(self._config.seed, f"{self._asset}/{day}")))
        common = np.random.Generator(np.random.Philox(key=_key(self._config.seed, f"{MARKET}/{day}")))
        scale = self._config.volatility_daily / math.sqrt(self._steps)
        weight = math.sqrt(self._config.correlation)
        rest = math.sqrt(1.0 - self._config.correlation)
        noise = rest * own.volatility * _tails(draw, self._steps) + weight * shared.volatility * _tails(
            common, self._steps
        )
        drift = (rest * own.drift + weight * shared.drift) * self._config.volatility_daily
        drift += PULL_PER_DAY * (self._log_base - self._starts[day])
        moves: Array = np.cumsum(scale * noise + drift / self._steps + self._jumps(draw, own))
        worst = max(float(moves.max()) / DAY_RISE_MAX, float(moves.min()) / DAY_FALL_MAX, 1.0)
        return moves / worst, draw

    def _jumps(self, draw: np.random.Generator, regime: Regime) -> Array:
        jumps = np.zeros(self._steps)
        for _ in range(int(draw.poisson(self._config.jumps_per_day * regime.jumps))):
            size = min(float(draw.exponential(regime.jump_size)), 1.0)
            sign = 1.0 if float(draw.random()) < regime.jump_up else -1.0
            jumps[int(draw.integers(self._steps))] += sign * size
        return jumps

    def _bars(self, start: float, moves: Array, draw: np.random.Generator, regime: Regime) -> _Day:
        logs = np.concatenate(([start], start + moves))
        scale = self._config.volatility_daily / math.sqrt(self._steps)
        ticks = np.clip(np.rint(np.exp(logs) * 10.0**self._grid.price_decimals), 1, SIZE_MAX).astype(np.int64)
        opens, closes = ticks[:-1], ticks[1:]
        reach = 0.6 * scale * regime.volatility * np.abs(draw.standard_normal((2, self._steps)))
        highs = np.rint(np.maximum(opens, closes) * np.exp(reach[0])).astype(np.int64)
        lows = np.maximum(1, np.rint(np.minimum(opens, closes) * np.exp(-reach[1]))).astype(np.int64)
        # More is traded when prices move; a jump in an otherwise still market counts as thirty ordinary moves.
        busy = 1.0 + np.minimum(np.abs(np.diff(logs)) / (scale + 1e-12), 30.0)
        quote = QUOTE_VOLUME_DAILY / self._steps * busy * np.exp(0.5 * draw.standard_normal(self._steps))
        steps = np.rint(quote / np.exp(logs[1:]) * 10.0**self._grid.volume_decimals)
        volumes = np.clip(steps, 1, SIZE_MAX).astype(np.int64)
        return _Day(opens.tolist(), highs.tolist(), lows.tolist(), closes.tolist(), volumes.tolist())


def _tails(draw: np.random.Generator, count: int) -> Array:
    """Return Student's t values of unit variance, cut at 12 standard deviations."""
    values: Array = draw.standard_t(TAIL_FREEDOM, count) / math.sqrt(TAIL_FREEDOM / (TAIL_FREEDOM - 2.0))
    return np.clip(values, -12.0, 12.0)


def _key(seed: int, name: str) -> int:
    """Return a generator's 128-bit key; Python's own hash differs between processes."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:16], "big")
