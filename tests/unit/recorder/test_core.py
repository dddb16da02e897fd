"""What waits for the disk."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.recorder.core import Buffer, Entry, Gaps, Limits, Room, unusable
from shared.messages import Heartbeat, InstrumentDefinition
from shared.messages.instrument import Instrument
from shared.store.port import Row
from shared.store.tables import table_of
from shared.testing import samples

SECOND_NS = 1_000_000_000
LIMITS = Limits(interval_ns=2 * SECOND_NS, rows_max=10, pending_max=20, bytes_max=1_000)


def add(buffer: Buffer[str], number: int, *, size: int = 1, durable: bool = True, now_ns: int = 0) -> Room:
    message = samples.heartbeat(f"service-{number}", number) if not durable else samples.account(number)
    entry = Entry(Row(message, "s", 1), size, "ticket" if durable else None)
    return buffer.add(table_of(message), entry, now_ns)


def test_nothing_is_due_while_nothing_waits() -> None:
    buffer: Buffer[str] = Buffer(LIMITS)
    assert buffer.due_in_ns(5) is None
    assert buffer.age_ns(5) == 0


def test_rows_are_due_an_interval_after_the_first_of_them_came() -> None:
    buffer: Buffer[str] = Buffer(LIMITS)
    add(buffer, 1, now_ns=100)
    add(buffer, 2, now_ns=SECOND_NS)
    assert buffer.due_in_ns(100) == 2 * SECOND_NS
    assert buffer.due_in_ns(100 + 3 * SECOND_NS) == 0
    assert buffer.age_ns(SECOND_NS + 100) == SECOND_NS


def test_a_slow_disk_is_asked_earlier_so_that_the_interval_holds() -> None:
    buffer: Buffer[str] = Buffer(LIMITS)
    buffer.wrote_in(SECOND_NS // 4)
    add(buffer, 1)
    assert buffer.due_in_ns(0) == 2 * SECOND_NS - SECOND_NS // 2
    buffer.wrote_in(100 * SECOND_NS)
    assert buffer.due_in_ns(0) == SECOND_NS


def test_many_rows_or_many_bytes_are_due_at_once() -> None:
    by_rows: Buffer[str] = Buffer(LIMITS)
    for number in range(9):
        add(by_rows, number)
    assert by_rows.due_in_ns(0)
    add(by_rows, 9)
    assert by_rows.due_in_ns(0) == 0
    by_bytes: Buffer[str] = Buffer(LIMITS)
    add(by_bytes, 1, size=500)
    assert by_bytes.due_in_ns(0) == 0


def test_lossy_rows_are_bounded_and_leave_durable_ones_their_room() -> None:
    buffer: Buffer[str] = Buffer(LIMITS)
    assert [add(buffer, n, durable=False) for n in range(21)] == [Room.TAKEN] * 20 + [Room.FULL]
    assert add(buffer, 1, durable=True) is Room.TAKEN
    assert buffer.rows == 21


def test_one_row_always_fits_however_large_and_the_next_waits() -> None:
    buffer: Buffer[str] = Buffer(LIMITS)
    assert add(buffer, 1, size=10**9) is Room.TAKEN
    assert add(buffer, 2) is Room.FULL
    (batch,), _ = buffer.take()
    assert add(buffer, 2) is Room.FULL
    buffer.settle(batch)
    assert add(buffer, 2) is Room.TAKEN


def test_a_batch_holds_one_table_and_one_day() -> None:
    buffer: Buffer[str] = Buffer(LIMITS)
    for step in range(8):
        add(buffer, step)
    add(buffer, 5, durable=False)
    batches, _ = buffer.take()
    assert [(batch.table, batch.day, len(batch.entries)) for batch in batches] == [
        ("accounts", "2026-01-01", 6),
        ("accounts", "2026-01-02", 2),
        ("heartbeats", "1970-01-01", 1),
    ]


operations = st.lists(st.sampled_from(["durable", "lossy", "write", "refuse", "refuse half"]), max_size=60)


@given(operations)
def test_whatever_the_disk_does_each_row_is_written_once_in_order_within_the_bounds(steps: list[str]) -> None:
    limits = Limits(interval_ns=1, rows_max=3, pending_max=6, bytes_max=8)
    buffer: Buffer[str] = Buffer(limits)
    taken: dict[str, list[int]] = {"accounts": [], "heartbeats": []}
    written: dict[str, list[int]] = {"accounts": [], "heartbeats": []}
    for number, step in enumerate([*steps, "write"]):
        if step in ("durable", "lossy"):
            if add(buffer, number % 5, durable=step == "durable") is Room.TAKEN:
                taken["accounts" if step == "durable" else "heartbeats"].append(number % 5)
        else:
            batches, oldest_ns = buffer.take()
            keep = {"write": len(batches), "refuse": 0, "refuse half": len(batches) // 2}[step]
            for batch in batches[:keep]:
                buffer.settle(batch)
                written[batch.table] += [_number(entry.row.message) for entry in batch.entries]
            buffer.put_back(batches[keep:], oldest_ns)
        assert buffer.rows == sum(map(len, taken.values())) - sum(map(len, written.values())) == buffer.waiting
        assert buffer.bytes <= 2 * limits.bytes_max
    assert written == taken
    assert (buffer.rows, buffer.bytes, buffer.due_in_ns(0)) == (0, 0, None)


def _number(message: object) -> int:
    if isinstance(message, Heartbeat):
        return message.sent_at_ns
    return (message.as_of_ns - samples.START_NS) // samples.STEP_NS


def test_put_back_rows_keep_their_age() -> None:
    buffer: Buffer[str] = Buffer(LIMITS)
    add(buffer, 1, now_ns=10)
    batches, oldest_ns = buffer.take()
    add(buffer, 2, now_ns=SECOND_NS)
    buffer.put_back(batches, oldest_ns)
    assert buffer.age_ns(SECOND_NS + 10) == SECOND_NS


@pytest.mark.parametrize(
    ("seen", "missing"),
    [
        ([1, 2, 3], 0),
        ([5], 0),
        ([1, 4], 2),
        ([1, 2, 2, 3], 0),
        ([100, 1, 2], 0),
        ([7, 1, 3], 1),
    ],
)
def test_gaps_are_what_lies_between_rising_numbers(seen: list[int], missing: int) -> None:
    gaps = Gaps()
    assert sum(gaps.missing_before("s", number) for number in seen) == missing


def test_gaps_go_on_from_what_an_earlier_run_recorded() -> None:
    gaps = Gaps({"s": 10})
    assert gaps.missing_before("s", 15) == 4
    assert gaps.missing_before("t", 15) == 0


@pytest.mark.parametrize(
    ("close_time_ns", "fits"),
    [
        (samples.START_NS, True),
        (samples.START_NS // 1_000, False),
        (samples.START_NS // 1_000_000, False),
        (0, False),
        (-1, False),
        (samples.START_NS * 1_000, False),
        (4_102_444_800_000_000_000, False),
    ],
)
def test_a_price_of_another_unit_of_time_is_unusable(close_time_ns: int, fits: bool) -> None:
    bar = samples.bar(0, "TAO-USDT", 1.0)
    fields = {name: getattr(bar, name) for name in bar.__struct_fields__} | {"close_time_ns": close_time_ns}
    reason = unusable(table_of(bar), type(bar)(**fields))
    assert (reason is None) == fits
    assert reason is None or str(close_time_ns) in reason


def test_what_is_stamped_before_the_first_market_time_is_kept() -> None:
    grid = Instrument("TAO-USDT", "TAO", "USDT", *map(Decimal, ("0.01", "0.01", "0", "5")))
    for message in (InstrumentDefinition("sandbox", grid, 0), samples.heartbeat("risk", 0)):
        assert unusable(table_of(message), message) is None
