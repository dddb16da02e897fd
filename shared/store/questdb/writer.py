"""The writer: from any thread to QuestDB, through a spool on disk, so that an outage is nothing but a longer queue.

In: rows, offered one by one (ticks) or appended as batches that must not be lost. Out: frames to the server, in order,
each at least once; keys make that once. Threads: `gather` turns offered rows into frames when enough wait or when a
timer fires, `send` empties the spool, `watch` asks how the server does and has it make bars of new trades.
Never: a caller that waits for the network, memory or disk without bound, a row that goes uncounted.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa

from shared.clock import NANOSECONDS_PER_SECOND, monotonic_ns, wall_ns
from shared.errors import CascadeError, ConfigError, DecodeError, RejectedError, StoreUnavailableError
from shared.store.port import Appended, Rejected, Row
from shared.store.questdb.dead import DeadLetters
from shared.store.questdb.frame import decoded, encoded, frame_of, table_name, text_rows
from shared.store.questdb.options import WriterOptions
from shared.store.questdb.sink import Condition, Sink
from shared.store.questdb.spool import Frame, Spool
from shared.store.tables import TABLE_BY_NAME, Table, TableClass, table_of

FRAME_ROWS_MAX = 50_000
SEND_ROWS_MAX = 100_000
IDLE_WAIT_S = 1.0
TRADES = "trades"
JOIN_TIMEOUT_S = 5.0


class WriterStatus(msgspec.Struct, frozen=True):
    """Tell how the writer does. `ready` is False while rows do not reach QuestDB or do not become visible there."""

    ready: bool
    detail: str
    sent_rows: int
    waiting_rows: int
    spool_rows: int
    spool_bytes: int
    refused_rows: int
    dropped_rows: int
    damaged_rows: int
    outages: int
    dead_letters: str


class QuestdbWriter:
    """Write rows to `sink` through a spool under `directory`."""

    def __init__(
        self,
        sink: Sink,
        directory: Path,
        options: WriterOptions | None = None,
        *,
        read_monotonic_ns: Callable[[], int] = monotonic_ns,
        read_wall_ns: Callable[[], int] = wall_ns,
        on_change: Callable[[bool, str], None] = lambda _ready, _detail: None,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._sink, self._options = sink, options or WriterOptions()
        self._directory = directory
        self._monotonic_ns, self._wall_ns, self._on_change = read_monotonic_ns, read_wall_ns, on_change
        self._on_failure = on_failure
        sync = self._options.sync
        self._records = Spool(directory / "records", self._options.spool_bytes_records, sync=sync)
        self._ticks = Spool(directory / "ticks", self._options.spool_bytes_ticks, sync=sync)
        self._dead = DeadLetters(directory)
        self._lock = threading.Condition()
        self._waiting: list[Row] = []
        self._gathering = 0
        self._is_hurried = False
        self._is_stopping = threading.Event()
        self._has_frames = threading.Event()
        self._has_new_trades = threading.Event()
        self._trouble = ""
        self._condition = Condition(is_reachable=False, reason="not asked yet")
        self._reachable_ns = 0
        self._told: tuple[bool, str] | None = None
        self._is_prepared = False
        self._counts = threading.Lock()
        self._sent = self._refused = self._dropped = self._outages = 0
        self._threads: list[threading.Thread] = []

    def start(self) -> int:
        """Open the spool, begin to send; returns how many rows the last run left. Works with the server down.

        Raises ConfigError when another process uses the spool, StoreUnavailableError when the disk refuses.
        """
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        left = self._records.open().rows
        try:
            left += self._ticks.open().rows
        except CascadeError:
            self._records.close()
            raise
        self._reachable_ns = self._monotonic_ns()
        self._threads = [
            threading.Thread(
                target=self._guarded, args=(work,), name=f"questdb-{work.__name__.strip('_')}", daemon=True
            )
            for work in (self._gather, self._send, self._watch)
        ]
        for thread in self._threads:
            thread.start()
        self._has_frames.set()
        return left

    def offer(self, rows: Sequence[Row]) -> int:
        """Take rows without waiting for anything; returns how many there was room for, the rest is counted."""
        with self._lock:
            room = self._options.pending_max - len(self._waiting) - self._gathering
            taken = rows if len(rows) <= room else rows[: max(0, room)]
            was_empty = not self._waiting
            self._waiting.extend(taken)
            if was_empty or len(self._waiting) >= self._options.rows_max:
                self._lock.notify_all()
        if len(taken) < len(rows):
            self._count(dropped=len(rows) - len(taken))
        return len(taken)

    def append(self, table: str, rows: Sequence[Row]) -> Appended:
        """Put rows of one table on disk on their way to QuestDB; raises StoreUnavailableError when the disk refuses."""
        described = TABLE_BY_NAME[table]
        whole, rejected = frame_of(described, rows)
        self._bury(described.name, rejected)
        size = 0
        for start in range(0, whole.num_rows, FRAME_ROWS_MAX):
            frame = whole.slice(start, FRAME_ROWS_MAX)
            body = encoded(frame)
            self._count(dropped=self._spool(described).append(body, frame.num_rows))
            size += body.size
        self._has_frames.set()
        return Appended(whole.num_rows, size, rejected)

    def flush(self, timeout_s: float) -> bool:
        """Wait until all that came so far is in QuestDB's log; False when that took too long."""
        deadline_ns = self._monotonic_ns() + int(timeout_s * NANOSECONDS_PER_SECOND)
        with self._lock:
            self._is_hurried = True
            self._lock.notify_all()
        while self._backlog():
            if self._monotonic_ns() > deadline_ns:
                return False
            self._is_stopping.wait(0.002)
        return True

    def lost(self, rows: int) -> None:
        """Count rows that the spool's disk refused and nobody will bring again."""
        self._count(dropped=rows)

    @property
    def status(self) -> WriterStatus:
        """Return how the writer does."""
        ready, detail = self._judgement()
        with self._lock:
            waiting = len(self._waiting) + self._gathering
        return WriterStatus(
            ready=ready,
            detail=detail,
            sent_rows=self._sent,
            waiting_rows=waiting,
            spool_rows=self._records.rows + self._ticks.rows,
            spool_bytes=self._records.size_bytes + self._ticks.size_bytes,
            refused_rows=self._refused,
            dropped_rows=self._dropped,
            damaged_rows=self._records.damaged_rows + self._ticks.damaged_rows,
            outages=self._outages,
            dead_letters=str(self._dead.path),
        )

    def close(self) -> None:
        """Put what waits in memory on disk and stop; what QuestDB has not got is sent after the next start."""
        self._is_stopping.set()
        self._has_frames.set()
        with self._lock:
            self._lock.notify_all()
        for thread in self._threads:
            thread.join(JOIN_TIMEOUT_S)
        self._sink.close()
        self._records.close()
        self._ticks.close()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            # A programmer error: a writer without one of its threads would only look alive.
            self._trouble = f"the writer has died: {error!r}"
            if self._is_stopping.is_set():
                return
            if self._on_failure is None:
                raise
            self._on_failure(error)

    def _spool(self, table: Table) -> Spool:
        return self._ticks if table.kind is TableClass.TICKS else self._records

    def _backlog(self) -> bool:
        with self._lock:
            return bool(self._waiting or self._gathering or self._records.rows or self._ticks.rows)

    def _count(self, *, sent: int = 0, refused: int = 0, dropped: int = 0) -> None:
        with self._counts:
            self._sent += sent
            self._refused += refused
            self._dropped += dropped

    def _bury(self, table: str, rejected: Iterable[Rejected]) -> None:
        for item in rejected:
            self._dead.write(table, item.reason, [repr(item.row.message)], self._wall_ns())
            self._count(refused=1)

    # gather

    def _gather(self) -> None:
        interval_s = self._options.flush_interval_s
        while True:
            with self._lock:
                while not (self._waiting or self._is_stopping.is_set()):
                    self._is_hurried = False
                    self._lock.wait(IDLE_WAIT_S)
                if not self._is_hurried and len(self._waiting) < self._options.rows_max:
                    self._lock.wait_for(self._is_gathering_due, interval_s)
                rows, self._waiting = self._waiting, []
                self._gathering = len(rows)
            self._store(rows)
            with self._lock:
                self._gathering = 0
                if self._is_stopping.is_set() and not self._waiting:
                    return

    def _is_gathering_due(self) -> bool:
        return self._is_hurried or self._is_stopping.is_set() or len(self._waiting) >= self._options.rows_max

    def _store(self, rows: Sequence[Row]) -> None:
        groups: dict[str, list[Row]] = {}
        for row in rows:
            groups.setdefault(table_of(row.message).name, []).append(row)
        for table, group in groups.items():
            # The disk's refusals are repeated until the bound on what waits makes new rows go, counted.
            while True:
                try:
                    self.append(table, group)
                    break
                except StoreUnavailableError as error:
                    self._set_trouble(str(error))
                    if self._is_stopping.wait(self._options.retry_first_s):
                        self._count(dropped=len(group))
                        break

    # send

    def _send(self) -> None:
        pause_s = self._options.retry_first_s
        while not self._is_stopping.is_set():
            try:
                self._has_frames.clear()
                moved = self._step(self._records) or self._step(self._ticks)
                pause_s = self._options.retry_first_s
                if not moved:
                    self._has_frames.wait(IDLE_WAIT_S)
            except (StoreUnavailableError, ConfigError) as error:
                if not self._trouble:
                    self._outages += 1
                self._set_trouble(str(error))
                self._is_prepared = False
                self._is_stopping.wait(pause_s)
                pause_s = min(2 * pause_s, self._options.retry_max_s)

    def _step(self, spool: Spool) -> bool:
        frames = spool.peek(SEND_ROWS_MAX)
        if not self._is_prepared:
            self._sink.prepare()
            self._is_prepared = True
            self._set_trouble("")
        if not frames:
            return False
        tables = [self._decoded(frame) for frame in frames]
        whole = [table for table in tables if table is not None]
        try:
            if whole:
                self._put(whole)
            spool.commit(frames)
        except RejectedError:
            # Perhaps a table is gone, not a row bad.
            self._sink.prepare()
            for frame, table in zip(frames, tables, strict=True):
                if table is not None:
                    self._send_carefully(table)
                spool.commit([frame])
        self._set_trouble("")
        return True

    def _put(self, tables: Sequence[pa.Table]) -> None:
        self._sink.send(tables)
        self._count(sent=sum(table.num_rows for table in tables))
        if any(table_name(table) == TRADES for table in tables):
            self._has_new_trades.set()

    def _send_carefully(self, table: pa.Table) -> None:
        """Send halves of halves, so that one bad row costs itself alone."""
        try:
            self._put([table])
        except RejectedError as error:
            if table.num_rows == 1:
                self._dead.write(table_name(table), str(error), text_rows(table), self._wall_ns())
                self._count(refused=1)
                return
            half = table.num_rows // 2
            self._send_carefully(table.slice(0, half))
            self._send_carefully(table.slice(half))

    def _decoded(self, frame: Frame) -> pa.Table | None:
        try:
            return decoded(frame.body)
        except DecodeError as error:
            self._dead.write("", str(error), [f"{frame.rows} rows"], self._wall_ns())
            self._count(refused=frame.rows)
            return None

    # watch

    def _watch(self) -> None:
        while not self._is_stopping.is_set():
            self._refresh()
            self._condition = self._sink.condition()
            if self._condition.is_reachable:
                self._reachable_ns = self._monotonic_ns()
            self._tell()
            self._is_stopping.wait(self._options.watch_interval_s)

    def _refresh(self) -> None:
        if not self._has_new_trades.is_set():
            return
        self._has_new_trades.clear()
        try:
            if self._sink.refresh():
                return
        except StoreUnavailableError:
            # `condition` says why.
            pass
        self._has_new_trades.set()

    def _set_trouble(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            self._tell()

    def _judgement(self) -> tuple[bool, str]:
        condition = self._condition
        if self._trouble:
            return False, self._trouble
        if condition.is_reachable:
            return condition.is_healthy, condition.detail
        # One question without an answer is a busy server; rows going through say more.
        silent_s = (self._monotonic_ns() - self._reachable_ns) / NANOSECONDS_PER_SECOND
        return silent_s < self._options.watch_grace_s, condition.detail

    def _tell(self) -> None:
        told = self._judgement()
        # A thread that outlives `close` has nobody left to tell.
        if told != self._told and not self._is_stopping.is_set():
            self._told = told
            self._on_change(*told)
