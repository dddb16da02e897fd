"""Two stores as one: what is on disk as Parquet goes on to QuestDB.

In: batches from the recorder. Out: the first store's answer; the second one follows through its spool. Never: a batch
that waits for QuestDB, or is refused or written twice because of it; a lost mirror row that is not counted.
"""

from collections.abc import Callable

from shared.errors import StoreUnavailableError
from shared.store.port import Appended, Batch, Store, Tidied
from shared.store.questdb.writer import QuestdbWriter


class MirroredStore:
    """Append to `primary`, then hand the rows to `writer`; `on_lost` gets rows and reason when its disk refuses."""

    def __init__(self, primary: Store, writer: QuestdbWriter, on_lost: Callable[[int, str], None]) -> None:
        self._primary, self._writer, self._on_lost = primary, writer, on_lost

    def open(self) -> Tidied:
        """Open both; raises ConfigError or StoreUnavailableError. QuestDB itself need not answer."""
        repaired = self._primary.open()
        self._writer.start()
        return repaired

    def append(self, batch: Batch) -> Appended:
        """Write a batch durably; raises StoreUnavailableError when the first store's disk refuses."""
        appended = self._primary.append(batch)
        try:
            self._writer.append(batch.table, batch.rows)
        except StoreUnavailableError as error:
            # The rows are in the first store. Refusing them now would write them there twice.
            self._writer.lost(len(batch.rows))
            self._on_lost(len(batch.rows), str(error))
        return appended

    def tidy(self) -> Tidied:
        """Do one step of the first store's housekeeping; QuestDB does its own."""
        return self._primary.tidy()

    def close(self) -> None:
        """Close both."""
        self._writer.close()
        self._primary.close()
