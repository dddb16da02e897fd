"""Coarser bars out of finer ones: `--interval 1d` from candles of 4h.

In: a feed that ends, a multiple of its interval. Out: the same market in longer bars, on the UTC grid. Never: a bar of
a market that lacks one of the bars it is made of: its close, or its volume, would be made up.
"""

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from services.market_data.core.feed import Candle, Feed, MarketStep
from services.market_data.core.replay import ReplayInfo
from shared.domain.money import total
from shared.errors import InputError
from shared.messages import Instrument


class ResampledFeed:
    """Hold the longer bars; a `Feed`."""

    def __init__(self, feed: Feed, timeframe: str, steps: Sequence[MarketStep]) -> None:
        self._feed, self._timeframe, self._steps = feed, timeframe, steps

    @property
    def timeframe(self) -> str:
        """Return the interval of the bars."""
        return self._timeframe

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        """Return the instruments and their grids, as the finer bars are evidence for."""
        return self._feed.instruments

    @property
    def first_open_ns(self) -> int:
        """Return the open time of step 1."""
        return self._steps[0].open_time_ns

    @property
    def description(self) -> str:
        """Return a few words for people."""
        return f"{self._feed.description}, in bars of {self._timeframe} made of {self._feed.timeframe}"

    @property
    def identity(self) -> dict[str, str]:
        """Return what makes this feed this feed."""
        return {**self._feed.identity, "timeframe": self._timeframe, "first_open_ns": str(self.first_open_ns)}

    def step(self, number: int) -> MarketStep | None:
        """Return step `number`, or None after the last; the last one is final."""
        if number < 1:
            raise ValueError(f"steps count from 1, got {number}")
        return self._steps[number - 1] if number <= len(self._steps) else None


def resampled(feed: Feed, info: ReplayInfo, interval_ns: int, timeframe: str) -> tuple[ResampledFeed, ReplayInfo]:
    """Return the feed in bars of `interval_ns`, a multiple of its own, and what it holds.

    A part of a bar at either end is left out. Prices are exact; a volume is the sum rounded once. Raises InputError
    when the finer bars lie across the coarser grid, or make not a single bar.
    """
    fine_ns = (info.last_close_ns - info.first_open_ns) // info.steps
    if info.first_open_ns % fine_ns:
        raise InputError(
            f"{info.name}: bars of {info.timeframe} lie off the UTC grid: give --interval {info.timeframe}"
        )
    size = interval_ns // fine_ns
    parts: dict[int, list[MarketStep]] = {}
    for number in range(1, info.steps + 1):
        step = feed.step(number)
        if step is not None:
            parts.setdefault(step.open_time_ns // interval_ns, []).append(step)
    whole = [bucket for bucket, steps in parts.items() if len(steps) == size]
    names = tuple(instrument.symbol for instrument in feed.instruments)
    made = [_step(at + 1, bucket * interval_ns, interval_ns, parts[bucket], names) for at, bucket in enumerate(whole)]
    made = _trimmed(made)
    if not made:
        raise InputError(f"{info.name}: {info.steps} bars of {info.timeframe} make no bar of {timeframe}: give more")
    made[-1] = msgspec.structs.replace(made[-1], final=True)
    bars = sum(len(step.candles) for step in made)
    return ResampledFeed(feed, timeframe, made), msgspec.structs.replace(
        info,
        timeframe=timeframe,
        steps=len(made),
        first_open_ns=made[0].open_time_ns,
        last_close_ns=made[-1].close_time_ns,
        bars=bars,
        missing=len(made) * len(names) - bars,
    )


def _step(number: int, open_ns: int, interval_ns: int, steps: Sequence[MarketStep], names: Sequence[str]) -> MarketStep:
    rows: dict[str, list[Candle]] = {}
    for step in steps:
        for candle in step.candles:
            rows.setdefault(candle.instrument, []).append(candle)
    whole = {name: _candle(rows[name]) for name in names if len(rows.get(name, ())) == len(steps)}
    return MarketStep(
        number=number,
        open_time_ns=open_ns,
        close_time_ns=open_ns + interval_ns,
        candles=tuple(whole.values()),
        missing=tuple(name for name in names if name not in whole),
        final=False,
    )


def _candle(rows: Sequence[Candle]) -> Candle:
    quoted = [one.quote_volume for one in rows if one.quote_volume is not None]
    return Candle(
        rows[0].instrument,
        rows[0].open,
        max(one.high for one in rows),
        min(one.low for one in rows),
        rows[-1].close,
        _sum([one.volume for one in rows]),
        _sum(quoted) if len(quoted) == len(rows) else None,
    )


def _sum(volumes: Sequence[float]) -> float:
    # As written, not as stored in binary: 0.1 and 0.2 are 0.3.
    return float(total([Decimal(repr(one)) for one in volumes]))


def _trimmed(steps: list[MarketStep]) -> list[MarketStep]:
    """Return the steps without empty ones at either end, numbered from 1."""
    there = [at for at, step in enumerate(steps) if step.candles]
    kept = steps[there[0] : there[-1] + 1] if there else []
    return [msgspec.structs.replace(step, number=at) for at, step in enumerate(kept, start=1)]
