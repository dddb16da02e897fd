"""What the recorder tells Prometheus."""

from collections.abc import Callable

from shared.metrics import Metrics
from shared.store.port import Tidied
from shared.store.tables import TABLES

LOSSES = ("no_room", "before_arrival", "unusable", "dead_lettered")


class Telemetry:
    """Count rows by table, flushes, losses by reason; show the backlog and its age."""

    def __init__(self, metrics: Metrics) -> None:
        rows = metrics.counter("rows", "Rows that are on disk, by table", ["table"])
        self._rows = {table.name: rows.labels(table.name) for table in TABLES}
        self._bytes = metrics.counter("bytes", "Bytes of Parquet written")
        self._flush_seconds = metrics.histogram("flush_seconds", "Time of one write of everything that waited")
        self._window_seconds = metrics.histogram(
            "window_seconds", "Age of the oldest row when it was on disk: what a crash just before would have lost"
        )
        lost = metrics.counter("lost_rows", "Rows that are not in the store, by reason", ["reason"])
        self._lost = {reason: lost.labels(reason) for reason in LOSSES}
        self._write_errors = metrics.counter("write_errors", "Writes that the disk refused")
        self._merged = metrics.counter("merged_files", "Small files that were merged")
        self._removed = metrics.counter("removed_files", "Files removed: merged, temporary or past retention")
        self._quarantined = metrics.counter("quarantined_files", "Damaged files that were put aside")
        self._backlog = metrics.gauge("backlog_rows", "Rows that are not on disk yet")
        self._backlog_bytes = metrics.gauge("backlog_bytes", "Their size")
        self._age = metrics.gauge("oldest_unflushed_seconds", "Age of the oldest row that is not on disk")
        self.counts = dict.fromkeys(LOSSES, 0)

    def watch(self, rows: Callable[[], float], size: Callable[[], float], age_s: Callable[[], float]) -> None:
        """Read the backlog at each scrape."""
        self._backlog.set_function(rows)
        self._backlog_bytes.set_function(size)
        self._age.set_function(age_s)

    def wrote(self, table: str, rows: int, size: int) -> None:
        """Count a batch on disk."""
        self._rows[table].inc(rows)
        self._bytes.inc(size)

    def flushed(self, seconds: float, window_s: float) -> None:
        """Observe a complete flush, and how old its oldest row was at the end."""
        self._flush_seconds.observe(seconds)
        self._window_seconds.observe(window_s)

    def lost(self, reason: str, rows: int = 1) -> None:
        """Count rows that will not be in the store."""
        self._lost[reason].inc(rows)
        self.counts[reason] += rows

    def refused(self) -> None:
        """Count a write that the disk refused."""
        self._write_errors.inc()

    def tidied(self, done: Tidied) -> None:
        """Count a step of housekeeping."""
        self._merged.inc(done.merged_files)
        self._removed.inc(done.removed_files)
        self._quarantined.inc(len(done.quarantined))
