"""Candle files: CSV, gzipped CSV or Parquet, of many markets or a folder with one file for each.

In: a path and the assets wanted. Out: their rows as exact texts for the core, which checks them. Never: a value changed
on the way, a row of another asset. Everything unusable is an InputError that names the file and the fix.

One file holds `symbol, open_time, open, high, low, close, volume` and maybe `quote_volume`. A file of one market has no
`symbol` and may call its time `ts`, `timestamp` or `date`; its name says the market: `ADA_BTC-5m.csv.gz`,
`ADAUSDT_1h.csv`. A folder of such files is one replay, and so is a catalogue's folder `…/bars/venue=V/timeframe=T`.
"""

import csv
import difflib
import gzip
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet

from services.market_data.config import MarketDataConfig
from services.market_data.core.candles import VALUES, RawSeries
from services.market_data.core.replay import ReplayFeed, ReplayInfo, ReplayRules, build_replay
from shared.domain.instruments import bus_symbol
from shared.errors import InputError
from shared.store.catalogue.read import catalogue_folder, read_folder

TIME_NAMES = ("open_time", "ts", "timestamp", "date")
SUFFIXES = (".csv", ".csv.gz", ".parquet")
GZIP_MAGIC = b"\x1f\x8b"
SUGGESTIONS = 3


def load_replay(path: Path, assets: Sequence[str], config: MarketDataConfig | None = None) -> ReplayFeed:
    """Read and check the candles of `assets` (bus tokens); `config` gives range, gaps policy and `notional_min`.

    Raises InputError for anything that would make the replay wrong.
    """
    config = config or MarketDataConfig()
    if catalogue_folder(path) is not None:
        raw = [RawSeries(*msgspec.structs.astuple(one)) for one in read_folder(path, assets)]
    else:
        raw = _read_folder(path, assets) if path.is_dir() else _read_file(path, assets)
    rules = ReplayRules(
        start_ns=config.start_ns,
        end_ns=config.end_ns,
        steps_max=config.steps_max,
        missing_bars=config.missing_bars,
        notional_min=config.notional_min,
    )
    return build_replay(path.name, raw, rules)


def inspect_replay(path: Path, assets: Sequence[str], config: MarketDataConfig | None = None) -> ReplayInfo:
    """Check a replay completely, before anything starts, and say what it holds.

    Raises InputError like `load_replay`.
    """
    return load_replay(path, assets, config).info


def _read_file(path: Path, assets: Sequence[str]) -> list[RawSeries]:
    table = _table(path)
    if "symbol" not in table.column_names:
        own = _market_of(path)
        if own is None:
            raise InputError(
                f"{path}: has no column symbol, and its name is no market. Add the column, or name the file "
                "like ADA_USDT-5m.csv"
            )
        _require_known(assets, {own: own}, f"{path} (a file without the column symbol holds one market)")
        return [_series(path, asset, table) for asset in assets]
    markets: dict[str, list[str]] = {}
    for symbol in pc.unique(table["symbol"]).to_pylist():
        if (market := _bus_symbol_or_none(symbol or "")) is not None:
            markets.setdefault(market, []).append(symbol)
    _require_known(assets, {market: symbols[0] for market, symbols in markets.items()}, str(path))
    wanted = pc.is_in(table["symbol"], value_set=pa.array([symbol for asset in assets for symbol in markets[asset]]))
    table = table.filter(wanted)
    return [
        _series(path, asset, table.filter(pc.is_in(table["symbol"], value_set=pa.array(markets[asset]))))
        for asset in assets
    ]


def _read_folder(path: Path, assets: Sequence[str]) -> list[RawSeries]:
    files: dict[str, list[Path]] = {}
    for file in sorted(path.iterdir()):
        if file.name.endswith(SUFFIXES) and (market := _market_of(file)) is not None:
            files.setdefault(market, []).append(file)
    _require_known(assets, {market: found[0].name for market, found in files.items()}, f"the folder {path}")
    for asset in assets:
        if len(files[asset]) > 1:
            names = ", ".join(file.name for file in files[asset])
            raise InputError(f"{path}: several files hold {asset}: {names}. Leave one of them in the folder")
    return [_series(files[asset][0], asset, _table(files[asset][0])) for asset in assets]


def _series(path: Path, asset: str, table: pa.Table) -> RawSeries:
    time_name = next(name for name in TIME_NAMES if name in table.column_names)
    lines: list[int] = table["line"].to_pylist()
    times: list[int] = []
    for text, line in zip(table[time_name].to_pylist(), lines, strict=True):
        if not re.fullmatch(r"[0-9]{1,20}", text.strip(), re.ASCII):
            raise InputError(
                f"{path.name} line {line}: {asset}: {time_name} is {text!r}. Give it as an integer since 1970, "
                "in seconds, milliseconds, microseconds or nanoseconds"
            )
        times.append(int(text))
    names = [name for name in (*VALUES, "quote_volume") if name in table.column_names]
    columns: dict[str, Sequence[str]] = {name: table[name].to_pylist() for name in names}
    return RawSeries(asset=asset, file=path.name, lines=lines, times=times, columns=columns)


