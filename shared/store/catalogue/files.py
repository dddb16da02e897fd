"""Where the catalogue keeps a series, and how a change to it takes effect.

`<root>/bars/venue=<v>/timeframe=<tf>/instrument=<i>/<partition>.<digest>.parquet`, trades without the timeframe. A
series has one file for each partition and a `manifest.json` that names the files with their checksums. New files come
first, under names of their own; the rename of the manifest is the one moment at which anything changes.
Never: a reader that sees half a change, a file that is changed in place.
"""

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa

from shared.config import timeframe_ns
from shared.errors import InputError, StoreUnavailableError
from shared.store.disk import Disk

try:
    import fcntl
except ImportError:  # Windows has no fcntl; there one writer at a time is up to the user.
    fcntl = None  # type: ignore[assignment]

MANIFEST = "manifest.json"
LOCK = ".lock"
TEMPORARY_SUFFIX = ".tmp"
DIGEST_IN_NAME = 12
_DATA_FILE = re.compile(r"^[0-9-]+\.[0-9a-f]{12}\.parquet$")
_VENUE = re.compile(r"^[a-z0-9_-]{1,32}$")
# Listed names hold any letters, Chinese ones too; never what means something in a path or in a pattern of paths.
_INSTRUMENT = re.compile(r"^[\w$!+&@-]{3,64}$")


class SeriesKey(msgspec.Struct, frozen=True, order=True):
    """Name one history: `bars` of a timeframe, or `trades` (then `timeframe` is empty). Raises InputError."""

    table: str
    venue: str
    instrument: str
    timeframe: str = ""

    def __post_init__(self) -> None:
        if not _VENUE.match(self.venue):
            raise InputError(f"venue {self.venue!r} must be a lower-case word such as mexc or binance")
        if not _INSTRUMENT.match(self.instrument):
            raise InputError(f"instrument {self.instrument!r} must be written as BASE-QUOTE, for example BTC-USDT")
        if self.table == "bars":
            check_timeframe(self.timeframe)
        elif self.table != "trades" or self.timeframe:
            raise InputError(f"the catalogue keeps bars (with a timeframe) and trades, not {self.table!r}")

    @property
    def interval_ns(self) -> int:
        """Return the bars' length in nanoseconds."""
        return timeframe_ns(self.timeframe)

    def __str__(self) -> str:
        """Return the key for people."""
        return " ".join(part for part in (self.venue, self.instrument, self.timeframe or "trades") if part)


class FileEntry(msgspec.Struct, frozen=True):
    """Describe one file; `sha256` is of its bytes, times are the first and the last row's."""

    partition: str
    name: str
    sha256: str
    bytes: int
    rows: int
    first_ns: int
    last_ns: int


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Say what a series consists of. `covered` are ranges `[from, to)` for which a venue gave all that it has."""

    table: str
    venue: str
    instrument: str
    timeframe: str
    files: tuple[FileEntry, ...] = ()
    covered: tuple[tuple[int, int], ...] = ()
    version: int = 1

    @property
    def rows(self) -> int:
        """Return the number of rows in all files."""
        return sum(entry.rows for entry in self.files)

    @property
    def bytes(self) -> int:
        """Return the size of all files."""
        return sum(entry.bytes for entry in self.files)


def check_timeframe(timeframe: str) -> str:
    """Return `timeframe` when bars of it lie on one grid since 1970; raises InputError otherwise."""
    try:
        interval_ns = timeframe_ns(timeframe)
    except ValueError as error:
        raise InputError(f"{error}; months and weeks are made from days") from error
    if timeframe != canonical_timeframe(interval_ns):
        raise InputError(f"timeframe {timeframe} is written {canonical_timeframe(interval_ns)}")
    return timeframe


def canonical_timeframe(interval_ns: int) -> str:
    """Return an interval of whole seconds as `15m`, `4h`, `1d`: the largest unit that divides it."""
    seconds = interval_ns // 1_000_000_000
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def series_directory(root: Path, key: SeriesKey) -> Path:
    """Return where a series lies."""
    directory = root / key.table / f"venue={key.venue}"
    if key.timeframe:
        directory /= f"timeframe={key.timeframe}"
    return directory / f"instrument={key.instrument}"


def find_series(root: Path) -> Iterator[SeriesKey]:
    """Yield every series that has a manifest, in order; foreign folders are passed over."""
    patterns = ("bars/venue=*/timeframe=*/instrument=*", "trades/venue=*/instrument=*")
    for pattern in patterns:
        for manifest in sorted(root.glob(f"{pattern}/{MANIFEST}")):
            parts = dict(part.partition("=")[::2] for part in manifest.relative_to(root).parts[1:-1])
            with contextlib.suppress(InputError):
                yield SeriesKey(pattern.split("/")[0], **parts)


def read_manifest(root: Path, key: SeriesKey) -> Manifest | None:
    """Return a series' manifest, None when there is no such series; raises StoreUnavailableError when it is damaged."""
    path = series_directory(root, key) / MANIFEST
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise StoreUnavailableError(f"{path}: cannot be read: {error}. Restore it, or remove the folder") from error


def commit(disk: Disk, root: Path, key: SeriesKey, manifest: Manifest, files: Mapping[str, pa.Buffer]) -> None:
    """Make `manifest` the series' state, its new `files` first; what it no longer names is removed.

    Raises StoreUnavailableError when the disk refuses; then nothing has changed.
    """
    directory = series_directory(root, key)
    try:
        disk.make_directory(directory)
        for name, data in files.items():
            _put(disk, directory, name, data)
        if files:
            # A manifest must never be on the platter before the files that it names.
            disk.sync_directory(directory)
        _put(disk, directory, MANIFEST, pa.py_buffer(msgspec.json.format(msgspec.json.encode(manifest), indent=1)))
        disk.sync_directory(directory)
        named = {entry.name for entry in manifest.files}
        for stray in strays(directory, named):
            disk.remove(stray)
    except OSError as error:
        raise StoreUnavailableError(f"cannot write {directory}: {error.strerror or error}") from error


def strays(directory: Path, named: set[str]) -> Sequence[Path]:
    """Return files of ours that no manifest names: what a crash or an earlier state left."""
    found = []
    for path in directory.iterdir():
        is_data = _DATA_FILE.match(path.name) is not None
        if (is_data and path.name not in named) or path.name.endswith(TEMPORARY_SUFFIX):
            found.append(path)
    return sorted(found)


def file_entry(partition: str, data: pa.Buffer, rows: int, first_ns: int, last_ns: int) -> FileEntry:
    """Return the entry of a file that is to be written."""
    digest = hashlib.sha256(data).hexdigest()
    return FileEntry(
        partition, f"{partition}.{digest[:DIGEST_IN_NAME]}.parquet", digest, data.size, rows, first_ns, last_ns
    )


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def locked(disk: Disk, root: Path, key: SeriesKey) -> Iterator[None]:
    """Hold a series for writing; raises StoreUnavailableError when another process does."""
    directory = series_directory(root, key)
    try:
        disk.make_directory(directory)
        descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
    except OSError as error:
        raise StoreUnavailableError(f"cannot write {directory}: {error.strerror or error}") from error
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise StoreUnavailableError(f"another process writes {key}: wait until it has finished") from error
    finally:
        os.close(descriptor)


def _put(disk: Disk, directory: Path, name: str, data: pa.Buffer) -> None:
    temporary = directory / f".{name}{TEMPORARY_SUFFIX}"
    disk.write(temporary, data)
    disk.rename(temporary, directory / name)
