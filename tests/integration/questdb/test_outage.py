"""Outages and kills under load: nothing lost, nothing twice, callers never wait for the server."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.messages import OrderState
from shared.store.port import Row
from shared.store.questdb.server import HTTP_PASSWORD, USER, password_file
from shared.store.questdb.sink import QuestdbSink
from shared.store.questdb.writer import QuestdbWriter
from shared.testing.questdb import RealQuestdb
from shared.testing.samples import START_NS, order_event
from shared.testing.ticks import rows_of, trades
from tests.integration.questdb.conftest import until

N = 60_000
PART = 500

pytestmark = pytest.mark.timeout(90)


def count(sink: QuestdbSink, venue: str) -> int:
    (row,) = sink._query(f"SELECT count() FROM trades WHERE venue = '{venue}'")
    return int(str(row[0]))


def checksum(sink: QuestdbSink, venue: str) -> list[list[object]]:
    return sink._query(
        "SELECT count(), sum(sequence), sum(price), sum(quantity), count_distinct(trade_id) FROM trades "
        f"WHERE venue = '{venue}'"
    )


def expected(venue: str, n: int) -> list[list[object]]:
    found = trades(n, venue=venue)
    return [[n, n * (n + 1) // 2, sum(one.price for one in found), sum(one.quantity for one in found), n]]


def test_kill_9_of_the_server_under_load_loses_and_doubles_nothing(
    questdb_server: RealQuestdb, sink: QuestdbSink, make_writer: Callable[[], QuestdbWriter]
) -> None:
    writer = make_writer()
    rows = rows_of(trades(N, venue="killed"))
    longest_s = 0.0

    def load() -> None:
        nonlocal longest_s
        for start in range(0, N, PART):
            began = time.monotonic()
            assert writer.offer(rows[start : start + PART]) == PART
            longest_s = max(longest_s, time.monotonic() - began)
            time.sleep(0.01)

    loading = threading.Thread(target=load)
    loading.start()
    until(lambda: writer.status.sent_rows > N // 10)
    questdb_server.kill()
    until(lambda: not writer.status.ready)
    loading.join()
    until(lambda: writer.status.waiting_rows == 0)
    assert writer.status.spool_rows > 0
    assert writer.status.outages == 1
    assert longest_s < 5
    questdb_server.start()
    assert writer.flush(60)
    until(lambda: count(sink, "killed") == N)
    assert checksum(sink, "killed") == expected("killed", N)
    assert (writer.status.dropped_rows, writer.status.refused_rows) == (0, 0)
    until(lambda: writer.status.ready)


def test_kill_9_of_the_writer_with_a_full_spool_loses_and_doubles_nothing(
    questdb_server: RealQuestdb, sink: QuestdbSink, make_writer: Callable[[], QuestdbWriter], tmp_path: Path
) -> None:
    script = tmp_path / "writes.py"
    script.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from shared.store.questdb.sink import QuestdbSink\n"
        "from shared.store.questdb.writer import QuestdbWriter\n"
        "from shared.testing.ticks import rows_of, trades\n"
        "url, user, secret, spool = sys.argv[1:]\n"
        "writer = QuestdbWriter(QuestdbSink(url, user, Path(secret)), Path(spool))\n"
        "writer.start()\n"
        "rows = rows_of(trades(40_000, venue='shot'))\n"
        "for start in range(0, 40_000, 500):\n"
        "    writer.append('trades', rows[start:start + 500])\n"
        "    print(start + 500, flush=True)\n"
        "sys.stdin.read()\n"
    )
    secret = password_file(questdb_server.directory, HTTP_PASSWORD)
    arguments = [sys.executable, str(script), questdb_server.url, USER, str(secret), str(tmp_path / "spool")]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        appended = 0
        for line in process.stdout:
            appended = int(line)
            if appended >= 20_000:
                break
        # The spool may hold all of it before the server shows the first row.
        until(lambda: count(sink, "shot") > 0)
        process.kill()
        # What it said before it died counts: those calls had returned.
        for line in process.stdout:
            appended = int(line)
    writer = make_writer()
    assert writer.flush(60)
    until(lambda: count(sink, "shot") >= appended)
    found = count(sink, "shot")
    assert found in (appended, appended + 500)
    assert checksum(sink, "shot")[0][4] == found


def test_the_writer_starts_while_the_server_is_down_and_keeps_orders_and_ticks(
    questdb_server: RealQuestdb, sink: QuestdbSink, make_writer: Callable[[], QuestdbWriter]
) -> None:
    questdb_server.kill()
    try:
        writer = make_writer()
        events = [
            Row(order_event(number, OrderState.FILLED), "ord.event.x", START_NS + number, "ORDERS", number, number)
            for number in range(1, 50)
        ]
        assert writer.append("order_events", events).rows == 49
        writer.offer(rows_of(trades(100, venue="early")))
        until(lambda: writer.status.spool_rows == 149)
        assert not writer.status.ready
    finally:
        questdb_server.start()
    assert writer.flush(60)
    until(lambda: count(sink, "early") == 100)
    until(lambda: sink._query("SELECT count() FROM order_events WHERE stream = 'ORDERS'") == [[49]])


def test_a_table_that_was_dropped_is_made_again(sink: QuestdbSink, make_writer: Callable[[], QuestdbWriter]) -> None:
    sink._execute("DROP TABLE heartbeats")
    sink._execute("DROP TABLE bbo")
    writer = make_writer()
    writer.offer(rows_of(trades(10, venue="dropped")))
    assert writer.flush(30)
    assert sink._query("SELECT dedup FROM tables() WHERE table_name = 'bbo'") == [[True]]


def test_an_idle_tail_is_flushed_by_the_timer(sink: QuestdbSink, make_writer: Callable[[], QuestdbWriter]) -> None:
    writer = make_writer()
    until(lambda: writer.status.ready)
    writer.offer(rows_of(trades(1, venue="tail")))
    until(lambda: count(sink, "tail") == 1)
