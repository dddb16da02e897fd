"""The threads between the event loop and the disk: one writes, one tidies, the loop never waits for either.

In: batches. Out: what became of each, in order; a refused batch does not keep the others from the disk.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from shared.errors import StoreUnavailableError
from shared.store.port import Appended, Batch, Store, Tidied


class Writer:
    """Call a store from threads of its own."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._appending = ThreadPoolExecutor(1, "recorder-append")
        self._tidying = ThreadPoolExecutor(1, "recorder-tidy")

    async def open(self) -> Tidied:
        """Claim and repair the store; raises ConfigError or StoreUnavailableError."""
        return await asyncio.get_running_loop().run_in_executor(self._appending, self._store.open)

    async def append(self, batches: Sequence[Batch]) -> list[Appended | StoreUnavailableError]:
        """Write the batches; returns what became of each."""
        return await asyncio.get_running_loop().run_in_executor(self._appending, self._append, batches)

    async def tidy(self) -> Tidied:
        """Do one step of housekeeping; raises StoreUnavailableError."""
        return await asyncio.get_running_loop().run_in_executor(self._tidying, self._store.tidy)

    async def close(self) -> None:
        """Finish what runs and release the store."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._shut_down)

    def _shut_down(self) -> None:
        self._tidying.shutdown(cancel_futures=True)
        self._appending.shutdown()
        self._store.close()

    def _append(self, batches: Sequence[Batch]) -> list[Appended | StoreUnavailableError]:
        results: list[Appended | StoreUnavailableError] = []
        for batch in batches:
            try:
                results.append(self._store.append(batch))
            except StoreUnavailableError as error:
                results.append(error)
        return results
