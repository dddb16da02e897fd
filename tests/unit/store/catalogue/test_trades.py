"""Trades in the catalogue: one copy of each whatever holds it, what is missing, bars of them, other people's files."""

import zipfile
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.bars import BarBuilder
from shared.errors import InputError
from shared.exchange.history_trades import RawTrade, in_order
from shared.store.catalogue.catalogue import Catalogue
from shared.store.catalogue.files import SeriesKey
from shared.store.catalogue.importer import ImportOptions, import_file
from shared.store.catalogue.rows import bars_table, merge
from shared.store.catalogue.trade_bars import make_bars, quick_bars
from shared.store.catalogue.trades import trades_of
from shared.store.catalogue.verify import Check, gaps, verify
from shared.testing.data import data_file

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
START = 1_767_225_600 * SECOND
KEY = SeriesKey("trades", "binance", "BTC-USDT")


def trade(
    first: int, last: int | None = None, *, at: int | None = None, price: str = "100", size: str = "1"
) -> RawTrade:
    return RawTrade(START + (first if at is None else at) * SECOND, price, size, "buy", None, first, last or first)


def table(*rows: RawTrade) -> pa.Table:
    return trades_of(rows)[0]


def ids(one: pa.Table) -> list[str]:
    found: list[str] = one["trade_id"].to_pylist()
    return found


def test_an_aggregate_whose_trades_are_there_is_no_news() -> None:
    singles = table(*(trade(number, at=5) for number in range(5, 8)))
    merged = merge(singles, table(trade(5, 7, at=5, size="3")), "trades")
    assert (merged.added, merged.same, merged.conflicts) == (0, 1, 0)
    assert merged.table is singles


def test_trades_of_an_aggregate_that_is_there_are_no_news() -> None:
    aggregates = table(trade(1), trade(5, 7, at=5, size="3"))
    merged = merge(aggregates, table(*(trade(number, at=5) for number in range(5, 9))), "trades")
    assert (merged.added, merged.same) == (1, 3)
    assert ids(merged.table) == ["1", "5-7", "8"]


