"""The catalogue's rows: the recorder's columns of bars and trades, and the exact texts beside the floats.

In: checked columns. Out: Arrow tables in time order, and what happens when new rows meet those that are there.
Never: a row twice under one key; a stored row that changes without `replace`.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from shared.config import timeframe_ns
from shared.store.catalogue.files import SeriesKey

Times = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

BAR_VALUES = ("open", "high", "low", "close", "volume", "quote_volume")
TRADE_VALUES = ("price", "quantity")


def exact_name(column: str) -> str:
    """Return the column that holds the text of what `column`'s float cannot carry."""
    return f"{column}_exact"


_EXACT_BARS = [(exact_name(name), pa.string()) for name in BAR_VALUES]
_EXACT_TRADES = [(exact_name(name), pa.string()) for name in TRADE_VALUES]
BARS = pa.schema(
    [("open_time_ns", pa.int64()), ("close_time_ns", pa.int64())]
    + [(name, pa.float64()) for name in BAR_VALUES]
    + _EXACT_BARS
)
TRADES = pa.schema(
    [("ts_event_ns", pa.int64()), ("trade_id", pa.string()), ("side", pa.string())]
    + [(name, pa.float64()) for name in TRADE_VALUES]
    + _EXACT_TRADES
)
SCHEMAS = {"bars": BARS, "trades": TRADES}
# The business key: trades share times, so their id tells them apart.
KEY_COLUMN = {"bars": "open_time_ns", "trades": "trade_id"}
TIME_COLUMN = {"bars": "open_time_ns", "trades": "ts_event_ns"}


class Span(StrEnum):
    """Name how much of a series one file holds."""

    DAY = "D"
    MONTH = "M"
    YEAR = "Y"


class Merged(msgspec.Struct, frozen=True):
    """Hold the rows after a merge and how the new ones met the old: added, the same, in conflict (other values)."""

    table: pa.Table
    added: int
    same: int
    conflicts: int


class IdNumbers(msgspec.Struct, frozen=True):
    """Hold trade ids as numbers: `27781` from itself to itself, the aggregate `27781-27785` from first to last.

    Ids made of a time and a place (`1767225600000000000-3`) end below their first number.
    """

    first: Times
    last: Times


def span_of(key: SeriesKey) -> Span:
    """Return how much one file holds: trades and seconds a day, minutes a month, hours and days a year."""
    if key.table == "trades" or timeframe_ns(key.timeframe) < timeframe_ns("1m"):
        return Span.DAY
    return Span.MONTH if timeframe_ns(key.timeframe) < timeframe_ns("1h") else Span.YEAR


def partitions(times_ns: Times, span: Span) -> list[tuple[str, slice]]:
    """Return the partitions of ascending times: the name, and where its rows lie."""
    if not len(times_ns):
        return []
    labels = times_ns.view("datetime64[ns]").astype(f"datetime64[{span.value}]")
    starts = np.flatnonzero(np.r_[True, labels[1:] != labels[:-1]])
    ends = [*starts[1:].tolist(), len(labels)]
    return [(str(labels[start]), slice(start, end)) for start, end in zip(starts.tolist(), ends, strict=True)]


def partition_bounds(name: str) -> tuple[int, int]:
    """Return the time range `[from, to)` that a partition's name stands for, in nanoseconds."""
    unit: Literal["Y", "M", "D"] = "M" if len(name) == 7 else "D" if len(name) == 10 else "Y"
    first = np.datetime64(name, unit)
    bounds = (first, first + np.timedelta64(1, unit))
    begin, end = (int(moment.astype("datetime64[ns]").astype(np.int64)) for moment in bounds)
    return begin, end


def times_of(table: pa.Table, kind: str) -> Times:
    """Return the column that orders a table's rows."""
    times: Times = table[TIME_COLUMN[kind]].to_numpy()
    return times


def in_time_order(table: pa.Table, kind: str) -> pa.Table:
    """Return the rows by time; trades of one time by their ids where those are numbers, else as they came in."""
    times = times_of(table, kind)
    numbers = id_numbers(table["trade_id"]) if kind == "trades" else None
    if numbers is not None:
        keys = (numbers.last, numbers.first, times)
        order = np.lexsort(keys)
        is_ordered = bool((order[1:] > order[:-1]).all())
        return table if is_ordered else table.take(pa.array(order))
    if (times[1:] >= times[:-1]).all():
        return table
    return table.take(pa.array(np.argsort(times, kind="stable")))


def merge(old: pa.Table, new: pa.Table, kind: str, *, replace: bool = False) -> Merged:
    """Return `old` and `new` in one; of two rows with one key the old one stays, unless `replace`."""
    key = KEY_COLUMN[kind]
    # One row counts for each key; of equal rows in `new` the first.
    new = _first_of_each(new, key)
    places = pc.index_in(new[key], value_set=old[key].combine_chunks())
    is_new = pc.is_null(places).combine_chunks()
    added = new.filter(is_new)
    met = new.filter(pc.invert(is_new))
    before = old.take(places.drop_null())
    differs = _differs(before, met, strict=replace)
    conflicts, same = int(differs.sum()), met.num_rows - int(differs.sum())
    if kind == "trades":
        held, superseded = shared_ids(added, old)
        same, added = same + int(held.sum()), added.filter(pa.array(~held))
        if superseded.any():
            old = old.filter(pa.array(~superseded))
    if not added.num_rows and not (conflicts and replace):
        return Merged(old, 0, same, conflicts)
    parts = [old, added]
    if conflicts and replace:
        changed = met.filter(pa.array(differs))
        parts[0] = old.filter(pc.invert(pc.is_in(old[key], value_set=changed[key].combine_chunks())))
        parts.append(changed)
    merged = in_time_order(pa.concat_tables(parts), kind)
    return Merged(merged, added.num_rows, same, conflicts)


