"""Merging, retention and quarantine."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import StoreUnavailableError
from shared.store.compaction import run_to_merge
from shared.store.duck import open_store
from shared.store.files import Part, live, parts_in, superseded
from shared.store.port import Batch, Row
from shared.store.tables import NANOSECONDS_PER_DAY, TableClass, day_of
from shared.testing.samples import heartbeat


def tidy(store) -> list[str]:
    quarantined: list[str] = []
    store.tidy()
    while True:
        done = store.tidy()
        quarantined += done.quarantined
        if not done.more:
            return quarantined


def seen(workshop) -> list[int]:
    with open_store(workshop.root) as reader:
        return workshop.numbers(reader.read_messages("heartbeats"))


def filled(workshop, batches: int, **options: object):
    store = workshop.store(**options)
    store.open()
    for number in range(batches):
        store.append(workshop.batch(range(number, number + 1)))
    return store


def test_many_writes_leave_few_files_and_every_row_in_order(workshop) -> None:
    store = filled(workshop, 0)
    for number in range(100):
        store.append(workshop.batch(range(number, number + 1)))
        tidy(store)
    assert seen(workshop) == list(range(100))
    assert len(workshop.files()) < 12
    store.close()


def test_a_quiet_day_ends_up_in_one_file(workshop) -> None:
    store = filled(workshop, 2, merge_files_min=100, quiet_after_s=0.0)
    tidy(store)
    tidy(store)
    store.close()
    assert len(workshop.files()) == 1
    assert seen(workshop) == [0, 1]


def test_merged_files_stay_while_a_reader_may_still_read_them(workshop) -> None:
    store = filled(workshop, 3, reader_grace_s=1e10)
    tidy(store)
    tidy(store)
    assert len(workshop.files()) == 4
    assert seen(workshop) == [0, 1, 2]
    store.close()


def test_a_truncated_file_is_put_aside_at_the_start_and_the_others_are_read(workshop) -> None:
    filled(workshop, 3, merge_files_min=100).close()
    damaged = workshop.root / "heartbeats" / "date=1970-01-01" / workshop.files()[1]
    damaged.write_bytes(damaged.read_bytes()[:-100])
    store = workshop.store()
    report = store.open()
    assert report.quarantined == (str(damaged.relative_to(workshop.root)),)
    assert (workshop.root / ".quarantine" / report.quarantined[0]).exists()
    store.append(workshop.batch(range(9, 10)))
    store.close()
    assert seen(workshop) == [0, 2, 9]


@pytest.mark.parametrize("size", [0, 3, 11, 12])
def test_a_stump_of_a_file_is_put_aside(workshop, size: int) -> None:
    filled(workshop, 1).close()
    path = workshop.root / "heartbeats" / "date=1970-01-01" / workshop.files()[0]
    path.write_bytes(b"PAR1\xff\xff\xff\x7fPAR1"[:size])
    store = workshop.store()
    assert len(store.open().quarantined) == 1
    store.close()
    assert seen(workshop) == []


def test_a_flipped_bit_is_found_when_the_file_is_merged_and_the_rest_is_kept(workshop) -> None:
    store = filled(workshop, 5)
    path = workshop.root / "heartbeats" / "date=1970-01-01" / workshop.files()[2]
    flip_data(path)
    quarantined = tidy(store)
    assert [name.rsplit("/", 1)[-1] for name in quarantined] == [path.name]
    tidy(store)
    store.close()
    assert seen(workshop) == [0, 1, 3, 4]


def test_a_damaged_merge_gives_the_files_it_was_made_of_back(workshop) -> None:
    store = filled(workshop, 3, reader_grace_s=1e10)
    tidy(store)
    (merged,) = [name for name in workshop.files() if "000001-000000000003" in name]
    flip_data(workshop.root / "heartbeats" / "date=1970-01-01" / merged)
    store.close()
    later = workshop.store(merge_files_min=100)
    later.open()
    assert len(tidy(later)) == 1
    later.close()
    assert seen(workshop) == [0, 1, 2]


def flip_data(path) -> None:
    column = pq.read_metadata(path).row_group(0).column(0)
    raw = bytearray(path.read_bytes())
    middle = column.dictionary_page_offset or column.data_page_offset
    raw[middle + column.total_compressed_size // 2] ^= 0x10
    path.write_bytes(raw)


def test_days_past_retention_go_counted_from_the_newest_row_not_from_todays_date(workshop) -> None:
    store = workshop.store(retention_days={TableClass.SYSTEM: 2})
    store.open()
    for day in range(5):
        time_ns = day * NANOSECONDS_PER_DAY
        store.append(Batch("heartbeats", day_of(time_ns), [Row(heartbeat("risk", time_ns), "hb", 1)]))
    tidy(store)
    store.close()
    assert sorted(path.name for path in (workshop.root / "heartbeats").iterdir()) == [
        "date=1970-01-03",
        "date=1970-01-04",
        "date=1970-01-05",
    ]


def test_a_row_from_the_future_does_not_push_the_present_out(workshop) -> None:
    store = workshop.store(retention_days={TableClass.SYSTEM: 2})
    store.open()
    for time_ns in (workshop.now_ns, workshop.now_ns + 10_000 * NANOSECONDS_PER_DAY):
        store.append(Batch("heartbeats", day_of(time_ns), [Row(heartbeat("risk", time_ns), "hb", 1)]))
    tidy(store)
    store.close()
    assert len(list((workshop.root / "heartbeats").iterdir())) == 2


def test_a_store_that_cannot_be_listed_is_unavailable_not_fatal(workshop) -> None:
    store = workshop.store()
    store.open()
    (workshop.root / "heartbeats").write_text("a file where a directory should be")
    with pytest.raises(StoreUnavailableError):
        store.append(workshop.batch(range(1)))
    store.close()


sizes = st.lists(st.integers(1, 5_000), max_size=40)


@given(sizes, st.integers(2, 6), st.integers(1_000, 20_000))
def test_a_run_to_merge_is_neighbours_within_the_bounds(found: list[int], files_min: int, bytes_max: int) -> None:
    parts = [part(number, size) for number, size in enumerate(found, start=1)]
    run = run_to_merge(parts, files_min=files_min, bytes_max=bytes_max)
    if run:
        start = parts.index(run[0])
        assert run == parts[start : start + len(run)]
        assert len(run) >= files_min
        assert sum(one.bytes for one in run) <= bytes_max


def test_a_run_never_mixes_files_of_different_columns() -> None:
    parts = [part(1, 10), part(2, 10), part(3, 10, "bbbbbbbb"), part(4, 10, "bbbbbbbb")]
    assert run_to_merge(parts, files_min=2, bytes_max=1_000) == parts[2:]
    assert run_to_merge(parts, files_min=3, bytes_max=1_000) == []


def test_rows_are_rewritten_a_logarithm_of_times() -> None:
    parts: list[Part] = []
    written = 0
    for number in range(1, 4_001):
        parts.append(part(number, 100))
        while run := run_to_merge(parts, files_min=16, bytes_max=10**9):
            written += sum(one.bytes for one in run)
            start = parts.index(run[0])
            merged = Part(run[0].first, run[-1].last, "aaaaaaaa", run[0].path, sum(one.bytes for one in run), 0)
            parts[start : start + len(run)] = [merged]
    assert written < 400_000 * 10
    assert len(parts) < 64


def test_a_file_that_is_large_enough_is_never_rewritten() -> None:
    parts = [part(1, 100), part(2, 100), part(3, 260), part(4, 100), part(5, 100), part(6, 251)]
    assert run_to_merge(parts, files_min=2, bytes_max=1_000) == parts[3:5]
    assert run_to_merge(parts, files_min=3, bytes_max=1_000) == []
    assert run_to_merge([part(1, 260), part(2, 260)], files_min=2, bytes_max=1_000) == []


def test_a_merged_file_hides_what_went_into_it(workshop) -> None:
    filled(workshop, 4, reader_grace_s=1e10, merge_files_min=4).close()
    store = workshop.store(reader_grace_s=1e10, merge_files_min=4)
    store.open()
    tidy(store)
    store.close()
    parts = parts_in(workshop.root / "heartbeats" / "date=1970-01-01")
    assert [(one.first, one.last) for one in live(parts)] == [(1, 4)]
    assert [(old.first, into.last) for old, into in superseded(parts)] == [(1, 4), (2, 4), (3, 4), (4, 4)]


def part(number: int, size: int, columns: str = "aaaaaaaa") -> Part:
    return Part(number, number, columns, workshop_path, size, 0)


workshop_path = Path("part")