def test_an_aggregate_takes_the_place_of_some_of_its_trades() -> None:
    merged = merge(table(trade(4), trade(6, at=5)), table(trade(5, 7, at=5, size="3")), "trades")
    assert ids(merged.table) == ["4", "5-7"]
    assert merged.added == 1


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 4)), max_size=20), st.integers(0, 1 << 30))
def test_no_number_is_ever_there_twice(drawn: list[tuple[int, int]], seed: int) -> None:
    blocks = {first // 5 * 5: length for first, length in drawn}
    singles = [trade(number, at=0) for first, length in blocks.items() for number in range(first, first + length + 1)]
    aggregates = [trade(first, first + length, at=0) for first, length in blocks.items()]
    rng = np.random.default_rng(seed)
    chosen = [one for one in singles if rng.random() < 0.6]
    for old, new in ((chosen, aggregates), (aggregates, chosen), (chosen, singles)):
        merged = merge(table(*old), table(*new), "trades").table
        numbers = [
            number for text in ids(merged) for number in range(int(text.split("-")[0]), int(text.split("-")[-1]) + 1)
        ]
        assert numbers == sorted({number for one in [*old, *new] for number in span(one)})


def span(one: RawTrade) -> range:
    assert one.first_id is not None
    assert one.last_id is not None
    return range(one.first_id, one.last_id + 1)


def test_trades_of_one_time_lie_in_the_order_of_their_numbers() -> None:
    merged = merge(table(trade(9, at=1), trade(11, at=1)), table(trade(10, at=1), trade(8, at=1)), "trades")
    assert ids(merged.table) == ["8", "9", "10", "11"]


def test_the_newest_first_is_turned_around_and_one_moment_keeps_its_order() -> None:
    rows = [RawTrade(time, str(place), "1", "buy") for place, time in enumerate([3, 2, 2, 2, 1])]
    assert [row.price for row in in_order(rows)] == ["4", "3", "2", "1", "0"]
    numbered = [RawTrade(1, "1", "1", "buy", number) for number in (9, 10, 100, 11)]
    assert [row.number for row in in_order(numbered)] == [9, 10, 11, 100]


def test_missing_numbers_are_gaps_and_those_that_the_venue_answered_for_are_known(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    kept = [*range(1, 20), *range(25, 40), *range(41, 60)]
    covered = [(START + 39 * SECOND, START + 60 * SECOND)]
    catalogue.write(KEY, table(*(trade(number) for number in kept)), covered=covered)
    assert [(gap.missing, gap.known) for gap in gaps(catalogue, KEY)] == [(5, False), (1, True)]
    found = {one.check: one for one in verify(catalogue, KEY)}
    assert found.keys() == {Check.GAP, Check.VENUE_GAP}
    assert found[Check.GAP].is_wrong
    assert not found[Check.VENUE_GAP].is_wrong


def test_ids_that_count_something_else_have_no_gaps(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    catalogue.write(KEY, table(*(trade(number * 7, at=number) for number in range(50))))
    assert not verify(catalogue, KEY)


def test_jumps_and_outliers_are_named(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    prices = ["100"] * 10 + ["120"] + ["100"] * 10 + ["0.1"] * 5
    catalogue.write(KEY, table(*(trade(number, price=price) for number, price in enumerate(prices))))
    found = {one.check: one.count for one in verify(catalogue, KEY)}
    assert found == {Check.BREAK: 1, Check.OUTLIER: 2}


def test_trades_that_do_not_add_up_to_their_candles_are_found(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    rows = [trade(number, price=str(100 + number % 7)) for number in range(600)]
    catalogue.write(KEY, table(*rows))
    assert make_bars(catalogue, KEY, "1m").added == 8  # the first and the last minute may be cut
    assert not verify(catalogue, KEY)
    bars_key = SeriesKey("bars", "binance", "BTC-USDT", "1m")
    prices = np.array([105.0])
    values = dict.fromkeys(("open", "high", "low", "close"), prices) | {"volume": np.array([60.0])}
    changed = bars_table(bars_key, np.array([START + 3 * MINUTE]), values, {})
    catalogue.write(bars_key, changed, replace=True)
    (finding,) = verify(catalogue, KEY)
    assert (finding.check, finding.count, finding.first_ns) == (Check.CANDLES, 1, START + 3 * MINUTE)
    assert finding.is_wrong


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 900), st.integers(1, 10**6), st.integers(1, 10**6)), min_size=1, max_size=80))
def test_quick_bars_are_the_builders(drawn: list[tuple[int, int, int]]) -> None:
    rows = [
        trade(at, at=time, price=str(price), size=str(size)) for at, (time, price, size) in enumerate(sorted(drawn))
    ]
    quick = quick_bars(table(*rows), MINUTE)
    builder = BarBuilder(MINUTE)
    exact = [
        closed
        for row in rows
        if (closed := builder.add_trade(str(row.first_id), row.time_ns, float(row.price), float(row.quantity)))
    ]
    last = builder.advance(START + 1000 * MINUTE)
    assert last is not None
    assert [
        (bar.open_time_ns, bar.open, bar.high, bar.low, bar.close, float(bar.volume)) for bar in [*exact, last]
    ] == list(
        zip(*(getattr(quick, name).tolist() for name in ("open_time_ns", "open", "high", "low", "close", "volume")),
            strict=True)
    )  # fmt: skip


def test_recorded_trades_make_the_recorded_candles(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    options = ImportOptions(venue="binance", symbol="XRP-ETH", timeframe="5m")
    list(import_file(catalogue, data_file("freqtrade_testdata/XRP_ETH-5m.csv.gz"), options))
    trades_file = data_file("freqtrade_testdata/XRP_ETH-trades.json.gz")
    list(import_file(catalogue, trades_file, ImportOptions(venue="binance", symbol="XRP-ETH")))
    key = SeriesKey("trades", "binance", "XRP-ETH")
    assert not [one for one in verify(catalogue, key) if one.is_wrong]
    made = make_bars(catalogue, key, "5m")
    assert (made.added, made.same, made.conflicts) == (0, 704, 0)


def archive(path: Path, name: str, *lines: str) -> Path:
    with zipfile.ZipFile(path / f"{name}.zip", "w") as file:
        file.writestr(f"{name}.csv", "\n".join(lines) + "\n")
    return path / f"{name}.zip"


def test_binances_trade_archives_are_read(tmp_path: Path) -> None:
    # Microseconds since 2025, milliseconds before; no header.
    path = archive(
        tmp_path, "BTCUSDT-trades-2025-01-01",
        "101,93500.10,0.00100000,93.50010,1735689600012345,True,True",
        "102,93500.20,0.00200000,187.00040,1735689600012345,False,True",
    )  # fmt: skip
    catalogue = Catalogue(tmp_path / "catalogue")
    (report,) = import_file(catalogue, path, ImportOptions(venue="binance"))
    assert (report.written, report.added, report.units) == (True, 2, {"us": 2})
    stored = catalogue.read(KEY)
    assert stored.select(["ts_event_ns", "trade_id", "side", "price", "quantity"]).to_pylist() == [
        {"ts_event_ns": 1735689600012345000, "trade_id": "101", "side": "sell", "price": 93500.1, "quantity": 0.001},
        {"ts_event_ns": 1735689600012345000, "trade_id": "102", "side": "buy", "price": 93500.2, "quantity": 0.002},
    ]


@pytest.mark.parametrize("header", [True, False])
def test_binances_aggregate_archives_are_the_same_trades(tmp_path: Path, header: bool) -> None:
    lines = [
        "7,93500.10,0.00300000,101,103,1735689600012,True,True",
        "8,93500.20,0.00200000,104,104,1735689600013,False,True",
    ]
    if header:
        names = "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker,is_best_match"
        lines.insert(0, names)
    catalogue = Catalogue(tmp_path / "catalogue")
    path = archive(tmp_path, "BTCUSDT-aggTrades-2025-01", *lines)
    (report,) = import_file(catalogue, path, ImportOptions(venue="binance"))
    assert (report.series, report.added) == (KEY, 2)
    assert ids(catalogue.read(KEY)) == ["101-103", "104"]
    singles = archive(
        tmp_path, "BTCUSDT-trades-2025-01",
        *(f"{number},93500.10,0.001,93.5,1735689600012,True,True" for number in (101, 102, 103)),
    )  # fmt: skip
    (report,) = import_file(catalogue, singles, ImportOptions(venue="binance"))
    assert (report.added, report.same) == (0, 3)
    assert sum(Decimal(repr(one)) for one in catalogue.read(KEY)["quantity"].to_pylist()) == Decimal("0.005")


def test_a_file_of_trades_without_a_price_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-trades.csv"
    path.write_text("id,time,amount\n1,1735689600012,5\n")
    with pytest.raises(InputError, match="lacks"):
        list(import_file(Catalogue(tmp_path), path, ImportOptions(venue="binance")))
