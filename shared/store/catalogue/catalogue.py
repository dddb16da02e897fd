"""The research catalogue: the history of bars and trades that backtests and studies read.

In: columns of bars or trades, checked by whoever brings them. Out: Arrow tables and NumPy arrays, fast; exact decimals
on demand. Never: a change that is half there after a crash, a second copy of a row, a silent change of a stored row.

One file for each partition, whole at any time, so there is nothing to compact. Reading: `read.py`.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from shared.errors import IntegrityError, StoreUnavailableError
from shared.store.catalogue.files import (
    FileEntry,
    Manifest,
    SeriesKey,
    commit,
    digest_of,
    file_entry,
    find_series,
    locked,
    read_manifest,
    series_directory,
)
from shared.store.catalogue.rows import (
    SCHEMAS,
    Times,
    in_time_order,
    merge,
    partition_bounds,
    partitions,
    span_of,
    times_of,
)
from shared.store.disk import Disk, LocalDisk

READ_ATTEMPTS_MAX = 4
# Measured on a month of minutes: the fastest to read of all, and as small as zstd with byte streams.
_FILE_OPTIONS: dict[str, str | int | bool] = {
    "compression": "lz4",
    "use_dictionary": False,
    "write_page_checksum": True,
    "row_group_size": 1 << 20,
}
_DELTA = "DELTA_BINARY_PACKED"
_ENCODINGS = {"bars": {"open_time_ns": _DELTA, "close_time_ns": _DELTA}, "trades": {"ts_event_ns": _DELTA}}

Range = tuple[int, int]


class Written(msgspec.Struct, frozen=True):
    """Tell what a write did: rows added, already there, in conflict with stored ones (kept, unless `replace`)."""

    added: int
    same: int
    conflicts: int
    files: int


class Catalogue:
    """Keep series under `root`. Any number of readers; one writer for each series at a time."""

    def __init__(self, root: Path, disk: Disk | None = None) -> None:
        self.root = root
        self._disk = disk or LocalDisk()

    def series(
        self, *, table: str | None = None, venue: str | None = None, timeframe: str | None = None,
        instruments: Sequence[str] | None = None,
    ) -> list[SeriesKey]:  # fmt: skip
        """Return the series that match, in order."""
        return [
            key
            for key in find_series(self.root)
            if table in (None, key.table)
            and venue in (None, key.venue)
            and timeframe in (None, key.timeframe)
            and (instruments is None or key.instrument in instruments)
        ]

    def manifest(self, key: SeriesKey) -> Manifest | None:
        """Return what a series consists of, None when there is none."""
        return read_manifest(self.root, key)

    def write(self, key: SeriesKey, rows: pa.Table, *, covered: Sequence[Range] = (), replace: bool = False) -> Written:
        """Add rows (in the schema of `SCHEMAS[key.table]`); all of it takes effect at once, or nothing.

        `covered` are ranges that a venue has answered for, also where it has none. The same rows again change nothing.
        Raises StoreUnavailableError when the disk refuses or another process writes the series.
        """
        if rows.schema != SCHEMAS[key.table]:
            raise ValueError(f"rows of {key} have the columns {rows.schema.names}")
        with locked(self._disk, self.root, key):
            manifest = self.manifest(key) or Manifest(key.table, key.venue, key.instrument, key.timeframe)
            entries = {entry.partition: entry for entry in manifest.files}
            files: dict[str, pa.Buffer] = {}
            added = same = conflicts = 0
            rows = in_time_order(rows, key.table)
            for name, where in partitions(times_of(rows, key.table), span_of(key)):
                new = rows.slice(where.start, where.stop - where.start)
                old = self._load(key, entries[name]) if name in entries else SCHEMAS[key.table].empty_table()
                result = merge(old, new, key.table, replace=replace)
                added, same, conflicts = added + result.added, same + result.same, conflicts + result.conflicts
                if result.table is not old:
                    entry, data = _file(key, name, result.table)
                    entries[name] = entry
                    files[entry.name] = data
            changed = msgspec.structs.replace(
                manifest,
                files=tuple(entries[name] for name in sorted(entries)),
                covered=tuple(union([*manifest.covered, *covered])),
            )
            if changed != manifest:
                commit(self._disk, self.root, key, changed, files)
        return Written(added, same, conflicts, len(files))

    def read(
        self, key: SeriesKey, *, start_ns: int | None = None, end_ns: int | None = None,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:  # fmt: skip
        """Return the rows with `start_ns <= time < end_ns`, ascending; empty when the series is.

        Raises StoreUnavailableError for a file that is missing or damaged.
        """
        for attempt in range(READ_ATTEMPTS_MAX):
            try:
                return self._read(key, start_ns, end_ns, list(columns or SCHEMAS[key.table].names))
            except FileNotFoundError as error:
                # A writer has replaced the file since its manifest was read.
                if attempt == READ_ATTEMPTS_MAX - 1:
                    raise StoreUnavailableError(
                        f"{key}: {error.filename} is missing: run cascade data verify"
                    ) from error
        raise AssertionError("unreachable")

    def _read(self, key: SeriesKey, start_ns: int | None, end_ns: int | None, columns: list[str]) -> pa.Table:
        manifest = self.manifest(key)
        schema = pa.schema([SCHEMAS[key.table].field(name) for name in columns])
        entries = [] if manifest is None else [entry for entry in manifest.files if _overlaps(entry, start_ns, end_ns)]
        parts = []
        for entry in entries:
            inner = (start_ns is None or start_ns <= entry.first_ns) and (end_ns is None or entry.last_ns < end_ns)
            part = self._load(key, entry, columns if inner else list(SCHEMAS[key.table].names))
            if not inner:
                times: Times = times_of(part, key.table)
                first = 0 if start_ns is None else int(times.searchsorted(start_ns))
                last = len(times) if end_ns is None else int(times.searchsorted(end_ns))
                part = part.slice(first, last - first).select(columns)
            parts.append(part)
        return pa.concat_tables(parts) if parts else schema.empty_table()

    def _load(self, key: SeriesKey, entry: FileEntry, columns: list[str] | None = None) -> pa.Table:
        path = series_directory(self.root, key) / entry.name
        try:
            with pq.ParquetFile(path, memory_map=True, page_checksum_verification=True) as file:
                return file.read(columns, use_threads=False)
        except (pa.ArrowInvalid, OSError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise StoreUnavailableError(f"{path}: cannot be read: {error}. Import or download it again") from error

    def remove(self, key: SeriesKey) -> bool:
        """Remove a whole series; False when there is none."""
        with locked(self._disk, self.root, key):
            manifest = self.manifest(key)
            if manifest is None:
                return False
            commit(self._disk, self.root, key, msgspec.structs.replace(manifest, files=(), covered=()), {})
        return True


def check_file(root: Path, key: SeriesKey, entry: FileEntry) -> str | None:
    """Return what is wrong with a file's bytes, None when they are what was written."""
    path = series_directory(root, key) / entry.name
    try:
        if path.stat().st_size != entry.bytes:
            return f"{entry.name} has {path.stat().st_size} bytes instead of {entry.bytes}"
        return None if digest_of(path) == entry.sha256 else f"{entry.name}: its checksum is not the manifest's"
    except FileNotFoundError:
        return f"{entry.name} is missing"
    except OSError as error:
        return f"{entry.name} cannot be read: {error.strerror}"


