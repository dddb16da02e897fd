"""Candle and trade files of others as columns of texts.

In: a file: CSV of several dialects, JSON, Feather, Parquet, a zip of CSVs, each perhaps gzipped. Out: named columns of
texts with each row's line. Never: a value changed on the way. Everything unreadable is an InputError that names the
file and the fix.
"""

import csv
import gzip
import hashlib
import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.feather as pa_feather
import pyarrow.parquet as pa_parquet

from shared.errors import InputError
from shared.store.catalogue.numbers import float_texts

# A guard against archives that unpack to more than a machine holds; a year of seconds is 3 GB.
UNPACKED_BYTES_MAX = 4 << 30
ENDINGS = (".csv", ".txt", ".tsv", ".json", ".feather", ".parquet", ".zip")
BINANCE_COLUMNS = (
    "open_time", "open", "high", "low", "close", "volume",
    "close_time", "quote_volume", "trades", "taker_base", "taker_quote", "ignore",
)  # fmt: skip
BAR_COLUMNS = ("open_time", "open", "high", "low", "close", "volume")
TRADE_COLUMNS = ("time", "id", "type", "side", "price", "amount", "cost")
KRAKEN_COLUMNS = ("time", "price", "amount")
BINANCE_TRADE_COLUMNS = ("id", "price", "qty", "quote_qty", "time", "is_buyer_maker", "is_best_match")
BINANCE_AGGREGATE_COLUMNS = (
    "agg_trade_id", "price", "quantity", "first_trade_id", "last_trade_id", "transact_time", "is_buyer_maker",
    "is_best_match",
)  # fmt: skip
HEADERLESS = {
    12: BINANCE_COLUMNS, 6: BAR_COLUMNS, 7: TRADE_COLUMNS, 3: KRAKEN_COLUMNS, 8: BINANCE_AGGREGATE_COLUMNS,
}  # fmt: skip
SPELLINGS = {
    "open_time": (
        "open_time_ns", "ts_event_ns", "open_time", "opentime", "open time", "ts", "timestamp", "time", "date",
        "datetime", "unix", "t", "transact_time",
    ),
    "open": ("open", "o"), "high": ("high", "h"), "low": ("low", "l"), "close": ("close", "c"),
    "volume": ("volume", "vol", "v", "base_volume", "volume_base", "base volume", "basevolume"),
    "quote_volume": (
        "quote_volume", "quote asset volume", "quote_asset_volume", "volume_quote", "quotevolume", "quote volume",
        "turnover", "volume usdt",
    ),
    "symbol": ("symbol", "pair", "market", "instrument"),
    "price": ("price",), "amount": ("amount", "quantity", "qty", "size"),
    "id": ("id", "trade_id", "tradeid"), "side": ("side",),
    "venue": ("venue",), "timeframe": ("timeframe",),
    "first_id": ("first_trade_id",), "last_id": ("last_trade_id",), "buyer_is_maker": ("is_buyer_maker",),
}  # fmt: skip
_NAMES = {spelling: name for name, spellings in SPELLINGS.items() for spelling in spellings}
_NUMBER_LIKE = re.compile(r"^\s*[+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?\s*$")


class Texts(msgspec.Struct, frozen=True):
    """Hold a file's rows: columns by their known names, all texts, and the line of the first row."""

    name: str
    columns: dict[str, pa.Array]
    first_line: int
    header: tuple[str, ...]

    @property
    def rows(self) -> int:
        """Return the number of rows."""
        return len(next(iter(self.columns.values()))) if self.columns else 0

    @property
    def is_trades(self) -> bool:
        """Tell whether the rows are trades."""
        return {"price", "amount"} <= self.columns.keys() and "open" not in self.columns


def read_texts(path: Path) -> Iterator[Texts]:
    """Yield what a file holds, one part for each file of an archive; raises InputError."""
    try:
        yield from _read(path)
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, pa.ArrowException, csv.Error, ValueError) as error:
        if isinstance(error, FileNotFoundError):
            raise InputError(f"{path}: no such file") from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: cannot be read: {reason}. Export or download the file again") from error


def market_in_name(name: str) -> tuple[str, str | None]:
    """Return the market and the timeframe (or None) that a file's name says: `ADA_BTC-5m.csv.gz`, `ADAUSDT_1h.csv`."""
    stem = name.removesuffix(".gz")
    for ending in ENDINGS:
        stem = stem.removesuffix(ending)
    stem = re.sub(r"-(?:spot|trades)$", "", stem)
    match = re.match(r"^(.+?)[-_]([0-9]+[smhdwM])(?:[-_][0-9].*|-(?:futures|mark|funding_rate))?$", stem)
    if match:
        return match[1], match[2]
    # Binance's archives: BTCUSDT-aggTrades-2025-01-31
    return re.sub(r"-(?:aggTrades|trades)$", "", re.sub(r"[-_][0-9]{4}-[0-9]{2}.*$", "", stem)), None


def _read(path: Path) -> Iterator[Texts]:
    name = path.name.removesuffix(".gz")
    if not name.endswith(ENDINGS):
        raise InputError(f"{path}: not a file of candles or trades; known endings: {', '.join(ENDINGS)}, also with .gz")
    if name.endswith(".zip"):
        yield from _zip(path)
    elif name.endswith(".feather"):
        yield _columnar(path, pa_feather.read_table(path, memory_map=False))
    elif name.endswith(".parquet"):
        yield _columnar(path, pa_parquet.read_table(path))
    else:
        with path.open("rb") as file:
            is_gzip = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            data = _limited(gzip.GzipFile(fileobj=file) if is_gzip else file, path.name)
        yield _json(path.name, data) if name.endswith(".json") else _csv(path.name, data)


