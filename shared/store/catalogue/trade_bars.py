"""Bars out of the catalogue's trades: exact ones to keep, quick ones to compare with candles.

In: a series of trades. Out: closed bars. Never: a bar whose first or last trades are not there, as far as the catalogue
can know it: one that lies within what the venue answered for, or between the first and the last trade.
"""

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shared.domain.bars import BarBuilder, ClosedBar
from shared.store.catalogue.catalogue import Catalogue, Range, Written, union
from shared.store.catalogue.files import SeriesKey
from shared.store.catalogue.numbers import parse_numbers
from shared.store.catalogue.rows import BAR_VALUES, Times, bars_table, partition_bounds, times_of

Floats = npt.NDArray[np.float64]


class QuickBars(msgspec.Struct, frozen=True):
    """Hold bars as arrays of equal length, ascending; volumes are float sums."""

    open_time_ns: Times
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats


def quick_bars(trades: pa.Table, interval_ns: int) -> QuickBars:
    """Return the bars of trades in the catalogue's columns and order."""
    times = times_of(trades, "trades")
    price, quantity = trades["price"].to_numpy(), trades["quantity"].to_numpy()
    opens = times // interval_ns * interval_ns
    starts = np.flatnonzero(np.r_[True, opens[1:] != opens[:-1]]) if len(opens) else np.empty(0, dtype=np.int64)
    if not len(starts):
        return QuickBars(opens, price, price, price, price, quantity)
    ends = np.r_[starts[1:], len(opens)] - 1
    return QuickBars(
        opens[starts],
        price[starts],
        np.maximum.reduceat(price, starts),
        np.minimum.reduceat(price, starts),
        price[ends],
        np.add.reduceat(quantity, starts),
    )


def whole_stretches(first_ns: int, last_ns: int, interval_ns: int, covered: tuple[Range, ...]) -> list[Range]:
    """Return the ranges whose bars have all their trades: answered for by the venue, or between two trades."""
    inner = (first_ns // interval_ns + 1) * interval_ns, last_ns // interval_ns * interval_ns
    return union([*covered, inner])


def make_bars(catalogue: Catalogue, trades: SeriesKey, timeframe: str, *, replace: bool = False) -> Written:
    """Make bars of a series of trades, and keep them beside it; a day at a time, exactly, volumes included.

    Raises StoreUnavailableError for a file that is missing or damaged.
    """
    key = SeriesKey("bars", trades.venue, trades.instrument, timeframe)
    manifest = catalogue.manifest(trades)
    if manifest is None or not manifest.files:
        return Written(0, 0, 0, 0)
    files = manifest.files
    stretches = whole_stretches(files[0].first_ns, files[-1].last_ns, key.interval_ns, manifest.covered)
    builder = BarBuilder(key.interval_ns)
    built: list[ClosedBar] = []
    for entry in files:
        begin, end = partition_bounds(entry.partition)
        day = catalogue.read(trades, start_ns=begin, end_ns=end)
        columns = (day[name].to_pylist() for name in ("trade_id", "ts_event_ns", "price", "quantity"))
        for trade_id, time_ns, price, quantity in zip(*columns, strict=True):
            if closed := builder.add_trade(trade_id, time_ns, price, quantity):
                built.append(closed)
    if closed := builder.advance(files[-1].last_ns + key.interval_ns):
        built.append(closed)
    kept = [
        bar for bar in built if any(one[0] <= bar.open_time_ns and bar.close_time_ns <= one[1] for one in stretches)
    ]
    return catalogue.write(key, _table(key, kept), replace=replace)


def _table(key: SeriesKey, bars: list[ClosedBar]) -> pa.Table:
    numbers = {
        name: parse_numbers(pa.array([str(getattr(bar, name)) for bar in bars], pa.string())) for name in BAR_VALUES
    }
    return bars_table(
        key,
        np.array([bar.open_time_ns for bar in bars], dtype=np.int64),
        {name: column.values for name, column in numbers.items()},
        {name: column.exact for name, column in numbers.items()},
    )
