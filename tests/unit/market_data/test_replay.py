import gzip
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.market_data.config import MarketDataConfig, MissingBars
from services.market_data.core.feed import MarketStep
from services.market_data.core.replay import ReplayFeed
from services.market_data.replay_file import inspect_replay, load_replay
from shared.errors import InputError
from shared.testing.data import data_file

HEADER = "symbol,open_time,open,high,low,close,volume"
T0 = 1_767_225_600_000  # 2026-01-01 00:00:00 UTC, ms
HOUR = 3_600_000
ASSETS = ("A-USDT", "B-USDT")
REAL_ASSETS = ("RIVER-USDT", "H-USDT", "PENGU-USDT", "TAO-USDT")


def row(symbol: str, at: int, close: str = "2.50", *, time: int | None = None, volume: str = "10.125") -> str:
    return f"{symbol},{T0 + at * HOUR if time is None else time},2.5,3.0,2.0,{close},{volume}"


def good_rows(count: int = 4) -> list[str]:
    return [row(symbol, at) for symbol in ("AUSDT", "BUSDT") for at in range(count)]


def write(tmp_path: Path, rows: list[str], header: str = HEADER, name: str = "bars.csv") -> Path:
    path = tmp_path / name
    text = "\n".join([header, *rows]) + "\n"
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def all_steps(feed: ReplayFeed) -> list[MarketStep]:
    return [step for number in range(1, feed.info.steps + 1) if (step := feed.step(number)) is not None]


def refusal(path: Path, assets: tuple[str, ...] = ASSETS, config: MarketDataConfig | None = None) -> str:
    with pytest.raises(InputError) as refused:
        inspect_replay(path, assets, config)
    return str(refused.value)


@pytest.mark.parametrize("name", ["bars.csv", "bars.csv.gz"])
def test_a_file_becomes_steps_on_its_own_interval(tmp_path, name):
    feed = load_replay(write(tmp_path, good_rows(), name=name), ASSETS)
    assert feed.timeframe == "1h"
    steps = all_steps(feed)
    assert [step.number for step in steps] == [1, 2, 3, 4]
    assert [step.final for step in steps] == [False, False, False, True]
    assert steps[0].open_time_ns == T0 * 1_000_000
    assert steps[0].close_time_ns == (T0 + HOUR) * 1_000_000
    assert [candle.instrument for candle in steps[0].candles] == list(ASSETS)
    assert steps[0].candles[0].close == 2.5
    assert steps[0].candles[0].quote_volume is None
    assert feed.step(5) is None


def test_the_grid_is_what_the_digits_show(tmp_path):
    rows = [row("AUSDT", 0, "2.50", volume="1.0"), row("AUSDT", 1, "2.503", volume="7"), row("AUSDT", 2, volume="0")]
    rows += [row("BUSDT", at, "2.5030", volume="7") for at in range(3)]
    info = inspect_replay(write(tmp_path, rows), ASSETS, MarketDataConfig(notional_min=Decimal(4)))
    first, second = info.instruments
    assert (first.tick_size, first.step_size) == (Decimal("0.001"), Decimal(1))
    assert (second.tick_size, second.step_size) == (Decimal("0.001"), Decimal(1))
    assert first.quantity_min == first.step_size
    assert first.notional_min == 4
    assert (first.base, first.quote) == ("A", "USDT")


def test_binary_noise_does_not_make_a_finer_tick(tmp_path):
    header = HEADER.replace("symbol,open_time", "ts")
    rows = [
        f"{T0 + at * HOUR},5.330000000000001e-05,5.4e-05,5.2000000000000004e-05,0.0000533,431401.97869504"
        for at in range(2)
    ]
    feed = load_replay(write(tmp_path, rows, header, "ADA_BTC-1h.csv"), ("ADA-BTC",))
    assert feed.instruments[0].tick_size == Decimal("0.0000001")
    assert feed.instruments[0].step_size == Decimal("1E-8")
    step = feed.step(1)
    assert step is not None
    assert (step.candles[0].open, step.candles[0].low) == (5.33e-05, 5.2e-05)


@pytest.mark.parametrize("scale", [1e-3, 1, 1e3, 1e6])
def test_every_usual_unit_of_time_is_understood(tmp_path, scale):
    rows = [row(symbol, 0, time=int((T0 + at * HOUR) * scale)) for symbol in ("AUSDT", "BUSDT") for at in range(3)]
    info = inspect_replay(write(tmp_path, rows), ASSETS)
    assert (info.timeframe, info.first_open_ns, info.steps) == ("1h", T0 * 1_000_000, 3)