def id_numbers(ids: pa.ChunkedArray) -> IdNumbers | None:
    """Return trade ids as numbers, None when one of them is something else."""
    found = pc.extract_regex(ids.combine_chunks(), pattern=r"^(?P<first>[0-9]{1,19})(?:-(?P<last>[0-9]{1,19}))?$")
    if found.null_count or not len(found):
        return None
    first, last = found.field("first"), found.field("last")
    last = pc.if_else(pc.equal(last, ""), first, last)
    try:
        return IdNumbers(first.cast(pa.int64()).to_numpy(), last.cast(pa.int64()).to_numpy())
    except pa.ArrowInvalid:
        return None


def shared_ids(new: pa.Table, old: pa.Table) -> tuple[Flags, Flags]:
    """Tell which new trades are stored already under other ids, and which stored ones a new aggregate holds with more.

    `27781-27785` is the same as the five trades from 27781 to 27785, whichever is there first.
    """
    held, superseded = np.zeros(new.num_rows, dtype=np.bool_), np.zeros(old.num_rows, dtype=np.bool_)
    mine, theirs = id_numbers(new["trade_id"]), id_numbers(old["trade_id"])
    if mine is None or theirs is None or not ((mine.last > mine.first).any() or (theirs.last > theirs.first).any()):
        return held, superseded
    # Ids that were made of a time and a place are no ranges.
    places = np.flatnonzero(theirs.last >= theirs.first)
    places = places[np.argsort(theirs.first[places], kind="stable")]
    first, last = theirs.first[places], np.maximum.accumulate(theirs.last[places])
    begin, end = np.searchsorted(last, mine.first), np.searchsorted(first, mine.last, side="right")
    touched = np.flatnonzero((mine.last >= mine.first) & (begin < end))
    widths = np.r_[0, np.cumsum(last - first + 1)]
    for at in touched.tolist():
        before, after = mine.first[at] - first[begin[at]], last[end[at] - 1] - mine.last[at]
        is_whole = widths[end[at]] - widths[begin[at]] - max(before, 0) - max(after, 0) > mine.last[at] - mine.first[at]
        if is_whole or before > 0 or after > 0:
            held[at] = True
        else:
            superseded[places[begin[at] : end[at]]] = True
    return held, superseded


def bars_table(key: SeriesKey, times_ns: Times, values: dict[str, npt.NDArray[np.float64]],
               exact: dict[str, pa.Array]) -> pa.Table:  # fmt: skip
    """Return bars as the catalogue keeps them; `quote_volume` may be missing or NaN, which becomes NULL."""
    columns: list[pa.Array] = [pa.array(times_ns), pa.array(times_ns + key.interval_ns)]
    for name in BAR_VALUES:
        given = values.get(name)
        columns.append(pa.nulls(len(times_ns), pa.float64()) if given is None else pa.array(given, from_pandas=True))
    columns += [_exact(exact, name, len(times_ns)) for name in BAR_VALUES]
    return in_time_order(pa.table(columns, schema=BARS), "bars")


def trades_table(
    times_ns: Times, ids: Sequence[str], sides: Sequence[str | None], values: dict[str, npt.NDArray[np.float64]],
    exact: dict[str, pa.Array],
) -> pa.Table:  # fmt: skip
    """Return trades as the catalogue keeps them, those of one time in the order given."""
    columns: list[pa.Array] = [pa.array(times_ns), pa.array(ids, pa.string()), pa.array(sides, pa.string())]
    columns += [pa.array(values[name]) for name in TRADE_VALUES]
    columns += [_exact(exact, name, len(times_ns)) for name in TRADE_VALUES]
    return in_time_order(pa.table(columns, schema=TRADES), "trades")


def _exact(exact: dict[str, pa.Array], name: str, rows: int) -> pa.Array:
    return exact[name] if name in exact else pa.nulls(rows, pa.string())


def _first_of_each(table: pa.Table, key: str) -> pa.Table:
    column = table[key].combine_chunks()
    if len(pc.unique(column)) == len(column):
        return table
    numbered = pa.table({"key": column, "row": pa.array(np.arange(len(column)))})
    firsts = numbered.group_by("key").aggregate([("row", "min")])["row_min"].to_numpy()
    return table.take(pa.array(np.sort(firsts)))


def _differs(before: pa.Table, after: pa.Table, *, strict: bool) -> Flags:
    differs = np.zeros(before.num_rows, dtype=np.bool_)
    unknown = np.zeros(before.num_rows, dtype=np.bool_)
    if not strict and "quote_volume" in before.column_names:
        # Few sources have it: what one of two does not say is no difference.
        unknown = pc.or_(pc.is_null(before["quote_volume"]), pc.is_null(after["quote_volume"])).to_numpy()
    for name in before.column_names:
        left, right = before[name], after[name]
        equal = pc.fill_null(pc.equal(left, right), False)
        both_null = pc.and_(pc.is_null(left), pc.is_null(right))
        is_different = ~pc.or_(equal, both_null).to_numpy()
        differs |= is_different & ~unknown if name.startswith("quote_volume") else is_different
    return differs
