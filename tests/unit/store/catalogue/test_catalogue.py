"""Series on disk: whole at any moment, the same rows only once."""

import contextlib
import os
import shutil
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.errors import InputError, StoreUnavailableError
from shared.store.catalogue.catalogue import Catalogue, Written, subtract, union
from shared.store.catalogue.files import SeriesKey, locked, series_directory
from shared.store.catalogue.numbers import parse_numbers
from shared.store.catalogue.read import connect, fingerprint, read_arrays, read_candles, read_exact
from shared.store.catalogue.rows import bars_table, partition_bounds, partitions, span_of, trades_table
from shared.store.catalogue.verify import Check, verify
from shared.store.disk import LocalDisk
from shared.testing.disk import MortalDisk, PowerCut

HOUR = 3_600_000_000_000
START = 1_767_225_600_000_000_000
KEY = SeriesKey("bars", "mexc", "BTC-USDT", "1h")


def bars(hours: list[int], *, key: SeriesKey = KEY, close: str = "1.5", volume: str = "10") -> pa.Table:
    texts = {"open": "1.25", "high": "2", "low": "1", "close": close, "volume": volume}
    numbers = {name: parse_numbers(pa.array([text] * len(hours), pa.string())) for name, text in texts.items()}
    times = np.array([START + hour * HOUR for hour in hours], dtype=np.int64)
    return bars_table(
        key, times, {name: one.values for name, one in numbers.items()},
        {name: one.exact for name, one in numbers.items()},
    )  # fmt: skip


def hours(catalogue: Catalogue, key: SeriesKey = KEY) -> list[int]:
    return [(time - START) // HOUR for time in catalogue.read(key)["open_time_ns"].to_pylist()]


def tree(root: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(root)): (path.stat().st_mtime_ns, path.stat().st_ino)
        for path in root.rglob("*")
        if path.is_file()
    }


def test_the_same_rows_again_change_nothing_on_disk(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    assert catalogue.write(KEY, bars([0, 1, 2])) == Written(3, 0, 0, 1)
    before = tree(tmp_path)
    assert catalogue.write(KEY, bars([2, 1])) == Written(0, 2, 0, 0)
    assert tree(tmp_path) == before


def test_a_different_bar_is_a_conflict_and_wins_only_when_told(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    catalogue.write(KEY, bars([0, 1]))
    assert catalogue.write(KEY, bars([1, 2], close="1.75")) == Written(1, 0, 1, 1)
    assert read_arrays(catalogue, KEY).close.tolist() == [1.5, 1.5, 1.75]
    assert catalogue.write(KEY, bars([1], close="1.75"), replace=True) == Written(0, 0, 1, 1)
    assert read_arrays(catalogue, KEY).close.tolist() == [1.5, 1.75, 1.75]
    assert hours(catalogue) == [0, 1, 2]


def test_a_difference_that_floats_do_not_show_is_a_conflict_too(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    catalogue.write(KEY, bars([0], volume="12345678901.12345678"))
    assert catalogue.write(KEY, bars([0], volume="12345678901.12345679")).conflicts == 1
    assert next(read_exact(catalogue, KEY)).volume == Decimal("12345678901.12345678")


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.integers(0, 20_000), max_size=12), max_size=6))
def test_any_chunks_in_any_order_give_the_same_series(tmp_path: Path, chunks: list[list[int]]) -> None:
    shutil.rmtree(tmp_path / "one", ignore_errors=True)
    catalogue = Catalogue(tmp_path / "one")
    for chunk in chunks:
        catalogue.write(KEY, bars(chunk))
    assert hours(catalogue) == sorted({hour for chunk in chunks for hour in chunk})
    assert not any(one.is_wrong and one.check is not Check.GAP for one in verify(catalogue, KEY))


