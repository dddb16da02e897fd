"""The spool: what QuestDB has not got yet, in order, on disk.

In: frames (bytes and how many rows they hold). Out: the same frames, oldest first, again and again until they are
committed; how many rows the size bound cost. Files `<number>.seg` are appended to and removed whole; `cursor` says
how far QuestDB has got. Never: a torn or damaged frame handed out as whole, a frame out of order, more bytes than the
bound, a dropped row that is not counted, two processes in one spool.
"""

import contextlib
import fcntl
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pyarrow as pa

from shared.errors import ConfigError, StoreUnavailableError

_HEADER = struct.Struct("<4sIII")  # magic, bytes of the body, rows, checksum of the body
_CHECK = struct.Struct("<I")  # checksum of the header
_MAGIC = b"CQS1"
_HEAD_BYTES = _HEADER.size + _CHECK.size
_CURSOR = struct.Struct("<QQ")
SEGMENT_BYTES_MAX = 32 * 1024 * 1024
SEGMENTS_MIN = 8


class Position(msgspec.Struct, frozen=True, order=True):
    """Name a place in the spool."""

    segment: int
    offset: int


class Frame(msgspec.Struct, frozen=True):
    """Hold one frame and where it ends."""

    body: bytes
    rows: int
    end: Position


class Recovered(msgspec.Struct, frozen=True):
    """Tell what a start found: rows to send, and bytes that were torn or damaged and are left out."""

    rows: int
    damaged_bytes: int


class _Segment(msgspec.Struct):
    """Hold what is known of a file: whole frames end at `size`; `rows` are those from the cursor on."""

    number: int
    path: Path
    size: int
    rows: int


