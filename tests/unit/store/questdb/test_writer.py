"""The writer over a server that lies, stumbles and refuses: order, bounds, counts, threads."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from shared.errors import RejectedError, StoreUnavailableError
from shared.messages import OrderState
from shared.store.port import Row
from shared.store.questdb.frame import table_name
from shared.store.questdb.options import MEBIBYTE, WriterOptions
from shared.store.questdb.sink import Condition
from shared.store.questdb.writer import QuestdbWriter
from shared.testing.samples import START_NS, order_event
from shared.testing.ticks import rows_of, trades

QUICK = {
    "flush_interval_s": 0.005,
    "retry_first_s": 0.005,
    "retry_max_s": 0.02,
    "watch_interval_s": 0.05,
    "sync": False,
}


class FakeServer:
    """Take frames by business key, as the real one does; refuse, lie or hang on demand."""

    def __init__(self) -> None:
        self.is_down = False
        self.lies = 0
        self.refused_ids: set[str] = set()
        self.rows: dict[tuple[str, str], int] = {}
        self.order: list[str] = []
        self.requests = 0
        self.prepared = 0
        self.refreshed_at: list[int] = []
        self.asked_times = 0
        self.asked = Condition(is_reachable=True)
        self.gate = threading.Event()
        self.gate.set()

    def prepare(self) -> None:
        if self.is_down:
            raise StoreUnavailableError("refused")
        self.prepared += 1

    def send(self, frames: Sequence[pa.Table]) -> None:
        self.gate.wait(10)
        if self.is_down:
            raise StoreUnavailableError("refused")
        self.requests += 1
        taken = [
            (table_name(frame), str(row.get("trade_id") or row.get("event_id")))
            for frame in frames
            for row in frame.to_pylist()
        ]
        for _, key in taken:
            if key in self.refused_ids:
                raise RejectedError("line_protocol", f"cast error in {key}")
        for one in taken:
            self.rows[one] = self.rows.get(one, 0) + 1
        self.order += [key for _, key in taken]
        if self.lies:
            self.lies -= 1
            raise StoreUnavailableError("timeout after the rows were taken")

    def refresh(self) -> bool:
        if self.is_down:
            raise StoreUnavailableError("refused")
        self.refreshed_at.append(len(self.rows))
        return len(self.refreshed_at) >= 3

    def condition(self) -> Condition:
        self.asked_times += 1
        return self.asked if not self.is_down else Condition(is_reachable=False, reason="refused")

    def close(self) -> None:
        pass


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


Make = Callable[..., QuestdbWriter]


@pytest.fixture
def make(server: FakeServer, tmp_path: Path) -> Iterator[Make]:
    made: list[QuestdbWriter] = []

    def build(**options: object) -> QuestdbWriter:
        writer = QuestdbWriter(server, tmp_path / "spool", WriterOptions(**(QUICK | options)))  # type: ignore[arg-type]
        writer.start()
        made.append(writer)
        return writer

    yield build
    server.gate.set()
    for writer in made:
        writer.close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def events(n: int) -> list[Row]:
    return [
        Row(order_event(number, OrderState.FILLED), "ord.event.x", START_NS + number, "ORDERS", number, number)
        for number in range(1, n + 1)
    ]


def test_rows_arrive_in_order_and_once(make: Make, server: FakeServer) -> None:
    writer = make()
    rows = rows_of(trades(5_000))
    for start in range(0, 5_000, 100):
        assert writer.offer(rows[start : start + 100]) == 100
    assert writer.flush(10)
    assert server.order == [str(number) for number in range(5_000)]
    assert writer.status.sent_rows == 5_000


def test_an_outage_is_a_longer_queue(make: Make, server: FakeServer) -> None:
    server.is_down = True
    writer = make()
    rows = rows_of(trades(3_000))
    for start in range(0, 3_000, 100):
        writer.offer(rows[start : start + 100])
    writer.append("order_events", events(10))
    until(lambda: writer.status.spool_rows == 3_010)
    assert not writer.status.ready
    assert not writer.flush(0.05)
    server.is_down = False
    assert writer.flush(10)
    assert len(server.rows) == 3_010
    # Orders are not behind the ticks.
    assert server.order[0].startswith("event-")
    assert [key for key in server.order if not key.startswith("event-")] == [str(number) for number in range(3_000)]
    assert writer.status.outages == 1
    until(lambda: writer.status.ready)


def test_bars_are_asked_for_after_new_trades_and_not_for_anything_else(make: Make, server: FakeServer) -> None:
    writer = make()
    writer.append("order_events", events(10))
    assert writer.flush(10)
    writer.offer(rows_of(trades(100)))
    assert writer.flush(10)
    # Again and again until nothing is left.
    until(lambda: len(server.refreshed_at) == 3)
    assert server.refreshed_at[-1] == 110
    asked = server.asked_times
    writer.append("order_events", events(20))
    assert writer.flush(10)
    until(lambda: server.asked_times > asked + 2)
    assert len(server.refreshed_at) == 3


def test_a_lost_answer_sends_again_and_the_key_keeps_it_one_row(make: Make, server: FakeServer) -> None:
    server.lies = 3
    writer = make()
    writer.offer(rows_of(trades(100)))
    assert writer.flush(10)
    assert len(server.rows) == 100
    assert set(server.rows.values()) == {4}
    assert writer.status.sent_rows == 100


def test_a_restart_in_mid_outage_goes_on(make: Make, server: FakeServer) -> None:
    server.is_down = True
    writer = make()
    writer.append("trades", rows_of(trades(500)))
    writer.close()
    server.is_down = False
    again = make()
    assert again.flush(10)
    assert len(server.rows) == 500


def test_a_flood_of_ticks_drops_ticks_and_never_an_order(make: Make, server: FakeServer) -> None:
    server.is_down = True
    writer = make(spool_bytes_ticks=MEBIBYTE, spool_bytes_records=MEBIBYTE)
    writer.append("order_events", events(50))
    total = 100_000
    rows = rows_of(trades(total))
    for start in range(0, total, 5_000):
        writer.append("trades", rows[start : start + 5_000])
    dropped = writer.status.dropped_rows
    assert dropped > 0
    assert writer.status.spool_bytes <= 2 * MEBIBYTE
    server.is_down = False
    assert writer.flush(10)
    kept = [key for key in server.order if not key.startswith("event-")]
    assert len(kept) == total - dropped
    assert kept == [str(number) for number in range(dropped, total)]
    assert sum(key.startswith("event-") for key in server.order) == 50


def test_memory_is_bounded_and_what_finds_no_room_is_counted(make: Make, server: FakeServer) -> None:
    writer = make(flush_interval_s=5, rows_max=1_000, pending_max=1_000)
    rows = rows_of(trades(900))
    assert writer.offer(rows) == 900
    assert writer.offer(rows) == 100
    until(lambda: writer.status.waiting_rows == 0)
    assert writer.status.dropped_rows == 800


def test_one_refused_row_costs_itself_alone(make: Make, server: FakeServer) -> None:
    server.refused_ids = {"17", "63"}
    writer = make()
    writer.append("trades", rows_of(trades(100)))
    assert writer.flush(10)
    assert {key for _, key in server.rows} == {str(number) for number in range(100)} - {"17", "63"}
    assert writer.status.refused_rows == 2
    letters = Path(writer.status.dead_letters).read_text().splitlines()
    assert len(letters) == 2
    assert "cast error in 17" in letters[0]
    assert '"trade_id": "17"' in letters[0]
    assert Path(writer.status.dead_letters).stat().st_mode & 0o777 == 0o600


def test_a_suspended_table_shows_and_rows_still_go(make: Make, server: FakeServer) -> None:
    told: list[tuple[bool, str]] = []
    writer = make()
    writer._on_change = lambda ready, detail: told.append((ready, detail))
    until(lambda: writer.status.ready)
    server.asked = Condition(is_reachable=True, suspended=("trades",), reason="disk full")
    until(lambda: not writer.status.ready)
    assert "trades suspended (disk full)" in writer.status.detail
    writer.append("trades", rows_of(trades(10)))
    assert writer.flush(10)
    server.asked = Condition(is_reachable=True)
    until(lambda: writer.status.ready)
    until(lambda: [ready for ready, _ in told] == [False, True])


def test_a_server_that_hangs_never_holds_up_who_offers(make: Make, server: FakeServer) -> None:
    writer = make()
    server.gate.clear()
    rows = rows_of(trades(2_000))
    for start in range(0, 2_000, 100):
        assert writer.offer(rows[start : start + 100]) == 100
    until(lambda: writer.status.waiting_rows == 0)
    assert writer.status.sent_rows == 0
    server.gate.set()
    assert writer.flush(10)
    assert len(server.rows) == 2_000


def test_a_lag_without_end_is_not_healthy() -> None:
    assert Condition(is_reachable=True, lag=10).is_healthy
    assert not Condition(is_reachable=True, lag=100_000).is_healthy


@pytest.mark.parametrize(
    "wrong",
    [
        {"flush_interval_s": 0},
        {"rows_max": 0},
        {"rows_max": 10, "pending_max": 9},
        {"spool_bytes_ticks": 10},
        {"retry_first_s": 0},
        {"watch_interval_s": 60},
    ],
)
def test_options_that_cannot_work_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        WriterOptions(**wrong)  # type: ignore[arg-type]


def test_a_thread_that_outlives_close_tells_nobody(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.store.questdb.writer.JOIN_TIMEOUT_S", 0.01)
    told: list[tuple[bool, str]] = []
    asked, answer, left = threading.Event(), threading.Event(), threading.Event()

    class Slow(FakeServer):
        def condition(self) -> Condition:
            asked.set()
            answer.wait(10)
            return Condition(is_reachable=False, reason="gone")

        def close(self) -> None:
            left.set()

    writer = QuestdbWriter(
        Slow(),
        tmp_path / "spool",
        WriterOptions(**(QUICK | {"watch_grace_s": 0.0})),  # type: ignore[arg-type]
        on_change=lambda ready, detail: told.append((ready, detail)),
    )
    writer.start()
    assert asked.wait(10)
    writer.close()
    assert left.is_set()
    before = list(told)
    watching = next(thread for thread in threading.enumerate() if thread.name == "questdb-watch")
    answer.set()
    watching.join(10)
    assert told == before
