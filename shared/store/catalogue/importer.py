"""Other people's files into the catalogue: what is right comes in exactly, what is wrong is named.

In: columns of texts (`texts.py`), the venue, what the user says about them. Out: series written, a report.
Never: a repaired value, a row of an unknown market, half a file: a file with bad rows comes in only when the user says
that they may be left out.
"""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from shared.config import timeframe_ns
from shared.domain.instruments import bus_symbol
from shared.errors import InputError
from shared.store.catalogue.catalogue import Catalogue
from shared.store.catalogue.files import SeriesKey, canonical_timeframe
from shared.store.catalogue.numbers import Numbers, parse_numbers
from shared.store.catalogue.rows import bars_table, trades_table
from shared.store.catalogue.texts import Texts, market_in_name, read_texts
from shared.store.catalogue.times import Times, parse_times

EXAMPLES_MAX = 5
BAR_COLUMNS = ("open", "high", "low", "close", "volume")
EMPTY_TEXTS = pa.array(["", "nan", "null", "none"])

Flags = npt.NDArray[np.bool_]


class ImportOptions(msgspec.Struct, frozen=True):
    """Say what a file does not: its venue, market, timeframe; and what to do with bad rows and float noise."""

    venue: str
    symbol: str | None = None
    timeframe: str | None = None
    skip_bad: bool = False
    replace: bool = False
    quantise: bool = True


class BadRows(msgspec.Struct, frozen=True):
    """Name a reason, how many rows it concerns, and the first of their lines."""

    reason: str
    rows: int
    lines: tuple[int, ...]


class Imported(msgspec.Struct, frozen=True):
    """Report what came of one market of one file. `written` is False when bad rows kept it out."""

    file: str
    series: SeriesKey
    rows: int
    written: bool
    added: int = 0
    same: int = 0
    conflicts: int = 0
    duplicates: int = 0
    unsorted: int = 0
    noise: int = 0
    units: dict[str, int] = {}
    bad: tuple[BadRows, ...] = ()

    @property
    def bad_rows(self) -> int:
        """Return how many rows were refused."""
        return sum(one.rows for one in self.bad)


class _Prepared(msgspec.Struct, frozen=True):
    table: pa.Table
    report: Imported


def import_file(catalogue: Catalogue, path: Path, options: ImportOptions) -> Iterator[Imported]:
    """Yield a report for each market of a file, written as it is yielded; raises InputError for an unusable file."""
    for texts in read_texts(path):
        for symbol, rows, lines in _markets(texts, options):
            prepared = _trades(texts, symbol, rows, lines, options) if texts.is_trades else _bars(
                texts, symbol, rows, lines, options
            )  # fmt: skip
            report = prepared.report
            if report.bad and not options.skip_bad:
                yield msgspec.structs.replace(report, written=False)
                continue
            done = catalogue.write(report.series, prepared.table, replace=options.replace)
            yield msgspec.structs.replace(report, added=done.added, same=done.same, conflicts=done.conflicts)


def _markets(texts: Texts, options: ImportOptions) -> Iterator[tuple[str, dict[str, pa.Array], npt.NDArray[np.int64]]]:
    """Yield the file's markets, each with its rows and their lines."""
    _check_origin(texts, options)
    lines = np.arange(texts.first_line, texts.first_line + texts.rows)
    if options.symbol is not None or "symbol" not in texts.columns:
        if options.symbol is not None and "symbol" in texts.columns and len(pc.unique(texts.columns["symbol"])) > 1:
            raise InputError(f"{texts.name}: holds several markets: leave --symbol out")
        yield options.symbol or _market_of(texts.name), texts.columns, lines
        return
    symbols = texts.columns["symbol"].dictionary_encode()
    codes = symbols.indices.to_numpy(zero_copy_only=False)
    order = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[order], np.arange(len(symbols.dictionary) + 1))
    for code, symbol in enumerate(symbols.dictionary.to_pylist()):
        rows = order[bounds[code] : bounds[code + 1]]
        taken = {name: column.take(pa.array(rows)) for name, column in texts.columns.items()}
        yield _bus(symbol, texts.name), taken, lines[rows]


def _check_origin(texts: Texts, options: ImportOptions) -> None:
    """Refuse a file that names another venue, or several lengths of bars: they would lie in one series."""
    for name, said in (("venue", options.venue), ("timeframe", options.timeframe)):
        found = sorted({str(one).lower() for one in pc.unique(texts.columns[name]).to_pylist() if one}) if (
            name in texts.columns
        ) else []  # fmt: skip
        if len(found) > 1 or (said is not None and found not in ([], [said])):
            another = "" if said is None or said in found else f", not {said}"
            raise InputError(
                f"{texts.name}: says {name} {', '.join(found)}{another}. Import one at a time: "
                f"cascade data export --{name} writes one"
            )


