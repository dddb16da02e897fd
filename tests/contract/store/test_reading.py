"""Reading with SQL: empty, while the recorder writes, damaged, of an earlier build, with hostile texts."""

import threading
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from shared.errors import InputError, StoreUnavailableError
from shared.messages import Bar, encode
from shared.store import queries
from shared.store.duck import StoreReader, open_store
from shared.store.files import day_directory
from shared.store.parquet import ParquetStore
from shared.store.port import Batch, Row
from shared.store.tables import TABLES, day_of, event_time_ns, table_of
from shared.testing import samples

HOSTILE = "X'; DROP VIEW bars; --"


def record(store: ParquetStore, *rows: Row) -> None:
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        table = table_of(row.message)
        day = day_of(event_time_ns(table, row.message, row.recorded_at_ns))
        groups.setdefault((table.name, day), []).append(row)
    for (name, day), found in groups.items():
        store.append(Batch(name, day, found))


def durable(message, sequence: int, *, recorded_at_ns: int = 1, message_hash: int = 1) -> Row:
    return Row(message, "s", recorded_at_ns, "STREAM", sequence, message_hash)


@pytest.fixture
def store(workshop):
    store = workshop.store()
    store.open()
    yield store
    store.close()


@pytest.fixture
def reader(workshop):
    with open_store(workshop.root) as reader:
        yield reader


def test_a_store_that_does_not_exist_yet_has_every_table_empty(tmp_path: Path) -> None:
    with open_store(tmp_path / "nowhere") as reader:
        for table in TABLES:
            result = reader.query(f"SELECT * FROM {table.name}")
            assert result.rows == []
            assert result.columns == ("time", "date", *(column.name for column in table.columns))
        assert all(info.rows == 0 and info.first_ns is None for info in reader.tables())
        assert queries.equity_curve(reader) == ()
        assert queries.last_fills(reader) == queries.last_decisions(reader) == ()


def test_empty_and_filled_views_have_the_same_columns_and_types(store, reader, workshop) -> None:
    before = {table.name: reader.query(f"DESCRIBE {table.name}").rows for table in TABLES}
    record(store, *(durable(message, number) for number, message in enumerate(samples.week(1), start=1)))
    record(store, durable(samples.bar(1, "TAO-USDT", 400.0), 1))
    for name in ("accounts", "bars", "order_events", "decisions", "bars_closed", "risk_states"):
        assert reader.query(f"SELECT count(*) > 0 FROM {name}").rows == [(True,)]
        assert reader.query(f"DESCRIBE {name}").rows == before[name]


def test_a_redelivered_message_is_there_once_and_another_under_the_same_number_too(store, reader) -> None:
    first, second = samples.decision(1, "none", "before"), samples.decision(2, "none", "after the stream was made anew")
    record(store, durable(first, 1), durable(first, 1, recorded_at_ns=2))
    record(store, durable(first, 1, recorded_at_ns=3), durable(second, 1, recorded_at_ns=4, message_hash=2))
    assert list(reader.read_messages("decisions")) == [first, second]
    assert reader.query("SELECT count(*) FROM decisions").rows == [(2,)]
    assert reader.query("SELECT count(*) FROM raw.decisions").rows == [(4,)]
    assert len(queries.last_decisions(reader)) == 2


def test_rows_without_a_stream_are_never_taken_for_redeliveries(store, reader) -> None:
    beat = samples.heartbeat("risk", 5)
    audit = Row(samples.decision(1, "none"), "s", 1)
    record(store, Row(beat, "hb", 1), Row(beat, "hb", 1), audit, audit)
    assert len(list(reader.read_messages("heartbeats"))) == 2
    assert len(list(reader.read_messages("decisions"))) == 2


def test_hostile_names_are_values_like_any_other(store, reader) -> None:
    record(store, durable(samples.bar(1, HOSTILE, 1.0), 1), durable(samples.bar(1, "TAO-USDT", 2.0), 2))
    assert [bar.instrument for bar in queries.bars(reader, HOSTILE, timeframe="4h")] == [HOSTILE]
    assert queries.bars(reader, "' OR 1=1 --", timeframe="4h") == ()
    assert reader.query("SELECT close FROM bars WHERE instrument = ?", [HOSTILE]).rows == [(1.0,)]
    assert reader.query("SELECT count(*) FROM bars").rows == [(2,)]


@pytest.mark.parametrize("name", ["it's", 'quo"te', "semi;colon", "spa ce", "ünï", "--", "a$b"])
def test_a_store_may_lie_under_a_strange_path(tmp_path: Path, name: str) -> None:
    store = ParquetStore(tmp_path / name, lambda: 0)
    store.open()
    record(store, durable(samples.decision(1, "none"), 1))
    store.close()
    with open_store(tmp_path / name) as reader:
        assert len(list(reader.read_messages("decisions"))) == 1


