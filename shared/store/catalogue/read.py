"""Reading the catalogue: float arrays for kernels, exact decimals for money, texts for replays, SQL for questions.

In: a catalogue and what is wanted of it. Out: NumPy arrays; `Decimal`s with every digit that was stored.
Never: a bar that is not there; an unknown instrument passed over.
"""

import difflib
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path

import duckdb
import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shared.errors import InputError
from shared.store.catalogue.catalogue import Catalogue
from shared.store.catalogue.files import SeriesKey, series_directory
from shared.store.catalogue.numbers import exact_decimal
from shared.store.catalogue.rows import BAR_VALUES, SCHEMAS, exact_name
from shared.store.views import literal, quoted

Floats = npt.NDArray[np.float64]
PRICES_AND_VOLUME = ("open", "high", "low", "close", "volume")
SUGGESTIONS = 3


class BarArrays(msgspec.Struct, frozen=True):
    """Hold one instrument's bars as arrays of equal length, ascending; `quote_volume` is NaN where it is unknown."""

    instrument: str
    timeframe: str
    open_time_ns: npt.NDArray[np.int64]
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    quote_volume: Floats | None


class ExactBar(msgspec.Struct, frozen=True):
    """Hold one bar's numbers with every digit that its source had."""

    open_time_ns: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    quote_volume: Decimal | None


class CandleTexts(msgspec.Struct, frozen=True):
    """Hold one asset's rows as exact texts, field for field what a replay's core checks (`RawSeries`)."""

    asset: str
    file: str
    lines: Sequence[int]
    times: Sequence[int]
    columns: dict[str, Sequence[str]]


def read_arrays(
    catalogue: Catalogue, key: SeriesKey, *, start_ns: int | None = None, end_ns: int | None = None,
    with_quote_volume: bool = False,
) -> BarArrays:  # fmt: skip
    """Return the bars that open at `start_ns` or later and before `end_ns`, as arrays."""
    names = ["open_time_ns", *PRICES_AND_VOLUME, *(["quote_volume"] if with_quote_volume else [])]
    table = catalogue.read(key, start_ns=start_ns, end_ns=end_ns, columns=names)
    columns = {name: table[name].to_numpy() for name in names}
    return BarArrays(key.instrument, key.timeframe, **{"quote_volume": None, **columns})


def read_exact(
    catalogue: Catalogue, key: SeriesKey, *, start_ns: int | None = None, end_ns: int | None = None
) -> Iterator[ExactBar]:
    """Yield the same bars with exact numbers."""
    table = catalogue.read(key, start_ns=start_ns, end_ns=end_ns)
    columns = [_decimals(table, name) for name in BAR_VALUES]
    for time_ns, *values in zip(table["open_time_ns"].to_pylist(), *columns, strict=True):
        opened, high, low, close, volume, quote_volume = values
        if opened is None or high is None or low is None or close is None or volume is None:
            raise AssertionError("a stored bar has all prices and a volume")
        yield ExactBar(time_ns, opened, high, low, close, volume, quote_volume)


def read_candles(
    catalogue: Catalogue, instruments: Sequence[str], timeframe: str, start_ns: int | None = None,
    end_ns: int | None = None, *, venue: str | None = None,
) -> list[CandleTexts]:  # fmt: skip
    """Return the instruments' bars that open in `[start_ns, end_ns)`, in the order asked for, for a replay or backtest.

    `venue` may be left out when only one venue has them. Raises InputError for what the catalogue does not have.
    """
    keys = resolve(catalogue, instruments, timeframe, venue)
    found = []
    for key in keys:
        table = catalogue.read(key, start_ns=start_ns, end_ns=end_ns)
        if not table.num_rows:
            raise InputError(f"the catalogue has no bars of {key} in that range: choose another, or download it")
        columns: dict[str, Sequence[str]] = {name: _texts(table, name) for name in BAR_VALUES}
        if table["quote_volume"].null_count == table.num_rows:
            del columns["quote_volume"]
        found.append(
            CandleTexts(
                asset=key.instrument,
                file=f"catalogue {key}",
                lines=range(1, table.num_rows + 1),
                times=table["open_time_ns"].to_pylist(),
                columns=columns,
            )
        )
    return found


def catalogue_folder(path: Path) -> tuple[Catalogue, str, str] | None:
    """Return the catalogue, venue and timeframe of a folder `…/bars/venue=V/timeframe=T`, None for any other path."""
    parts = path.resolve().parts[-3:]
    if len(parts) < 3 or parts[0] != "bars" or not path.is_dir():
        return None
    (left, _, venue), (right, _, timeframe) = (part.partition("=") for part in parts[1:])
    if (left, right) != ("venue", "timeframe"):
        return None
    return Catalogue(path.resolve().parents[2]), venue, timeframe


