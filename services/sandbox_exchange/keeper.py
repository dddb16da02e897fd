"""The hand that brings a venue's changes to its file.

In: what changed at the exchange. Out: it on the disk, before a client hears of its order or balance.
Never: two writes at once; a change that is in no write because the one it was in failed or was waited for no longer.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from services.sandbox_exchange.core.changes import Row
from services.sandbox_exchange.core.model import HOUSE, Event, HoldingChanged, OrderChanged
from services.sandbox_exchange.state import Persisted
from services.sandbox_exchange.state_file import StateFile

QUIET_SAVES_EVERY = 10  # what only the house did is saved less often


class StateKeeper:
    """Save the venue into `path`: before a client hears of its order or balance, and now and then otherwise.

    Requests and reports of the same moment share one save. A save costs what changed, however much there is.
    """

    def __init__(self, path: Path, persisted: Persisted, *, interval_s: float) -> None:
        self.path = path
        self.saves = 0
        self._file = StateFile(path)
        self._persisted = persisted
        self._interval_s = interval_s
        self._changes = 1
        self._saved_changes = 0
        self._writing = asyncio.Lock()
        # One thread, so that writes come one after the other.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="state")
        persisted.exchange.listen(self._on_event)

    async def open(self) -> None:
        """Put the venue as it is into the place of whatever the file holds. Raises OSError when that cannot be."""
        self._persisted.exchange.take_whole()
        changes, rows = self._changes, self._persisted.take_changes().puts
        await self._run(lambda: self._file.create(rows), changes)

    async def save(self) -> None:
        """Save now. Raises OSError when the disk does not take it."""
        async with self._writing:
            await self._write()

    async def settle(self) -> None:
        """Return when everything that changed for a client so far is on the disk. Raises OSError when it cannot be."""
        changes = self._changes
        if self._saved_changes >= changes:
            return
        async with self._writing:
            if self._saved_changes < changes:
                await self._write()

    async def save_forever(self) -> None:
        """Save at each interval in which something changed. Raises OSError when the disk does not take it."""
        quiet = 0
        while True:
            await asyncio.sleep(self._interval_s)
            quiet += 1
            if self._saved_changes < self._changes or quiet >= QUIET_SAVES_EVERY:
                quiet = 0
                await self.save()

    async def read(self) -> list[Row]:
        """Return what the file holds. Raises OSError."""
        async with self._writing:
            return await self._run(self._file.read)

    async def close(self) -> None:
        """Save for the last time and let go of the file. Raises OSError when the disk does not take it."""
        try:
            await self.save()
        finally:
            await self._run(self._file.close)
            self._thread.shutdown()

    async def _write(self) -> None:
        changes = self._changes
        taken = self._persisted.take_changes()
        await self._run(lambda: self._file.write(taken), changes)

    async def _run[T](self, work: Callable[[], T], changes: int = 0) -> T:
        # Whoever waits may give up: what was taken for the file is written all the same.
        running = asyncio.get_running_loop().run_in_executor(self._thread, work)
        running.add_done_callback(lambda done: self._done(done, changes))
        return await asyncio.shield(running)

    def _done[T](self, running: asyncio.Future[T], changes: int) -> None:
        if running.cancelled() or running.exception() is not None:
            self._persisted.exchange.take_whole()
        elif changes:
            self._saved_changes = max(self._saved_changes, changes)
            self.saves += 1

    def _on_event(self, event: Event) -> None:
        is_for_client = (isinstance(event, OrderChanged) and event.order.account != HOUSE) or (
            isinstance(event, HoldingChanged) and event.account != HOUSE
        )
        self._changes += is_for_client