@pytest.mark.parametrize("name", ["a*", "[a]", "a?", "{a}"])
def test_a_path_that_would_be_a_pattern_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="must not contain"):
        open_store(tmp_path / name)


@pytest.mark.parametrize(
    "sql",
    [
        "DROP VIEW bars",
        "SELECT 1; DROP VIEW bars",
        "COPY bars TO '/tmp/stolen.csv'",
        "ATTACH 'x.db'",
        "INSTALL httpfs",
        "SET memory_limit = '1TB'",
        "CREATE TABLE x (a INTEGER)",
        "INSERT INTO bars VALUES (1)",
        "PRAGMA database_list",
        "",
        "not sql at all",
        "SELECT * FROM no_such_table",
        "SELECT no_such_column FROM bars",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_parquet('/tmp/*.parquet')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT 1 / 'x'",
    ],
)
def test_anything_but_one_select_over_the_store_is_refused(store, reader, sql: str) -> None:
    record(store, durable(samples.bar(1, "TAO-USDT", 2.0), 1))
    with pytest.raises(InputError, match="SQL"):
        reader.query(sql)
    assert reader.query("SELECT count(*) FROM bars").rows == [(1,)]


def test_a_query_cannot_write_into_the_store_itself(store, reader, workshop) -> None:
    record(store, durable(samples.bar(1, "TAO-USDT", 2.0), 1))
    before = sorted(workshop.root.rglob("*"))
    for sql in (f"COPY bars TO '{workshop.root}/bars/x.parquet'", f"EXPORT DATABASE '{workshop.root}'"):
        with pytest.raises(InputError):
            reader.query(sql)
    assert sorted(workshop.root.rglob("*")) == before


def test_new_rows_show_in_the_next_query_and_never_twice_while_files_are_merged_away(workshop, store) -> None:
    done = threading.Event()
    wrong: list[str] = []

    def read() -> None:
        newest = 0
        with open_store(workshop.root) as reader:
            while not done.is_set():
                found = workshop.numbers(reader.read_messages("heartbeats"))
                if found != list(range(len(found))) or len(found) < newest:
                    wrong.append(f"saw {found}")
                newest = len(found)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(60):
        store.append(workshop.batch(range(number, number + 1)))
        store.tidy()
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_two_streams_of_answers_do_not_end_each_other(store, reader) -> None:
    record(store, *(durable(samples.decision(number, "none"), number) for number in range(1, 4)))
    seen = []
    for message in reader.read_messages("decisions"):
        seen.append(message)
        assert len(list(reader.read_messages("decisions"))) == 3
        assert reader.query("SELECT count(*) FROM decisions").rows == [(3,)]
    assert len(seen) == 3


def test_a_damaged_file_is_left_out_and_named_and_the_others_are_read(store, reader, workshop) -> None:
    for step in (1, 2, 3):
        record(store, durable(samples.decision(step, "none"), step))
    (first, second, _) = sorted(day_directory(workshop.root, "decisions", "2026-01-01").iterdir())
    raw = bytearray(second.read_bytes())
    column = pq.read_metadata(second).row_group(0).column(0)
    raw[column.data_page_offset + 4 : column.data_page_offset + 60] = b"\xff" * 56
    second.write_bytes(raw)
    first.write_bytes(b"PAR1 nothing else")
    assert [message.decided_at_ns for message in read_again(reader)] == [samples.START_NS + 3 * samples.STEP_NS]
    assert {line.split(":")[0].rsplit("/", 1)[-1] for line in reader.damaged} == {first.name, second.name}


def read_again(reader: StoreReader) -> list:
    for _ in range(3):
        try:
            return list(reader.read_messages("decisions"))
        except StoreUnavailableError:
            continue
    raise AssertionError("never readable")


def test_files_of_an_earlier_build_are_read_with_what_they_lack_empty(store, reader, workshop) -> None:
    record(store, durable(samples.decision(1, "none"), 1), durable(samples.decision(2, "none"), 2))
    (path,) = day_directory(workshop.root, "decisions", "2026-01-01").iterdir()
    old = pq.ParquetFile(path).read().drop_columns(["correlation_id"]).rename_columns({"venue": "exchange"})
    path.unlink()
    pq.write_table(old, path.with_name("part-000000000001-000000000001.0123abcd.parquet"))
    record(store, durable(samples.decision(3, "none"), 3))
    rows = reader.query("SELECT venue, correlation_id, action FROM decisions ORDER BY stream_sequence").rows
    assert rows == [(None, None, "none"), (None, None, "none"), ("sandbox", "plan-3", "none")]