def test_ranges_are_cut_at_the_bar(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    catalogue.write(KEY, bars(list(range(0, 20_000, 100))))
    read = catalogue.read(KEY, start_ns=START + 100 * HOUR, end_ns=START + 12_000 * HOUR, columns=["open_time_ns"])
    assert [(time - START) // HOUR for time in read["open_time_ns"].to_pylist()] == list(range(100, 12_000, 100))
    assert catalogue.read(KEY, start_ns=START - 5 * HOUR, end_ns=START).num_rows == 0
    assert catalogue.read(SeriesKey("bars", "mexc", "X-USDT", "1h")).num_rows == 0


@pytest.mark.parametrize(
    ("timeframe", "name"), [("1s", "2026-01-01"), ("1m", "2026-01"), ("1h", "2026"), ("1d", "2026")]
)
def test_files_hold_a_day_a_month_or_a_year(timeframe: str, name: str) -> None:
    key = SeriesKey("bars", "mexc", "BTC-USDT", timeframe)
    assert [part for part, _ in partitions(np.array([START, START + 1]), span_of(key))] == [name]
    begin, end = partition_bounds(name)
    assert begin == START < end


class _TornDisk(LocalDisk):
    """Stop at the n-th change, as a power cut does."""

    def __init__(self, changes: int) -> None:
        self.left = changes

    def _spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(5, "Input/output error")

    def write(self, path: Path, data: pa.Buffer) -> None:
        if self.left == 0:
            path.write_bytes(bytes(data)[: data.size // 2])
        self._spend()
        super().write(path, data)

    def rename(self, source: Path, target: Path) -> None:
        self._spend()
        super().rename(source, target)

    def remove(self, path: Path) -> None:
        self._spend()
        super().remove(path)

    def sync_directory(self, path: Path) -> None:
        self._spend()
        super().sync_directory(path)


@pytest.mark.parametrize("changes", range(12))
def test_a_write_that_stops_anywhere_happened_in_whole_or_not_at_all(tmp_path: Path, changes: int) -> None:
    Catalogue(tmp_path).write(KEY, bars([0, 9000]))
    failed = False
    try:
        Catalogue(tmp_path, _TornDisk(changes)).write(KEY, bars([1, 9001]), covered=[(START, START + HOUR)])
    except StoreUnavailableError:
        failed = True
    catalogue = Catalogue(tmp_path)
    assert hours(catalogue) in ([0, 9000], [0, 1, 9000, 9001])
    if not failed:
        assert hours(catalogue) == [0, 1, 9000, 9001]
    assert not any(one.check is Check.DAMAGED for one in verify(catalogue, KEY))
    catalogue.write(KEY, bars([1, 9001, 9002]))
    assert hours(catalogue) == [0, 1, 9000, 9001, 9002]
    assert not any(one.check is Check.STRAY for one in verify(catalogue, KEY))


class _ManifestFirst(MortalDisk):
    """Lose power so that the manifest's rename is on the platter and those of the files are not."""

    def _remember(self, path: Path) -> None:
        if "manifest" not in path.name:
            super()._remember(path)


@pytest.mark.parametrize("kind", [MortalDisk, _ManifestFirst])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", range(1, 14))
def test_a_power_cut_leaves_the_old_series_or_the_new_one(
    tmp_path: Path, kind: type[MortalDisk], after: bool, step: int
) -> None:
    Catalogue(tmp_path).write(KEY, bars([0, 9000]))
    with contextlib.suppress(PowerCut):
        Catalogue(tmp_path, kind(step, after=after)).write(KEY, bars([1, 9001]))
    catalogue = Catalogue(tmp_path)
    assert hours(catalogue) in ([0, 9000], [0, 1, 9000, 9001])
    assert not any(one.check is Check.DAMAGED for one in verify(catalogue, KEY))
    catalogue.write(KEY, bars([1, 9001]))
    assert hours(catalogue) == [0, 1, 9000, 9001]


def test_a_second_writer_is_turned_away_and_readers_are_not(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    catalogue.write(KEY, bars([0]))
    with locked(LocalDisk(), tmp_path, KEY):
        with pytest.raises(StoreUnavailableError, match="another process writes mexc BTC-USDT 1h"):
            catalogue.write(KEY, bars([1]))
        assert hours(catalogue) == [0]
    assert catalogue.write(KEY, bars([1])).added == 1


@pytest.mark.parametrize("harm", ["flip", "cut", "remove", "manifest"])
def test_damage_is_named(tmp_path: Path, harm: str) -> None:
    catalogue = Catalogue(tmp_path)
    catalogue.write(KEY, bars(list(range(500))))
    (file,) = tmp_path.rglob("*.parquet")
    data = bytearray(file.read_bytes())
    if harm == "flip":
        data[len(data) // 3] ^= 1
        file.write_bytes(data)
    elif harm == "cut":
        os.truncate(file, len(data) // 2)
    elif harm == "remove":
        file.unlink()
    else:
        (series_directory(tmp_path, KEY) / "manifest.json").write_bytes(b"{")
        with pytest.raises(StoreUnavailableError, match=r"manifest\.json"):
            verify(catalogue, KEY)
        return
    assert [one.check for one in verify(catalogue, KEY)] == [Check.DAMAGED]
    if harm != "flip":
        with pytest.raises(StoreUnavailableError):
            catalogue.read(KEY)


def test_trades_of_one_millisecond_stay_apart_and_in_order(tmp_path: Path) -> None:
    key = SeriesKey("trades", "binance", "XRP-ETH")
    times = np.array([START, START, START + 1], dtype=np.int64)
    values = {"price": np.array([1.0, 2.0, 3.0]), "quantity": np.array([1.0, 1.0, 1.0])}
    table = trades_table(times, ["9", "10", "11"], ["buy", None, "sell"], values, {})
    catalogue = Catalogue(tmp_path)
    assert catalogue.write(key, table).added == 3
    assert catalogue.write(key, table).same == 3
    assert catalogue.read(key)["trade_id"].to_pylist() == ["9", "10", "11"]


def test_sql_sees_every_series_with_the_recorders_columns(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    assert connect(catalogue).sql("SELECT count(*) FROM bars").fetchall() == [(0,)]
    catalogue.write(KEY, bars([0, 1]))
    catalogue.write(SeriesKey("bars", "binance", "ETH-USDT", "1h"), bars([0]))
    rows = connect(catalogue).sql("SELECT venue, instrument, timeframe, count(*), max(close) FROM bars GROUP BY ALL")
    assert sorted(rows.fetchall()) == [("binance", "ETH-USDT", "1h", 1, 1.5), ("mexc", "BTC-USDT", "1h", 2, 1.5)]


def test_candles_for_a_replay_are_exact_texts_in_the_order_asked_for(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    catalogue.write(KEY, bars([0, 1], volume="12345678901.12345678"))
    catalogue.write(SeriesKey("bars", "mexc", "ETH-USDT", "1h"), bars([1]))
    eth, btc = read_candles(catalogue, ["ETH-USDT", "BTC-USDT"], "1h")
    assert (eth.asset, list(eth.times), btc.times) == ("ETH-USDT", [START + HOUR], [START, START + HOUR])
    assert btc.columns["volume"] == ["12345678901.12345678"] * 2
    assert "quote_volume" not in btc.columns
    with pytest.raises(InputError, match="no 1h bars of BTC-USDC; it has BTC-USDT"):
        read_candles(catalogue, ["BTC-USDC"], "1h")
    with pytest.raises(InputError, match="in that range"):
        read_candles(catalogue, ["BTC-USDT"], "1h", start_ns=START + 50 * HOUR)


def test_two_venues_of_one_name_are_not_mixed(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    catalogue.write(KEY, bars([0]))
    catalogue.write(SeriesKey("bars", "binance", "BTC-USDT", "1h"), bars([0]))
    with pytest.raises(InputError, match=r"binance, mexc\. Choose one"):
        read_candles(catalogue, ["BTC-USDT"], "1h")
    assert len(read_candles(catalogue, ["BTC-USDT"], "1h", venue="mexc")) == 1


def test_the_fingerprint_changes_with_the_rows_alone(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    catalogue.write(KEY, bars([0]))
    before = fingerprint(catalogue, [KEY])
    catalogue.write(KEY, bars([0]), covered=[(START, START + HOUR)])
    assert fingerprint(catalogue, [KEY]) == before
    catalogue.write(KEY, bars([1]))
    assert fingerprint(catalogue, [KEY]) != before


@pytest.mark.parametrize("name", ["../../etc", "BTC/USDT", "a*b", "x=y", "B.C", "", "A B", 'a"b'])
def test_names_that_mean_something_in_a_path_are_refused(name: str) -> None:
    with pytest.raises(InputError):
        SeriesKey("bars", "mexc", name, "1h")


@pytest.mark.parametrize("timeframe", ["60m", "1w", "1M", "0h", "24h", ""])
def test_one_length_of_bars_has_one_name(timeframe: str) -> None:
    with pytest.raises(InputError):
        SeriesKey("bars", "mexc", "BTC-USDT", timeframe)


ranges = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=8)


@settings(deadline=None)
@given(ranges, st.tuples(st.integers(0, 60), st.integers(0, 60)))
def test_ranges_are_sets_of_integers(have: list[tuple[int, int]], wanted: tuple[int, int]) -> None:
    def points(spans: list[tuple[int, int]]) -> set[int]:
        return {point for begin, end in spans for point in range(begin, end)}

    assert points(union(have)) == points(have)
    assert points(subtract(wanted, have)) == points([wanted]) - points(have)
