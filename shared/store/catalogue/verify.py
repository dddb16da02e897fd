"""Whether a series can be trusted: what its bytes, its times and its prices say.

In: a series. Out: findings, each with what it is, how often, where first. Never: a change, a repaired value.

Wrong (exit code 1): damaged files, rows that must not exist, missing bars and trades, candles that the trades beside
them do not add up to, and price breaks that a redenomination or another instrument under the same name would make: a
person has to look at those. Notes: quiet or wild, but possible.
"""

from collections.abc import Iterator
from enum import StrEnum

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from shared.errors import StoreUnavailableError
from shared.store.catalogue.catalogue import Catalogue, Range, check_file, union
from shared.store.catalogue.files import Manifest, SeriesKey, series_directory, strays
from shared.store.catalogue.rows import Times, id_numbers, partition_bounds, times_of
from shared.store.catalogue.trade_bars import quick_bars, whole_stretches

# A bar that opens or closes at five times or a fifth of the close before is another unit of account until shown.
BREAK_FACTOR = 5.0
WICK_FACTOR = 3.0
OUTLIER_RETURN_MIN = 0.25
OUTLIER_DEVIATIONS = 20.0
OUTLIER_TRADE_MIN = 0.1
VOLUME_TOLERANCE = 1e-9
CONSECUTIVE_SHARE_MIN = 0.5
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
    CANDLES = "differs_from_candles"
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
    """Name missing rows: open times `[start_ns, end_ns)` of bars, or the times of the trades before and after.

    `known` when the venue answered twice that it has none.
    """

    start_ns: int
    end_ns: int
    missing: int
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
        found += check_trades(key, table, manifest.covered)
        found += _against_candles(catalogue, key, table, manifest.covered)
    else:
        times: Times = table["open_time_ns"].to_numpy()
        columns = {name: table[name].to_numpy() for name in ("open", "high", "low", "close", "volume")}
        found += check_bars(key, times, columns, manifest.covered)
    return sorted(found, key=lambda one: (not one.is_wrong, list(Check).index(one.check)))


def gaps(catalogue: Catalogue, key: SeriesKey) -> list[Gap]:
    """Return what is missing between a series' first and last row, ascending."""
    manifest = catalogue.manifest(key)
    if manifest is None:
        return []
    if key.table == "trades":
        table = catalogue.read(key, columns=["ts_event_ns", "trade_id"])
        return find_id_gaps(times_of(table, "trades"), table["trade_id"].combine_chunks(), manifest.covered)
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
            longest = max(gap.missing for gap in holes)
            detail = f"{len(holes)} gap{'s' if len(holes) > 1 else ''}, the longest {longest} bars"
            yield Finding(key, check, sum(gap.missing for gap in holes), holes[0].start_ns, detail)
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


def check_trades(key: SeriesKey, table: pa.Table, covered: tuple[Range, ...] = ()) -> Iterator[Finding]:
    """Yield what is remarkable about trades in the catalogue's columns; pure."""
    times, price = times_of(table, "trades"), table["price"].to_numpy()
    yield from _flagged(key, Check.DISORDER, times[1:], np.diff(times) < 0, "is before the trade above it")
    ids = table["trade_id"].combine_chunks()
    doubles = len(ids) - len(pc.unique(ids)) + _shared_numbers(ids)
    if doubles:
        yield Finding(key, Check.DUPLICATE, doubles, None, "trade ids are there twice")
    quantity = table["quantity"].to_numpy()
    bad = ~(np.isfinite(price) & (price > 0) & np.isfinite(quantity) & (quantity > 0))
    yield from _flagged(key, Check.BAD_VALUE, times, bad, "has a price or a quantity that nothing can have")
    for known, check in ((False, Check.GAP), (True, Check.VENUE_GAP)):
        holes = [gap for gap in find_id_gaps(times, ids, covered) if gap.known is known]
        if holes:
            longest = max(gap.missing for gap in holes)
            detail = f"{len(holes)} gap{'s' if len(holes) > 1 else ''} in the trade ids, the longest {longest:,} trades"
            yield Finding(key, check, sum(gap.missing for gap in holes), holes[0].start_ns, detail)
    if len(times) > 1 and not bad.any():
        yield from _jumps(key, times, price)