def union(ranges: Sequence[Range]) -> list[Range]:
    """Return ranges `[from, to)` sorted, touching ones joined, empty ones left out."""
    joined: list[Range] = []
    for begin, end in sorted(one for one in ranges if one[0] < one[1]):
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return joined


def subtract(wanted: Range, have: Sequence[Range]) -> list[Range]:
    """Return the parts of `wanted` that no range of `have` covers."""
    left: list[Range] = []
    begin, end = wanted
    for one_begin, one_end in union(have):
        if one_end <= begin or one_begin >= end:
            continue
        if one_begin > begin:
            left.append((begin, one_begin))
        begin = max(begin, one_end)
    if begin < end:
        left.append((begin, end))
    return left


def _overlaps(entry: FileEntry, start_ns: int | None, end_ns: int | None) -> bool:
    return (start_ns is None or entry.last_ns >= start_ns) and (end_ns is None or entry.first_ns < end_ns)


def _file(key: SeriesKey, name: str, table: pa.Table) -> tuple[FileEntry, pa.Buffer]:
    times = times_of(table, key.table)
    begin, end = partition_bounds(name)
    if not (begin <= times[0] and times[-1] < end):
        raise IntegrityError(f"{key}: rows of another time came into {name}")
    sink = pa.BufferOutputStream()
    pq.write_table(table.combine_chunks(), sink, column_encoding=_ENCODINGS[key.table], **_FILE_OPTIONS)
    data = sink.getvalue()
    return file_entry(name, data, table.num_rows, int(times[0]), int(times[-1])), data
