"""The real server: schema, types, deduplication, injection, health."""

import asyncio
import itertools
import stat
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import asyncpg
import msgspec
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from shared.errors import ConfigError, InputError, StoreUnavailableError
from shared.messages import Message
from shared.messages.codec import encode
from shared.store.port import Row
from shared.store.questdb.frame import encoded, frame_of
from shared.store.questdb.reader import QuestdbReader
from shared.store.questdb.schema import columns_ddl
from shared.store.questdb.server import HTTP_PASSWORD, PG_PASSWORD, password_file
from shared.store.questdb.sink import QuestdbSink
from shared.store.questdb.writer import QuestdbWriter
from shared.store.tables import TABLE_BY_NAME, TABLES
from shared.testing.messages import messages
from shared.testing.questdb import RealQuestdb
from shared.testing.ticks import START_NS, rows_of, trades
from tests.integration.questdb.conftest import until

TRADES = TABLE_BY_NAME["trades"]
NUMBERS = itertools.count()


def dead_letters(writer: QuestdbWriter) -> str:
    return Path(writer.status.dead_letters).read_text(encoding="utf-8")


async def visible(reader: QuestdbReader, table: str, at_least: int, **filters: str) -> tuple[Message, ...]:
    found: tuple[Message, ...] = ()
    for _ in range(500):
        found = await reader.messages(table, limit=100_000, **filters)  # type: ignore[arg-type]
        if len(found) >= at_least:
            break
        await asyncio.sleep(0.02)
    return found


def test_every_table_is_there_with_its_types_and_deduplicates(sink: QuestdbSink) -> None:
    for table in TABLES:
        present = sink._query(f"SELECT \"column\", type FROM table_columns('{table.name}')")
        assert {str(name): str(kind) for name, kind in present} == columns_ddl(table)
    kept = sink._query("SELECT table_name FROM tables() WHERE walEnabled AND dedup")
    assert {table.name for table in TABLES} <= {str(name) for (name,) in kept}


def test_preparing_again_changes_nothing_and_a_new_column_is_added(sink: QuestdbSink) -> None:
    def present() -> set[str]:
        return {str(name) for (name,) in sink._query("SELECT \"column\" FROM table_columns('signals')")}

    wanted = set(columns_ddl(TABLE_BY_NAME["signals"]))
    sink._execute('ALTER TABLE "signals" DROP COLUMN "reason"')
    # The server changes a table when its log says so, a little later.
    until(lambda: present() == wanted - {"reason"})
    sink.prepare()
    until(lambda: present() == wanted)
    sink.prepare()
    assert present() == wanted


def test_a_table_of_somebody_else_is_refused_with_the_fix(sink: QuestdbSink) -> None:
    sink._execute('DROP TABLE "risk_halts"')
    sink._execute('CREATE TABLE "risk_halts" (ts TIMESTAMP) TIMESTAMP(ts) PARTITION BY DAY WAL')
    with pytest.raises(ConfigError, match=r"risk_halts has ts as TIMESTAMP.*RENAME TABLE"):
        sink.prepare()
    sink._execute('DROP TABLE "risk_halts"')
    sink.prepare()


DRAWN = st.fixed_dictionaries(
    {table.name: st.lists(messages(table.message), min_size=1, max_size=4) for table in TABLES}
)


# The strategies hold long texts, and hypothesis warns of that when it reports a failure.
@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
@pytest.mark.timeout(150)
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(drawn=DRAWN)
def test_every_message_comes_back_equal_or_is_refused_by_name(
    drawn: dict[str, list[Message]], questdb_server: RealQuestdb, sink: QuestdbSink
) -> None:
    sent: dict[str, list[Message]] = {}
    # An hour before everything that other tests leave on the shared server.
    start = START_NS - 3_600_000_000_000 + next(NUMBERS) * 1_000_000
    for table in TABLES:
        rows = [
            Row(_named(table.name, one, start + at), "s.u.b", start + at, "S", at, 7)
            for at, one in enumerate(drawn[table.name])
        ]
        frame, rejected = frame_of(table, rows)
        assert frame.num_rows + len(rejected) == len(rows)
        if frame.num_rows:
            sink.send([frame])
            refused = {id(item.row) for item in rejected}
            sent[table.name] = [row.message for row in rows if id(row) not in refused]

    async def compare() -> None:
        async with questdb_server.reader() as reader:
            for name, expected in sent.items():
                back = await _until_there(reader, name, expected, start)
                assert sorted(map(encode, back)) == sorted(map(encode, expected)), name

    asyncio.run(compare())


async def _until_there(reader: QuestdbReader, name: str, expected: list[Message], start: int) -> tuple[Message, ...]:
    found: tuple[Message, ...] = ()
    for _ in range(1_500):
        found = await reader.messages(name, since_ns=start, until_ns=start + 10)
        if sorted(map(encode, found)) == sorted(map(encode, expected)):
            break
        await asyncio.sleep(0.02)
    return found