def _bars(
    texts: Texts, symbol: str, columns: dict[str, pa.Array], lines: npt.NDArray[np.int64], options: ImportOptions
) -> _Prepared:
    missing = [name for name in ("open_time", *BAR_COLUMNS) if name not in columns]
    if missing:
        raise InputError(
            f"{texts.name}: lacks {', '.join(missing)}; its first line has {', '.join(texts.header)[:200]}. "
            "Candles need a time, open, high, low, close, volume; trades a time, price and amount"
        )
    instrument = _bus(symbol, texts.name)
    times = parse_times(columns["open_time"])
    key = SeriesKey("bars", options.venue, instrument, _timeframe(texts, times, options))
    numbers = {name: parse_numbers(columns[name], quantise=options.quantise) for name in BAR_COLUMNS}
    if "quote_volume" in columns:
        numbers["quote_volume"] = _optional(columns["quote_volume"], quantise=options.quantise)
    reasons = _bar_reasons(times, numbers, key)
    bad = _any(reasons, len(lines))
    twice, double = _doubles(times, numbers, bad)
    reasons["two different bars have this time"] = double
    bad |= double
    good = ~bad & ~twice
    keep = pa.array(good)
    table = bars_table(
        key,
        times.ns[good],
        {name: column.values[good] for name, column in numbers.items()},
        {name: column.exact.filter(keep) for name, column in numbers.items()},
    )
    return _Prepared(
        table,
        _report(texts, key, lines=lines, times=times, numbers=numbers, reasons=reasons, duplicates=int(twice.sum())),
    )


def _trades(
    texts: Texts, symbol: str, columns: dict[str, pa.Array], lines: npt.NDArray[np.int64], options: ImportOptions
) -> _Prepared:
    time_name = "time" if "time" in columns else "open_time"
    if time_name not in columns:
        raise InputError(f"{texts.name}: lacks a time; its first line has {', '.join(texts.header)[:200]}")
    key = SeriesKey("trades", options.venue, _bus(symbol, texts.name))
    times = parse_times(columns[time_name])
    numbers = {
        "price": parse_numbers(columns["price"], quantise=options.quantise),
        "quantity": parse_numbers(columns["amount"], quantise=options.quantise),
    }
    with np.errstate(invalid="ignore"):
        reasons = {
            "its time is no time between 2009 and 2100": times.bad,
            "its price is no number above 0": ~(numbers["price"].values > 0),
            "its amount is no number above 0": ~(numbers["quantity"].values > 0),
        }
    bad = _any(reasons, len(lines))
    ids = _trade_ids(columns, times)
    sides = _sides(columns, len(lines))
    first = np.zeros(len(lines), dtype=np.bool_)
    first[np.unique(np.array(ids), return_index=True)[1]] = True
    good = ~bad & first
    rows = np.flatnonzero(good).tolist()
    keep = pa.array(good)
    table = trades_table(
        times.ns[good],
        [ids[row] for row in rows],
        [sides[row] for row in rows],
        {name: column.values[good] for name, column in numbers.items()},
        {name: column.exact.filter(keep) for name, column in numbers.items()},
    )
    return _Prepared(
        table,
        _report(
            texts,
            key,
            lines=lines,
            times=times,
            numbers=numbers,
            reasons=reasons,
            duplicates=int((~bad & ~first).sum()),
        ),
    )


def _sides(columns: dict[str, pa.Array], rows: int) -> list[str | None]:
    """Return the takers' sides, None where the file does not say; a buyer that was the maker was sold to."""
    if "side" not in columns and "buyer_is_maker" in columns:
        words = {"true": "sell", "false": "buy", "1": "sell", "0": "buy"}
        return [words.get(maker) for maker in _lower(columns["buyer_is_maker"], rows)]
    return [side if side in ("buy", "sell") else None for side in _lower(columns.get("side"), rows)]


def _trade_ids(columns: dict[str, pa.Array], times: Times) -> list[str]:
    """Return the venue's ids (of an aggregate `first-last`), or made ones that the same file gives again.

    Those are the time, and the place within it.
    """
    if "first_id" in columns and "last_id" in columns:
        pairs = zip(columns["first_id"].to_pylist(), columns["last_id"].to_pylist(), strict=True)
        return [first if first == last else f"{first}-{last}" for first, last in pairs]
    if "id" in columns and all(given := columns["id"].to_pylist()):
        return [str(one) for one in given]
    seen: Counter[int] = Counter()
    ids = []
    for time_ns in times.ns.tolist():
        ids.append(f"{time_ns}-{seen[time_ns]}")
        seen[time_ns] += 1
    return ids


def _bar_reasons(times: Times, numbers: dict[str, Numbers], key: SeriesKey) -> dict[str, Flags]:
    reasons: dict[str, Flags] = {"its time is no time between 2009 and 2100": times.bad}
    for name, column in numbers.items():
        reasons[f"{name} is empty or no number"] = column.bad
    opened, high, low, close, volume = (numbers[name].values for name in BAR_COLUMNS)
    with np.errstate(invalid="ignore"):
        prices = np.stack((opened, high, low, close))
        reasons["a price is 0 or less"] = (prices <= 0).any(axis=0)
        negative = volume < 0
        if "quote_volume" in numbers:
            negative = negative | (numbers["quote_volume"].values < 0)
        reasons["a volume is negative"] = negative
        reasons["high is below another price"] = high < prices.max(axis=0)
        reasons["low is above another price"] = low > prices.min(axis=0)
    reasons[f"its time is off the {key.timeframe} grid"] = ~times.bad & (times.ns % key.interval_ns != 0)
    return reasons