def _zip(path: Path) -> Iterator[Texts]:
    published = path.with_name(f"{path.name}.CHECKSUM")
    if published.exists():
        digest = published.read_text(encoding="ascii").split()[0].lower()
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise InputError(f"{path}: is not what {published.name} says. Download it again")
    with zipfile.ZipFile(path) as archive:
        members = [one for one in archive.infolist() if one.filename.lower().endswith((".csv", ".txt", ".json"))]
        if not members:
            raise InputError(f"{path}: holds no CSV file")
        for member in members:
            with archive.open(member) as file:
                data = _limited(file, f"{path.name}/{member.filename}")
            name = Path(member.filename).name
            yield _json(name, data) if name.endswith(".json") else _csv(name, data)


def _limited(file: IO[bytes] | gzip.GzipFile, name: str) -> bytes:
    data = file.read(UNPACKED_BYTES_MAX + 1)
    if len(data) > UNPACKED_BYTES_MAX:
        raise InputError(f"{name}: unpacks to more than {UNPACKED_BYTES_MAX >> 30} GB. Split it")
    return data


def _csv(name: str, data: bytes) -> Texts:
    data = data.removeprefix(b"\xef\xbb\xbf")
    if not data.strip():
        raise InputError(f"{name}: is empty")
    if b"\0" in data[:4096]:
        raise InputError(f"{name}: is no UTF-8 text. Save it as UTF-8")
    first = data[: data.find(b"\n") if b"\n" in data else len(data)].decode("utf-8").strip("\r")
    delimiter = max(",;\t|", key=first.count)
    header = next(csv.reader([first], delimiter=delimiter), [])
    has_header = not _NUMBER_LIKE.match(header[0])
    names = [item.strip() for item in header] if has_header else list(_headerless(header))
    if not names:
        known = ", ".join(str(count) for count in sorted(HEADERLESS))
        raise InputError(f"{name}: has no header and {len(header)} columns (known without header: {known}). Add one")
    if len({one.lower() for one in names}) < len(names):
        raise InputError(f"{name}: names a column twice: {', '.join(names)}")
    table = pa_csv.read_csv(
        io.BytesIO(data),
        # One thread, so that a malformed line is reported with its number.
        read_options=pa_csv.ReadOptions(use_threads=False, column_names=names, skip_rows=1 if has_header else 0),
        parse_options=pa_csv.ParseOptions(delimiter=delimiter),
        convert_options=pa_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
        ),
    )
    columns = {one: table[one].combine_chunks() for one in names}
    if delimiter == ";":
        columns = {one: _decimal_points(column) for one, column in columns.items()}
    return _named(name, columns, 2 if has_header else 1)


def _headerless(row: Sequence[str]) -> Sequence[str]:
    """Return the columns of a file that does not name them; both of seven columns are told apart by true and false."""
    if len(row) == len(BINANCE_TRADE_COLUMNS) and row[-1].strip().lower() in ("true", "false"):
        return BINANCE_TRADE_COLUMNS
    return HEADERLESS.get(len(row), ())


def _decimal_points(column: pa.Array) -> pa.Array:
    """Return numbers written with a decimal comma as numbers with a point, where nothing else can be meant."""
    return pc.replace_substring_regex(column, r"^(\s*[+-]?[0-9]+),([0-9]+\s*)$", r"\1.\2")


def _json(name: str, data: bytes) -> Texts:
    # Numbers stay the texts that they were written as.
    rows = json.loads(data.removeprefix(b"\xef\xbb\xbf"), parse_float=str, parse_int=str, parse_constant=str)
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{name}: must hold a list of candles or trades")
    if isinstance(rows[0], dict):
        names: Sequence[str] = [key for key in rows[0] if isinstance(rows[0][key], str | None)]
        columns = {one: pa.array([_text(row.get(one)) for row in rows], pa.string()) for one in names}
    else:
        names = HEADERLESS.get(len(rows[0]), ())
        if not names or any(len(row) != len(names) for row in rows):
            raise InputError(f"{name}: rows must have 6 values (candles) or 7 (trades), all the same number")
        columns = {one: pa.array([_text(row[at]) for row in rows], pa.string()) for at, one in enumerate(names)}
    return _named(name, columns, 1)


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _columnar(path: Path, table: pa.Table) -> Texts:
    columns = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.timestamp("ns", column.type.tz)).cast(pa.int64())
        if pa.types.is_floating(column.type):
            columns[name] = float_texts(column.cast(pa.float64()))
        elif not pa.types.is_nested(column.type):
            columns[name] = column.cast(pa.string()).fill_null("")
    return _named(path.name, columns, 1)


def _named(name: str, columns: dict[str, pa.Array], first_line: int) -> Texts:
    """Return the columns that mean something, by their known names; the first spelling in the list counts."""
    given = {column.strip().lower(): column for column in columns}
    if len(given) != len(columns):
        raise InputError(f"{name}: names a column twice: {', '.join(columns)}")
    found: dict[str, pa.Array] = {}
    for spelling, known in _NAMES.items():
        if spelling in given and known not in found:
            column = columns[given[spelling]]
            if (kept := given.get(f"{spelling}_exact")) is not None:  # our own export
                column = pc.if_else(pc.equal(columns[kept], ""), column, columns[kept])
            found[known] = column
    return Texts(name, found, first_line, tuple(columns))
