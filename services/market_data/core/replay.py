"""A recorded market, step by step.

In: checked candles of each asset. Out: steps on one grid, and the instruments' grids as the file's digits show them.
Never: a bar that the file does not have. With `missing_bars=hold` a step says which assets have none; their last close
stays in force at the consumers. An asset that lists later, or ends earlier, is missing there in the same way.

Tick and step are what the file is evidence for: the most decimals in any price, and in any volume, of the asset. The
venue's own grid may be coarser than its history shows, never finer than every bar of it. Round numbers are no
evidence: a tick beyond 0.2 % of the highest price, or a step worth more than the smallest order, is replaced by a
finer power of ten.
"""

import hashlib
from collections.abc import Sequence
from decimal import Decimal

import msgspec

from services.market_data.config import MissingBars
from services.market_data.core.candles import RawSeries, Series, check_series, interval_of, time_unit_ns, timeframe_text
from services.market_data.core.feed import Candle, MarketStep, iso_text, utc_text
from shared.domain.instruments import split_symbol
from shared.errors import InputError
from shared.messages import Instrument

TICK_SHARE_MAX = Decimal("0.002")


class ReplayRules(msgspec.Struct, frozen=True):
    """Say which part of a file is played and what a missing bar means."""

    start_ns: int | None
    end_ns: int | None
    steps_max: int | None
    missing_bars: MissingBars
    notional_min: Decimal


class ReplayInfo(msgspec.Struct, frozen=True):
    """Describe a replay that has passed every check."""

    name: str
    timeframe: str
    steps: int
    first_open_ns: int
    last_close_ns: int
    instruments: tuple[Instrument, ...]
    bars: int
    missing: int


class ReplayFeed:
    """Play candles that share one grid; made by `build_replay`."""

    def __init__(
        self, name: str, series: Sequence[Series], interval_ns: int, steps: int, notional_min: Decimal
    ) -> None:
        self._name = name
        self._interval_ns = interval_ns
        self._first_open_ns = min(one.open_times_ns[0] for one in series)
        self._steps = steps
        self._series = tuple(series)
        self._instruments = tuple(_instrument(one, notional_min) for one in series)
        self._candles = [dict(zip(one.open_times_ns, one.candles, strict=True)) for one in series]

    @property
    def timeframe(self) -> str:
        """Return the interval that the file's bars have."""
        return timeframe_text(self._interval_ns)

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        """Return the instruments in the order of the stack's assets."""
        return self._instruments

    @property
    def first_open_ns(self) -> int:
        """Return the open time of step 1."""
        return self._first_open_ns

    @property
    def description(self) -> str:
        """Return a few words for people."""
        return f"replay of {self._name}"

    @property
    def identity(self) -> dict[str, str]:
        """Return the grid and each asset's first bar: a longer file of the same history continues the stream."""
        first = {f"first bar of {one.asset}": _digest(one.open_times_ns[0], one.candles[0]) for one in self._series}
        return {"feed": "replay", "timeframe": self.timeframe, "first_open_ns": str(self._first_open_ns)} | first

    @property
    def info(self) -> ReplayInfo:
        """Return a summary for people and for the command line."""
        last_open_ns = self._first_open_ns + (self._steps - 1) * self._interval_ns
        bars = sum(open_ns <= last_open_ns for one in self._series for open_ns in one.open_times_ns)
        return ReplayInfo(
            name=self._name,
            timeframe=self.timeframe,
            steps=self._steps,
            first_open_ns=self._first_open_ns,
            last_close_ns=last_open_ns + self._interval_ns,
            instruments=self._instruments,
            bars=bars,
            missing=self._steps * len(self._series) - bars,
        )

    def step(self, number: int) -> MarketStep | None:
        """Return step `number`, or None after the last; the last one is final."""
        if number < 1:
            raise ValueError(f"steps count from 1, got {number}")
        if number > self._steps:
            return None
        open_time_ns = self._first_open_ns + (number - 1) * self._interval_ns
        found = [candles.get(open_time_ns) for candles in self._candles]
        return MarketStep(
            number=number,
            open_time_ns=open_time_ns,
            close_time_ns=open_time_ns + self._interval_ns,
            candles=tuple(candle for candle in found if candle is not None),
            missing=tuple(one.asset for one, candle in zip(self._series, found, strict=True) if candle is None),
            final=number == self._steps,
        )


