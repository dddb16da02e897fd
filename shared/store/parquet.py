"""The embedded store: Parquet files, a directory for each table and day.

In: batches of rows. Out: files that appear whole, at one rename, after their bytes are on disk.
Never: two processes that write to one store; a merge that loses or doubles a row; a damaged file that stops the rest.
"""

import contextlib
import datetime
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pyarrow as pa

from shared.errors import ConfigError, StoreUnavailableError
from shared.store import compaction, files
from shared.store.arrow import arrow_table, fingerprint, parquet_bytes
from shared.store.compaction import DamagedPartError
from shared.store.disk import Disk, LocalDisk
from shared.store.files import Part
from shared.store.options import ParquetOptions
from shared.store.port import Appended, Batch, Tidied
from shared.store.tables import TABLE_BY_NAME, TABLES, Table, day_of

try:
    import fcntl
except ImportError:  # Windows has no fcntl; there the supervisor alone sees to one recorder.
    fcntl = None  # type: ignore[assignment]

_MAGIC = b"PAR1"
_FOOTER_BYTES = 8


class _DayDirectory(msgspec.Struct, frozen=True):
    table: Table
    day: str
    path: Path
    newest_day: str


class ParquetStore:
    """Keep rows under `root`; `now_ns` reads the wall clock."""

    def __init__(
        self, root: Path, now_ns: Callable[[], int], options: ParquetOptions | None = None, disk: Disk | None = None
    ) -> None:
        self._root = root
        self._now_ns = now_ns
        self._options = options or ParquetOptions()
        self._disk = disk or LocalDisk()
        self._next: dict[tuple[str, str], int] = {}
        self._fingerprints = {table.name: fingerprint(table) for table in TABLES}
        self._lock: int | None = None
        self._waiting: Iterator[_DayDirectory] = iter(())
        self._unfinished: _DayDirectory | None = None

    def open(self) -> Tidied:
        """Claim the store and repair what a crash left behind.

        Raises ConfigError when another process writes to it, StoreUnavailableError when the disk refuses.
        """
        with _disk_errors("open"):
            self._disk.make_directory(self._root)
            self._claim()
            removed, quarantined = 0, []
            for directory in (found.path for found in self._directories()):
                for temporary in files.temporaries_in(directory):
                    self._disk.remove(temporary)
                    removed += 1
                damaged = [part for part in files.live(files.parts_in(directory)) if not _looks_whole(part)]
                quarantined += [self._quarantine(part) for part in damaged]
        return Tidied(removed_files=removed, quarantined=tuple(quarantined))

    def append(self, batch: Batch) -> Appended:
        """Write a batch as one file, durable and whole when this returns; raises StoreUnavailableError."""
        columns, rejected = arrow_table(TABLE_BY_NAME[batch.table], batch.rows)
        if not columns.num_rows:
            return Appended(0, 0, rejected)
        data = parquet_bytes(columns)
        key = (batch.table, batch.day)
        directory = files.day_directory(self._root, *key)
        with _disk_errors("write"):
            number = self._next.get(key)
            if number is None:
                number = self._next[key] = 1 + max((part.last for part in files.parts_in(directory)), default=0)
            name = files.part_name(number, number, self._fingerprints[batch.table])
            self._disk.make_directory(directory)
            # A second try takes the same number, so it replaces whatever the first one may have left in place.
            self._put(directory, name, data)
        self._next[key] = number + 1
        return Appended(columns.num_rows, data.size, rejected)

    def tidy(self) -> Tidied:
        """Do one bounded step: the next directory's merge, removals or retention; raises StoreUnavailableError."""
        # A directory is merged to the end before the next one's turn: after a flood it has hundreds of files.
        found, self._unfinished = self._unfinished or next(self._waiting, None), None
        if found is None:
            self._waiting = self._directories()
            return Tidied()
        with _disk_errors("tidy"):
            try:
                done = self._tidy(found)
                self._unfinished = found if done.merged_files else None
                return done
            except DamagedPartError as error:
                return Tidied(quarantined=(self._quarantine(error.part),), more=True)

    def close(self) -> None:
        """Release the claim."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _claim(self) -> None:
        descriptor = os.open(self._root / files.LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if fcntl is not None:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise ConfigError(f"another recorder writes to {self._root}: stop it, or use another directory") from error
        self._lock = descriptor

    def _put(self, directory: Path, name: str, data: pa.Buffer) -> None:
        temporary = directory / f".{name}{files.TEMPORARY_SUFFIX}"
        self._disk.write(temporary, data)
        self._disk.rename(temporary, directory / name)
        self._disk.sync_directory(directory)

    def _directories(self) -> Iterator[_DayDirectory]:
        for table in TABLES:
            found = list(files.day_directories(self._root, table.name))
            for day, directory in found:
                yield _DayDirectory(table, day, directory, newest_day=found[-1][0])

    def _tidy(self, found: _DayDirectory) -> Tidied:
        parts = files.parts_in(found.path)
        if self._is_past_retention(found):
            return Tidied(removed_files=self._drop(found.path, parts), more=True)
        removed = self._remove_superseded(found.path, parts)
        return Tidied(self._merge(found, files.live(parts)), removed, more=True)

    def _merge(self, found: _DayDirectory, parts: list[Part]) -> int:
        # A number that is not confirmed may be written again: it must stay out of a merge.
        confirmed = self._next.get((found.table.name, found.day))
        candidates = [part for part in parts if confirmed is None or part.last < confirmed]
        written_ns = max((part.modified_ns for part in parts), default=0)
        is_quiet = self._now_ns() - written_ns > self._options.quiet_after_s * 1e9
        run = compaction.run_to_merge(
            candidates,
            files_min=2 if is_quiet else self._options.merge_files_min,
            bytes_max=self._options.merge_bytes_max,
        )
        if not run:
            return 0
        data = compaction.merged(run)
        self._put(found.path, files.part_name(run[0].first, run[-1].last, run[0].fingerprint), data)
        return len(run)

    def _remove_superseded(self, directory: Path, parts: list[Part]) -> int:
        oldest_ns = self._now_ns() - int(self._options.reader_grace_s * 1e9)
        pairs = [(old, into) for old, into in files.superseded(parts) if into.modified_ns <= oldest_ns]
        # The file that replaces them must be whole before the only other copy of its rows goes.
        for into in {into.path: into for _, into in pairs}.values():
            compaction.read_part(into)
        for old, _ in pairs:
            self._disk.remove(old.path)
        if pairs:
            self._disk.sync_directory(directory)
        return len(pairs)

    def _is_past_retention(self, found: _DayDirectory) -> bool:
        days = self._options.retention_days.get(found.table.kind)
        if not days:
            return False
        # Replayed history is old by the clock; a row from the future must not push the present out.
        reference = datetime.date.fromisoformat(min(found.newest_day, day_of(self._now_ns())))
        return datetime.date.fromisoformat(found.day) < reference - datetime.timedelta(days=days)

    def _drop(self, directory: Path, parts: list[Part]) -> int:
        for part in parts:
            self._disk.remove(part.path)
        with contextlib.suppress(OSError):  # something that is not ours lies there
            directory.rmdir()
            self._disk.sync_directory(directory.parent)
        return len(parts)

    def _quarantine(self, part: Part) -> str:
        relative = part.path.relative_to(self._root)
        target = self._root / files.QUARANTINE / relative
        self._disk.make_directory(target.parent)
        self._disk.rename(part.path, target)
        self._disk.sync_directory(part.path.parent)
        return str(relative)


def _looks_whole(part: Part) -> bool:
    """Compare both ends of the file; what lies between is compared when it is read."""
    with part.path.open("rb") as file:
        head = file.read(len(_MAGIC))
        if part.bytes < len(_MAGIC) + _FOOTER_BYTES:
            return False
        file.seek(-_FOOTER_BYTES, os.SEEK_END)
        tail = file.read(_FOOTER_BYTES)
    footer = int.from_bytes(tail[:4], "little")
    return head == _MAGIC and tail[4:] == _MAGIC and footer + len(_MAGIC) + _FOOTER_BYTES <= part.bytes


@contextlib.contextmanager
def _disk_errors(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "error")
        raise StoreUnavailableError(f"cannot {what} the store: {error.strerror or error} ({name})") from error