def find_id_gaps(times: Times, ids: pa.Array, covered: tuple[Range, ...]) -> list[Gap]:
    """Return the holes in trade ids, from the trade before to the one after, where the venue counts without a gap."""
    numbers = id_numbers(pa.chunked_array([ids]))
    if numbers is None or len(times) < 2 or (numbers.last < numbers.first).any():
        return []
    steps = numbers.first[1:] - np.maximum.accumulate(numbers.last)[:-1]
    if np.count_nonzero(steps == 1) < CONSECUTIVE_SHARE_MIN * len(steps):
        return []  # these ids count something else as well
    answered = union(covered)
    found = []
    for place in np.flatnonzero(steps > 1).tolist():
        start, end = int(times[place]), int(times[place + 1])
        known = any(begin <= start and end <= until for begin, until in answered)
        found.append(Gap(start, end, int(steps[place]) - 1, known))
    return found


def _shared_numbers(ids: pa.Array) -> int:
    """Return how many trades hold ids that one before them holds too: an aggregate beside the trades in it."""
    numbers = id_numbers(pa.chunked_array([ids]))
    if numbers is None or (numbers.last < numbers.first).any() or (numbers.last == numbers.first).all():
        return 0
    order = np.argsort(numbers.first, kind="stable")
    first, last = numbers.first[order], np.maximum.accumulate(numbers.last[order])
    return int(np.count_nonzero((first[1:] <= last[:-1]) & (first[1:] != first[:-1])))


def _jumps(key: SeriesKey, times: Times, price: Floats) -> Iterator[Finding]:
    moves = np.abs(np.log(price[1:] / price[:-1]))
    broken = moves >= np.log(BREAK_FACTOR)
    if broken.any():
        at = int(np.argmax(moves))
        factor = price[at + 1] / price[at]
        detail = f"the price becomes x{factor:.4g} in one trade, at {_minute(int(times[at + 1]))}: redenomination?"
        yield Finding(key, Check.BREAK, int(broken.sum()), int(times[1:][broken][0]), detail)
    outlying = ~broken & (moves > np.log1p(OUTLIER_TRADE_MIN))
    yield from _flagged(
        key, Check.OUTLIER, times[1:], outlying, f"moves more than {OUTLIER_TRADE_MIN:.0%} in one trade"
    )


def _against_candles(
    catalogue: Catalogue, key: SeriesKey, trades: pa.Table, covered: tuple[Range, ...]
) -> Iterator[Finding]:
    """Yield how the trades differ from the market's candles, where the catalogue has both."""
    have = catalogue.series(table="bars", venue=key.venue, instruments=[key.instrument])
    times = times_of(trades, "trades")
    if not have or not len(times):
        return
    bars_key = min(have, key=lambda one: one.interval_ns)
    interval_ns = bars_key.interval_ns
    made = quick_bars(trades, interval_ns)
    stretches = whole_stretches(int(times[0]), int(times[-1]), interval_ns, covered)
    if not stretches:
        return
    bars = catalogue.read(bars_key, start_ns=stretches[0][0], end_ns=stretches[-1][1])
    opens: Times = bars["open_time_ns"].to_numpy()
    whole = np.zeros(len(opens), dtype=np.bool_)
    for begin, end in stretches:
        whole |= (opens >= begin) & (opens + interval_ns <= end)
    places = np.searchsorted(made.open_time_ns, opens)
    places = np.minimum(places, len(made.open_time_ns) - 1)
    there = made.open_time_ns[places] == opens
    volume = bars["volume"].to_numpy()
    differs = there & ~np.isclose(made.volume[places], volume, rtol=VOLUME_TOLERANCE, atol=0)
    for name in ("open", "high", "low", "close"):
        differs |= there & (getattr(made, name)[places] != bars[name].to_numpy())
    differs |= ~there & (volume > 0)
    what = f"the {bars_key.timeframe} bar that opens then differs from its trades"
    yield from _flagged(key, Check.CANDLES, opens, whole & differs, what)


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