@pytest.mark.parametrize("spelling", ["A-USDT", "A/USDT", "ausdt"])
def test_usual_spellings_of_a_market_are_understood(tmp_path, spelling):
    rows = [row(spelling, 0), row(spelling, 1)]
    assert inspect_replay(write(tmp_path, rows), ("A-USDT",)).bars == 2


def test_a_folder_of_one_market_files_is_one_replay(tmp_path):
    header = HEADER.replace("symbol,open_time", "ts")
    rows = [row("", at)[1:] for at in range(3)]
    write(tmp_path, rows, header, "A_USDT-1h.csv.gz")
    write(tmp_path, rows, header, "BUSDT_1h.csv")
    (tmp_path / "LICENSE").write_text("free")
    assert inspect_replay(tmp_path, ASSETS).bars == 6
    assert "asset C-USDT is not in the folder" in refusal(tmp_path, ("A-USDT", "C-USDT"))
    write(tmp_path, rows, header, "BUSDT_5m.csv")
    assert "several files hold B-USDT" in refusal(tmp_path)


@pytest.mark.parametrize("kind", ["text", "float", "timestamp"])
def test_parquet_is_read_like_csv(tmp_path, kind):
    rows = [line.split(",") for line in good_rows()]
    columns: dict[str, pa.Array] = {}
    for name, values in zip(HEADER.split(","), zip(*rows, strict=True), strict=True):
        if name == "open_time":
            times = pa.array([int(value) for value in values])
            columns[name] = times.cast(pa.timestamp("ms", tz="UTC")) if kind == "timestamp" else times
        elif name != "symbol" and kind != "text":
            columns[name] = pa.array([float(value) for value in values])
        else:
            columns[name] = pa.array(values)
    path = tmp_path / "bars.parquet"
    pa_parquet.write_table(pa.table(columns), path)
    from_csv = load_replay(write(tmp_path, good_rows()), ASSETS)
    from_parquet = load_replay(path, ASSETS)
    assert all_steps(from_parquet) == all_steps(from_csv)
    assert from_parquet.instruments == from_csv.instruments


def test_a_range_chooses_whole_bars(tmp_path):
    path = write(tmp_path, good_rows(6))
    config = MarketDataConfig(start="2026-01-01T01:00", end="2026-01-01T04:30")
    info = inspect_replay(path, ASSETS, config)
    assert (info.steps, info.bars) == (3, 6)
    assert info.last_close_ns == (T0 + 4 * HOUR) * 1_000_000
    assert inspect_replay(path, ASSETS, MarketDataConfig(steps_max=2)).bars == 4
    empty = refusal(path, ASSETS, MarketDataConfig(start="2027-01-01"))
    assert "A-USDT has no bar from 2027-01-01 00:00:00 UTC" in empty
    assert "market_data.start" in empty


def test_gaps_are_refused_with_count_place_and_fix(tmp_path):
    rows = [row("AUSDT", at) for at in range(6)] + [row("BUSDT", at) for at in (0, 3, 4, 5)]
    path = write(tmp_path, rows)
    text = refusal(path)
    assert "B-USDT lacks 2 of 6 bars, the first at 2026-01-01 01:00:00 UTC" in text
    assert "market_data.missing_bars=hold" in text
    assert "market_data.start=2026-01-01T03:00:00Z and market_data.end=2026-01-01T06:00:00Z (3 complete steps)" in text
    chosen = inspect_replay(path, ASSETS, MarketDataConfig(start="2026-01-01T03:00:00Z", end="2026-01-01T06:00:00Z"))
    assert (chosen.steps, chosen.missing) == (3, 0)