def build_replay(name: str, raw: Sequence[RawSeries], rules: ReplayRules) -> ReplayFeed:
    """Check every row and return the feed, its assets in the order of `raw`.

    Raises InputError that names file, line or asset, time, field and fix.
    """
    unit_ns = time_unit_ns(raw)
    interval_ns = interval_of(raw, unit_ns)
    series = [check_series(one, unit_ns, interval_ns, start_ns=rules.start_ns, end_ns=rules.end_ns) for one in raw]
    for one in series:
        if not one.candles:
            raise InputError(_no_rows(one, rules))
    first_ns = min(one.open_times_ns[0] for one in series)
    _check_grid(series, first_ns, interval_ns)
    steps = max(one.open_times_ns[-1] for one in series) - first_ns
    steps = steps // interval_ns + 1
    if rules.missing_bars is MissingBars.REFUSE:
        _refuse_gaps(series, first_ns, interval_ns, steps)
    if rules.steps_max is not None:
        steps = min(steps, rules.steps_max)
    return ReplayFeed(name, series, interval_ns, steps, rules.notional_min)


def _check_grid(series: Sequence[Series], first_ns: int, interval_ns: int) -> None:
    for one in series:
        for open_time_ns in one.open_times_ns:
            if (open_time_ns - first_ns) % interval_ns:
                raise InputError(
                    f"{one.file}: {one.asset} at {utc_text(open_time_ns)}: open_time is off the "
                    f"{timeframe_text(interval_ns)} grid that starts at {utc_text(first_ns)}. Use one interval for all"
                )


def _refuse_gaps(series: Sequence[Series], first_ns: int, interval_ns: int, steps: int) -> None:
    grid = range(first_ns, first_ns + steps * interval_ns, interval_ns)
    gaps: list[str] = []
    complete = dict.fromkeys(grid, True)
    for one in series:
        have = set(one.open_times_ns)
        missing = [open_ns for open_ns in grid if open_ns not in have]
        complete.update(dict.fromkeys(missing, False))
        if missing:
            gaps.append(f"{one.asset} lacks {len(missing)} of {steps} bars, the first at {utc_text(missing[0])}")
    if not gaps:
        return
    start_ns, count = _longest_run(complete)
    choice = (
        f"set market_data.start={iso_text(start_ns)} and market_data.end={iso_text(start_ns + count * interval_ns)} "
        f"({count} complete steps), or "
        if count
        else ""
    )
    files = ", ".join(sorted({one.file for one in series}))
    raise InputError(
        f"{files}: {'; '.join(gaps)}. To go on, {choice}set market_data.missing_bars=hold, or choose other assets"
    )


def _longest_run(complete: dict[int, bool]) -> tuple[int, int]:
    best_start = best = start = run = 0
    for open_ns, is_complete in complete.items():
        if not is_complete:
            run = 0
            continue
        start = open_ns if run == 0 else start
        run += 1
        if run > best:
            best_start, best = start, run
    return best_start, best


def _no_rows(series: Series, rules: ReplayRules) -> str:
    if rules.start_ns is None and rules.end_ns is None:
        return f"{series.file}: {series.asset} has no rows. Choose another asset or file"
    start = "its start" if rules.start_ns is None else utc_text(rules.start_ns)
    end = "its end" if rules.end_ns is None else utc_text(rules.end_ns)
    return (
        f"{series.file}: {series.asset} has no bar from {start} to {end}. Correct market_data.start and market_data.end"
    )


def _instrument(series: Series, notional_min: Decimal) -> Instrument:
    if not any(candle.volume for candle in series.candles):
        raise InputError(
            f"{series.file}: {series.asset} has no volume in any bar, so its quantity step is unknown. "
            "Choose another asset or a longer range"
        )
    base, quote = split_symbol(series.asset)
    highest = Decimal(repr(max(candle.high for candle in series.candles)))
    tick = _refined(Decimal(1).scaleb(-series.price_decimals), coarsest=highest * TICK_SHARE_MAX)
    # A step that is worth more than the smallest order would make that order impossible.
    step = _refined(Decimal(1).scaleb(-series.volume_decimals), coarsest=notional_min / highest)
    return Instrument(
        symbol=series.asset,
        base=base,
        quote=quote,
        tick_size=tick,
        step_size=step,
        quantity_min=step,
        notional_min=notional_min,
    )


def _refined(grid: Decimal, *, coarsest: Decimal) -> Decimal:
    """Return the grid that the digits show; round numbers show too coarse a one, so take a finer one instead."""
    if coarsest <= 0 or grid <= coarsest:
        return grid
    while grid > coarsest / 100:
        grid = grid.scaleb(-1)
    return grid


def _digest(open_time_ns: int, candle: Candle) -> str:
    return hashlib.sha256(f"{open_time_ns} {msgspec.structs.astuple(candle)}".encode()).hexdigest()[:16]
