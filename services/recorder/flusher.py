"""From the buffer to the disk, in time.

In: rows that wait. Out: files, then acknowledgements. A disk that refuses is tried again, with growing pauses, while
the buffer fills up to its bounds. Never: an acknowledgement before the row is on disk.
"""

import asyncio
from collections.abc import Callable

from services.recorder.core import Batched, Buffer
from services.recorder.telemetry import Telemetry
from services.recorder.ticket import Ticket
from services.recorder.writer import Writer
from shared.clock import NANOSECONDS_PER_SECOND
from shared.errors import StoreUnavailableError
from shared.store.port import Appended, Rejected

BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.5, 10.0
HURRIED_PAUSE_S = 0.2


class Flusher:
    """Write what waits when it is due; `on_rejected` gets rows that no column holds, `on_trouble` a reason or "".

    `on_flood` is called when so much waits that it is written before its time.
    """

    def __init__(
        self,
        buffer: Buffer[Ticket],
        writer: Writer,
        telemetry: Telemetry,
        *,
        read_monotonic_ns: Callable[[], int],
        on_rejected: Callable[[Rejected], None],
        on_trouble: Callable[[str], None],
        on_flood: Callable[[], None],
    ) -> None:
        self._buffer, self._writer, self._telemetry = buffer, writer, telemetry
        self._monotonic_ns = read_monotonic_ns
        self._on_rejected, self._on_trouble, self._on_flood = on_rejected, on_trouble, on_flood
        self._wake, self._hurry = asyncio.Event(), asyncio.Event()
        self._settled = asyncio.Condition()
        self._settled_rows = 0
        self._attempts = self._failed_attempt = self._failures = 0
        self._is_stopping = self._is_idle = False
        self.rows_recorded = 0
        self.trouble = ""
        self.last_flush_s = self.last_window_s = 0.0

    def on_row(self) -> None:
        """Take note of a new row."""
        if self._is_idle or self._buffer.is_early:
            self._wake.set()

    def finish(self) -> None:
        """Write what is left, then end `run`."""
        self._is_stopping = True
        self._hurried()

    async def until_on_disk(self, timeout_s: float) -> str:
        """Try now and wait until everything received so far is on disk; returns "" or why it is not."""
        wanted, attempt = self._buffer.received, self._attempts + 1
        self._hurried()
        try:
            async with asyncio.timeout(timeout_s), self._settled:
                await self._settled.wait_for(lambda: self._settled_rows >= wanted or self._failed_attempt >= attempt)
        except TimeoutError:
            return f"it took longer than {timeout_s:.0f} s"
        return "" if self._settled_rows >= wanted else self.trouble

    async def run(self) -> None:
        """Write for ever, or until `finish` and nothing is left."""
        while True:
            await self._until_due()
            self._hurry.clear()
            if self._buffer.waiting:
                await self._flush()
            else:
                await self._announce(self._buffer.received)
            if self._is_stopping and not self._buffer.waiting:
                return

    async def _until_due(self) -> None:
        while not (self._hurry.is_set() or self._is_stopping):
            self._wake.clear()
            due_ns = self._buffer.due_in_ns(self._monotonic_ns())
            if due_ns == 0:
                if self._buffer.is_early:
                    self._on_flood()
                return
            self._is_idle = due_ns is None
            await _wait(self._wake, None if due_ns is None else due_ns / NANOSECONDS_PER_SECOND)

    async def _flush(self) -> None:
        self._attempts += 1
        received = self._buffer.received
        batches, oldest_ns = self._buffer.take()
        began_ns = self._monotonic_ns()
        results = await self._writer.append([batched.batch for batched in batches])
        ended_ns = self._monotonic_ns()
        refused: list[Batched[Ticket]] = []
        errors: list[StoreUnavailableError] = []
        for batched, result in zip(batches, results, strict=True):
            if isinstance(result, Appended):
                await self._confirm(batched, result)
            else:
                refused.append(batched)
                errors.append(result)
        if refused:
            self._buffer.put_back(refused, oldest_ns)
            await self._pause_after(str(errors[0]))
            return
        self._buffer.wrote_in(ended_ns - began_ns)
        self.last_flush_s = (ended_ns - began_ns) / NANOSECONDS_PER_SECOND
        self.last_window_s = (ended_ns - oldest_ns) / NANOSECONDS_PER_SECOND
        self._telemetry.flushed(self.last_flush_s, self.last_window_s)
        self._failures = 0
        self._set_trouble("")
        await self._announce(received)

    async def _confirm(self, batched: Batched[Ticket], appended: Appended) -> None:
        self._buffer.settle(batched)
        self.rows_recorded += appended.rows
        self._telemetry.wrote(batched.table, appended.rows, appended.bytes)
        for item in appended.rejected:
            self._on_rejected(item)
        for entry in batched.entries:
            if entry.ticket is not None:
                await entry.ticket.ack()

    async def _pause_after(self, trouble: str) -> None:
        self._telemetry.refused()
        self._failures += 1
        self._failed_attempt = self._attempts
        self._set_trouble(trouble)
        await self._announce(self._settled_rows)
        if self._is_stopping:
            await asyncio.sleep(HURRIED_PAUSE_S)
        else:
            pause_s = BACKOFF_FIRST_S * 2.0 ** min(self._failures - 1, 10)
            await _wait(self._hurry, min(BACKOFF_MAX_S, pause_s))

    def _set_trouble(self, trouble: str) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            self._on_trouble(trouble)

    async def _announce(self, settled_rows: int) -> None:
        async with self._settled:
            self._settled_rows = settled_rows
            self._settled.notify_all()

    def _hurried(self) -> None:
        self._hurry.set()
        self._wake.set()


async def _wait(event: asyncio.Event, timeout_s: float | None) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
