"""Ask a process whether it is ready.

In: a port on loopback. Out: what it answered, or that it did not answer. Never: an exception, a wait without end.
"""

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

TIMEOUT_S = 2.0
ANSWER_BYTES_MAX = 16_384
# With less than this a server that was started anew would soon be stuck again.
SPACE_MIN_BYTES = 32 * 1024 * 1024


class Readiness(msgspec.Struct, frozen=True):
    """Say what a process answered; `detail` is a short sentence for people.

    `is_stuck` says that it will never work again until it is started anew, though it answers.
    """

    answered: bool
    ready: bool
    detail: str
    is_stuck: bool = False


class _Health(msgspec.Struct):
    """Read of `shared.health.Health` what is shown; that module brings a web server along."""

    detail: str


Probe = Callable[[int], Awaitable[Readiness]]

SILENT = Readiness(answered=False, ready=False, detail="does not answer")


async def always_ready(_: int) -> Readiness:
    """Take a process that cannot be asked for ready as soon as it runs."""
    return Readiness(answered=True, ready=True, detail="running")


async def http_ready(port: int) -> Readiness:
    """Ask /readyz of the process on `port`."""
    request = b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n"
    answer = await _exchange(port, request)
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/"):
        return SILENT
    try:
        detail = msgspec.json.decode(body, type=_Health).detail
    except msgspec.MsgspecError:
        detail = "unreadable answer"
    return Readiness(answered=True, ready=words[1] == b"200", detail=detail)


async def nats_ready(port: int) -> Readiness:
    """Tell whether a NATS server greets on `port`."""
    greeting = await _exchange(port, b"", until=b"\r\n")
    if not greeting.startswith(b"INFO "):
        return SILENT
    return Readiness(answered=True, ready=True, detail="running")


class NatsProbe:
    """Tell whether a NATS server greets, and whether a full disk has stopped a stream of it for good.

    A stream that could not be written refuses everything until the server's next start, also when the disk has space
    again. The server says so nowhere but in its log.
    """

    def __init__(self, log: Path, *, free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free):
        self._log, self._free_bytes = log, free_bytes
        self._seen = log.stat().st_size if log.exists() else 0

    async def __call__(self, port: int) -> Readiness:
        """Return how the server on `port` does."""
        readiness = await nats_ready(port)
        if not readiness.ready or not self._has_new_failure() or self._free_bytes(self._log.parent) < SPACE_MIN_BYTES:
            return readiness
        self._seen = self._log.stat().st_size
        return Readiness(answered=True, ready=False, detail="its disk was full and has space again", is_stuck=True)

    def _has_new_failure(self) -> bool:
        try:
            with self._log.open("rb") as log:
                end = log.seek(0, os.SEEK_END)
                if end < self._seen:
                    self._seen = 0  # the log was turned over
                log.seek(max(self._seen, end - ANSWER_BYTES_MAX))
                return b"no space left on device" in log.read()
        except FileNotFoundError:
            return False


async def questdb_ready(port: int) -> Readiness:
    """Tell whether a QuestDB answers on its HTTP port `port`."""
    answer = await _exchange(port, b"GET /ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", until=b"\r\n")
    if b" 204" not in answer.partition(b"\r\n")[0]:
        return SILENT
    return Readiness(answered=True, ready=True, detail="running")


async def _exchange(port: int, request: bytes, *, until: bytes | None = None) -> bytes:
    answer = b""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(request)
                while len(answer) < ANSWER_BYTES_MAX and (until is None or until not in answer):
                    part = await reader.read(4_096)
                    if not part:
                        break
                    answer += part
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return b""
    return answer
