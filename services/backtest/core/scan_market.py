"""A market as columns: read once, scanned and simulated any number of times.

In: a feed, or arrays [bar, asset] with NaN where an asset has no bar. Out: the same steps as the feed's, one at a time,
and what scans need: the bars that a venue may not take, the newest bar of each asset, the price in force.
Never: a step that differs from the feed's by a single bit.
"""

from functools import cached_property
from math import isnan

import numpy as np

from services.backtest.core.scan_kernel import Columns, Floats, Integers, columns_of
from services.market_data.core.feed import Candle, Feed, MarketStep
from shared.errors import InputError
from shared.messages import Instrument

# What lies outside is left to the exact core: far inside what floats and the venue's arithmetic carry.
_PRICE_MIN, _PRICE_MAX, _VOLUME_MAX = 1e-20, 1e20, 1e25


class MarketArrays:
    """Hold a market's bars as arrays of shape [bars, instruments]; it is a `Feed` itself.

    A NaN close means: no bar. A NaN quote volume, or None for all of them, means: not known. Arrays are not copied and
    must not change. Raises InputError for shapes or times that do not fit together.
    """

    def __init__(
        self,
        *,
        instruments: tuple[Instrument, ...],
        timeframe: str,
        open_ns: Integers,
        close_ns: Integers,
        opens: Floats,
        highs: Floats,
        lows: Floats,
        closes: Floats,
        volumes: Floats,
        quote_volumes: Floats | None = None,
        description: str = "arrays",
    ) -> None:
        shape = (len(close_ns), len(instruments))
        for name, array in (("opens", opens), ("highs", highs), ("lows", lows), ("closes", closes)):
            _require_shape(name, array, shape)
        _require_shape("volumes", volumes, shape)
        if quote_volumes is not None:
            _require_shape("quote_volumes", quote_volumes, shape)
        if not len(close_ns) or len(open_ns) != len(close_ns):
            raise InputError("a market needs at least one bar, and as many open as close times")
        if np.any(np.diff(close_ns) <= 0) or np.any(open_ns >= close_ns):
            raise InputError("close times must rise, and every bar must open before it closes: sort the bars")
        self._instruments, self._timeframe, self._description = instruments, timeframe, description
        self.open_ns, self.close_ns = open_ns, close_ns
        self.opens, self.highs, self.lows, self.closes = opens, highs, lows, closes
        self.volumes, self.quote_volumes = volumes, quote_volumes
        self._columns: dict[tuple[str, ...], Columns] = {}

    def __len__(self) -> int:
        return len(self.close_ns)

    @property
    def timeframe(self) -> str:
        """Return the interval of the bars, as `15m`."""
        return self._timeframe

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        """Return the instruments in the order of the columns."""
        return self._instruments

    @property
    def first_open_ns(self) -> int:
        """Return the open time of step 1."""
        return int(self.open_ns[0])

    @property
    def description(self) -> str:
        """Return a few words for people."""
        return self._description

    @property
    def identity(self) -> dict[str, str]:
        """Return what makes this feed this feed."""
        return {"feed": "arrays", "timeframe": self._timeframe, "first_open_ns": str(self.first_open_ns)}

    def step(self, number: int) -> MarketStep | None:
        """Return step `number` (1 is the first), or None after the last; the last one is final."""
        if number < 1:
            raise ValueError(f"steps count from 1, got {number}")
        if number > len(self):
            return None
        row = number - 1
        closes = self.closes[row].tolist()
        there = [column for column, close in enumerate(closes) if not isnan(close)]
        quotes = self.quote_volumes
        rows = (self.opens[row], self.highs[row], self.lows[row], self.closes[row], self.volumes[row])
        opens, highs, lows, closes, volumes = (one.tolist() for one in rows)
        quoted = (
            [None] * len(closes) if quotes is None else [None if isnan(one) else one for one in quotes[row].tolist()]
        )
        names = [instrument.symbol for instrument in self._instruments]
        return MarketStep(
            number=number,
            open_time_ns=int(self.open_ns[row]),
            close_time_ns=int(self.close_ns[row]),
            candles=tuple(
                Candle(names[c], opens[c], highs[c], lows[c], closes[c], volumes[c], quoted[c]) for c in there
            ),
            missing=tuple(name for column, name in enumerate(names) if column not in there),
            final=number == len(self),
        )

    def columns(self, assets: tuple[str, ...]) -> Columns | None:
        """Return these markets' closes in this order, None when one is not there; kept for the next call."""
        names = tuple(instrument.symbol for instrument in self._instruments)
        if not set(assets) <= set(names):
            return None
        if assets not in self._columns:
            chosen = self.closes if assets == names else self.closes[:, [names.index(asset) for asset in assets]]
            self._columns[assets] = columns_of(np.ascontiguousarray(chosen))
        return self._columns[assets]

    @cached_property
    def has_gaps(self) -> bool:
        """Tell whether any bar is missing."""
        return bool(np.isnan(self.closes).any())

    @cached_property
    def doubtful(self) -> Integers:
        """Return the rows, in order, with a bar that a venue may not take, or that floats may not carry."""
        low, high = np.minimum(self.opens, self.closes), np.maximum(self.opens, self.closes)
        fits = (self.lows <= low) & (high <= self.highs) & (self.lows >= _PRICE_MIN) & (self.highs <= _PRICE_MAX)
        fits &= (self.volumes >= 0) & (self.volumes <= _VOLUME_MAX)
        return np.nonzero((~fits & ~np.isnan(self.closes)).any(axis=1))[0].astype(np.int64)

    def is_whole(self, row: int) -> bool:
        """Tell whether every market has a bar in this row."""
        return not self.has_gaps or not np.isnan(self.closes[row]).any()

    def newest_rows(self, row: int) -> list[int]:
        """Return, by column, the newest row up to `row` that has a bar; -1 for none."""
        newest = self._newest
        return [row] * len(self._instruments) if newest is None else newest[row].tolist()

    @cached_property
    def marks(self) -> Floats:
        """Return the price in force: the newest close up to each row, NaN before the first."""
        newest = self._newest
        if newest is None:
            return self.closes
        last = np.take_along_axis(self.closes, np.maximum(newest, 0), axis=0)
        return np.where(newest < 0, np.nan, last)

    @cached_property
    def _newest(self) -> Integers | None:
        if not self.has_gaps:
            return None
        rows = np.arange(len(self), dtype=np.int64)[:, None]
        return np.maximum.accumulate(np.where(np.isnan(self.closes), -1, rows), axis=0)


