"""The store's files and what their names say.

`<root>/<table>/date=YYYY-MM-DD/part-<first>-<last>.<columns>.parquet`: the batches numbered first to last of that table
and day, with the columns that the fingerprint names. A file whose range lies within another's has been merged into it
and counts no more, whether or not it is still there: a merge takes effect at one rename, no row is ever seen twice.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

PART = re.compile(r"^part-(\d{12})-(\d{12})\.([0-9a-f]{8})\.parquet$")
DAY = re.compile(r"^date=(\d{4}-\d{2}-\d{2})$")
TEMPORARY_SUFFIX = ".tmp"
LOCK = ".writer.lock"
QUARANTINE = ".quarantine"


class Part(msgspec.Struct, frozen=True, order=True):
    """Describe one file of a day's directory."""

    first: int
    last: int
    fingerprint: str
    path: Path
    bytes: int
    modified_ns: int


def part_name(first: int, last: int, fingerprint: str) -> str:
    """Return the name of a file that holds batches `first` to `last`."""
    return f"part-{first:012d}-{last:012d}.{fingerprint}.parquet"


def day_directory(root: Path, table: str, day: str) -> Path:
    """Return where a table's rows of one day lie."""
    return root / table / f"date={day}"


def day_directories(root: Path, table: str) -> Iterator[tuple[str, Path]]:
    """Yield `(day, directory)` of a table, oldest first; nothing when the table has no rows yet."""
    try:
        entries = sorted((root / table).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if match := DAY.match(entry.name):
            yield match[1], entry


def parts_in(directory: Path) -> list[Part]:
    """Return the files of a directory in order, merged ones included; a file that vanishes meanwhile is left out."""
    found = []
    try:
        entries = list(directory.iterdir())
    except FileNotFoundError:
        return []
    for entry in entries:
        if match := PART.match(entry.name):
            try:
                status = entry.stat()
            except FileNotFoundError:
                continue
            found.append(Part(int(match[1]), int(match[2]), match[3], entry, status.st_size, status.st_mtime_ns))
    return sorted(found, key=lambda part: (part.first, -part.last))


def live(parts: Sequence[Part]) -> list[Part]:
    """Return the files that count; `parts` as `parts_in` orders them."""
    kept: list[Part] = []
    for part in parts:
        if not kept or part.last > kept[-1].last:
            kept.append(part)
    return kept


def superseded(parts: Sequence[Part]) -> list[tuple[Part, Part]]:
    """Return `(merged file, the file it went into)`; `parts` as `parts_in` orders them."""
    pairs: list[tuple[Part, Part]] = []
    newest: Part | None = None
    for part in parts:
        if newest is None or part.last > newest.last:
            newest = part
        else:
            pairs.append((part, newest))
    return pairs


def temporaries_in(directory: Path) -> Iterable[Path]:
    """Return what a crash left half written."""
    return directory.glob(f".*{TEMPORARY_SUFFIX}")
