"""Candle files for the sandbox: CSV, gzipped CSV or Parquet with `symbol, open_time, open, high, low, close, volume`.

In: a path and the symbols wanted. Out: each market's grid and its candles in whole ticks and lots.
Never: a value off the grid; a row that is left out in silence: whatever cannot be used is an InputError.
"""

from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet

from services.sandbox_exchange.core.flow_candles import TickCandle
from services.sandbox_exchange.markets.profiles import MarketProfile, profile_of
from shared.domain.instruments import split_symbol
from shared.errors import InputError

COLUMNS = ("symbol", "open_time", "open", "high", "low", "close", "volume")
TICK_DIGITS_MAX = 8
# What a time since 1970 is counted in, by its size: seconds, milliseconds, microseconds, nanoseconds.
TIME_UNITS = ((10**11, 1.0), (10**14, 1e3), (10**17, 1e6), (10**30, 1e9))


class CandleSeries(msgspec.Struct, frozen=True):
    """Hold one market's candles, oldest first, on the grid of its profile; `interval_s` is the shortest distance."""

    profile: MarketProfile
    interval_s: float
    candles: tuple[TickCandle, ...]


def load_candles(path: Path, symbols: Sequence[str]) -> tuple[CandleSeries, ...]:
    """Read the candles of `symbols` (any usual spelling).

    Raises InputError, naming the file and the fix, for a market that is not in it or for values that are no candle.
    """
    table = _table(path)
    return tuple(_series(path, table, "".join(split_symbol(symbol))) for symbol in symbols)


def _table(path: Path) -> pa.Table:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(
            f"candles: {path} {what}: name a CSV or Parquet file with {', '.join(COLUMNS)}; "
            "`cascade data synthetic FILE` makes one"
        )
    try:
        if path.suffix == ".parquet":
            table = pa_parquet.read_table(path, columns=list(COLUMNS))
            return pa.table({name: [str(value) for value in table[name].to_pylist()] for name in COLUMNS})
        options = pa_csv.ConvertOptions(column_types=dict.fromkeys(COLUMNS, pa.string()), include_columns=list(COLUMNS))
        return pa_csv.read_csv(path, convert_options=options)
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: is no file of candles ({', '.join(COLUMNS)}): {reason}") from error


def _series(path: Path, table: pa.Table, symbol: str) -> CandleSeries:
    own = table.filter(pc.equal(pc.replace_substring_regex(table["symbol"], "[-/]", ""), symbol))
    if own.num_rows < 2:
        known = sorted(pc.unique(table["symbol"]).to_pylist())
        raise InputError(f"{path}: has {own.num_rows} candles of {symbol}; its markets are {', '.join(known)[:200]}")
    times = [_seconds(path, symbol, text) for text in own["open_time"].to_pylist()]
    values = {name: [_number(path, symbol, text) for text in own[name].to_pylist()] for name in COLUMNS[2:]}
    order = sorted(range(len(times)), key=times.__getitem__)
    distances = [times[after] - times[before] for before, after in pairwise(order)]
    if min(distances) <= 0:
        raise InputError(f"{path}: {symbol}: has several candles of one open time: keep one of each")
    profile = _profile(symbol, values)
    tick, step = profile.market.instrument.tick_size, profile.market.instrument.step_size
    candles: list[TickCandle] = []
    for at in order:
        units = {name: _units(values[name][at], step if name == "volume" else tick) for name in COLUMNS[2:]}
        try:
            candles.append(TickCandle(open_s=times[at], **units))
        except ValueError as error:
            raise InputError(f"{path}: {symbol}: {error}. Correct the row") from error
    return CandleSeries(profile, min(distances), tuple(candles))


def _profile(symbol: str, values: dict[str, list[Decimal]]) -> MarketProfile:
    closes = sorted(values["close"])
    profile = profile_of(symbol, price=float(closes[len(closes) // 2]))
    # The file's own grid, unless its digits are the noise of floats.
    finest = min(_exponent(value) for name in ("open", "high", "low", "close") for value in values[name])
    coarsest = max(value.adjusted() for value in closes)
    tick = Decimal(1).scaleb(max(finest, coarsest - TICK_DIGITS_MAX))
    market = profile.market
    instrument = msgspec.structs.replace(market.instrument, tick_size=tick)
    return msgspec.structs.replace(profile, market=msgspec.structs.replace(market, instrument=instrument))


def _exponent(value: Decimal) -> int:
    exponent = value.normalize().as_tuple().exponent
    assert isinstance(exponent, int)
    return exponent


def _units(value: Decimal, unit: Decimal) -> int:
    return int((value / unit).to_integral_value())


def _seconds(path: Path, symbol: str, text: str) -> float:
    if not text or not text.isdigit():
        raise InputError(f"{path}: {symbol}: open_time {text!r} is no integer since 1970. Correct the row")
    value = int(text)
    return value / next(unit for most, unit in TIME_UNITS if value < most)


def _number(path: Path, symbol: str, text: str) -> Decimal:
    try:
        value = Decimal(text)
    except ArithmeticError:
        value = Decimal("NaN")
    if not value.is_finite() or value < 0:
        raise InputError(f"{path}: {symbol}: {text!r} is no price and no volume. Correct the row")
    return value