def arrays_of(feed: Feed) -> MarketArrays:
    """Return a feed that ends as arrays; raises InputError for one without a step."""
    steps: list[MarketStep] = []
    while (step := feed.step(len(steps) + 1)) is not None:
        steps.append(step)
    column_of = {instrument.symbol: column for column, instrument in enumerate(feed.instruments)}
    fields = np.full((6, len(steps), len(column_of)), np.nan)
    for row, step in enumerate(steps):
        for one in step.candles:
            if isnan(one.close):
                # It would pass for a missing bar.
                raise InputError(f"{one.instrument}: the bar that closes at {step.close_time_ns} has no close: drop it")
            quoted = np.nan if one.quote_volume is None else one.quote_volume
            fields[:, row, column_of[one.instrument]] = (one.open, one.high, one.low, one.close, one.volume, quoted)
    return MarketArrays(
        instruments=feed.instruments,
        timeframe=feed.timeframe,
        open_ns=np.array([step.open_time_ns for step in steps], dtype=np.int64),
        close_ns=np.array([step.close_time_ns for step in steps], dtype=np.int64),
        opens=fields[0],
        highs=fields[1],
        lows=fields[2],
        closes=fields[3],
        volumes=fields[4],
        quote_volumes=fields[5],
        description=feed.description,
    )


def _require_shape(name: str, array: Floats, shape: tuple[int, int]) -> None:
    if array.shape != shape or array.dtype != np.float64:
        raise InputError(f"{name} must be float64 of shape {shape}, got {array.dtype} of {array.shape}")