def _doubles(times: Times, numbers: dict[str, Numbers], bad: Flags) -> tuple[Flags, Flags]:
    """Return which rows repeat an earlier equal one, and which have the time of a different one (all of those)."""
    twice = np.zeros(len(times.ns), dtype=np.bool_)
    double = np.zeros(len(times.ns), dtype=np.bool_)
    rows = np.flatnonzero(~bad)
    order = rows[np.argsort(times.ns[rows], kind="stable")]
    same_time = np.flatnonzero(times.ns[order][1:] == times.ns[order][:-1])
    for place in same_time.tolist():
        before, after = int(order[place]), int(order[place + 1])
        equal = all(
            column.values[before] == column.values[after] or np.isnan(column.values[[before, after]]).all()
            for column in numbers.values()
        )
        if equal:
            twice[after] = True
        else:
            double[times.ns == times.ns[after]] = True
    return twice & ~double, double & ~bad


def _optional(texts: pa.Array, *, quantise: bool) -> Numbers:
    """Return an optional column: empty texts are unknown, not bad."""
    empty = pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(texts)), value_set=EMPTY_TEXTS)
    numbers = parse_numbers(pc.if_else(empty, "0", texts), quantise=quantise)
    flags = empty.to_numpy(zero_copy_only=False)
    values = numbers.values.copy()
    values[flags] = np.nan
    return Numbers(values, numbers.exact, numbers.bad & ~flags, numbers.noise)


def _timeframe(texts: Texts, times: Times, options: ImportOptions) -> str:
    """Return the timeframe that was given, or that the file or its name says; the rows must not say another."""
    name, column = texts.name, texts.columns.get("timeframe")
    own = str(column[0]).lower() if column is not None and len(column) else ""
    said = options.timeframe or own or market_in_name(name)[1]
    if said is not None and not re.fullmatch(r"[1-9][0-9]*[smhdwM]", said):
        raise InputError(f"--timeframe {said}: write the length of a bar such as 1m, 15m, 4h or 1d")
    if said is not None and said[-1] in "wM":
        raise InputError(f"{name}: the catalogue keeps bars of up to days; weeks and months are made from them")
    steps = Counter(
        after - before for before, after in pairwise(np.sort(times.ns[~times.bad]).tolist()) if after > before
    )
    if not steps:
        if said is None:
            raise InputError(f"{name}: has less than two bars, so the timeframe is unknown. Say it: --timeframe 1h")
        return canonical_timeframe(timeframe_ns(said))
    most = max(steps.values())
    interval_ns = min(step for step, count in steps.items() if count == most)
    if said is not None and timeframe_ns(said) != interval_ns and min(steps) < timeframe_ns(said):
        raise InputError(
            f"{name}: bars follow each other after {interval_ns // 1_000_000_000} s, not after {said}. "
            "Correct --timeframe or the file's name"
        )
    if said is not None:
        return canonical_timeframe(timeframe_ns(said))
    if interval_ns % 1_000_000_000:
        raise InputError(f"{name}: bars follow each other after {interval_ns} ns. Say the timeframe: --timeframe 1h")
    return canonical_timeframe(interval_ns)


def _report(
    texts: Texts, key: SeriesKey, *, lines: npt.NDArray[np.int64], times: Times, numbers: dict[str, Numbers],
    reasons: dict[str, Flags], duplicates: int,
) -> Imported:  # fmt: skip
    bad: list[BadRows] = []
    counted = np.zeros(len(lines), dtype=np.bool_)
    for reason, flags in reasons.items():
        fresh = flags & ~counted
        counted |= flags
        if fresh.any():
            first = tuple(int(line) for line in lines[fresh][:EXAMPLES_MAX])
            bad.append(BadRows(reason, int(fresh.sum()), first))
    ordered = times.ns[~times.bad]
    return Imported(
        file=texts.name,
        series=key,
        rows=len(lines),
        written=True,
        duplicates=duplicates,
        unsorted=int((ordered[1:] < ordered[:-1]).sum()),
        noise=sum(column.noise for column in numbers.values()),
        units=times.units,
        bad=tuple(bad),
    )


def _any(reasons: dict[str, Flags], rows: int) -> Flags:
    found = np.zeros(rows, dtype=np.bool_)
    for flags in reasons.values():
        found |= flags
    return found


def _lower(column: pa.Array | None, rows: int) -> list[str]:
    if column is None:
        return [""] * rows
    found: list[str] = pc.utf8_lower(column).to_pylist()
    return found


def _market_of(name: str) -> str:
    market, _ = market_in_name(name)
    parts = market.split("_")
    if len(parts) == 3 and parts[1] == parts[2]:
        raise InputError(f"{name}: looks like a perpetual future, not a spot market. If you mean it, say --symbol")
    return market.replace("_", "-")


def _bus(symbol: str, name: str) -> str:
    try:
        return bus_symbol(symbol.strip())
    except InputError as error:
        raise InputError(f"{name}: {error}; or say --symbol") from error