def test_a_days_boundary_puts_each_row_into_its_own_day(store, reader) -> None:
    midnight = 1_767_225_600_000_000_000
    for number, offset in enumerate((-1, 0, 1), start=1):
        record(store, durable(samples.account(0, ledger_sequence=number).__class__(
            **{**fields_of(samples.account(0, ledger_sequence=number)), "as_of_ns": midnight + offset}
        ), number))  # fmt: skip
    rows = reader.query("SELECT CAST(date AS VARCHAR), count(*) FROM accounts GROUP BY ALL ORDER BY ALL").rows
    assert rows == [("2025-12-31", 1), ("2026-01-01", 2)]


def fields_of(message) -> dict[str, object]:
    return {name: getattr(message, name) for name in message.__struct_fields__}


def test_nested_columns_read_pleasantly(store, reader) -> None:
    record(store, durable(samples.account(3), 1))
    sql = "SELECT b.asset, CAST(b.free AS DECIMAL(20, 2)) FROM (SELECT unnest(balances) AS b FROM accounts)"
    assert reader.query(sql).rows == [("USDT", Decimal("2650.25"))]


def test_the_read_models_answer_from_a_week_of_samples(store, reader) -> None:
    record(store, *(durable(message, number) for number, message in enumerate(samples.week(1), start=1)))
    record(store, *(durable(samples.bar(step, "TAO-USDT", 400.0 + step), step) for step in range(1, 43)))
    curve = queries.equity_curve(reader)
    assert [point.equity_usdt for point in curve] == [samples.account(step).equity_usdt for step in range(42)]
    thin = queries.equity_curve(reader, points_max=5)
    assert len(thin) <= 5
    assert thin[-1] == curve[-1]
    assert [point.as_of_ns for point in queries.equity_curve(reader, since_ns=curve[40].as_of_ns)] == [
        point.as_of_ns for point in curve[40:]
    ]
    assert queries.equity_curve(reader, venue="elsewhere") == ()
    assert [record.action for record in queries.last_decisions(reader, 2)] == ["none", "upside"]
    assert [record.action for record in queries.last_decisions(reader, with_idle=False)] == ["upside", "allocate"]
    fills = queries.last_fills(reader)
    assert [fill.fill_id for fill in fills] == ["fill-3", "fill-2", "fill-1"]
    assert fills[0].price == Decimal("0.5012")
    assert [fill.fill_id for fill in queries.last_fills(reader, instrument="H-USDT")] == ["fill-1"]
    bars = queries.bars(reader, "TAO-USDT", timeframe="4h", n=2)
    assert [bar.close for bar in bars] == [441.0, 442.0]
    assert all(isinstance(bar, Bar) for bar in bars)
    assert len(queries.orders(reader)) == len(queries.last_order_events(reader)) == 4
    account = queries.last_account(reader, venue="sandbox")
    assert account is not None
    assert encode(account) == encode(samples.account(41))
    assert queries.last_account(reader, venue="elsewhere") is None


def test_the_last_snapshot_of_a_time_is_the_one_on_the_curve(store, reader) -> None:
    early, late = samples.account(1, ledger_sequence=9), samples.account(1, ledger_sequence=10)
    changed = late.__class__(**{**fields_of(late), "equity_usdt": Decimal("1.000000000000000000000000001")})
    unpriced = late.__class__(**{**fields_of(samples.account(2)), "equity_usdt": None})
    record(store, durable(changed, 2), durable(early, 1), durable(unpriced, 3))
    (point,) = queries.equity_curve(reader)
    assert point.equity_usdt == Decimal("1.000000000000000000000000001")


def test_a_fill_that_is_reported_twice_is_one_fill(store, reader) -> None:
    event = samples.order_event(1, samples.OrderState.FILLED)
    record(store, durable(event, 1), durable(event, 900, recorded_at_ns=7))
    assert len(queries.last_fills(reader)) == 1
    assert len(queries.last_order_events(reader)) == 2


@pytest.mark.parametrize("n", [0, -1, 10**9])
def test_a_limit_out_of_bounds_is_refused(reader, n: int) -> None:
    with pytest.raises(InputError, match="limit"):
        queries.last_decisions(reader, n)


def test_an_unknown_table_is_refused_with_the_names_there_are(reader) -> None:
    with pytest.raises(InputError, match="order_events"):
        list(reader.read_messages("bars; DROP"))
