"""Whether a series can be trusted: what its bytes, its times and its prices say.

In: a series. Out: findings, each with what it is, how often, where first. Never: a change, a repaired value.

Wrong (exit code 1): damaged files, rows that must not exist, missing bars, and price breaks that a redenomination or
another instrument under the same name would make: a person has to look at those. Notes: quiet or wild, but possible.
"""

from collections.abc import Iterator
from enum import StrEnum

import msgspec
import numpy as np
import numpy.typing as npt

from shared.errors import StoreUnavailableError
from shared.store.catalogue.catalogue import Catalogue, Range, check_file, union
from shared.store.catalogue.files import Manifest, SeriesKey, series_directory, strays
from shared.store.catalogue.rows import Times, partition_bounds

# A bar that opens or closes at five times or a fifth of the close before is another unit of account until shown.
BREAK_FACTOR = 5.0
WICK_FACTOR = 3.0
OUTLIER_RETURN_MIN = 0.25
OUTLIER_DEVIATIONS = 20.0
MAD_TO_DEVIATION = 1.4826

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


class Check(StrEnum):
    """Name what is found."""

    DAMAGED = "damaged_file"
    STRAY = "stray_file"
    DISORDER = "time_disorder"
    DUPLICATE = "duplicate"
    OFF_GRID = "off_grid"
    BAD_VALUE = "bad_value"
    OHLC = "ohlc_disorder"
    GAP = "gap"
    BREAK = "redenomination_suspect"
    OUTLIER = "outlier"
    WICK = "wick"
    ZERO_VOLUME = "zero_volume"
    VENUE_GAP = "gap_at_the_venue"


NOTES = frozenset({Check.STRAY, Check.OUTLIER, Check.WICK, Check.ZERO_VOLUME, Check.VENUE_GAP})


class Finding(msgspec.Struct, frozen=True):
    """Report one kind of thing in one series: how many rows (for gaps: bars), the first time, and in words."""

    series: SeriesKey
    check: Check
    count: int
    first_ns: int | None
    detail: str

    @property
    def is_wrong(self) -> bool:
        """Tell whether somebody has to act."""
        return self.check not in NOTES


class Gap(msgspec.Struct, frozen=True):
    """Name missing bars: open times `[start_ns, end_ns)`; `known` when the venue answered twice that it has none."""

    start_ns: int
    end_ns: int
    bars: int
    known: bool


def verify(catalogue: Catalogue, key: SeriesKey) -> list[Finding]:
    """Return everything that is remarkable about a series, the worst first."""
    manifest = catalogue.manifest(key)
    if manifest is None:
        return []
    found = list(_files(catalogue, key, manifest))
    if any(one.check is Check.DAMAGED for one in found):
        return found
    try:
        table = catalogue.read(key)
    except StoreUnavailableError as error:
        return [*found, Finding(key, Check.DAMAGED, 1, None, str(error))]
    if key.table == "trades":
        times: Times = table["ts_event_ns"].to_numpy()
        ids = table["trade_id"].to_pylist()
        values = {name: table[name].to_numpy() for name in ("price", "quantity")}
        found += _trades(key, times, len(ids) - len(set(ids)), values)
    else:
        times = table["open_time_ns"].to_numpy()
        columns = {name: table[name].to_numpy() for name in ("open", "high", "low", "close", "volume")}
        found += check_bars(key, times, columns, manifest.covered)
    return sorted(found, key=lambda one: (not one.is_wrong, list(Check).index(one.check)))


def gaps(catalogue: Catalogue, key: SeriesKey) -> list[Gap]:
    """Return the stretches without bars between a series' first and last bar, ascending."""
    manifest = catalogue.manifest(key)
    if manifest is None or key.table != "bars":
        return []
    times: Times = catalogue.read(key, columns=["open_time_ns"])["open_time_ns"].to_numpy()
    return find_gaps(times, key.interval_ns, manifest.covered)