def read_folder(path: Path, instruments: Sequence[str]) -> list[CandleTexts]:
    """Return all bars of the instruments in a catalogue's folder, for `load_replay`; raises InputError."""
    found = catalogue_folder(path)
    if found is None:
        raise InputError(f"{path}: is no folder of a catalogue: name …/bars/venue=mexc/timeframe=4h")
    catalogue, venue, timeframe = found
    return read_candles(catalogue, instruments, timeframe, venue=venue)


def resolve(catalogue: Catalogue, instruments: Sequence[str], timeframe: str, venue: str | None) -> list[SeriesKey]:
    """Return the series of these instruments; raises InputError with the nearest names for one that is not there."""
    have = catalogue.series(table="bars", timeframe=timeframe, venue=venue)
    venues = sorted({key.venue for key in have if key.instrument in set(instruments)})
    if venue is None and len(venues) > 1:
        raise InputError(f"several venues have {timeframe} bars of these: {', '.join(venues)}. Choose one")
    by_name = {key.instrument: key for key in have if venue is not None or not venues or key.venue == venues[0]}
    for instrument in instruments:
        if instrument not in by_name:
            close = difflib.get_close_matches(instrument, by_name, n=SUGGESTIONS, cutoff=0.5)
            names = ", ".join(close or sorted(by_name)[:SUGGESTIONS])
            some = f"; it has {names}" if names else ""
            raise InputError(
                f"the catalogue {catalogue.root} has no {timeframe} bars of {instrument}{some}. "
                "Bring them in: cascade data download or cascade data import"
            )
    return [by_name[instrument] for instrument in instruments]


def fingerprint(catalogue: Catalogue, keys: Sequence[SeriesKey]) -> dict[str, str]:
    """Return what the content of each series hangs on: the same texts mean the same rows."""
    found = {}
    for key in keys:
        manifest = catalogue.manifest(key)
        found[str(key)] = " ".join(entry.sha256[:16] for entry in manifest.files) if manifest is not None else ""
    return found


def connect(catalogue: Catalogue, keys: Sequence[SeriesKey] | None = None) -> duckdb.DuckDBPyConnection:
    """Return a DuckDB connection with the views `bars` and `trades` over the catalogue as it is now, or some series.

    Every view has the recorder's columns (venue, instrument, timeframe, times, values) and `time`, a UTC timestamp.
    """
    connection = duckdb.connect()
    for table in SCHEMAS:
        connection.execute(f"CREATE VIEW {quoted(table)} AS {_view(catalogue, table, keys)}")
    return connection


def _view(catalogue: Catalogue, table: str, keys: Sequence[SeriesKey] | None) -> str:
    identity = ["venue", "instrument", *(["timeframe"] if table == "bars" else [])]
    names = ", ".join(quoted(name) for name in SCHEMAS[table].names)
    time = "close_time_ns" if table == "bars" else "ts_event_ns"
    paths = []
    for key in catalogue.series(table=table) if keys is None else [one for one in keys if one.table == table]:
        manifest = catalogue.manifest(key)
        directory = series_directory(catalogue.root, key).resolve()
        paths += [literal(str(directory / entry.name)) for entry in (manifest.files if manifest is not None else ())]
    if not paths:
        nulls = ", ".join(f"CAST(NULL AS VARCHAR) AS {name}" for name in identity)
        empty = ", ".join(f"CAST(NULL AS {_sql(field.type)}) AS {quoted(field.name)}" for field in SCHEMAS[table])
        return f"SELECT CAST(NULL AS TIMESTAMP_NS) AS time, {nulls}, {empty} WHERE false"
    types = ", ".join(f"'{name}': VARCHAR" for name in identity)
    return (
        f"SELECT make_timestamp_ns({time}) AS time, {', '.join(identity)}, {names} "  # noqa: S608 - own names
        f"FROM read_parquet([{', '.join(paths)}], hive_partitioning = true, hive_types = {{{types}}})"
    )


def _sql(kind: pa.DataType) -> str:
    return {"int64": "BIGINT", "double": "DOUBLE"}.get(str(kind), "VARCHAR")


def _decimals(table: pa.Table, name: str) -> list[Decimal | None]:
    exact = table[exact_name(name)]
    values: list[float | None] = table[name].to_pylist()
    if exact.null_count == len(exact):
        return [None if value is None else Decimal(repr(value)) for value in values]
    pairs = zip(values, exact.to_pylist(), strict=True)
    return [None if value is None else exact_decimal(value, text) for value, text in pairs]


def _texts(table: pa.Table, name: str) -> list[str]:
    exact = table[exact_name(name)]
    values: list[float | None] = table[name].to_pylist()
    # repr is the shortest text that gives the same float, so nothing is lost or added.
    texts = ["" if value is None else repr(value) for value in values]
    if exact.null_count == len(exact):
        return texts
    return [text if kept is None else kept for text, kept in zip(texts, exact.to_pylist(), strict=True)]
