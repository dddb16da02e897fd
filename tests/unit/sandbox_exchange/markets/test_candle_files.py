"""Candle files become candles on a grid, or an error that names the file and the market."""

import gzip
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet
import pytest

from services.sandbox_exchange.core.flow_candles import TickCandle
from services.sandbox_exchange.markets.build import MarketsConfig, make_markets
from services.sandbox_exchange.markets.candles import load_candles
from shared.errors import InputError
from shared.testing.data import data_file

HEADER = "symbol,open_time,open,high,low,close,volume,quote_volume"
ROWS = [
    "ABCUSDT,1766880060000,1.05,1.1,1.02,1.03,100.5,",
    "ABCUSDT,1766880000000,1.0,1.07,0.99,1.05,20,21",
    "XYZ-USDT,1766880000000,7e-8,7.5e-8,6.9e-8,7.1e-8,1000000,",
    "XYZ-USDT,1766880060000,7.1e-8,7.1e-8,7.1e-8,7.1e-8,0,",
]


def write(path: Path, rows: list[str], header: str = HEADER) -> Path:
    body = "\n".join([header, *rows]).encode() + b"\n"
    path.write_bytes(gzip.compress(body) if path.suffix == ".gz" else body)
    return path


@pytest.mark.parametrize("name", ["c.csv", "c.csv.gz", "c.parquet"])
def test_every_kind_of_file_gives_the_same_candles(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name.replace("parquet", "csv"), ROWS)
    if name.endswith("parquet"):
        pa_parquet.write_table(pa_csv.read_csv(path), tmp_path / name)
        path = tmp_path / name
    (abc, xyz) = load_candles(path, ["ABC-USDT", "XYZUSDT"])
    assert abc.interval_s == 60.0
    assert abc.profile.market.instrument.tick_size == Decimal("0.01")
    step = abc.profile.market.instrument.step_size
    assert abc.candles == (
        TickCandle(1_766_880_000.0, 100, 107, 99, 105, int(20 / step)),
        TickCandle(1_766_880_060.0, 105, 110, 102, 103, int(Decimal("100.5") / step)),
    )
    assert xyz.profile.market.instrument.tick_size == Decimal("1e-9")
    assert xyz.candles[0].high == 75


def test_seconds_and_microseconds_are_understood(tmp_path: Path) -> None:
    for unit in (1, 10**6, 10**9):
        rows = [f"ABCUSDT,{at * unit},1,1,1,1,1," for at in (1_766_880_000, 1_766_880_060)]
        (series,) = load_candles(write(tmp_path / "c.csv", rows), ["ABCUSDT"])
        assert series.candles[0].open_s == 1_766_880_000.0


def test_noise_of_floats_makes_no_absurd_grid(tmp_path: Path) -> None:
    rows = [f"ABCUSDT,{at},5.330000000000001e-05,5.4e-05,5.3e-05,5.35e-05,10," for at in (1_000_000, 1_000_060)]
    (series,) = load_candles(write(tmp_path / "c.csv", rows), ["ABCUSDT"])
    assert series.profile.market.instrument.tick_size == Decimal("1e-13")
    assert series.candles[0].open == 533_000_000


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ROWS[2:], "ABCUSDT"),
        ([ROWS[0], ROWS[0]], "several candles"),
        ([ROWS[0], "ABCUSDT,yesterday,1,1,1,1,1,"], "open_time 'yesterday'"),
        ([ROWS[0], "ABCUSDT,1766880000000,1,0.9,1,1,1,"], "out of order"),
        ([ROWS[0], "ABCUSDT,1766880000000,1,nan,1,1,1,"], "'nan' is no price"),
        ([ROWS[0], "ABCUSDT,1766880000000,1,,1,1,1,"], "'' is no price"),
        ([ROWS[0], "ABCUSDT,1766880000000,1,1,1,1,-5,"], "'-5' is no price"),
        ([ROWS[0], "ABCUSDT,1766880000000,1"], "is no file of candles"),
    ],
)
def test_unusable_rows_are_refused(tmp_path: Path, rows: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_candles(write(tmp_path / "c.csv", rows), ["ABCUSDT"])


def test_unusable_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"x" * 5_000)[:-20])
    (tmp_path / "c.parquet").write_bytes(b"PAR1 not really")
    pa_parquet.write_table(pa.table({"symbol": ["a"]}), tmp_path / "short.parquet")
    write(tmp_path / "columns.csv", ROWS, "a,b,c,d,e,f,g,h")
    for name in ("cut.csv.gz", "c.parquet", "short.parquet", "columns.csv"):
        with pytest.raises(InputError, match="is no file of candles"):
            load_candles(tmp_path / name, ["ABCUSDT"])
    for name, words in (("absent.csv", "absent.csv does not exist: name a CSV"), (".", "is a folder: name a CSV")):
        with pytest.raises(InputError, match=words):
            load_candles(tmp_path / name, ["ABCUSDT"])


def test_real_file_is_read_whole() -> None:
    path = data_file("mexc_spot/mexc_spot_4h.csv.gz")
    (iota, btc) = load_candles(path, ["IOTAUSDT", "BTCUSDT"])
    assert (len(iota.candles), len(btc.candles)) == (622, 443)
    assert iota.interval_s == btc.interval_s == 14_400.0
    assert btc.profile.market.instrument.tick_size == Decimal("0.01")


def test_markets_of_a_file_begin_where_all_of_them_have_candles(tmp_path: Path) -> None:
    late = [f"LATEUSDT,{1766880000000 + 60_000 * at},1,1,1,1,1," for at in (5, 6)]
    early = [f"ABCUSDT,{1766880000000 + 60_000 * at},1,1.1,1,1,1," for at in range(8)]
    config = MarketsConfig(candles=str(write(tmp_path / "c.csv", [*late, *early])))
    markets = make_markets(config, ["ABCUSDT", "LATEUSDT"])
    assert [market.flow.path.state.index for market in markets] == [5, 0]
