"""What the bus carries comes back from the store equal: every message type, through Parquet and DuckDB."""

import math
import tempfile
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.messages import AnyMessage, Message, Signal
from shared.messages.codec import encode
from shared.store.duck import open_store
from shared.store.parquet import ParquetStore
from shared.store.port import Batch, Row
from shared.store.tables import TABLES, Table, day_of, event_time_ns
from shared.testing.messages import messages
from shared.testing.samples import decision

NOW_NS = 1_780_000_000_000_000_000


def record(root: Path, table: Table, found: list[Message], *, stream: str | None) -> None:
    days: dict[str, list[Row]] = defaultdict(list)
    for number, message in enumerate(found, start=1):
        durable = stream is not None
        row = Row(message, "s.u.b", NOW_NS + number, stream, number if durable else None, 7 if durable else None)
        days[day_of(event_time_ns(table, message, NOW_NS))].append(row)
    store = ParquetStore(root, lambda: NOW_NS)
    store.open()
    for day, rows in days.items():
        assert store.append(Batch(table.name, day, rows)).rows == len(rows)
    store.close()


def read(root: Path, table: Table) -> list[AnyMessage]:
    with open_store(root) as reader:
        return list(reader.read_messages(table.name))


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_message_comes_back_equal(table: Table, data: st.DataObject) -> None:
    found = data.draw(st.lists(messages(table.message), min_size=1, max_size=8))
    with tempfile.TemporaryDirectory(prefix="it's a store ") as directory:
        root = Path(directory)
        record(root, table, found, stream="S" if table.durable else None)
        back = read(root, table)
    if table.durable:
        assert [encode(message) for message in back] == [encode(message) for message in found]
    else:
        # Without a stream the order holds within a day, and days follow each other.
        assert sorted(map(encode, back)) == sorted(map(encode, found))


def test_a_map_keeps_its_order_and_its_numbers_that_are_none() -> None:
    signal = Signal(
        strategy="s",
        venue="v",
        instrument="BTC-USDT",
        direction="long",
        strength=1e308,
        confidence=math.nan,
        features={"z": math.inf, "a": math.nan, "": -0.0},
        reason="",
        ts_event_ns=1,
    )
    with tempfile.TemporaryDirectory() as directory:
        table = next(table for table in TABLES if table.message is Signal)
        record(Path(directory), table, [signal], stream=None)
        (back,) = read(Path(directory), table)
    assert isinstance(back, Signal)
    assert encode(back) == encode(signal)
    assert list(back.features) == ["z", "a", ""]


def test_a_text_of_megabytes_comes_back(tmp_path: Path) -> None:
    huge = decision(1, "none", "note " * 1_000_000, "'" * 100_000)
    table = next(table for table in TABLES if table.name == "decisions")
    record(tmp_path, table, [huge], stream="DECISIONS")
    assert read(tmp_path, table) == [huge]


def test_a_number_beyond_64_bits_is_rejected_by_name_and_the_others_are_kept(tmp_path: Path) -> None:
    table = next(table for table in TABLES if table.name == "heartbeats")
    fine, odd = (table.message("risk", "0", "b", "h", pid, True, "", 1, 1) for pid in (1, 2**64 - 1))
    store = ParquetStore(tmp_path, lambda: NOW_NS)
    store.open()
    appended = store.append(Batch(table.name, "1970-01-01", [Row(fine, "s", 1), Row(odd, "s", 1)]))
    store.close()
    assert appended.rows == 1
    assert [item.row.message for item in appended.rejected] == [odd]
    assert "pid" in appended.rejected[0].reason
    assert read(tmp_path, table) == [fine]