class Spool:
    """Keep frames under `directory`, at most `bytes_max`; the oldest go first when it is full. Safe between threads."""

    def __init__(self, directory: Path, bytes_max: int, *, sync: bool = True) -> None:
        self._directory, self._bytes_max, self._sync = directory, bytes_max, sync
        self._segment_bytes = max(1, min(SEGMENT_BYTES_MAX, bytes_max // SEGMENTS_MIN))
        self._lock = threading.Lock()
        self._segments: list[_Segment] = []
        self._writing: int | None = None
        self._cursor = Position(0, 0)
        self._cursor_file = -1
        self._claim = -1
        self._last_number = 0
        self._totals = (0, 0)
        self.damaged_rows = 0

    @property
    def rows(self) -> int:
        """Return how many rows are not committed; never waits for the disk."""
        return self._totals[0]

    @property
    def size_bytes(self) -> int:
        """Return how many bytes the files hold; never waits for the disk."""
        return self._totals[1]

    def open(self) -> Recovered:
        """Claim the spool and read what is left of the last run; raises ConfigError or StoreUnavailableError."""
        with self._locked("open"):
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._take_claim()
            self._cursor_file = os.open(self._directory / "cursor", os.O_RDWR | os.O_CREAT, 0o600)
            self._cursor = self._read_cursor()
            damaged = 0
            for path in sorted(self._directory.glob("*.seg")):
                number = int(path.stem)
                if number < self._cursor.segment:
                    path.unlink()
                    continue
                segment, left = self._scan(number, path)
                self._segments.append(segment)
                damaged += left
                self._last_number = number
            self._last_number = max(self._last_number, self._cursor.segment)
            return Recovered(sum(segment.rows for segment in self._segments), damaged)

    def append(self, body: pa.Buffer | bytes, rows: int) -> int:
        """Put a frame at the end and return how many rows had to go for it; raises StoreUnavailableError."""
        view = memoryview(body)
        needed = _HEAD_BYTES + len(view)
        with self._locked("write to"):
            if needed > self._bytes_max:
                return rows
            dropped = self._make_room(needed)
            segment = self._writable(needed)
            header = _HEADER.pack(_MAGIC, len(view), rows, zlib.crc32(view))
            assert self._writing is not None
            try:
                _write_all(self._writing, header + _CHECK.pack(zlib.crc32(header)), segment.size)
                _write_all(self._writing, view, segment.size + _HEAD_BYTES)
                if self._sync:
                    os.fdatasync(self._writing)
            except OSError:
                # Nobody knows what is on disk now: what follows goes to a new file, this one ends at its last frame.
                self._seal(truncate_to=segment.size)
                raise
            segment.size += needed
            segment.rows += rows
            return dropped

    def peek(self, rows_max: int) -> list[Frame]:
        """Return the oldest frames that are not committed, at least one if there is any; raises StoreUnavailableError.

        A frame that the disk gives back damaged is left out, with all that follows it in its file.
        """
        with self._locked("read"):
            found: list[Frame] = []
            rows = 0
            for segment in self._segments:
                offset = self._cursor.offset if segment.number == self._cursor.segment else 0
                with contextlib.closing(_Reading(segment.path)) as file:
                    while offset < segment.size:
                        if found and rows >= rows_max:
                            return found
                        frame = file.frame(segment.number, offset, segment.size)
                        if frame is None:
                            self._give_up_rest(segment, offset, found)
                            break
                        found.append(frame)
                        rows += frame.rows
                        offset = frame.end.offset
            return found

    def commit(self, frames: list[Frame]) -> None:
        """Forget frames that QuestDB has, and all before them; raises StoreUnavailableError."""
        if not frames:
            return
        with self._locked("advance"):
            end = frames[-1].end
            if end <= self._cursor:
                return
            for frame in frames:
                for segment in self._segments:
                    if segment.number == frame.end.segment:
                        segment.rows -= frame.rows
            self._cursor = end
            record = _CURSOR.pack(end.segment, end.offset)
            os.pwrite(self._cursor_file, record + _CHECK.pack(zlib.crc32(record)), 0)
            while self._segments and self._is_finished(self._segments[0]):
                self._remove_first()

    def close(self) -> None:
        """Release the files."""
        with self._lock:
            self._seal()
            for descriptor in (self._cursor_file, self._claim):
                if descriptor >= 0:
                    os.close(descriptor)
            self._cursor_file = self._claim = -1

    @contextlib.contextmanager
    def _locked(self, what: str) -> Iterator[None]:
        with self._lock, _disk_errors(what):
            try:
                yield
            finally:
                self._totals = (sum(segment.rows for segment in self._segments), self._size())

    def _size(self) -> int:
        return sum(segment.size for segment in self._segments)

    def _take_claim(self) -> None:
        descriptor = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise ConfigError(f"another process uses the spool {self._directory}: stop it, or use another") from error
        self._claim = descriptor

    def _read_cursor(self) -> Position:
        record = os.pread(self._cursor_file, _CURSOR.size + _CHECK.size, 0)
        if len(record) != _CURSOR.size + _CHECK.size:
            return Position(0, 0)
        body = record[: _CURSOR.size]
        if _CHECK.unpack(record[_CURSOR.size :])[0] != zlib.crc32(body):
            # A torn cursor costs sending again what QuestDB has; its keys tell it so.
            return Position(0, 0)
        return Position(*_CURSOR.unpack(body))

    def _scan(self, number: int, path: Path) -> tuple[_Segment, int]:
        length = path.stat().st_size
        start = self._cursor.offset if number == self._cursor.segment else 0
        segment = _Segment(number, path, start, 0)
        with contextlib.closing(_Reading(path)) as file:
            while (frame := file.frame(number, segment.size, length)) is not None:
                segment.size = frame.end.offset
                segment.rows += frame.rows
        return segment, max(0, length - segment.size)

    def _give_up_rest(self, segment: _Segment, offset: int, whole: list[Frame]) -> None:
        kept = sum(frame.rows for frame in whole if frame.end.segment == segment.number)
        self.damaged_rows += segment.rows - kept
        segment.rows, segment.size = kept, offset
        if segment is self._segments[-1]:
            self._seal()

    def _make_room(self, needed: int) -> int:
        dropped = 0
        while self._segments and self._size() + needed > self._bytes_max:
            dropped += self._segments[0].rows
            self._remove_first()
        return dropped

    def _writable(self, needed: int) -> _Segment:
        last = self._segments[-1] if self._segments else None
        if self._writing is not None and last is not None and last.size + needed <= self._segment_bytes:
            return last
        self._seal()
        # Numbers never come again: a commit that is under way may still name a file that had to go.
        self._last_number = number = self._last_number + 1
        path = self._directory / f"{number:012d}.seg"
        self._writing = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        segment = _Segment(number, path, 0, 0)
        self._segments.append(segment)
        if self._sync:
            _sync_directory(self._directory)
        return segment

    def _is_finished(self, segment: _Segment) -> bool:
        is_written_to = self._writing is not None and segment is self._segments[-1]
        if segment.number == self._cursor.segment:
            return self._cursor.offset >= segment.size and not is_written_to
        return segment.number < self._cursor.segment

    def _remove_first(self) -> None:
        first = self._segments[0]
        if self._writing is not None and len(self._segments) == 1:
            self._seal()
        first.path.unlink(missing_ok=True)
        self._segments.pop(0)

    def _seal(self, truncate_to: int | None = None) -> None:
        descriptor, self._writing = self._writing, None
        if descriptor is None:
            return
        with contextlib.suppress(OSError):
            if truncate_to is not None:
                os.ftruncate(descriptor, truncate_to)
        os.close(descriptor)


class _Reading:
    """Read frames of one file."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)

    def frame(self, segment: int, offset: int, limit: int) -> Frame | None:
        head = os.pread(self._descriptor, _HEAD_BYTES, offset)
        if len(head) < _HEAD_BYTES or offset + _HEAD_BYTES > limit:
            return None
        header = head[: _HEADER.size]
        magic, length, rows, checksum = _HEADER.unpack(header)
        if magic != _MAGIC or _CHECK.unpack(head[_HEADER.size :])[0] != zlib.crc32(header):
            return None
        end = offset + _HEAD_BYTES + length
        if end > limit:
            return None
        body = os.pread(self._descriptor, length, offset + _HEAD_BYTES)
        if len(body) != length or zlib.crc32(body) != checksum:
            return None
        return Frame(body, rows, Position(segment, end))

    def close(self) -> None:
        os.close(self._descriptor)


def _write_all(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _disk_errors(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailableError(f"cannot {what} the spool: {error.strerror or error}") from error