def test_held_bars_are_named_missing_and_never_invented(tmp_path):
    rows = [row("AUSDT", at) for at in (1, 2, 5)] + [row("BUSDT", at) for at in (0, 1, 2)]
    feed = load_replay(write(tmp_path, rows), ASSETS, MarketDataConfig(missing_bars=MissingBars.HOLD))
    steps = all_steps(feed)
    assert [step.missing for step in steps] == [("A-USDT",), (), (), ASSETS, ASSETS, ("B-USDT",)]
    assert all(len(step.candles) + len(step.missing) == 2 for step in steps)
    assert (feed.info.bars, feed.info.missing) == (6, 6)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (row("BUSDT", 2, "nan"), "close is 'nan'"),
        (row("BUSDT", 2, ""), "close is empty"),
        (row("BUSDT", 2, "0"), "close is 0; a price must be above 0"),
        (row("BUSDT", 2, "-1"), "close is -1"),
        (row("BUSDT", 2, "inf"), "close is 'inf'"),
        (row("BUSDT", 2, "1e999"), "beyond every price"),
        (row("BUSDT", 2, "2_5"), "close is '2_5'"),
        (row("BUSDT", 2, "3.5"), "high 3.0 is below close 3.5"),
        (row("BUSDT", 2, "1.5"), "low 2.0 is above close 1.5"),
        (row("BUSDT", 2, volume="-1"), "volume is -1"),
        (row("BUSDT", 2, volume=""), "volume is empty"),
    ],
)
def test_a_bad_value_names_file_line_asset_time_and_field(tmp_path, bad, words):
    rows = [*good_rows(2), bad, row("AUSDT", 2)]
    text = refusal(write(tmp_path, rows))
    assert "bars.csv line 6: B-USDT at 2026-01-01 02:00:00 UTC: " in text
    assert words in text
    assert "orrect or remove the row" in text


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([row("AUSDT", 1), row("AUSDT", 2), row("AUSDT", 0)], "Sort the file"),
        ([row("AUSDT", 0), row("AUSDT", 1), row("AUSDT", 1)], "appears twice"),
        ([row("AUSDT", 0), row("AUSDT", 1), row("AUSDT", 2), row("AUSDT", 0, time=T0 + 2 * HOUR + 1)], "overlaps"),
        ([row("AUSDT", 0), row("AUSDT", 1), row("AUSDT", 0, time=T0 + 2 * HOUR + HOUR // 2)], "off the 1h grid"),
        ([row("AUSDT", 0)], "the interval is unknown"),
        ([row("AUSDT", 0, time=12345)], "no time between 2009 and 2100"),
        ([row("AUSDT", 0), row("AUSDT", 1, time=(T0 + HOUR) * 1000)], "the first time of the replay is in ms"),
        ([row("AUSDT", 0), row("AUSDT", 1).replace(str(T0 + HOUR), "2026-01-01")], "Give it as an integer"),
        ([row("AUSDT", 0, volume="0"), row("AUSDT", 1, volume="0")], "quantity step is unknown"),
        ([row("AUSDT", 0), row("AUSDT", 1) + ",1"], "Row #3: Expected 7 columns, got 8"),
    ],
)
def test_rows_in_disorder_are_refused(tmp_path, rows, words):
    text = refusal(write(tmp_path, rows), ("A-USDT",))
    assert "bars.csv" in text
    assert words in text


def test_a_bad_row_of_another_asset_or_outside_the_range_does_not_matter(tmp_path):
    path = write(tmp_path, [*good_rows(3), row("ZUSDT", 0, "nan"), row("AUSDT", 9, "nan"), row("BUSDT", 9, "nan")])
    assert inspect_replay(path, ASSETS, MarketDataConfig(end="2026-01-01T03:00")).bars == 6


def test_an_unknown_asset_gets_close_names_and_the_count(tmp_path):
    path = write(tmp_path, [row(symbol, at) for symbol in ("RIVERUSDT", "RVNUSDT", "TAOUSDT") for at in range(2)])
    text = refusal(path, ("RIVR-USDT", "TAO-USDT"))
    assert "asset RIVR-USDT is not in" in text
    assert "3 markets, for example RIVERUSDT" in text


def test_unusable_files_are_refused_by_name(tmp_path):
    assert "no such file" in refusal(tmp_path / "none.csv")
    assert "not a candle file" in refusal(write(tmp_path, good_rows(), name="bars.txt"))
    (tmp_path / "empty.csv").write_text("")
    assert "is empty" in refusal(tmp_path / "empty.csv")
    assert "has no rows" in refusal(write(tmp_path, [], name="header.csv"))
    (tmp_path / "plain.csv.gz").write_text("symbol,open_time\n")
    assert "is not a gzip file" in refusal(tmp_path / "plain.csv.gz")
    (tmp_path / "zipped.csv").write_bytes(gzip.compress(b"symbol"))
    assert "is a gzip file. Rename it" in refusal(tmp_path / "zipped.csv")
    whole = gzip.compress(("\n".join([HEADER, *good_rows(400)])).encode())
    (tmp_path / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    assert "cannot be read" in refusal(tmp_path / "cut.csv.gz")
    (tmp_path / "fake.parquet").write_text("no parquet")
    assert "cannot be read" in refusal(tmp_path / "fake.parquet")
    (tmp_path / "latin.csv").write_bytes(f"{HEADER}\nAUSDT,1,\xe9,1,1,1,1\n".encode("latin-1"))
    assert "cannot be read" in refusal(tmp_path / "latin.csv")
    (tmp_path / "nothing.csv.gz").write_bytes(gzip.compress(b""))
    assert "is empty" in refusal(tmp_path / "nothing.csv.gz")


def test_wrong_columns_are_named(tmp_path):
    text = refusal(write(tmp_path, [], "symbol,time,open,high,low,last,volume"))
    assert "lacks the columns open_time, close" in text
    assert "symbol, open_time, open, high, low, close, volume" in text
    assert "names a column twice" in refusal(write(tmp_path, [], HEADER + ",Open"))
    header = HEADER.removeprefix("symbol,")
    assert "has no column symbol" in refusal(write(tmp_path, [line[6:] for line in good_rows()], header))


def test_columns_may_come_in_any_order_and_case_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "bars.csv"
    rows = [f"1,2,{T0 + at * HOUR},2,2,2,AUSDT,x" for at in range(2)]
    path.write_bytes(
        "\ufeff".encode() + "\n".join(["Volume,Open,open_time,high,low,CLOSE,symbol,note", *rows]).encode()
    )
    assert inspect_replay(path, ("A-USDT",)).bars == 2


def test_a_longer_file_of_the_same_history_is_the_same_feed(tmp_path):
    short = load_replay(write(tmp_path, good_rows(3)), ASSETS).identity
    assert load_replay(write(tmp_path, good_rows(5)), ASSETS).identity == short
    other = load_replay(write(tmp_path, [line.replace("2.50", "2.51") for line in good_rows(3)]), ASSETS).identity
    assert other != short


@given(st.lists(st.integers(1, 10**9), min_size=2, max_size=20), st.integers(0, 8))
def test_every_price_of_a_file_is_a_multiple_of_its_tick(tmp_path_factory, ticks, decimals):
    prices = [Decimal(value).scaleb(-decimals) for value in ticks]
    rows = [f"AUSDT,{T0 + at * HOUR},{price:f},{price:f},{price:f},{price:f},1" for at, price in enumerate(prices)]
    feed = load_replay(write(tmp_path_factory.mktemp("bars"), rows), ("A-USDT",))
    tick = feed.instruments[0].tick_size
    assert all(price % tick == 0 for price in prices)
    assert [Decimal(repr(step.candles[0].close)) for step in all_steps(feed)] == prices


def test_the_real_file_gives_685_steps_of_four_assets():
    feed = load_replay(data_file("mexc_spot/mexc_spot_4h.csv.gz"), REAL_ASSETS)
    info = feed.info
    assert (info.timeframe, info.steps, info.bars, info.missing) == ("4h", 685, 2740, 0)
    ticks = [str(one.tick_size) for one in info.instruments]
    assert ticks == ["0.0001", "0.00001", "0.000001", "0.01"]
    assert [str(one.step_size) for one in info.instruments] == ["0.01", "0.01", "0.01", "0.001"]
    steps = all_steps(feed)
    assert all(after.open_time_ns == before.close_time_ns for before, after in pairwise(steps))
    for step in steps:
        for candle, instrument in zip(step.candles, info.instruments, strict=True):
            assert Decimal(repr(candle.close)) % instrument.tick_size == 0
            assert candle.low <= min(candle.open, candle.close) <= max(candle.open, candle.close) <= candle.high


def test_real_gaps_are_refused_or_held():
    path = data_file("mexc_spot/mexc_spot_4h.csv.gz")
    assert "BTC-USDT lacks 242 of 685 bars" in refusal(path, ("BTC-USDT", "H-USDT"))
    held = inspect_replay(path, ("BTC-USDT", "H-USDT"), MarketDataConfig(missing_bars=MissingBars.HOLD))
    assert (held.steps, held.missing) == (685, 242)
    folder = data_file("freqtrade_testdata")
    assert "ADA-BTC lacks 40 of 5760 bars" in refusal(folder, ("ADA-BTC", "ETH-BTC"))