def find_gaps(times: Times, interval_ns: int, covered: tuple[Range, ...]) -> list[Gap]:
    """Return the holes in ascending open times; a hole that `covered` holds in whole is known at the venue."""
    places = np.flatnonzero(np.diff(times) > interval_ns)
    answered = union(covered)
    found = []
    for place in places.tolist():
        start, end = int(times[place]) + interval_ns, int(times[place + 1])
        known = any(begin <= start and end <= until for begin, until in answered)
        found.append(Gap(start, end, (end - start) // interval_ns, known))
    return found


def check_bars(
    key: SeriesKey, times: Times, columns: dict[str, Floats], covered: tuple[Range, ...] = ()
) -> Iterator[Finding]:
    """Yield what is remarkable about bars given as columns; pure."""
    if not len(times):
        return
    steps = np.diff(times)
    yield from _flagged(key, Check.DISORDER, times[1:], steps < 0, "opens before the bar above it")
    yield from _flagged(key, Check.DUPLICATE, times[1:], steps == 0, "has the open time of the bar above it")
    yield from _flagged(key, Check.OFF_GRID, times, times % key.interval_ns != 0, f"is off the {key.timeframe} grid")
    yield from _values(key, times, columns)
    for known, check in ((False, Check.GAP), (True, Check.VENUE_GAP)):
        holes = [gap for gap in find_gaps(times, key.interval_ns, covered) if gap.known is known]
        if holes:
            longest = max(gap.bars for gap in holes)
            detail = f"{len(holes)} gap{'s' if len(holes) > 1 else ''}, the longest {longest} bars"
            yield Finding(key, check, sum(gap.bars for gap in holes), holes[0].start_ns, detail)
    yield from _wild(key, times, columns)


def _values(key: SeriesKey, times: Times, columns: dict[str, Floats]) -> Iterator[Finding]:
    opened, high, low, close, volume = (columns[name] for name in ("open", "high", "low", "close", "volume"))
    prices = np.stack((opened, high, low, close))
    bad = ~(np.isfinite(prices) & (prices > 0)).all(axis=0) | ~(np.isfinite(volume) & (volume >= 0))
    yield from _flagged(key, Check.BAD_VALUE, times, bad, "has a price or a volume that nothing can have")
    disorder = ~bad & ((high < prices.max(axis=0)) | (low > prices.min(axis=0)))
    yield from _flagged(key, Check.OHLC, times, disorder, "has a high or low that the other prices exceed")
    yield from _flagged(key, Check.ZERO_VOLUME, times, ~bad & (volume == 0), "has no volume")


def _wild(key: SeriesKey, times: Times, columns: dict[str, Floats]) -> Iterator[Finding]:
    opened, high, low, close = (columns[name] for name in ("open", "high", "low", "close"))
    if len(times) < 2 or not (close > 0).all() or not (opened > 0).all():
        return
    opens, closes = np.log(opened[1:] / close[:-1]), np.log(close[1:] / close[:-1])
    limit = np.log(BREAK_FACTOR)
    broken = (np.abs(opens) >= limit) | (np.abs(closes) >= limit)
    if broken.any():
        at = int(np.argmax(np.where(broken, np.maximum(np.abs(opens), np.abs(closes)), 0)))
        factor = close[at + 1] / close[at]
        detail = f"the close becomes x{factor:.4g} in one bar, at {_minute(int(times[at + 1]))}: redenomination?"
        yield Finding(key, Check.BREAK, int(broken.sum()), int(times[1:][broken][0]), detail)
    deviation = MAD_TO_DEVIATION * float(np.median(np.abs(closes - np.median(closes))))
    outlying = ~broken & (np.abs(closes) > max(OUTLIER_DEVIATIONS * deviation, np.log1p(OUTLIER_RETURN_MIN)))
    yield from _flagged(key, Check.OUTLIER, times[1:], outlying, f"moves {OUTLIER_DEVIATIONS:g} times the usual")
    with np.errstate(divide="ignore", invalid="ignore"):
        body_high, body_low = np.maximum(opened, close), np.minimum(opened, close)
        wick = (high >= WICK_FACTOR * body_high) | (low * WICK_FACTOR <= body_low)
    yield from _flagged(key, Check.WICK, times, wick, f"reaches {WICK_FACTOR:g} times beyond open and close")


def _trades(key: SeriesKey, times: Times, double_ids: int, values: dict[str, Floats]) -> Iterator[Finding]:
    yield from _flagged(key, Check.DISORDER, times[1:], np.diff(times) < 0, "is before the trade above it")
    if double_ids:
        yield Finding(key, Check.DUPLICATE, double_ids, None, "trade ids appear twice")
    bad = ~np.logical_and.reduce([np.isfinite(column) & (column > 0) for column in values.values()])
    yield from _flagged(key, Check.BAD_VALUE, times, bad, "has a price or a quantity that nothing can have")


def _files(catalogue: Catalogue, key: SeriesKey, manifest: Manifest) -> Iterator[Finding]:
    for entry in manifest.files:
        problem = check_file(catalogue.root, key, entry)
        if problem is not None:
            yield Finding(key, Check.DAMAGED, 1, partition_bounds(entry.partition)[0], problem)
    for stray in strays(series_directory(catalogue.root, key), {entry.name for entry in manifest.files}):
        yield Finding(key, Check.STRAY, 1, None, f"{stray.name} is left over; the next write removes it")


def _flagged(key: SeriesKey, check: Check, times: Times, flags: Flags, what: str) -> Iterator[Finding]:
    count = int(flags.sum())
    if count:
        first = int(times[flags][0])
        yield Finding(key, check, count, first, f"the bar of {_minute(first)} {what}" if key.table == "bars" else what)


def _minute(time_ns: int) -> str:
    return str(np.datetime64(time_ns, "ns").astype("datetime64[m]")).replace("T", " ")
