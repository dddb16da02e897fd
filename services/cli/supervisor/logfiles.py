"""The log files of supervised processes.

In: what processes write to their standard streams, straight into the file, so that no process waits for the supervisor.
Out: bounded files, the last lines for people. Never: a file that grows for ever.
"""

import os
import shutil
from pathlib import Path

import msgspec

SIZE_MAX = 8 * 1024 * 1024
TAIL_BYTES = 16_384


class _LogLine(msgspec.Struct):
    event: str
    level: str = ""
    error: str = ""
    exception: str = ""
    timestamp: str = ""


def open_log(path: Path) -> int:
    """Open a log for appending and return its descriptor; the caller closes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


def rotate(path: Path, *, size_max: int = SIZE_MAX) -> bool:
    """Move a log beyond `size_max` bytes to `<name>.1` and empty it in place; its writer appends and goes on."""
    try:
        if path.stat().st_size <= size_max:
            return False
    except FileNotFoundError:
        return False
    with path.open("r+b") as log:
        with path.with_name(path.name + ".1").open("wb") as kept:
            shutil.copyfileobj(log, kept)
        log.truncate(0)
    return True


def size(path: Path) -> int:
    """Return the log's size in bytes, 0 when there is none."""
    return path.stat().st_size if path.exists() else 0


def last_lines(path: Path, *, since: int = 0, limit: int = 5) -> list[str]:
    """Return the last lines written after the byte `since`, log records as `level event error`."""
    return [_readable(line) for line in _last_raw(path, since=since)][-limit:]


def last_error(path: Path) -> str | None:
    """Return the newest line of the log's end that is an error, with its time; None when there is none."""
    for line in reversed(_last_raw(path, since=0)):
        text = _readable(line)
        if text.startswith(("error", "critical")) or "Error" in text:
            at = _record(line).timestamp
            return f"{at[:19]}Z {text}" if at else text
    return None


def _last_raw(path: Path, *, since: int) -> list[str]:
    try:
        with path.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(since if since <= end else 0, end - TAIL_BYTES))
            text = log.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    return [line for line in text.splitlines() if line.strip()]


def _readable(line: str) -> str:
    record = _record(line)
    if not record.event:
        return line.rstrip()
    cause = record.exception.strip().splitlines()
    return " ".join(part for part in (record.level, record.event, record.error, cause[-1] if cause else "") if part)


def _record(line: str) -> _LogLine:
    try:
        return msgspec.json.decode(line, type=_LogLine)
    except msgspec.MsgspecError:
        return _LogLine(event="")