def _table(path: Path) -> pa.Table:
    """Return the file's useful columns as texts, and each row's line (for Parquet: its row) as `line`."""
    if not path.exists():
        raise InputError(f"{path}: no such file. Correct market_data.replay_path (CASCADE_REPLAY)")
    if not path.name.endswith(SUFFIXES):
        raise InputError(f"{path}: not a candle file; known endings: {', '.join(SUFFIXES)}")
    try:
        table = _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError, EOFError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: cannot be read: {reason}. Export or download the file again") from error
    if table.num_rows == 0:
        raise InputError(f"{path}: has no rows. Choose another file")
    return table


def _read_csv(path: Path) -> pa.Table:
    with path.open("rb") as file:
        is_gzip = file.read(2) == GZIP_MAGIC
    if path.suffix == ".gz" and not is_gzip:
        raise InputError(f"{path}: is not a gzip file, though its name ends in .gz. Rename it or download it again")
    if path.suffix != ".gz" and is_gzip:
        raise InputError(f"{path}: is a gzip file. Rename it to {path.name}.gz")
    with (
        gzip.open(path, "rt", encoding="utf-8-sig", newline="")
        if is_gzip
        else path.open(encoding="utf-8-sig", newline="") as text
    ):
        header = next(csv.reader(text), [])
    if not header:
        raise InputError(f"{path}: is empty. Choose another file")
    chosen = _choose_columns(path, header)
    table = pa_csv.read_csv(
        path,
        # One thread, so that a malformed line is reported with its number.
        read_options=pa_csv.ReadOptions(use_threads=False),
        convert_options=pa_csv.ConvertOptions(
            column_types=dict.fromkeys(chosen, pa.string()), include_columns=list(chosen)
        ),
    )
    return _numbered(table.rename_columns(list(chosen.values())), first=2)


def _read_parquet(path: Path) -> pa.Table:
    chosen = _choose_columns(path, pa_parquet.read_schema(path).names)
    table = pa_parquet.read_table(path, columns=list(chosen))
    columns = [pa.array(_texts(table[name]), pa.string()) for name in chosen]
    return _numbered(pa.table(columns, names=list(chosen.values())), first=1)


def _numbered(table: pa.Table, *, first: int) -> pa.Table:
    return table.append_column("line", pa.array(range(first, first + table.num_rows), pa.int64()))


def _texts(column: pa.ChunkedArray) -> list[str]:
    kind = column.type
    if pa.types.is_timestamp(kind):
        column = column.cast(pa.timestamp("ns")).cast(pa.int64())
    # repr is the shortest text that gives the same float, so nothing is lost or added.
    write = repr if pa.types.is_floating(kind) else str
    return ["" if value is None else write(value) for value in column.to_pylist()]


def _choose_columns(path: Path, header: Sequence[str]) -> dict[str, str]:
    """Return the columns to read: name in the file -> name here."""
    names = {name: name.strip().lower() for name in header}
    if len(set(names.values())) != len(header):
        raise InputError(f"{path}: names a column twice: {', '.join(header)}")
    have = set(names.values())
    missing = [name for name in VALUES if name not in have]
    if have.isdisjoint(TIME_NAMES):
        missing.insert(0, "open_time")
    if missing:
        raise InputError(
            f"{path}: lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}; its first line has "
            f"{', '.join(header)[:200]}. Name the columns in the first line: "
            "symbol, open_time, open, high, low, close, volume"
        )
    time_name = next(name for name in TIME_NAMES if name in have)
    wanted = {"symbol", time_name, *VALUES, "quote_volume"}
    return {name: known for name, known in names.items() if known in wanted}


def _require_known(assets: Sequence[str], markets: dict[str, str], where: str) -> None:
    for asset in assets:
        if asset in markets:
            continue
        close = difflib.get_close_matches(asset, markets, n=SUGGESTIONS, cutoff=0.5)
        names = [markets[market] for market in close] or sorted(markets.values())[:SUGGESTIONS]
        some = f", for example {', '.join(names)}" if names else ""
        count = f"{len(markets)} market{'' if len(markets) == 1 else 's'}"
        raise InputError(f"asset {asset} is not in {where}. It has {count}{some}. Correct ASSETS (stack.assets)")


def _market_of(path: Path) -> str | None:
    """Return the market that a file's name says: `ADA_BTC-5m.csv.gz` and `ADABTC_5m.csv` are `ADA-BTC`."""
    stem = path.name
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        stem = stem.removesuffix(suffix)
    stem = re.sub(r"[-_][0-9]+[smhdwM]$", "", stem)
    return _bus_symbol_or_none(stem.replace("_", "-"))


def _bus_symbol_or_none(text: str) -> str | None:
    try:
        return bus_symbol(text)
    except InputError:
        return None
