"""Known answers of other venues' recordings through the same builder."""

import csv
import zipfile

import msgspec

from shared.exchange.live.book import Applied, BookBuilder
from shared.testing.data import data_file


class BybitBook(msgspec.Struct):
    s: str
    b: list[tuple[float, float]]
    a: list[tuple[float, float]]
    u: int


class BybitFrame(msgspec.Struct):
    type: str
    data: BybitBook


def test_recorded_bybit_book_has_no_gap_and_ends_as_stated() -> None:
    path = data_file("nautilus_test_data/bybit__xrpusdt-ob500.data.zip")
    with zipfile.ZipFile(path) as archive:
        lines = archive.read(archive.namelist()[0]).splitlines()
    builder, outcomes = BookBuilder(), []
    for line in lines:
        frame = msgspec.json.decode(line, type=BybitFrame, strict=False)
        book = frame.data
        if frame.type == "snapshot":
            outcomes.append(builder.snapshot(book.u, book.b, book.a))
        else:
            outcomes.append(builder.apply(book.u, book.u, book.b, book.a))
    assert outcomes == [Applied.DONE] * 50
    assert builder.version == 20254918
    assert builder.level_counts == (500, 500)
    best = builder.best()
    assert best is not None
    assert (best[0], best[2]) == (1.9537, 1.9538)


def test_recorded_futures_diffs_follow_their_predecessors() -> None:
    """Futures name the update before (`pu`), so `pu + 1` is where a diff begins; the snapshot lies inside the first."""
    rows: dict[int, tuple[int, list[tuple[float, float]], list[tuple[float, float]]]] = {}
    with data_file("nautilus_test_data/binance__btcusdt-depth-update.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            levels = rows.setdefault(int(row["last_update_id"]), (int(row["pu"]), [], []))
            levels[1 if row["side"] == "b" else 2].append((float(row["price"]), float(row["qty"])))
    builder, first = BookBuilder(), True
    for last, (before, bids, asks) in rows.items():
        if first:
            assert builder.snapshot(before, [], []) is Applied.DONE
            first = False
        outcome = builder.apply(before + 1, last, bids, asks)
        assert outcome is Applied.DONE
        assert builder.version == last