def _named(table: str, message: Message, time_ns: int) -> Message:
    changes: dict[str, object] = {}
    for name in ("venue", "instrument", "strategy"):
        if isinstance(getattr(message, name, None), str):
            changes[name] = "A-USDT"
    column = TABLE_BY_NAME[table].event_time
    if column in message.__struct_fields__:
        changes[column] = time_ns
    return msgspec.structs.replace(message, **changes)


async def test_the_same_rows_again_leave_the_same_rows(sink: QuestdbSink, reader: QuestdbReader) -> None:
    frame, _ = frame_of(TRADES, rows_of(trades(5_000, venue="again")))
    for _ in range(3):
        sink.send([frame])
    until(lambda: sink._query("SELECT count() FROM trades WHERE venue = 'again'") == [[5_000]])
    until(lambda: sink.condition().lag == 0)
    found = await visible(reader, "trades", 5_000, venue="again")
    assert list(found) == sorted(trades(5_000, venue="again"), key=lambda one: one.ts_event_ns)


async def test_a_name_that_is_sql_is_refused_before_it_is_written(
    make_writer: Callable[[], QuestdbWriter], reader: QuestdbReader
) -> None:
    writer = make_writer()
    good, bad = trades(2, venue="inject")
    sql = "A'; DROP TABLE trades; --"
    writer.offer(rows_of([good, msgspec.structs.replace(bad, instrument=sql)]))
    writer.offer(rows_of([msgspec.structs.replace(bad, venue='x" OR 1=1')]))
    assert writer.flush(20)
    assert writer.status.refused_rows == 2
    assert sql in dead_letters(writer)
    assert await visible(reader, "trades", 1, venue="inject") == (good,)


async def test_a_question_that_is_sql_is_a_name_nobody_has(sink: QuestdbSink, reader: QuestdbReader) -> None:
    for nasty in ("' OR 1=1 --", "x'; DROP TABLE trades; --", '" UNION SELECT * FROM order_events --'):
        assert await reader.messages("trades", venue=nasty) == ()
        assert await reader.trade_bars("1m", venue=nasty, instrument=nasty) == ()
        with pytest.raises(InputError):
            await reader.messages(nasty)
        with pytest.raises(InputError):
            await reader.trade_bars(nasty, venue="x", instrument="y")
    with pytest.raises(InputError):
        await reader.messages("trades", limit=0)
    assert sink._query("SELECT count() FROM tables() WHERE table_name = 'trades'") == [[1]]


async def test_one_row_that_the_server_refuses_costs_itself_alone(
    sink: QuestdbSink, make_writer: Callable[[], QuestdbWriter], reader: QuestdbReader
) -> None:
    # A build that writes text where the table holds numbers: the server says no to the request as a whole.
    frame, _ = frame_of(TRADES, rows_of(trades(50, venue="mixed")))
    place = frame.schema.get_field_index("sequence")
    texts = pa.array(["not a number" if number == 17 else None for number in range(50)])
    spoiled = frame.set_column(place, "sequence", texts)
    writer = make_writer()
    writer._ticks.append(encoded(spoiled), 50)
    writer.append("trades", rows_of(trades(10, venue="after")))
    assert writer.flush(20)
    assert writer.status.refused_rows == 1
    assert writer.status.sent_rows == 59
    assert "cast error" in dead_letters(writer)
    assert len(await visible(reader, "trades", 10, venue="after")) == 10


def test_a_suspended_table_is_noticed_and_forgiven_when_it_resumes(
    sink: QuestdbSink, make_writer: Callable[[], QuestdbWriter]
) -> None:
    writer = make_writer()
    until(lambda: writer.status.ready)
    sink._execute("ALTER TABLE heartbeats SUSPEND WAL")
    until(lambda: not writer.status.ready, timeout_s=10)
    assert "heartbeats suspended" in writer.status.detail
    sink._execute("ALTER TABLE heartbeats RESUME WAL")
    until(lambda: writer.status.ready, timeout_s=10)


def test_nobody_gets_in_without_a_password(questdb_server: RealQuestdb, sink: QuestdbSink) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{questdb_server.url}/exec?query=SELECT%201", timeout=5)
    stranger = QuestdbSink(questdb_server.url, "admin", password_file(questdb_server.directory, PG_PASSWORD))
    frame, _ = frame_of(TRADES, rows_of(trades(1)))
    with pytest.raises(StoreUnavailableError, match=r"401|[Aa]uth"):
        stranger.send([frame])
    stranger.close()


async def test_the_default_passwords_do_not_open_the_door(questdb_server: RealQuestdb) -> None:
    for user, password in (("admin", "quest"), ("user", "quest"), ("cascade", "quest")):
        with pytest.raises((asyncpg.PostgresError, OSError)):
            await asyncpg.connect(
                host="127.0.0.1", port=questdb_server.ports.pg, user=user, password=password, database="qdb", timeout=5
            )
    for name in (HTTP_PASSWORD, PG_PASSWORD):
        path = password_file(questdb_server.directory, name)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.read_text() != "quest"
    assert stat.S_IMODE((questdb_server.directory / "conf" / "server.conf").stat().st_mode) == 0o600
